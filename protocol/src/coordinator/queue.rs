//! Writes that wait at the primary: their tickets for locks, and which of them go into the next batch.
//!
//! A ticket is the lock owner of all operations on one channel that will go into one batch. It takes IX on the store and X
//! on its channel, in that order, and no other, so tickets cannot deadlock; operations that come while a ticket waits
//! join it, and those that come while its batch is in flight share the next one, which queues behind it.
//!
//! Not here: sending anything (`coordinator.rs`), and the locks themselves (`lock.rs`).

use crate::ids::{Millis, RequestId, Timestamp};
use crate::lock::{LockOwner, Mode, Resource};
use crate::machine::{Effects, Note};
use crate::operation::{Action, ChannelName, KeyOwner, Operation};
use std::collections::{BTreeMap, BTreeSet};

/// Which waiting operation: counts arrivals.
pub(super) type Arrival = u64;

/// An operation and who waits for it.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// All requests that asked for it with the same key.
    pub requests: Vec<RequestId>,
    /// The operation.
    pub operation: Operation,
}

impl Pending {
    fn bytes(&self) -> usize {
        match &self.operation.action {
            Action::Post { text, .. } => text.as_str().len(),
            Action::Star { .. } | Action::Unstar { .. } | Action::CreateChannel { .. } => 0,
        }
    }
}

#[derive(Clone, Debug)]
struct Ticket {
    channel: ChannelName,
    /// Whether its locks are asked for.
    asked: bool,
    granted: bool,
    /// When the wait for its locks fails.
    until: Millis,
    arrivals: BTreeSet<Arrival>,
}

impl Ticket {
    fn ask(&mut self, number: u64) -> Effects {
        let mut effects = Effects::none();
        if !std::mem::replace(&mut self.asked, true) {
            let channel = Resource::Channel(self.channel.clone());
            let locks = vec![(Resource::Store, Mode::IntentExclusive), (channel, Mode::Exclusive)];
            effects.tell(Note::Acquire { owner: LockOwner::Ticket(number), locks });
        }
        effects
    }
}

/// Operations that were picked for a batch, in order of arrival, and the tickets that cover them.
#[derive(Clone, Debug, Default)]
pub(super) struct Picked {
    /// In order of arrival.
    pub operations: Vec<(Arrival, Pending)>,
    /// Held until the batch is committed or aborted.
    pub tickets: Vec<LockOwner>,
}

impl Picked {
    /// The text of its operations. Bytes.
    pub fn bytes(&self) -> usize {
        self.operations.iter().map(|(_, pending)| pending.bytes()).sum()
    }
}

/// What waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    arrivals: Arrival,
    last_ticket: u64,
    waiting: BTreeMap<Arrival, Pending>,
    /// Stars whose channel the storage is looking for.
    locating: BTreeMap<RequestId, Arrival>,
    tickets: BTreeMap<u64, Ticket>,
    /// The ticket of a channel that new operations may join.
    open: BTreeMap<ChannelName, u64>,
    keys: BTreeMap<KeyOwner, Arrival>,
    /// Whether locks are asked for now: only while this primary serves.
    asks: bool,
}

impl Queue {
    /// How many operations wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A number that no ticket of this process has had.
    pub fn new_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// The operation that waits under this key.
    pub fn with_key(&mut self, key: &KeyOwner) -> Option<&mut Pending> {
        let arrival = self.keys.get(key)?;
        self.waiting.get_mut(arrival)
    }

    /// Takes an operation in. Stars wait until `locate` has found their channel.
    pub fn push(&mut self, request: RequestId, operation: Operation, until: Millis) -> (Effects, Option<Timestamp>) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.keys.insert(operation.owner.clone(), arrival);
        let action = operation.action.clone();
        self.waiting.insert(arrival, Pending { requests: vec![request], operation });
        match action {
            Action::Post { channel, .. } | Action::CreateChannel { channel } => {
                (self.join(arrival, channel, until), None)
            }
            Action::Star { id } | Action::Unstar { id } => {
                self.locating.insert(request, arrival);
                (Effects::none(), Some(id))
            }
        }
    }

    /// Where a star's message is; without a channel there is none, and the operation is given back.
    pub fn located(
        &mut self,
        request: RequestId,
        channel: Option<ChannelName>,
        until: Millis,
    ) -> (Effects, Option<Pending>) {
        let Some(arrival) = self.locating.remove(&request) else { return (Effects::none(), None) };
        match channel {
            Some(channel) => (self.join(arrival, channel, until), None),
            None => (Effects::none(), self.take(arrival)),
        }
    }

    fn join(&mut self, arrival: Arrival, channel: ChannelName, until: Millis) -> Effects {
        let mut effects = Effects::none();
        let number = match self.open.get(&channel) {
            Some(number) => *number,
            None => {
                let number = self.new_ticket();
                self.open.insert(channel.clone(), number);
                let mut ticket = Ticket { channel, asked: false, granted: false, until, arrivals: BTreeSet::new() };
                if self.asks {
                    effects.append(ticket.ask(number));
                }
                self.tickets.insert(number, ticket);
                number
            }
        };
        if let Some(ticket) = self.tickets.get_mut(&number) {
            ticket.arrivals.insert(arrival);
        }
        effects
    }

    fn take(&mut self, arrival: Arrival) -> Option<Pending> {
        let pending = self.waiting.remove(&arrival)?;
        self.keys.remove(&pending.operation.owner);
        Some(pending)
    }

    /// A ticket's locks are held.
    pub fn granted(&mut self, number: u64) -> bool {
        self.tickets.get_mut(&number).map(|ticket| ticket.granted = true).is_some()
    }

    /// Whether a batch could be formed now.
    pub fn is_ready(&self) -> bool {
        self.tickets.values().any(|ticket| ticket.granted && !ticket.arrivals.is_empty())
    }

    /// Picks the next batch: what is granted, in order of arrival, up to the limits, and one at least.
    pub fn pick(&mut self, ops_max: usize, bytes_max: usize, until: Millis) -> (Picked, Effects) {
        let granted: BTreeMap<Arrival, u64> = self
            .tickets
            .iter()
            .filter(|(_, ticket)| ticket.granted)
            .flat_map(|(number, ticket)| ticket.arrivals.iter().map(|arrival| (*arrival, *number)))
            .collect();
        let mut picked = Picked::default();
        let mut used = BTreeSet::new();
        let mut bytes = 0;
        for (arrival, number) in granted {
            bytes += self.waiting.get(&arrival).map_or(0, Pending::bytes);
            let full = picked.operations.len() >= ops_max || bytes > bytes_max;
            if full && !picked.operations.is_empty() {
                break;
            }
            used.insert(number);
            picked.operations.extend(self.take(arrival).map(|pending| (arrival, pending)));
        }
        picked.tickets = used.iter().map(|number| LockOwner::Ticket(*number)).collect();
        let done: BTreeSet<Arrival> = picked.operations.iter().map(|(arrival, _)| *arrival).collect();
        let effects = self.close(&used, &done, until);
        (picked, effects)
    }

    /// The tickets of a batch take nothing in any more; what they do not cover queues again behind them.
    fn close(&mut self, used: &BTreeSet<u64>, done: &BTreeSet<Arrival>, until: Millis) -> Effects {
        let mut effects = Effects::none();
        for number in used {
            let Some(ticket) = self.tickets.remove(number) else { continue };
            if self.open.get(&ticket.channel) == Some(number) {
                self.open.remove(&ticket.channel);
            }
            for arrival in ticket.arrivals.difference(done) {
                effects.append(self.join(*arrival, ticket.channel.clone(), until));
            }
        }
        effects
    }

    /// No locks are asked for till [`Self::serve`]. What would be granted meanwhile is held until this primary serves, and an
    /// inherited entry may need it first.
    pub fn hold(&mut self) {
        self.asks = false;
    }

    /// Locks are asked for, also for all that came meanwhile; their waits begin now.
    pub fn serve(&mut self, until: Millis) -> Effects {
        self.asks = true;
        self.restart_waits(until);
        let mut effects = Effects::none();
        for (number, ticket) in &mut self.tickets {
            effects.append(ticket.ask(*number));
        }
        effects
    }

    /// Waits for locks begin anew: what a batch in flight held up is not held against anyone.
    pub fn restart_waits(&mut self, until: Millis) {
        for ticket in self.tickets.values_mut().filter(|ticket| !ticket.granted) {
            ticket.until = until;
        }
    }

    /// When the first wait for locks fails.
    pub fn deadline(&self) -> Option<Millis> {
        self.tickets.values().filter(|ticket| !ticket.granted).map(|ticket| ticket.until).min()
    }

    /// Gives up the tickets whose wait has failed, and returns what waited for them.
    pub fn expire(&mut self, now: Millis) -> (Effects, Vec<Pending>) {
        let late: Vec<u64> =
            self.tickets.iter().filter(|(_, t)| !t.granted && t.until <= now).map(|(number, _)| *number).collect();
        let mut effects = Effects::none();
        let mut failed = Vec::new();
        for number in late {
            let Some(ticket) = self.tickets.remove(&number) else { continue };
            self.open.remove(&ticket.channel);
            effects.tell(Note::Release { owner: LockOwner::Ticket(number) });
            failed.extend(ticket.arrivals.into_iter().filter_map(|arrival| self.take(arrival)));
        }
        (effects, failed)
    }

    /// Gives everything up, and returns what waited.
    pub fn clear(&mut self) -> (Effects, Vec<Pending>) {
        let mut effects = Effects::none();
        for number in std::mem::take(&mut self.tickets).into_keys() {
            effects.tell(Note::Release { owner: LockOwner::Ticket(number) });
        }
        self.open.clear();
        self.locating.clear();
        self.keys.clear();
        (effects, std::mem::take(&mut self.waiting).into_values().collect())
    }
}

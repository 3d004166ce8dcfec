//! The mailboxes of one node's actors: who hosts which machine, and what a full mailbox means.
//!
//! - **Letters and clients' calls** may be lost: into a full mailbox they are not put, and whoever sent them is told, or
//!   sends again.
//! - **Notes, storage events and the network's reports** may not: a machine that missed one would wait for ever. They are
//!   put into a full mailbox too, and the text log says so loudly. Nothing ever blocks: two actors that wait for each other's
//!   mailboxes would stand still for ever.
//!
//! - **States** (where the log stands) wake nobody: they wait for the next message to their actor, or for its next tick, and
//!   the last one counts. Each write tells two of them to two threads; a wake-up costs more than the step that it is for.
//!   They arrive before whatever was sent after them.
//!
//! Not here: which machine hears what (`lockstep_protocol::route`).

use actix::dev::SendError;
use actix::{Message, Recipient};
pub use lockstep_protocol::route::ActorName;
use lockstep_protocol::route::{Delivery, by_actor};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many messages may wait for one actor. Far more than the protocol has in flight: a full mailbox is an answer, not a
/// place to hide.
pub const MAILBOX_MESSAGES_MAX: usize = 8_192;

/// One in so many overflows is logged: the text log must not become the load.
const OVERFLOWS_PER_LINE: u64 = 1_000;

/// Inputs for the machines of one actor, in order.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct Deliver(pub Vec<Delivery>);

/// The letter was not delivered: the mailbox is full, or the node is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped;

/// Every actor's mailbox.
#[derive(Debug)]
pub struct Mailboxes {
    recipients: [Recipient<Deliver>; 5],
    /// States that wait. Held while they are put into the mailbox, so that no later ones overtake them.
    states: [Mutex<Vec<Delivery>>; 5],
    overflows: AtomicU64,
}

impl Mailboxes {
    /// In the order of [`ActorName::ALL`].
    #[must_use]
    pub fn new(recipients: [Recipient<Deliver>; 5]) -> Self {
        Self { recipients, states: Default::default(), overflows: AtomicU64::new(0) }
    }

    /// Delivers what may not be lost: to each actor in one message, in order.
    pub fn deliver_surely(&self, deliveries: Vec<Delivery>) {
        for (actor, deliveries) in by_actor(deliveries) {
            let mut states = self.states(actor);
            if states.is_empty() {
                // Whom the message wakes may want them next: it must not find them held.
                drop(states);
                self.push_surely(actor, deliveries);
                continue;
            }
            let mut all = std::mem::take(&mut *states);
            all.extend(deliveries);
            self.push_surely(actor, all);
        }
    }

    /// Keeps states until the next message to their actors. Of one machine's, the last one counts.
    pub fn deliver_with_next(&self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let mut states = self.states(ActorName::hosting(delivery.machine()));
            states.retain(|earlier| earlier.machine() != delivery.machine());
            states.push(delivery);
        }
    }

    /// Puts the states that wait for this actor into its mailbox; false when there were none.
    pub fn deliver_states(&self, actor: ActorName) -> bool {
        let mut states = self.states(actor);
        let all = std::mem::take(&mut *states);
        let is_any = !all.is_empty();
        if is_any {
            self.push_surely(actor, all);
        }
        is_any
    }

    fn states(&self, actor: ActorName) -> MutexGuard<'_, Vec<Delivery>> {
        self.states[actor as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push_surely(&self, actor: ActorName, deliveries: Vec<Delivery>) {
        let recipient = &self.recipients[actor as usize];
        match recipient.try_send(Deliver(deliveries)) {
            Ok(()) => {}
            Err(SendError::Full(deliver)) => {
                self.count_overflow(actor, "waits all the same");
                #[allow(clippy::disallowed_methods, reason = "the one place that may ignore the capacity")]
                recipient.do_send(deliver);
            }
            Err(SendError::Closed(_)) => log::debug!("{actor:?} has stopped; a note for it was dropped"),
        }
    }

    /// Delivers what may be lost.
    ///
    /// # Errors
    /// When some of it was.
    pub fn deliver_if_room(&self, deliveries: Vec<Delivery>) -> Result<(), Dropped> {
        let mut result = Ok(());
        for (actor, deliveries) in by_actor(deliveries) {
            // They may not be lost, as what follows may.
            self.deliver_states(actor);
            match self.recipients[actor as usize].try_send(Deliver(deliveries)) {
                Ok(()) => {}
                Err(SendError::Full(_)) => {
                    self.count_overflow(actor, "a letter or call was dropped");
                    result = Err(Dropped);
                }
                Err(SendError::Closed(_)) => result = Err(Dropped),
            }
        }
        result
    }

    fn count_overflow(&self, actor: ActorName, what: &str) {
        let count = self.overflows.fetch_add(1, Ordering::Relaxed);
        if count.is_multiple_of(OVERFLOWS_PER_LINE) {
            log::error!("the mailbox of {actor:?} is full: {what} (overflow {})", count + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_protocol::ids::{Address, ViewNumber};
    use lockstep_protocol::{lock, read, route};

    #[test]
    fn every_actor_has_its_place() {
        for (place, actor) in ActorName::ALL.into_iter().enumerate() {
            assert_eq!(actor as usize, place);
        }
    }

    #[test]
    fn one_note_is_one_message_an_actor_in_order() {
        let groups = by_actor(route::unreachable(&Address::new("127.0.0.1:1")));
        let actors: Vec<_> = groups.iter().map(|(actor, group)| (*actor, group.len())).collect();
        assert_eq!(actors.iter().map(|(_, len)| len).sum::<usize>(), 5);
        assert_eq!(actors.iter().find(|(actor, _)| *actor == ActorName::Election).map(|(_, len)| *len), Some(2));
    }

    /// An actor that keeps what it gets.
    struct Keeper(std::sync::mpsc::Sender<Vec<Delivery>>);

    impl actix::Actor for Keeper {
        type Context = actix::Context<Self>;
    }

    impl actix::Handler<Deliver> for Keeper {
        type Result = ();

        fn handle(&mut self, Deliver(deliveries): Deliver, _: &mut Self::Context) {
            self.0.send(deliveries).expect("the test listens");
        }
    }

    #[actix_rt::test]
    async fn a_state_wakes_nobody_and_comes_before_what_was_sent_after_it() {
        use actix::Actor;
        use lockstep_protocol::ids::{Hash, Index};
        let (kept, got) = std::sync::mpsc::channel();
        let keeper = Keeper(kept).start();
        let mailboxes = Mailboxes::new(std::array::from_fn(|_| keeper.clone().recipient()));
        let position = |at| {
            let position = lockstep_protocol::machine::Note::LogPosition {
                log_end: Index(at),
                committed: (Index(at), Hash::default()),
            };
            route::note(position)
        };
        let heard_by_heartbeat = |at| position(at).remove(0);
        mailboxes.deliver_with_next(position(1));
        mailboxes.deliver_with_next(position(2));
        actix_rt::task::yield_now().await;
        assert_eq!(got.try_iter().count(), 0);
        let serving = Delivery::Heartbeat(lockstep_protocol::heartbeat::Input::Serving { view: ViewNumber(1) });
        mailboxes.deliver_surely(vec![serving.clone()]);
        assert!(!mailboxes.deliver_states(ActorName::Heartbeat), "they are on their way");
        assert!(mailboxes.deliver_states(ActorName::Sync));
        actix_rt::time::sleep(std::time::Duration::from_millis(10)).await;
        let got: Vec<_> = got.try_iter().collect();
        assert_eq!(got, [vec![heard_by_heartbeat(2), serving], vec![position(2).remove(1)]]);
    }

    #[actix_rt::test]
    async fn a_full_mailbox_takes_what_may_not_be_lost_and_refuses_what_may() {
        use actix::Actor;
        let (kept, got) = std::sync::mpsc::channel();
        let keeper = Keeper(kept).start();
        let mailboxes = Mailboxes::new(std::array::from_fn(|_| keeper.clone().recipient()));
        let serving = |n| vec![Delivery::Reads(read::Input::Serving { view: ViewNumber(n) })];
        // Nobody reads it until this test waits.
        let room =
            (1..=MAILBOX_MESSAGES_MAX as u64).take_while(|n| mailboxes.deliver_if_room(serving(*n)).is_ok()).count();
        let room = room as u64;
        assert!(room < MAILBOX_MESSAGES_MAX as u64, "it is full");
        (1..=9).for_each(|n| mailboxes.deliver_surely(serving(room + n)));
        assert_eq!(mailboxes.deliver_if_room(serving(1)), Err(Dropped));
        actix_rt::time::sleep(std::time::Duration::from_millis(10)).await;
        let expected: Vec<_> = (1..=room + 9).map(serving).collect();
        assert_eq!(got.try_iter().collect::<Vec<_>>(), expected, "all of them, in order");
    }

    #[test]
    fn order_within_an_actor_is_kept() {
        let owner = lock::LockOwner::Read(lockstep_protocol::ids::RequestId(7));
        let serving = |n| Delivery::Reads(read::Input::Serving { view: ViewNumber(n) });
        let deliveries = vec![serving(1), Delivery::Locks(lock::Input::Release { owner }), serving(2)];
        let groups = by_actor(deliveries);
        assert_eq!(groups[0], (ActorName::TransactionCoordinator, vec![serving(1), serving(2)]));
        assert_eq!(groups[1].0, ActorName::LockManager);
    }
}

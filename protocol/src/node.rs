//! All machines of one node, side by side: made from what was found on disk, stepped by name.
//!
//! Not here: their queues. Each machine has its own, which the actors and the simulator keep.

use crate::birth::Birth;
use crate::campaign::Campaign;
use crate::coordinator::Coordinator;
use crate::election::Election;
use crate::heartbeat::Heartbeats;
use crate::ids::{Millis, Now};
use crate::lock::LockTable;
use crate::machine::{Effects, Machine, Setup};
use crate::read::Reads;
use crate::replica::Replica;
use crate::route::{Delivery, MachineName};
use crate::status::NodeStatus;
use crate::storage::Recovered;
use crate::sync::Sync;

/// The machines of a data node or of a witness; those that a witness has no use for never hear anything that they act on.
#[derive(Clone, Debug)]
pub struct Machines {
    /// What this node has promised.
    pub replica: Replica,
    /// The primary's side of two-phase commit.
    pub coordinator: Coordinator,
    /// Who may touch what.
    pub locks: LockTable,
    /// Reads that wait.
    pub reads: Reads,
    /// Who is alive.
    pub heartbeat: Heartbeats,
    /// Who stands.
    pub election: Election,
    /// Deciding the next view.
    pub campaign: Campaign,
    /// A new or returning node.
    pub sync: Sync,
    /// The first view.
    pub birth: Birth,
}

impl Machines {
    /// The machines of a node that has just started, from what its disk holds.
    #[must_use]
    pub fn new(setup: &Setup, recovered: &Recovered) -> Self {
        Self {
            replica: Replica::new(setup, recovered),
            coordinator: Coordinator::new(setup),
            locks: LockTable::new(),
            reads: Reads::new(setup),
            heartbeat: Heartbeats::new(setup),
            election: Election::new(setup),
            campaign: Campaign::new(setup),
            sync: Sync::new(setup, recovered),
            birth: Birth::new(setup, recovered),
        }
    }

    /// Hands an input to the machine that hears it.
    pub fn step(&mut self, now: Now, delivery: Delivery) -> Effects {
        match delivery {
            Delivery::Replica(input) => self.replica.step(now, input),
            Delivery::Coordinator(input) => self.coordinator.step(now, input),
            Delivery::Locks(input) => self.locks.step(now, input),
            Delivery::Reads(input) => self.reads.step(now, input),
            Delivery::Heartbeat(input) => self.heartbeat.step(now, input),
            Delivery::Election(input) => self.election.step(now, input),
            Delivery::Campaign(input) => self.campaign.step(now, input),
            Delivery::Sync(input) => self.sync.step(now, input),
            Delivery::Birth(input) => self.birth.step(now, input),
        }
    }

    /// When a machine wants its tick.
    #[must_use]
    pub fn deadline(&self, machine: MachineName) -> Option<Millis> {
        match machine {
            MachineName::Replica => self.replica.deadline(),
            MachineName::Coordinator => self.coordinator.deadline(),
            MachineName::Locks => self.locks.deadline(),
            MachineName::Reads => self.reads.deadline(),
            MachineName::Heartbeat => self.heartbeat.deadline(),
            MachineName::Election => self.election.deadline(),
            MachineName::Campaign => self.campaign.deadline(),
            MachineName::Sync => self.sync.deadline(),
            MachineName::Birth => self.birth.deadline(),
        }
    }

    /// Gives a machine its tick.
    pub fn tick(&mut self, now: Now, machine: MachineName) -> Effects {
        match machine {
            MachineName::Replica => self.replica.tick(now),
            MachineName::Coordinator => self.coordinator.tick(now),
            MachineName::Locks => self.locks.tick(now),
            MachineName::Reads => self.reads.tick(now),
            MachineName::Heartbeat => self.heartbeat.tick(now),
            MachineName::Election => self.election.tick(now),
            MachineName::Campaign => self.campaign.tick(now),
            MachineName::Sync => self.sync.tick(now),
            MachineName::Birth => self.birth.tick(now),
        }
    }

    /// What the node says of itself.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let mut status = NodeStatus::default();
        self.replica.observe(&mut status);
        self.coordinator.observe(&mut status);
        self.locks.observe(&mut status);
        self.reads.observe(&mut status);
        self.heartbeat.observe(&mut status);
        self.election.observe(&mut status);
        self.campaign.observe(&mut status);
        self.sync.observe(&mut status);
        self.birth.observe(&mut status);
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{self, LockOwner, Mode, Resource};
    use crate::status::Role;
    use crate::testing::{at, node, recovered, setup, view};

    #[test]
    fn a_node_says_of_itself_what_its_machines_know() {
        let me = node(3);
        let setup = Setup { seeds: vec![node(1).address, node(3).address], ..setup(&me) };
        let mut newborn = Machines::new(&setup, &recovered(&me, None));
        let _hello = newborn.tick(at(0), MachineName::Birth);
        let status = newborn.status();
        assert_eq!(
            (status.role, status.view, status.waiting_for),
            (Role::Waiting, None, "an answer from 1".to_owned())
        );
        let last = view(4, 1, &[1, 3], 1);
        let mut restarted = Machines::new(&setup, &recovered(&me, Some(last.clone())));
        let (owner, locks) = (LockOwner::Slot(1), vec![(Resource::Store, Mode::Shared)]);
        let _granted = restarted.step(at(0), Delivery::Locks(lock::Input::Acquire { owner, locks }));
        let status = restarted.status();
        assert_eq!((status.role, status.view.as_deref(), status.locks_held), (Role::Replica, Some(&last), 1));
    }
}

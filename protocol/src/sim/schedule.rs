//! What will happen in a run, in order of time.
//!
//! Not here: what an event does (`world.rs`).

use super::plan::Fault;
use crate::ids::Address;
use crate::lock::LockOwner;
use crate::message::Envelope;
use crate::operation::Answer;
use std::cmp::Ordering;

/// One thing that will happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A machine of this node has its turn.
    Turn { node: usize, life: u32 },
    /// A machine of this node has its deadline.
    Wake { node: usize, life: u32 },
    /// Hands of this node have rested.
    Rested { node: usize, life: u32 },
    /// The disk serves some of what it was asked.
    Disk { node: usize, life: u32 },
    /// A letter arrives. `life`: the sender's.
    Letter { from: usize, life: u32, to: usize, envelope: Box<Envelope> },
    /// A connection was refused or reset.
    Unreachable { node: usize, life: u32, address: Address },
    /// A request kept open ended.
    WatchEnded { node: usize, life: u32, watch: u32 },
    /// A process starts, unless it lives.
    Start { node: usize },
    /// The process dies, if it is still this one.
    Die { node: usize, life: u32, away_us: u64 },
    /// The plan's next fault.
    Fault(Fault),
    /// A cut or a partition ends: these ways open.
    Heal(Vec<(usize, usize)>),
    /// A slow disk or node is itself again.
    Quicken { node: usize },
    /// A full disk has space again.
    Space { node: usize },
    /// A process that flaps crashes, and so many times more. `round`: which flapping of that node.
    Flap { node: usize, round: u32, ways: (u64, u64), times: u32 },
    /// A lock that nobody asked for is let go.
    LetGo { node: usize, life: u32, owner: LockOwner },
    /// Links that blink are cut, or whole again. `round`: as of `Flap`.
    Blink { node: usize, round: u32, ways: (u64, u64), is_cut: bool },
    /// A call begins.
    Call { call: usize },
    /// A copy of a request reaches a node.
    Ask { call: usize, attempt: u32, node: usize },
    /// An answer reaches its client; none for a connection that broke.
    Told { call: usize, attempt: u32, answer: Option<Box<Answer>> },
    /// A client has waited long enough.
    Again { call: usize, attempt: u32 },
    /// An operator wants a node removed, and asks whoever serves; so many times more.
    Remove { node: usize, times: u8 },
    /// An operator ends a drain.
    EndDrain { node: usize, life: u32 },
    /// A look at how the cluster comes back.
    Look,
}

/// An event and its time.
pub(super) struct Scheduled {
    /// When. Microseconds since the run began.
    pub at: u64,
    /// Events at one instant keep the order in which they were made.
    pub order: u64,
    /// What.
    pub event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest, since the heap gives out the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

//! The words of the protocol that are numbers or names, each a type of its own, so that a view is never taken for an index.
//!
//! Text from outside becomes one of these by a constructor that checks it; whoever holds one need not check again.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this; stays at the largest number, which no cluster lives long enough to reach.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of a view; the first decided one is 1, and 0 stands for "knows none".
    ViewNumber
}
number! {
    /// The place of an entry in the log; the first is 1, and 0 is the place before it.
    Index
}
number! {
    /// What the primary counts up, from 1 in each view, with every entry that it sends for votes (section 4).
    Attempt
}
number! {
    /// Drawn at random when a data directory is created: a node that lost its disk is another voter (section 1).
    Incarnation
}
number! {
    /// One transfer to a joining node (section 8), drawn at random by the primary.
    SessionId
}
number! {
    /// A client's request at one node; chosen by the shell, and unique while the process lives.
    RequestId
}
number! {
    /// A write to the disk that somebody waits for; unique within the machine that asked.
    WriteId
}
number! {
    /// Milliseconds since the process started: monotonic, and never compared between processes.
    Millis
}

impl Millis {
    /// This instant and `ms` milliseconds more.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; 0 when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Index {
    /// The place before this one; 0 stays 0.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The id of a data node: positive, and its rank in Bully elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one cluster for ever; drawn at random by whoever decides view 1 (section 9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// Where a node's peer port is, as `host:port`. To the machines it is only a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(Arc<str>);

impl Address {
    /// Takes any text: whether it can be reached is found out by sending.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, `host:port`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a witness: that of the gateway in which it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WitnessName(Arc<str>);

impl WitnessName {
    /// Takes any text; settings bound it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for WitnessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who votes on views: a replica, or a witness. Ordered replicas first, by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Voter {
    /// A data node.
    Replica(NodeId),
    /// A gateway's vote.
    Witness(WitnessName),
}

impl Voter {
    /// The data node's id; none for a witness.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Replica(id) => Some(*id),
            Self::Witness(_) => None,
        }
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(id) => write!(f, "node {id}"),
            Self::Witness(name) => write!(f, "witness {name}"),
        }
    }
}

/// One process as others know it: who it is, which life of its data directory, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// Its place among the voters.
    pub voter: Voter,
    /// Its data directory's incarnation.
    pub incarnation: Incarnation,
    /// Its peer port.
    pub address: Address,
}

/// A ballot of the campaign for the next view: higher rounds win, ids make it unique (section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Counted up by candidates.
    pub round: u64,
    /// The candidate.
    pub node: NodeId,
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.node)
    }
}

/// Microseconds since 1970: a message's id and its instant. Also the wall clock, as an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// The largest timestamp that the text form of an id can show: ten digits of seconds, six of microseconds.
pub const TIMESTAMP_MAX: Timestamp = Timestamp(9_999_999_999_999_999);

impl Timestamp {
    /// `"1700000000.000123"`, which sorts as the numbers do.
    ///
    /// # Errors
    /// What is wrong with the text, for a client to read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no message id: expected ten digits, a point and six digits");
        let (seconds, micros) = text.split_once('.').ok_or_else(wrong)?;
        let digits = |part: &str, count: usize| {
            (part.len() == count && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse::<u64>().ok())
                .flatten()
        };
        match (digits(seconds, 10), digits(micros, 6)) {
            (Some(s), Some(us)) => Ok(Self(s * 1_000_000 + us)),
            (Some(_) | None, _) => Err(wrong()),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self > TIMESTAMP_MAX {
            return write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        }
        // All at once: a page of messages has a hundred of them, and piece by piece takes twice as long.
        let (mut text, mut rest) = (*b"0000000000.000000", self.0);
        for digit in text.iter_mut().rev().filter(|digit| **digit != b'.') {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Both clocks at one step, as arguments: no machine reads one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timeouts.
    pub elapsed: Millis,
    /// For the timestamps of messages; it may jump.
    pub wall: Timestamp,
}

/// 32 bytes of BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..4] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_ids_are_text_that_sorts_like_the_numbers() {
        let id = Timestamp(1_700_000_000_000_123);
        assert_eq!(id.to_string(), "1700000000.000123");
        assert_eq!(Timestamp(123_456).to_string(), "0000000000.123456");
        assert_eq!(Timestamp(TIMESTAMP_MAX.0 + 1).to_string(), "10000000000.000000", "no id, and yet told");
        assert_eq!(Timestamp::parse("1700000000.000123"), Ok(id));
        assert_eq!(Timestamp::parse(&TIMESTAMP_MAX.to_string()), Ok(TIMESTAMP_MAX));
        for bad in
            ["", "1", "1700000000", "170000000.000123", "1700000000.00012", "+700000000.000123", "1700000000.000123 "]
        {
            assert!(Timestamp::parse(bad).is_err(), "{bad:?} was taken for an id");
        }
    }
}

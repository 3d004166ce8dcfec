//! The registers of stars: of each message and user, the versions in the order in which that user wrote them.
//!
//! A version is a call that may have taken effect; version 0, before all calls, is "no star".
//!
//! Not here: which version a read saw (`order.rs`).

use super::super::history::{Call, Client, End, Id, Moment, Wish};
use super::{Malformed, describe};
use std::collections::BTreeMap;

/// The calls that wrote one star, in order.
#[derive(Clone, Debug, Default)]
pub struct Register {
    /// The calls' places, and what each wrote.
    pub writes: Vec<(usize, bool)>,
}

impl Register {
    /// The versions that an answer which shows `on` may have seen, if it was called and returned so: not overwritten before,
    /// and not written after.
    pub fn candidates(&self, calls: &[Call], on: bool, called: Moment, returned: Moment) -> Vec<usize> {
        let written = |version: usize| version.checked_sub(1).map(|place| &calls[self.writes[place].0]);
        // Those before it were overwritten by a call that had returned.
        let first = self.writes.partition_point(|(call, _)| calls[*call].returned() < called);
        (first..=self.writes.len())
            .take_while(|version| written(*version).is_none_or(|call| call.called < returned))
            .filter(|version| self.value(*version) == on)
            .collect()
    }

    /// What a version shows.
    pub fn value(&self, version: usize) -> bool {
        version.checked_sub(1).is_some_and(|place| self.writes[place].1)
    }
}

/// All registers.
#[derive(Debug, Default)]
pub struct Registers {
    of: BTreeMap<Id, BTreeMap<Client, Register>>,
}

impl Registers {
    /// Finds them.
    ///
    /// # Errors
    /// When a client wrote a star before it knew what became of the write before.
    pub fn new(calls: &[Call]) -> Result<Self, Malformed> {
        let mut writes: Vec<_> = (0..calls.len()).filter(|place| is_version(&calls[*place])).collect();
        writes.sort_by_key(|place| calls[*place].called);
        let mut registers = Self::default();
        for place in writes {
            let Wish::Star { message, on } = calls[place].wish else { continue };
            let register = registers.of.entry(message).or_default().entry(calls[place].client).or_default();
            if let Some((before, _)) = register.writes.last()
                && calls[*before].returned() > calls[place].called
            {
                let (before, after) = (describe(*before, &calls[*before]), describe(place, &calls[place]));
                return Err(Malformed(format!("one star was written twice at once: {before}; {after}")));
            }
            register.writes.push((place, on));
        }
        Ok(registers)
    }

    /// Who wrote a star on this message, and the registers.
    pub fn of(&self, message: Id) -> impl Iterator<Item = (Client, &Register)> {
        self.of.get(&message).into_iter().flatten().map(|(user, register)| (*user, register))
    }

    /// One register.
    pub fn get(&self, message: Id, user: Client) -> Option<&Register> {
        self.of.get(&message)?.get(&user)
    }
}

/// Whether it may have written a star. What was answered with "no such message" wrote none.
fn is_version(call: &Call) -> bool {
    use super::super::history::Answer;
    let may_have = match &call.end {
        End::Answered { answer, .. } => *answer != Answer::NotFound,
        End::Unknown { .. } => true,
        End::Refused { .. } => false,
    };
    matches!(call.wish, Wish::Star { .. }) && may_have
}

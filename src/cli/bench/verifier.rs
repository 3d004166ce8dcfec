//! What must be true when the load is over: every acknowledged post is there once, under its id, in order and unchanged; what was
//! refused is nowhere; what is in doubt is there once at most; and every star is where it was given.
//!
//! It is fed with the history of each channel, oldest first, as one gateway shows it.
//!
//! Not here: asking for it (`read_back.rs`).

use super::answer::{Expected, MessageJson};
use super::ledger::{Fate, Ledger, Place};
use super::tally::Violations;
use super::text::PostName;
use super::violation::Violation;
use lockstep_protocol::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The check of one gateway's histories.
pub struct Verifier<'a> {
    ledger: &'a Ledger,
    expected: &'a Expected,
    gateway: &'a str,
    stars: BTreeMap<Timestamp, BTreeSet<u32>>,
    seen: BTreeMap<PostName, Timestamp>,
    channel: usize,
    last: Option<Timestamp>,
    /// Of each writer, the latest of its posts in this channel so far.
    latest: BTreeMap<u32, u32>,
    violations: &'a mut Violations,
}

impl<'a> Verifier<'a> {
    /// Nothing was seen yet.
    pub fn new(ledger: &'a Ledger, expected: &'a Expected, gateway: &'a str, violations: &'a mut Violations) -> Self {
        let stars = ledger.stars();
        let (seen, latest) = (BTreeMap::new(), BTreeMap::new());
        Self { ledger, expected, gateway, stars, seen, channel: 0, last: None, latest, violations }
    }

    /// What follows is this channel.
    pub fn channel(&mut self, channel: usize) {
        self.channel = channel;
        self.last = None;
        self.latest.clear();
    }

    /// The channel's next message.
    pub fn message(&mut self, message: &MessageJson<'_>) {
        let place = match self.expected.in_channel(self.ledger, self.channel, message) {
            Ok(place) => place,
            Err(violation) => return self.broken(violation),
        };
        let checks = [
            self.once(place),
            self.ledger.agrees(place.post, place.id),
            self.after_the_last(place.id),
            self.in_the_writers_order(place.post),
        ];
        checks.into_iter().filter_map(Result::err).for_each(|violation| self.broken(violation));
        self.stars_of(place.id, message);
    }

    /// All channels were shown: how many of this run's messages there are.
    pub fn finish(mut self) -> usize {
        for (post, fate) in self.ledger.posts() {
            if let (Fate::Acknowledged(id), false) = (fate, self.seen.contains_key(&post)) {
                self.broken(Violation::Lost { post, id });
            }
        }
        let lost = std::mem::take(&mut self.stars).into_iter();
        let lost = lost.flat_map(|(id, writers)| writers.into_iter().map(move |writer| (id, writer)));
        lost.for_each(|(id, writer)| self.broken(Violation::StarLost { writer, id }));
        self.seen.len()
    }

    fn broken(&mut self, violation: Violation) {
        self.violations.add(self.gateway, &violation);
    }

    fn once(&mut self, Place { post, id }: Place) -> Result<(), Violation> {
        match self.seen.insert(post, id) {
            Some(first) => Err(Violation::Doubled { post, first, second: id }),
            None => Ok(()),
        }
    }

    fn after_the_last(&mut self, id: Timestamp) -> Result<(), Violation> {
        match self.last.replace(id) {
            Some(before) if before >= id => Err(Violation::NotInOrder { id, before }),
            Some(_) | None => Ok(()),
        }
    }

    /// A writer sends a post once the one before is answered. One that was never answered may take effect later.
    fn in_the_writers_order(&mut self, post: PostName) -> Result<(), Violation> {
        let latest = self.latest.entry(post.writer).or_insert(post.number);
        let later = *latest;
        *latest = later.max(post.number);
        let is_answered = matches!(self.ledger.fate(post), Some(Fate::Acknowledged(_)));
        if is_answered && later > post.number {
            return Err(Violation::Reordered { post, later: PostName { writer: post.writer, number: later } });
        }
        Ok(())
    }

    fn stars_of(&mut self, id: Timestamp, message: &MessageJson<'_>) {
        let mut wanted = self.stars.remove(&id).unwrap_or_default();
        for user in &message.starred_by {
            let writer = self.expected.writer_of(user);
            let is_right =
                writer.is_some_and(|writer| wanted.remove(&writer) || self.ledger.is_star_doubtful(writer, id));
            if !is_right {
                self.broken(Violation::StarStrange { id, user: user.to_string() });
            }
        }
        wanted.into_iter().for_each(|writer| self.broken(Violation::StarLost { writer, id }));
    }
}

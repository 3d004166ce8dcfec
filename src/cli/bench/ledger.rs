//! What the cluster told the clients of a run: which posts are acknowledged, refused or in doubt, and who starred what.
//!
//! It is what every answer is held against, during the run and after it. A post that was answered with a refusal never took
//! effect (S4); one whose answer was lost may have, once.

use super::text::PostName;
use super::violation::Violation;
use lockstep_protocol::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What a writer knows of one of its posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was sent, and its answer has not come, or never will.
    Doubtful,
    /// It never took effect and never will.
    Refused,
    /// It is there, with this id.
    Acknowledged(Timestamp),
}

/// An acknowledged post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub post: PostName,
    /// Its id.
    pub id: Timestamp,
}

/// What is known of a channel: a read that begins now must show as much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How many messages were acknowledged.
    pub messages: u64,
    /// The highest of their ids.
    pub newest: Timestamp,
}

#[derive(Default)]
struct Writer {
    posts: Vec<Fate>,
    newest: Timestamp,
    starred: Option<Place>,
    /// Messages of which it is not known whether this writer's star is there.
    doubtful_stars: BTreeSet<Timestamp>,
}

/// How many posts there are of each fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// They must be there.
    pub acknowledged: u64,
    /// They must not.
    pub refused: u64,
    /// They may be there, once.
    pub doubtful: u64,
}

/// All that was told.
pub struct Ledger {
    writers: Vec<Writer>,
    channels: Vec<Known>,
    acknowledged: Vec<PostName>,
}

impl Ledger {
    /// Of so many writers in so many channels: nothing yet.
    pub fn new(writers: usize, channels: usize) -> Self {
        let mut all = Vec::new();
        all.resize_with(writers, Writer::default);
        Self { writers: all, channels: vec![Known::default(); channels], acknowledged: Vec::new() }
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// The channel of a post: a writer goes through all of them.
    pub fn channel_of(&self, post: PostName) -> usize {
        (post.writer as usize + post.number as usize) % self.channels.len()
    }

    /// What is known of a channel.
    pub fn known(&self, channel: usize) -> Known {
        self.channels[channel]
    }

    /// A writer's next post, in doubt until its answer comes.
    pub fn begin_post(&mut self, writer: u32) -> PostName {
        let posts = &mut self.writers[writer as usize].posts;
        posts.push(Fate::Doubtful);
        PostName { writer, number: u32::try_from(posts.len() - 1).unwrap_or(u32::MAX) }
    }

    /// A post that was begun is acknowledged.
    ///
    /// # Errors
    /// When its id is not above those of the writer's posts before it.
    pub fn acknowledge(&mut self, post: PostName, id: Timestamp) -> Result<(), Violation> {
        let channel = self.channel_of(post);
        let writer = &mut self.writers[post.writer as usize];
        writer.posts[post.number as usize] = Fate::Acknowledged(id);
        let before = writer.newest;
        writer.newest = before.max(id);
        let known = &mut self.channels[channel];
        known.messages += 1;
        known.newest = known.newest.max(id);
        self.acknowledged.push(post);
        if id > before { Ok(()) } else { Err(Violation::IdFell { post, id, before }) }
    }

    /// A post that was begun is refused.
    pub fn refuse(&mut self, post: PostName) {
        self.writers[post.writer as usize].posts[post.number as usize] = Fate::Refused;
    }

    /// What became of a post; none when it was never begun.
    pub fn fate(&self, post: PostName) -> Option<Fate> {
        self.writers.get(post.writer as usize)?.posts.get(post.number as usize).copied()
    }

    /// Every post that was begun.
    pub fn posts(&self) -> impl Iterator<Item = (PostName, Fate)> {
        (0_u32..).zip(&self.writers).flat_map(|(writer, of)| {
            (0_u32..).zip(&of.posts).map(move |(number, fate)| (PostName { writer, number }, *fate))
        })
    }

    /// Any acknowledged post, drawn; none while there are none.
    pub fn pick(&self, random: &mut fastrand::Rng) -> Option<Place> {
        let post = *random.choice(&self.acknowledged)?;
        match self.fate(post)? {
            Fate::Acknowledged(id) => Some(Place { post, id }),
            Fate::Doubtful | Fate::Refused => None,
        }
    }

    /// A post that a read shows, with this id: what was told of it must agree.
    pub fn agrees(&self, post: PostName, id: Timestamp) -> Result<(), Violation> {
        match self.fate(post) {
            Some(Fate::Doubtful) => Ok(()),
            Some(Fate::Acknowledged(told)) if told == id => Ok(()),
            Some(Fate::Acknowledged(told)) => Err(Violation::OtherId { post, told, id }),
            Some(Fate::Refused) => Err(Violation::RefusedIsThere { post, id }),
            None => Err(Violation::NeverPosted { post, id }),
        }
    }

    /// The message that has a writer's star.
    pub fn starred(&self, writer: u32) -> Option<Place> {
        self.writers[writer as usize].starred
    }

    /// A star was given, or taken back.
    pub fn star(&mut self, writer: u32, place: Place, is_there: bool) {
        self.writers[writer as usize].starred = is_there.then_some(place);
    }

    /// It is not known whether a star was given or taken back.
    pub fn doubt_star(&mut self, writer: u32, place: Place) {
        let writer = &mut self.writers[writer as usize];
        writer.starred = None;
        writer.doubtful_stars.insert(place.id);
    }

    /// Whether nothing is known of a writer's star on a message.
    pub fn is_star_doubtful(&self, writer: u32, id: Timestamp) -> bool {
        self.writers.get(writer as usize).is_some_and(|writer| writer.doubtful_stars.contains(&id))
    }

    /// Which writers' stars each message must have.
    pub fn stars(&self) -> BTreeMap<Timestamp, BTreeSet<u32>> {
        let mut stars: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (writer, of) in (0_u32..).zip(&self.writers) {
            if let Some(place) = of.starred.filter(|place| !of.doubtful_stars.contains(&place.id)) {
                stars.entry(place.id).or_default().insert(writer);
            }
        }
        stars
    }

    /// How many posts there are of each fate.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (_, fate) in self.posts() {
            match fate {
                Fate::Acknowledged(_) => counts.acknowledged += 1,
                Fate::Refused => counts.refused += 1,
                Fate::Doubtful => counts.doubtful += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_are_in_doubt_until_they_are_answered() {
        let mut ledger = Ledger::new(2, 3);
        let [one, two, three] = [0, 1, 1].map(|writer| ledger.begin_post(writer));
        assert_eq!((one.number, two.number, three.number), (0, 0, 1));
        assert_eq!(ledger.acknowledge(two, Timestamp(5)), Ok(()));
        ledger.refuse(three);
        assert_eq!(ledger.counts(), Counts { acknowledged: 1, refused: 1, doubtful: 1 });
        assert_eq!(ledger.known(ledger.channel_of(two)), Known { messages: 1, newest: Timestamp(5) });
        assert_eq!(ledger.pick(&mut fastrand::Rng::with_seed(1)), Some(Place { post: two, id: Timestamp(5) }));
        assert_eq!(ledger.fate(PostName { writer: 2, number: 0 }), None);
    }

    #[test]
    fn ids_that_a_writer_is_told_must_grow() {
        let mut ledger = Ledger::new(1, 2);
        let [one, two] = [0, 0].map(|writer| ledger.begin_post(writer));
        assert_eq!(ledger.acknowledge(one, Timestamp(5)), Ok(()));
        let (id, before) = (Timestamp(5), Timestamp(5));
        assert_eq!(ledger.acknowledge(two, id), Err(Violation::IdFell { post: two, id, before }));
    }

    #[test]
    fn what_a_read_shows_must_agree_with_what_was_told() {
        let mut ledger = Ledger::new(1, 1);
        let [there, refused, doubtful] = [0; 3].map(|writer| ledger.begin_post(writer));
        ledger.acknowledge(there, Timestamp(5)).expect("the first");
        ledger.refuse(refused);
        let id = Timestamp(6);
        assert_eq!((ledger.agrees(there, Timestamp(5)), ledger.agrees(doubtful, id)), (Ok(()), Ok(())));
        assert_eq!(ledger.agrees(there, id), Err(Violation::OtherId { post: there, told: Timestamp(5), id }));
        assert_eq!(ledger.agrees(refused, id), Err(Violation::RefusedIsThere { post: refused, id }));
        let post = PostName { writer: 0, number: 3 };
        assert_eq!(ledger.agrees(post, id), Err(Violation::NeverPosted { post, id }));
    }

    #[test]
    fn a_star_in_doubt_is_claimed_neither_way() {
        let mut ledger = Ledger::new(1, 1);
        let post = ledger.begin_post(0);
        let place = Place { post, id: Timestamp(5) };
        ledger.star(0, place, true);
        assert_eq!(ledger.stars(), BTreeMap::from([(place.id, BTreeSet::from([0]))]));
        ledger.doubt_star(0, place);
        assert!(ledger.stars().is_empty() && ledger.is_star_doubtful(0, place.id));
        ledger.star(0, place, true);
        assert!(ledger.stars().is_empty(), "the doubtful one may still come");
    }
}

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
            self.by_its_writer(place, &message.user),
        ];
        checks.into_iter().filter_map(Result::err).for_each(|violation| self.broken(violation));
        self.stars_of(place.id, message);
    }

    /// How many of this run's messages were shown so far.
    pub fn seen(&self) -> usize {
        self.seen.len()
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

    fn by_its_writer(&self, Place { post, id }: Place, user: &str) -> Result<(), Violation> {
        let is_right = self.expected.writer_of(user) == Some(post.writer);
        is_right.then_some(()).ok_or_else(|| Violation::OtherUser { id, writer: post.writer, user: user.to_owned() })
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

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0123456789ab";

    /// What a cluster may show of one message.
    #[derive(Clone, Debug)]
    struct Shown {
        id: u64,
        channel: &'static str,
        user: String,
        text: String,
        starred_by: Vec<&'static str>,
    }

    /// Two clients posted into two channels: of client 0 posts 0 to 3, of client 1 posts 0 and 1. Post 2 of client 0 is in
    /// doubt, post 1 of client 1 is refused. Client 1 starred post 0 of client 0; nothing is known of client 0's star on it.
    struct Story {
        ledger: Ledger,
        expected: Expected,
    }

    const fn post(writer: u32, number: u32) -> PostName {
        PostName { writer, number }
    }

    fn story() -> Story {
        let mut ledger = Ledger::new(2, 2);
        for writer in [0, 0, 0, 0, 1, 1] {
            ledger.begin_post(writer);
        }
        for (name, id) in [(post(0, 0), 10), (post(0, 1), 20), (post(0, 3), 40), (post(1, 0), 15)] {
            ledger.acknowledge(name, Timestamp(id)).expect("ids grow");
        }
        ledger.refuse(post(1, 1));
        let place = Place { post: post(0, 0), id: Timestamp(10) };
        ledger.star(1, place, true);
        ledger.doubt_star(0, place);
        let channels = vec!["a".to_owned(), "b".to_owned()];
        Story {
            ledger,
            expected: Expected { texts: super::super::text::Texts::new(RUN, 64), channels, user: "u".into() },
        }
    }

    fn shown(expected: &Expected, post: PostName, id: u64, channel: &'static str) -> Shown {
        let mut text = Vec::new();
        expected.texts.write(post, &mut text);
        let (user, text) = (expected.user_of(post.writer), String::from_utf8(text).expect("ASCII"));
        Shown { id, channel, user, text, starred_by: Vec::new() }
    }

    /// What an honest cluster shows: channel `a`, then `b`.
    fn honest(expected: &Expected) -> [Vec<Shown>; 2] {
        let mut starred = shown(expected, post(0, 0), 10, "a");
        starred.starred_by = vec!["u-1"];
        [
            vec![starred],
            vec![
                shown(expected, post(1, 0), 15, "b"),
                shown(expected, post(0, 1), 20, "b"),
                shown(expected, post(0, 3), 40, "b"),
            ],
        ]
    }

    fn check(story: &Story, channels: &[Vec<Shown>]) -> Vec<String> {
        let mut violations = Violations::default();
        let mut verifier = Verifier::new(&story.ledger, &story.expected, "g", &mut violations);
        for (place, messages) in channels.iter().enumerate() {
            verifier.channel(place);
            let json = |shown: &Shown| {
                serde_json::json!({"id": Timestamp(shown.id).to_string(), "channel": shown.channel, "user": shown.user,
                    "text": shown.text, "posted_at": "", "starred_by": shown.starred_by})
            };
            let page = serde_json::json!({"messages": messages.iter().map(json).collect::<Vec<_>>(), "next": null,
                "has_more": false});
            let page = page.to_string();
            let page = super::super::answer::page(page.as_bytes()).expect("a page");
            page.messages.iter().for_each(|message| verifier.message(message));
        }
        verifier.finish();
        violations.told.iter().map(|line| line.strip_prefix("g: ").expect("its gateway").to_owned()).collect()
    }

    /// What is said of a history that was doctored.
    fn doctored(change: impl FnOnce(&mut [Vec<Shown>; 2], &Expected)) -> Vec<String> {
        let story = story();
        let mut channels = honest(&story.expected);
        change(&mut channels, &story.expected);
        check(&story, &channels)
    }

    #[test]
    fn an_honest_history_is_let_pass() {
        assert_eq!(doctored(|_, _| ()), [""; 0]);
    }

    #[test]
    fn what_is_in_doubt_may_be_there_once_and_late() {
        let late = doctored(|channels, expected| channels[0].push(shown(expected, post(0, 2), 50, "a")));
        assert_eq!(late, [""; 0]);
        let twice = doctored(|channels, expected| {
            channels[0].extend([shown(expected, post(0, 2), 50, "a"), shown(expected, post(0, 2), 60, "a")]);
        });
        assert_eq!(twice, ["post 2 of client 0 is there twice, as 0000000000.000050 and as 0000000000.000060"]);
        let starred = doctored(|channels, _| channels[0][0].starred_by = vec!["u-0", "u-1"]);
        assert_eq!(starred, [""; 0], "and so may a star");
    }

    #[test]
    fn s1_a_lost_post_is_told() {
        let said = doctored(|channels, _| drop(channels[1].remove(1)));
        assert_eq!(said, ["post 1 of client 0 was acknowledged as 0000000000.000020 and is not there"]);
        let all = doctored(|channels, _| channels.iter_mut().for_each(Vec::clear));
        assert_eq!(all.len(), 5, "four posts and a star: {all:?}");
    }

    #[test]
    fn s3_a_doubled_post_is_told() {
        let again = doctored(|channels, expected| channels[1].push(shown(expected, post(0, 3), 41, "b")));
        assert_eq!(again[0], "post 3 of client 0 is there twice, as 0000000000.000040 and as 0000000000.000041");
        let same = doctored(|channels, _| {
            let last = channels[1][2].clone();
            channels[1].push(last);
        });
        assert_eq!(
            same,
            [
                "post 3 of client 0 is there twice, as 0000000000.000040 and as 0000000000.000040",
                "message 0000000000.000040 stands after 0000000000.000040 in a history"
            ]
        );
    }

    #[test]
    fn s2_posts_of_a_client_in_another_order_are_told() {
        let swapped = doctored(|channels, _| channels[1].swap(1, 2));
        assert_eq!(
            swapped,
            [
                "message 0000000000.000020 stands after 0000000000.000040 in a history",
                "post 1 of client 0 stands after post 3 of client 0"
            ]
        );
        // The ids grow as they should: they have changed their messages.
        let renamed = doctored(|channels, _| {
            channels[1].swap(1, 2);
            (channels[1][1].id, channels[1][2].id) = (20, 40);
        });
        assert!(renamed.contains(&"post 1 of client 0 stands after post 3 of client 0".to_owned()), "{renamed:?}");
        assert!(renamed.iter().any(|line| line.contains("was acknowledged as 0000000000.000020 and is there as")));
    }

    #[test]
    fn a_changed_text_is_told_and_so_is_its_loss() {
        let changed = doctored(|channels, _| {
            let last = channels[1][1].text.pop();
            channels[1][1].text.push(if last == Some('x') { 'y' } else { 'x' });
        });
        assert_eq!(
            changed,
            [
                "message 0000000000.000020 has not the text of post 1 of client 0, which it begins with",
                "post 1 of client 0 was acknowledged as 0000000000.000020 and is not there"
            ]
        );
        let strange = doctored(|channels, _| {
            let mut other = channels[1][2].clone();
            (other.id, other.text) = (50, "hello".to_owned());
            channels[1].push(other);
        });
        assert_eq!(strange, ["message 0000000000.000050 has a text that nobody posted"]);
    }

    #[test]
    fn s4_a_refused_post_that_is_there_is_told() {
        let said = doctored(|channels, expected| channels[0].push(shown(expected, post(1, 1), 50, "a")));
        assert_eq!(said, ["post 1 of client 1 was refused and is there as 0000000000.000050"]);
        let never = doctored(|channels, expected| channels[0].push(shown(expected, post(1, 3), 50, "a")));
        assert_eq!(never, ["post 3 of client 1 was never sent and is there as 0000000000.000050"]);
    }

    #[test]
    fn a_message_in_another_channel_is_told() {
        let moved = doctored(|channels, _| {
            let first = channels[1].remove(0);
            channels[0].push(first);
        });
        assert_eq!(
            moved,
            [
                "message 0000000000.000015 is shown in channel a",
                "post 0 of client 1 was acknowledged as 0000000000.000015 and is not there"
            ]
        );
    }

    #[test]
    fn a_message_by_another_user_is_told() {
        let said = doctored(|channels, _| channels[1][0].user = "u-0".to_owned());
        assert_eq!(said, ["message 0000000000.000015 of client 1 is shown as posted by u-0"]);
    }

    #[test]
    fn stars_that_are_lost_or_that_nobody_gave_are_told() {
        let lost = doctored(|channels, _| channels[0][0].starred_by.clear());
        assert_eq!(lost, ["client 1 starred message 0000000000.000010, and its star is not there"]);
        for user in ["u-1", "u-01", "v-1", "u-7"] {
            let strange = doctored(|channels, _| channels[1][0].starred_by = vec![user]);
            let told = format!("message 0000000000.000015 has a star of {user}, who gave none or took it back");
            assert_eq!(strange, [told]);
        }
    }
}

//! What operations do, what queries find, and what idempotency keys remember.

use crate::ids::{Index, Timestamp};
use crate::log::Batch;
use crate::operation::{
    Action, Channel, Found, LoggedOperation, Message, Operation, OperationError, Outcome, PAGE_BYTES_MAX, Page, Query,
    Text, UserName,
};
use crate::sim::disk::SimDisk;
use crate::storage::kv::{Direction, KeyRange, Kv, ReadKv, Table, WriteBatch};
use crate::storage::tests::{History, channel, owner, posting};
use crate::storage::{StorageError, Verdict};
use crate::store::changes::encode;
use crate::store::keys;
use crate::store::{Hints, State, apply, digest, examine, locate, query, state};

/// A store with a history.
struct Bench {
    disk: SimDisk,
    history: History,
    hint: Hints,
}

impl Bench {
    fn new() -> Self {
        Self { disk: SimDisk::new(), history: History::default(), hint: Hints::default() }
    }

    fn apply_last(&mut self) -> Vec<Outcome> {
        let entry = self.history.entries.last().expect("one").clone();
        let before = state(&self.disk).expect("reads");
        let applied = apply(&self.disk, &before, &entry, &mut self.hint).expect("applies");
        self.disk.write(applied.changes).expect("writes");
        assert_eq!(state(&self.disk), Ok(applied.state));
        applied.outcomes
    }

    fn run(&mut self, at: u64, operations: Vec<Operation>) -> Vec<Outcome> {
        self.run_expiring(at, 0, operations)
    }

    fn run_expiring(&mut self, at: u64, before: u64, operations: Vec<Operation>) -> Vec<Outcome> {
        self.history.operations(at, before, operations);
        self.apply_last()
    }

    fn ask(&self, asked: Query) -> Result<Found, OperationError> {
        query(&self.disk, &asked).expect("reads")
    }

    fn examine(&self, operations: &[Operation]) -> Vec<Verdict> {
        examine(&self.disk, operations).expect("reads")
    }

    fn message(&self, id: u64) -> Message {
        match self.ask(Query::Message { id: Timestamp(id) }) {
            Ok(Found::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    fn ids(&self, asked: Query) -> (Vec<u64>, bool) {
        match self.ask(asked) {
            Ok(Found::Messages { messages, has_more }) => (messages.iter().map(|m| m.id.0).collect(), has_more),
            other => panic!("{other:?}"),
        }
    }
}

fn user(name: &str) -> UserName {
    UserName::new(name).expect("a name")
}

fn starring(by: &str, key: &str, id: u64, starred: bool) -> Operation {
    let id = Timestamp(id);
    let action = if starred { Action::Star { id } } else { Action::Unstar { id } };
    Operation { owner: owner(by, key), action }
}

fn creating(by: &str, key: &str, name: &str) -> Operation {
    Operation { owner: owner(by, key), action: Action::CreateChannel { channel: channel(name) } }
}

fn only_posting(by: &str, key: &str, to: &str, text: &str) -> Operation {
    let text = Text::new(text).expect("a text");
    Operation { owner: owner(by, key), action: Action::Post { channel: channel(to), text, create_channel: false } }
}

fn page(limit: u32) -> Page {
    Page { limit, before: None, after: None, ascending: false }
}

fn history(name: &str, page: Page) -> Query {
    Query::History { channel: channel(name), page }
}

fn posted(id: u64, by: &str, to: &str, text: &str, stars: &[&str]) -> Message {
    Message {
        id: Timestamp(id),
        channel: channel(to),
        user: user(by),
        text: Text::new(text).expect("a text"),
        starred_by: stars.iter().map(|name| user(name)).collect(),
    }
}

#[test]
fn r3_a_post_is_a_message_under_its_instant_and_creates_its_channel() {
    let mut bench = Bench::new();
    let outcomes = bench.run(10, vec![posting("ada", "k1", "general", "hi"), posting("bob", "k2", "general", "ho")]);
    let first = posted(10, "ada", "general", "hi", &[]);
    assert_eq!(
        outcomes,
        vec![Outcome::Message(first.clone()), Outcome::Message(posted(11, "bob", "general", "ho", &[]))]
    );
    assert_eq!(bench.message(10), first);
    let expected = Channel { name: channel("general"), created_at: Timestamp(10), created_by: user("ada") };
    assert_eq!(bench.ask(Query::Channel { channel: channel("general") }), Ok(Found::Channel(expected.clone())));
    let outcomes = bench.run(20, vec![creating("bob", "k3", "general"), creating("bob", "k4", "other")]);
    let other = Channel { name: channel("other"), created_at: Timestamp(21), created_by: user("bob") };
    assert_eq!(
        outcomes,
        vec![
            Outcome::Channel { channel: expected, created: false },
            Outcome::Channel { channel: other, created: true },
        ]
    );
    assert_eq!(locate(&bench.disk, Timestamp(11)), Ok(Some(channel("general"))));
    assert_eq!(locate(&bench.disk, Timestamp(12)), Ok(None));
}

#[test]
fn api_a_star_twice_is_one_and_names_are_sorted() {
    let mut bench = Bench::new();
    bench.run(10, vec![posting("ada", "k", "general", "hi")]);
    let stars = [("eve", true), ("bob", true), ("eve", true), ("ada", true), ("bob", false), ("bob", false)];
    let expected: [&[&str]; 6] =
        [&["eve"], &["bob", "eve"], &["bob", "eve"], &["ada", "bob", "eve"], &["ada", "eve"], &["ada", "eve"]];
    for (n, ((by, starred), expected)) in stars.into_iter().zip(expected).enumerate() {
        let outcomes = bench.run(20 + n as u64, vec![starring(by, &format!("s{n}"), 10, starred)]);
        assert_eq!(outcomes, vec![Outcome::Message(posted(10, "ada", "general", "hi", expected))]);
    }
    assert_eq!(bench.message(10), posted(10, "ada", "general", "hi", &["ada", "eve"]));
    let both = vec![starring("ada", "u1", 10, false), starring("eve", "u2", 10, false)];
    bench.run(30, both);
    let all = Query::Stars { channel: channel("general"), user: None, page: page(9) };
    assert_eq!(bench.ids(all), (vec![], false));
}

/// Posts 1..=n to `general` at 10, 20, ..., and as many to `other` in between.
fn filled(n: u64) -> Bench {
    let mut bench = Bench::new();
    for i in 1..=n {
        bench.run(
            i * 10,
            vec![
                posting("ada", &format!("k{i}"), "general", &format!("text {i}")),
                posting("ada", &format!("o{i}"), "other", "x"),
            ],
        );
    }
    bench
}

#[test]
fn api_history_pages_neither_repeat_nor_skip() {
    let bench = filled(7);
    for limit in 1..=8 {
        for ascending in [false, true] {
            let mut seen: Vec<u64> = Vec::new();
            let mut next = Page { ascending, ..page(limit) };
            loop {
                let (ids, has_more) = bench.ids(history("general", next));
                assert!(ids.len() <= limit as usize);
                seen.extend(&ids);
                let last = ids.last().copied().map(Timestamp);
                match ascending {
                    true => next.after = last,
                    false => next.before = last,
                }
                if !has_more {
                    break;
                }
            }
            if !ascending {
                seen.reverse();
            }
            assert_eq!(seen, vec![10, 20, 30, 40, 50, 60, 70], "limit {limit}, ascending {ascending}");
        }
    }
}

/// Entries of several posts each to three channels, some of them long, so that runs end within an entry.
fn busy(random: &mut fastrand::Rng) -> (Bench, Vec<(u64, &'static str)>, Vec<Operation>) {
    let (mut bench, mut posted, mut asked, mut at) = (Bench::new(), Vec::new(), Vec::new(), 1);
    for entry in 0..12 {
        at += random.u64(1..4);
        let operations = (0..random.u64(1..12)).map(|n| {
            let name = ["general", "other", "a"][random.usize(0..3)];
            posted.push((at + n, name));
            let text = "x".repeat(if random.u8(0..4) == 0 { 3_000 } else { 5 });
            posting("ada", &format!("{entry}-{n}"), name, &text)
        });
        let operations: Vec<_> = operations.collect();
        asked.extend_from_slice(&operations);
        let next = at + operations.len() as u64;
        bench.run(at, operations);
        at = next;
    }
    (bench, posted, asked)
}

#[test]
fn api_pages_are_what_lies_between_their_bounds_however_runs_lie() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20 {
        let (mut bench, posted, asked) = busy(&mut random);
        for ((id, name), verdict) in posted.iter().zip(bench.examine(&asked)) {
            let Verdict::Known(Outcome::Message(message), _) = verdict else { panic!("{verdict:?}") };
            assert_eq!((message.id, message.channel), (Timestamp(*id), channel(name)));
        }
        let last = posted.last().expect("one").0;
        for (id, name) in (0..=last + 1).map(|id| (id, posted.iter().find(|(known, _)| *known == id))) {
            let found = locate(&bench.disk, Timestamp(id)).expect("reads");
            assert_eq!(found, name.map(|(_, name)| channel(name)), "{id}");
            if name.is_some() {
                assert_eq!(bench.message(id).id, Timestamp(id));
            }
        }
        for _ in 0..500 {
            let name = ["general", "other", "a"][random.usize(0..3)];
            let mut bound = || (random.u8(0..3) > 0).then(|| Timestamp(random.u64(0..last + 3)));
            let (before, after) = (bound(), bound());
            let page = Page { limit: random.u32(1..30), before, after, ascending: random.bool() };
            let is_between =
                |id: u64| before.is_none_or(|before| id < before.0) && after.is_none_or(|after| id > after.0);
            let known = posted.iter().filter(|(id, channel)| *channel == name && is_between(*id));
            let mut expected: Vec<u64> = known.map(|(id, _)| *id).collect();
            if !page.ascending {
                expected.reverse();
            }
            let has_more = expected.len() > page.limit as usize;
            expected.truncate(page.limit as usize);
            assert_eq!(bench.ids(history(name, page)), (expected, has_more), "{page:?} of {name}");
        }
        for (id, _) in &posted {
            bench.run(1_000 + id, vec![starring("ada", &format!("star-{id}"), *id, true)]);
        }
        let stars = Query::Stars { channel: channel("other"), user: None, page: page(100) };
        let (ids, _) = bench.ids(history("other", page(100)));
        assert_eq!(bench.ids(stars), (ids, false));
    }
}

#[test]
fn section_4_a_busy_channel_has_far_fewer_pairs_than_messages() {
    let mut bench = Bench::new();
    let posts = (0..100).map(|n| posting("ada", &format!("k{n}"), "general", &"x".repeat(256))).collect();
    bench.run(10, posts);
    let mut kinds = std::collections::BTreeMap::<u8, usize>::new();
    bench
        .disk
        .scan(Table::Store, &KeyRange::all(), Direction::Forward, &mut |key, _| {
            *kinds.entry(key[0]).or_default() += 1;
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .expect("reads");
    let expected = [(b'a', 1), (b'c', 1), (b'i', 1), (b'k', 100), (b'm', 7), (b'x', 1)];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected, "16 texts of 256 bytes are a run");
}

#[test]
fn api_a_page_is_bounded_in_bytes_and_the_next_goes_on() {
    let mut bench = Bench::new();
    let text = "\u{1f600}".repeat(40_000);
    for n in 0..20 {
        bench.run(10 + n, vec![posting("ada", &format!("k{n}"), "general", &text)]);
        bench.run(10 + n, vec![starring("ada", &format!("s{n}"), 10 + n, true)]);
    }
    let all: Vec<u64> = (10..30).collect();
    for ascending in [true, false] {
        let first = Page { limit: 100, before: None, after: None, ascending };
        let stars = Query::Stars { channel: channel("general"), user: None, page: first };
        let (shown, has_more) = bench.ids(history("general", first));
        assert_eq!((shown.len(), has_more), (7, true), "of 160,000 bytes each");
        assert_eq!(bench.ids(stars), (shown.clone(), true), "of starred ones likewise");
        assert_eq!(shown[0], if ascending { 10 } else { 29 });
        let mut left = all.clone();
        left.retain(|id| !shown.contains(id));
        let last = Some(Timestamp(shown[6]));
        let (before, after) = if ascending { (None, last) } else { (last, None) };
        let (next, _) = bench.ids(history("general", Page { limit: 100, before, after, ascending }));
        assert_eq!(next[0], if ascending { left[0] } else { left[12] }, "and none is left out");
    }
}

#[test]
fn api_a_page_is_bounded_in_the_names_of_who_starred_too() {
    let mut bench = Bench::new();
    let posts = (0..3).map(|n| posting("ada", &format!("k{n}"), "general", "hi")).collect();
    bench.run(10, posts);
    let users: Vec<UserName> = (0..6_000).map(|n| user(&format!("{}{n}", "x".repeat(70)))).collect();
    for id in 10..13 {
        let (key, value) = (keys::stars(&channel("general"), Timestamp(id)), encode(&users));
        bench.disk.write(WriteBatch { writes: vec![(Table::Store, key, Some(value))] }).expect("writes");
    }
    let newest = Page { limit: 100, before: None, after: None, ascending: false };
    assert_eq!(bench.ids(history("general", newest)), (vec![12, 11], true), "440,000 bytes of names each");
    let oldest = Page { limit: 100, before: None, after: None, ascending: true };
    assert_eq!(bench.ids(history("general", oldest)), (vec![10, 11], true));
}

#[test]
fn api_before_and_after_are_exclusive_and_meet() {
    let bench = filled(5);
    let between = |before: u64, after: u64, ascending| {
        let page = Page { limit: 100, before: Some(Timestamp(before)), after: Some(Timestamp(after)), ascending };
        bench.ids(history("general", page))
    };
    assert_eq!(between(50, 10, false), (vec![40, 30, 20], false));
    assert_eq!(between(50, 10, true), (vec![20, 30, 40], false));
    assert_eq!(between(20, 10, true), (vec![], false));
    assert_eq!(between(10, 50, true), (vec![], false));
    assert!(!bench.ids(history("general", page(5))).1);
    assert_eq!(bench.ids(history("general", page(4))), (vec![50, 40, 30, 20], true));
}

#[test]
fn api_stars_are_found_by_channel_and_by_user() {
    let mut bench = filled(9);
    for (n, (by, id)) in [("ada", 20), ("bob", 20), ("ada", 50), ("bob", 80), ("ada", 21)].into_iter().enumerate() {
        bench.run(200 + n as u64, vec![starring(by, &format!("s{n}"), id, true)]);
    }
    let stars = |by: Option<&str>, page| Query::Stars { channel: channel("general"), user: by.map(user), page };
    assert_eq!(bench.ids(stars(None, page(9))), (vec![80, 50, 20], false));
    assert_eq!(bench.ids(stars(None, page(2))), (vec![80, 50], true));
    assert_eq!(bench.ids(stars(Some("ada"), page(9))), (vec![50, 20], false));
    assert_eq!(bench.ids(stars(Some("bob"), Page { ascending: true, ..page(1) })), (vec![20], true));
    assert_eq!(bench.ids(stars(Some("eve"), page(9))), (vec![], false));
    let Ok(Found::Messages { messages, .. }) = bench.ask(history("general", page(9))) else { panic!("messages") };
    let starred = messages.iter().map(|m| (m.id.0, m.starred_by.len())).filter(|(_, n)| *n > 0).collect::<Vec<_>>();
    assert_eq!(starred, vec![(80, 1), (50, 1), (20, 2)]);
    bench.run(300, vec![starring("ada", "u", 50, false)]);
    assert_eq!(bench.ids(stars(Some("ada"), page(9))), (vec![20], false));
}

#[test]
fn api_what_is_unknown_is_said_so() {
    let bench = filled(1);
    let missing = || OperationError::ChannelNotFound { channel: channel("nowhere") };
    assert_eq!(bench.ask(history("nowhere", page(1))), Err(missing()));
    let stars = Query::Stars { channel: channel("nowhere"), user: None, page: page(1) };
    assert_eq!(bench.ask(stars), Err(missing()));
    assert_eq!(bench.ask(Query::Channel { channel: channel("nowhere") }), Err(missing()));
    let id = Timestamp(5);
    assert_eq!(bench.ask(Query::Message { id }), Err(OperationError::MessageNotFound { id }));
}

#[test]
fn api_channels_are_listed_by_name() {
    let mut bench = Bench::new();
    bench.run(10, ["b", "a", "a-b", "c"].map(|name| creating("ada", &format!("k-{name}"), name)).to_vec());
    let list = |limit, after: Option<&str>| match bench.ask(Query::Channels { limit, after: after.map(channel) }) {
        Ok(Found::Channels { channels, has_more }) => {
            (channels.iter().map(|c| c.name.to_string()).collect::<Vec<_>>().join(" "), has_more)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(list(9, None), ("a a-b b c".into(), false));
    assert_eq!(list(2, None), ("a a-b".into(), true));
    assert_eq!(list(2, Some("a-b")), ("b c".into(), false));
    assert_eq!(list(1, Some("a")), ("a-b".into(), true));
}

#[test]
fn r2_a_known_key_gives_the_first_answer_again_exactly() {
    let mut bench = Bench::new();
    let post = posting("ada", "k1", "general", "hi");
    let (star, unstar) = (starring("bob", "k2", 10, true), starring("bob", "k3", 10, false));
    let create = creating("ada", "k4", "general");
    let mut first = bench.run(10, vec![post.clone()]);
    bench.run(15, vec![starring("ada", "k0", 10, true)]);
    for (n, operation) in [star.clone(), unstar.clone(), create.clone()].into_iter().enumerate() {
        first.extend(bench.run(20 + n as u64, vec![operation]));
    }
    bench.run(40, vec![starring("eve", "k9", 10, true)]);
    let indexes = [1, 3, 4, 5].map(Index);
    let expected: Vec<_> = first.into_iter().zip(indexes).map(|(outcome, at)| Verdict::Known(outcome, at)).collect();
    assert_eq!(bench.examine(&[post, star, unstar, create]), expected);
    assert_eq!(
        expected[1],
        Verdict::Known(Outcome::Message(posted(10, "ada", "general", "hi", &["ada", "bob"])), Index(3))
    );
}

#[test]
fn r2_a_key_stands_for_one_request_of_one_caller() {
    let mut bench = Bench::new();
    bench.run(10, vec![posting("ada", "k1", "general", "hi")]);
    let verdicts = bench.examine(&[
        posting("ada", "k1", "general", "other text"),
        posting("ada", "k1", "other", "hi"),
        starring("ada", "k1", 10, true),
        posting("bob", "k1", "general", "hi"),
        only_posting("ada", "k1", "general", "hi"),
    ]);
    let reused = Verdict::Failed(OperationError::KeyReused);
    assert_eq!(verdicts[..3], [reused.clone(), reused.clone(), reused]);
    assert_eq!(verdicts[3], Verdict::Valid(channel("general")));
    assert!(matches!(verdicts[4], Verdict::Known(Outcome::Message(_), Index(1))), "{:?}", verdicts[4]);
}

#[test]
fn r2_operations_are_judged_in_the_state_that_those_before_them_leave() {
    let mut bench = Bench::new();
    bench.run(10, vec![posting("ada", "k1", "general", "hi")]);
    let missing = |name| Verdict::Failed(OperationError::ChannelNotFound { channel: channel(name) });
    assert_eq!(
        bench.examine(&[
            only_posting("ada", "a", "new", "hi"),
            creating("ada", "b", "new"),
            only_posting("ada", "c", "new", "hi"),
            posting("ada", "d", "newer", "hi"),
            only_posting("ada", "e", "newer", "hi"),
            only_posting("ada", "f", "general", "hi"),
            starring("ada", "g", 10, true),
            starring("ada", "h", 11, false),
        ]),
        vec![
            missing("new"),
            Verdict::Valid(channel("new")),
            Verdict::Valid(channel("new")),
            Verdict::Valid(channel("newer")),
            Verdict::Valid(channel("newer")),
            Verdict::Valid(channel("general")),
            Verdict::Valid(channel("general")),
            Verdict::Failed(OperationError::MessageNotFound { id: Timestamp(11) }),
        ]
    );
    assert!(bench.ask(Query::Channel { channel: channel("new") }).is_err(), "examining changes nothing");
}

#[test]
fn r9_an_aborted_key_answers_aborted_whatever_is_asked_and_never_takes_effect() {
    let mut bench = Bench::new();
    bench.history.add(Batch::Abort { keys: vec![(owner("ada", "k1"), Timestamp(10))], keys_at: Timestamp(10) });
    assert_eq!(bench.apply_last(), vec![]);
    let aborted = Verdict::Known(Outcome::Aborted, Index(1));
    let copies = [posting("ada", "k1", "general", "hi"), creating("ada", "k1", "other")];
    assert_eq!(bench.examine(&copies), vec![aborted.clone(), aborted]);
}

#[test]
fn s3_an_abort_does_not_take_back_what_took_effect() {
    let mut bench = Bench::new();
    bench.run(10, vec![posting("ada", "k1", "general", "hi")]);
    bench.history.add(Batch::Abort { keys: vec![(owner("ada", "k1"), Timestamp(30))], keys_at: Timestamp(30) });
    bench.apply_last();
    assert!(matches!(
        bench.examine(&[posting("ada", "k1", "general", "hi")])[0],
        Verdict::Known(Outcome::Message(_), _)
    ));
}

#[test]
fn s5_what_cannot_be_carried_out_has_no_effect_on_any_replica() {
    let mut bench = Bench::new();
    bench.run(10, vec![posting("ada", "k", "general", "hi")]);
    let hopeless = vec![starring("ada", "a", 9, true), only_posting("ada", "b", "nowhere", "hi")];
    assert_eq!(bench.run(20, hopeless), vec![Outcome::Aborted, Outcome::Aborted]);
    assert_eq!(bench.run(10, vec![posting("eve", "c", "new", "again")]), vec![Outcome::Aborted], "its id is taken");
    assert_eq!(bench.run(15, vec![posting("eve", "d", "new", "late")]), vec![Outcome::Aborted], "later ones are there");
    let own = vec![posting("eve", "e", "general", "hi"), starring("eve", "f", 30, true)];
    assert!(matches!(bench.run(30, own)[..], [Outcome::Message(_), Outcome::Aborted]), "it was not there for R-2");
    assert_eq!(bench.message(10).user, user("ada"));
    assert!(bench.ask(Query::Channel { channel: channel("new") }).is_err());
}

fn is_known(bench: &Bench, key: u64) -> bool {
    let post = posting("ada", &format!("k{key}"), "general", &format!("text {key}"));
    matches!(bench.examine(&[post])[0], Verdict::Known(..))
}

#[test]
fn section_4_old_keys_are_dropped_by_the_logs_clock_and_a_few_at_a_time() {
    let mut bench = Bench::new();
    for n in 1..=40 {
        bench.run(n * 10, vec![posting("ada", &format!("k{n}"), "general", &format!("text {n}"))]);
    }
    bench.run_expiring(1_000, 100, vec![]);
    let known = |bench: &Bench| (1..=40).filter(|n| is_known(bench, *n)).collect::<Vec<_>>();
    assert_eq!(known(&bench), (10..=40).collect::<Vec<_>>(), "those of 10 to 90 are older than 100");
    bench.run_expiring(1_010, 500, vec![]);
    assert_eq!(known(&bench), (26..=40).collect::<Vec<_>>(), "16 at most");
    bench.run_expiring(1_020, 300, vec![posting("eve", "e", "general", "hi")]);
    assert_eq!(known(&bench), (30..=40).collect::<Vec<_>>());
    bench.run_expiring(1_030, 2_000, vec![]);
    assert_eq!(known(&bench), vec![] as Vec<u64>);
    assert_eq!(bench.message(10).text.as_str(), "text 1", "messages stay");
}

#[test]
fn s5_a_restart_drops_the_same_keys() {
    let mut fastrand = fastrand::Rng::with_seed(7);
    let (mut steady, mut restarted) = (Bench::new(), Bench::new());
    for n in 1..=200_u64 {
        // Instants are not even in order here: the hint must not matter whatever the log holds.
        let at = 10_000 + n * 10 - fastrand.u64(0..400);
        let operations =
            (0..fastrand.u64(0..4)).map(|i| posting("ada", &format!("k{n}-{i}"), "general", "x")).collect();
        steady.history.operations(at, at - fastrand.u64(0..900), operations);
        restarted.history = steady.history.clone();
        restarted.hint = Hints::default();
        assert_eq!(steady.apply_last(), restarted.apply_last());
        assert_eq!(digest(&steady.disk), digest(&restarted.disk), "after entry {n}");
    }
}

#[test]
fn s5_a_damaged_store_is_an_error_and_not_a_panic() {
    let mut bench = filled(2);
    let mut batch = crate::storage::kv::WriteBatch::default();
    let key = keys::run(&channel("general"), Timestamp(10));
    batch.put(crate::storage::kv::Table::Store, key.clone(), vec![0xff]);
    bench.disk.write(batch.clone()).expect("writes");
    let damaged = |bench: &Bench| {
        let found = query(&bench.disk, &Query::Message { id: Timestamp(10) });
        matches!(found, Err(StorageError::Damaged { place, .. }) if place.contains("general"))
    };
    assert!(damaged(&bench));
    batch.writes = vec![(crate::storage::kv::Table::Store, key, None)];
    bench.disk.write(batch).expect("writes");
    assert!(damaged(&bench));
}

#[test]
fn section_4_views_and_aborts_move_the_state_along() {
    let mut bench = filled(1);
    let before = state(&bench.disk).expect("reads");
    assert_eq!((before.index, before.last_timestamp), (Index(1), Timestamp(11)));
    let entry =
        bench.history.add(Batch::Abort { keys: vec![(owner("ada", "k"), Timestamp(99))], keys_at: Timestamp(99) });
    bench.apply_last();
    let expected = State { index: Index(2), hash: entry.hash, last_timestamp: Timestamp(99), keys_at: Timestamp(99) };
    assert_eq!(state(&bench.disk), Ok(expected));
}

#[test]
fn s5_equal_histories_are_equal_tables_and_others_are_not() {
    let (a, b, c) = (filled(3), filled(3), filled(4));
    assert_eq!(digest(&a.disk), digest(&b.disk));
    assert_ne!(digest(&a.disk), digest(&c.disk));
    let logged = |bench: &Bench| match &bench.history.entries[0].batch {
        Batch::Operations { operations, .. } => operations.clone(),
        Batch::Abort { .. } | Batch::View(_) | Batch::Courses(_) | Batch::Remove(_) => Vec::<LoggedOperation>::new(),
    };
    assert_eq!(logged(&a), logged(&b));
}

#[test]
fn section_4_a_channel_that_was_seen_need_not_be_looked_up_and_only_so_many_are_remembered() {
    let name = |n: u32| channel(&format!("c{n}"));
    let mut hints = Hints::default();
    (0..10_000).for_each(|n| hints.saw_channel(&name(n)));
    assert!((0..10_000).all(|n| hints.has_channel(&name(n))) && !hints.has_channel(&name(10_000)));
    hints.saw_channel(&name(10_000));
    assert!(hints.has_channel(&name(10_000)) && !hints.has_channel(&name(0)), "it begins anew");
}

#[test]
fn api_names_that_just_fill_a_page_are_shown_and_a_byte_more_goes_to_the_next() {
    // Each of 80 letters and their number, the last one shorter; before them how many they are, in two bytes.
    let names = |bytes: usize| -> Vec<UserName> {
        let (full, rest) = ((bytes - 2) / 81, (bytes - 2) % 81);
        let lengths = std::iter::repeat_n(80, full).chain([rest - 1]);
        lengths.enumerate().map(|(n, length)| user(&format!("{n:0length$}"))).collect()
    };
    let half = PAGE_BYTES_MAX / 2;
    for (older, shown) in [(half, (vec![11, 10], false)), (half + 1, (vec![11], true))] {
        let mut bench = Bench::new();
        bench.run(10, vec![posting("ada", "k1", "general", "hi"), posting("ada", "k2", "general", "ho")]);
        for (id, bytes) in [(11, half), (10, older)] {
            let (key, value) = (keys::stars(&channel("general"), Timestamp(id)), encode(&names(bytes)));
            assert_eq!(value.len(), bytes);
            bench.disk.write(WriteBatch { writes: vec![(Table::Store, key, Some(value))] }).expect("writes");
        }
        assert_eq!(bench.ids(history("general", page(9))), shown, "{older}");
    }
}

#[test]
fn r3_an_instant_that_was_given_out_is_no_later_messages_id() {
    let mut bench = Bench::new();
    bench.run(10, vec![posting("ada", "a", "general", "first")]);
    assert_eq!(bench.run(10, vec![posting("eve", "b", "general", "second")]), vec![Outcome::Aborted]);
    assert_eq!(bench.message(10).text.as_str(), "first");
    assert!(matches!(bench.run(11, vec![posting("eve", "c", "general", "third")])[..], [Outcome::Message(_)]));
}

#[test]
fn api_what_one_has_starred_is_bounded_in_the_names_of_who_else_did() {
    let mut bench = Bench::new();
    bench.run(10, (0..4).map(|n| posting("ada", &format!("k{n}"), "general", "hi")).collect());
    let users: Vec<UserName> = (0..6_000).map(|n| user(&format!("{}{n}", "x".repeat(70)))).collect();
    for id in (10..14).map(Timestamp) {
        let (stars, own) = (keys::stars(&channel("general"), id), keys::user_star(&channel("general"), &users[0], id));
        let writes = vec![(Table::Store, stars, Some(encode(&users))), (Table::Store, own, Some(Vec::new()))];
        bench.disk.write(WriteBatch { writes }).expect("writes");
    }
    let starred = |page| Query::Stars { channel: channel("general"), user: Some(users[0].clone()), page };
    assert_eq!(bench.ids(starred(page(9))), (vec![13, 12, 11], true), "440,000 bytes of names each");
    assert_eq!(bench.ids(starred(Page { before: Some(Timestamp(11)), ..page(9) })), (vec![10], false));
}

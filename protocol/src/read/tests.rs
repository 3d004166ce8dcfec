//! Reads, told as stories: what the machine hears, and what it does.

use super::*;
use crate::change::Cause;
use crate::ids::{Address, Ballot, ClusterId, Incarnation, NodeId, Timestamp, WitnessName};
use crate::machine::{Effect, Limits, Timing};
use crate::operation::Page;
use crate::testing::observed;
use crate::view::Seat;

fn peer(id: u32) -> Peer {
    Peer {
        voter: Voter::Replica(NodeId(id)),
        incarnation: Incarnation(id.into()),
        address: Address::new(&format!("n{id}")),
    }
}

fn witness(name: &str) -> Peer {
    Peer { voter: Voter::Witness(WitnessName::new(name)), incarnation: Incarnation(7), address: Address::new(name) }
}

fn view(number: u64, primary: u32, replicas: &[u32], witnesses: &[&str]) -> Arc<View> {
    let seat = |peer: Peer| Seat { incarnation: peer.incarnation, address: peer.address };
    Arc::new(View {
        cluster: ClusterId(1),
        number: ViewNumber(number),
        primary: NodeId(primary),
        replicas: replicas.iter().map(|id| (NodeId(*id), seat(peer(*id)))).collect(),
        witnesses: witnesses.iter().map(|name| (WitnessName::new(name), seat(witness(name)))).collect(),
        cause: Cause::new(Timestamp(0), NodeId(1), Vec::new()).into(),
    })
}

fn setup(me: u32) -> Setup {
    let limits = Limits { queue_ops_max: 4, ..Limits::default() };
    Setup { me: peer(me), seeds: Vec::new(), timing: Timing::default(), limits, seed: 1 }
}

fn at(ms: u64) -> Now {
    Now { elapsed: Millis(ms), wall: Timestamp(0) }
}

fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("a name")
}

fn history(text: &str) -> Query {
    Query::History { channel: name(text), page: Page { limit: 10, before: None, after: None, ascending: false } }
}

fn found() -> Found {
    Found::Channels { channels: Vec::new(), has_more: false }
}

/// One line for each effect.
fn lines(effects: Effects) -> Vec<String> {
    effects
        .into_iter()
        .map(|effect| match effect {
            Effect::Send { to, message: PeerMessage::Confirm { view, round } } => {
                format!("confirm {to} view {view} round {round}")
            }
            Effect::Tell(Note::Acquire { owner: LockOwner::Read(request), locks }) => {
                let locks: Vec<_> = locks
                    .iter()
                    .map(|(resource, mode)| match resource {
                        Resource::Store => format!("store {mode:?}"),
                        Resource::Channel(channel) => format!("{channel} {mode:?}"),
                    })
                    .collect();
                format!("acquire {request}: {}", locks.join(", "))
            }
            Effect::Tell(Note::Release { owner: LockOwner::Read(request) }) => format!("release {request}"),
            Effect::Tell(Note::SetOffline { view, reasons }) if matches!(reasons[..], [Reason::Unfinished { .. }]) => {
                format!("end view {view}")
            }
            Effect::Storage(StorageRequest::Query { request, .. }) => format!("query {request}"),
            Effect::Storage(StorageRequest::Locate { request, id }) => format!("locate {request} {}", id.0),
            Effect::Answer { request, answer: Answer::Read(_, receipt) } => {
                format!("answer {request}: read at {} in view {}, {}", receipt.index, receipt.view, receipt.copies)
            }
            Effect::Answer { request, answer: Answer::Failed(OperationError::NotPrimary { view, primary }) } => {
                let primary = primary.map_or("nobody".to_owned(), |id| id.to_string());
                format!("answer {request}: not primary of {view}, ask {primary}")
            }
            Effect::Answer { request, answer: Answer::Failed(error) } => format!("answer {request}: {error}"),
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

struct Story(Reads);

impl Story {
    /// Node 3 serves in view 5 with these others.
    fn serving(view: &Arc<View>) -> Self {
        let mut story = Self(Reads::new(&setup(3)));
        assert!(story.hears(0, Input::ViewChanged(view.clone())).is_empty());
        assert!(story.hears(0, Input::Serving { view: view.number }).is_empty());
        story
    }

    fn hears(&mut self, ms: u64, input: Input) -> Vec<String> {
        lines(self.0.step(at(ms), input))
    }

    fn tick(&mut self, ms: u64) -> Vec<String> {
        assert!(self.0.deadline().is_some_and(|deadline| deadline.0 <= ms), "{:?}", self.0.deadline());
        lines(self.0.tick(at(ms)))
    }

    fn read(&mut self, ms: u64, request: u64, query: Query) -> Vec<String> {
        self.hears(ms, Input::Read { request: RequestId(request), query })
    }

    fn granted(&mut self, ms: u64, request: u64) -> Vec<String> {
        self.hears(ms, Input::Granted { owner: LockOwner::Read(RequestId(request)) })
    }

    fn says(&mut self, ms: u64, from: Peer, round: u64, refusal: Option<Refusal>) -> Vec<String> {
        self.hears(ms, Input::Confirmed { from, view: ViewNumber(5), round, refusal })
    }

    fn queried(&mut self, ms: u64, request: u64) -> Vec<String> {
        self.hears(ms, Input::Queried { request: RequestId(request), found: Ok(found()), index: Index(42) })
    }

    fn waiting(&self) -> u64 {
        observed(|status| self.0.observe(status)).reads_waiting
    }
}

const NONE: [&str; 0] = [];

#[test]
fn section_6_a_read_locks_confirms_reads_releases_answers() {
    let mut story = Story::serving(&view(5, 3, &[1, 2, 3], &[]));
    assert_eq!(story.read(10, 1, history("a")), ["acquire 1: store IntentShared, a Shared"]);
    assert_eq!(story.waiting(), 1);
    assert_eq!(
        story.granted(11, 1),
        ["confirm n1 view 5 round 1", "confirm n2 view 5 round 1", "confirm n3 view 5 round 1"]
    );
    assert_eq!(story.says(12, peer(1), 1, None), NONE);
    assert_eq!(story.says(13, peer(3), 1, None), ["query 1"]);
    assert_eq!(story.says(14, peer(2), 1, None), NONE, "late");
    assert_eq!(story.queried(15, 1), ["release 1", "answer 1: read at 42 in view 5, 0"]);
    assert_eq!(story.queried(16, 1), NONE, "told twice");
    assert_eq!((story.waiting(), story.0.deadline()), (0, None));
}

#[test]
fn section_6_a_quorum_without_the_primary_itself_confirms_nothing() {
    let mut story = Story::serving(&view(5, 3, &[1, 2, 3], &["w"]));
    story.read(0, 1, history("a"));
    assert_eq!(story.granted(0, 1).len(), 4);
    assert_eq!(story.says(1, peer(1), 1, None), NONE);
    assert_eq!(story.says(1, peer(2), 1, None), NONE);
    assert_eq!(story.says(1, witness("w"), 1, None), NONE, "three of four, and not the primary");
    assert_eq!(story.says(2, peer(3), 1, None), ["query 1"]);
}

#[test]
fn section_6_alone_its_own_replica_is_the_quorum() {
    let mut story = Story::serving(&view(5, 3, &[3], &[]));
    story.read(0, 1, history("a"));
    assert_eq!(story.granted(0, 1), ["confirm n3 view 5 round 1"]);
    assert_eq!(story.says(0, peer(3), 1, None), ["query 1"]);
}

#[test]
fn section_6_one_round_serves_all_that_were_granted_before_it_began() {
    let mut story = Story::serving(&view(5, 3, &[3], &[]));
    for n in 1..=3 {
        story.read(0, n, history("a"));
    }
    assert_eq!(story.granted(0, 1), ["confirm n3 view 5 round 1"]);
    assert_eq!(story.granted(0, 2), NONE);
    assert_eq!(story.granted(0, 3), NONE);
    assert_eq!(story.says(0, peer(3), 1, None), ["query 1", "confirm n3 view 5 round 2"], "the next begins at once");
    assert_eq!(story.says(0, peer(3), 1, None), NONE, "a repeated answer is none to the next round");
    assert_eq!(story.says(0, peer(3), 2, None), ["query 2", "query 3"]);
}

#[test]
fn section_11_an_answer_counts_for_its_view_round_and_voter_only() {
    let mut story = Story::serving(&view(5, 3, &[2, 3], &[]));
    story.read(0, 1, history("a"));
    story.granted(0, 1);
    assert_eq!(story.says(0, peer(3), 2, None), NONE, "a round that never was");
    let other = Input::Confirmed { from: peer(3), view: ViewNumber(4), round: 1, refusal: None };
    assert_eq!(story.hears(0, other), NONE, "another view");
    let wiped = Peer { incarnation: Incarnation(99), ..peer(3) };
    assert_eq!(story.says(0, wiped, 1, None), NONE, "another disk");
    assert_eq!(story.says(0, peer(9), 1, None), NONE, "no voter");
    assert_eq!(story.says(0, peer(3), 1, None), ["query 1"], "exactly half, with the primary");
}

#[test]
fn section_6_letters_are_repeated_to_those_who_have_not_answered() {
    let mut story = Story::serving(&view(5, 3, &[1, 2, 3], &[]));
    story.read(0, 1, history("a"));
    story.granted(0, 1);
    story.says(1, peer(3), 1, None);
    assert_eq!(story.tick(300), ["confirm n1 view 5 round 1", "confirm n2 view 5 round 1"]);
    assert_eq!(story.says(301, peer(2), 1, Some(Refusal::StaleView)), NONE);
    assert_eq!(story.tick(600), ["confirm n1 view 5 round 1"]);
    assert_eq!(lines(story.0.tick(at(601))), NONE, "too early");
}

#[test]
fn r5_accepted_has_the_half_decided_view_brought_to_its_end_once() {
    let mut story = Story::serving(&view(5, 3, &[1, 2, 3], &[]));
    let accepted = Some(Refusal::Accepted(Ballot { round: 1, node: NodeId(2) }));
    story.read(0, 1, history("a"));
    story.granted(0, 1);
    assert_eq!(story.says(0, peer(2), 1, accepted.clone()), ["end view 5"]);
    assert_eq!(story.says(0, peer(1), 1, accepted), NONE, "once a view");
    assert_eq!(story.says(0, peer(3), 1, None), NONE, "no quorum");
    let changed = story.hears(5, Input::ViewChanged(view(6, 3, &[1, 2, 3], &[])));
    assert_eq!(changed, ["release 1", "answer 1: not primary of 6, ask nobody"]);
}

#[test]
fn section_6_accepted_by_a_minority_does_not_hinder_the_others() {
    let mut story = Story::serving(&view(5, 3, &[1, 2, 3], &[]));
    story.read(0, 1, history("a"));
    story.granted(0, 1);
    story.says(0, peer(2), 1, Some(Refusal::Accepted(Ballot { round: 1, node: NodeId(2) })));
    story.says(0, peer(3), 1, None);
    assert_eq!(story.says(0, peer(1), 1, None), ["query 1"]);
}

#[test]
fn section_6_who_does_not_serve_says_who_does() {
    let mut story = Story(Reads::new(&setup(3)));
    assert_eq!(story.read(0, 1, history("a")), ["answer 1: not primary of 0, ask nobody"]);
    story.hears(0, Input::ViewChanged(view(5, 2, &[2, 3], &[])));
    assert_eq!(story.read(0, 2, history("a")), ["answer 2: not primary of 5, ask 2"]);
    story.hears(0, Input::Serving { view: ViewNumber(5) });
    assert_eq!(story.read(0, 3, history("a")), ["answer 3: not primary of 5, ask 2"], "a note of another life");
    story.hears(0, Input::ViewChanged(view(6, 3, &[2, 3], &[])));
    assert_eq!(story.read(0, 4, history("a")), ["answer 4: not primary of 6, ask nobody"], "named, not serving yet");
    let late = Input::AnswerWhenConfirmed { request: RequestId(5), answer: Answer::Failed(OperationError::Aborted) };
    assert_eq!(story.hears(0, late), ["answer 5: not primary of 6, ask nobody"]);
}

#[test]
fn section_6_a_deposed_primary_answers_nothing_and_lets_go() {
    let mut story = Story::serving(&view(5, 3, &[2, 3], &[]));
    for n in 1..=3 {
        story.read(0, n, history("a"));
    }
    story.granted(0, 1);
    story.says(0, peer(3), 1, None);
    story.granted(0, 2);
    let confirmed =
        Input::AnswerWhenConfirmed { request: RequestId(4), answer: Answer::Failed(OperationError::Aborted) };
    assert_eq!(story.hears(0, confirmed), NONE, "round 2 runs");
    let told = story.hears(1, Input::ViewChanged(view(6, 2, &[2, 3], &[])));
    let answer = |n: u64| [format!("release {n}"), format!("answer {n}: not primary of 6, ask 2")];
    let all = [answer(1), answer(2), answer(3)].concat();
    assert_eq!(told, [all, vec!["answer 4: not primary of 6, ask 2".to_owned()]].concat());
    assert_eq!(story.queried(2, 1), NONE, "late");
    assert_eq!(story.granted(2, 3), ["release 3"], "late: its lock is let go");
    assert_eq!(story.says(2, peer(3), 2, None), NONE, "late");
    assert_eq!((story.waiting(), story.0.deadline()), (0, None));
}

#[test]
fn r10_a_primary_that_stops_serving_answers_not_primary() {
    let mut story = Story::serving(&view(5, 3, &[2, 3], &[]));
    story.read(0, 1, history("a"));
    assert_eq!(story.hears(1, Input::NotServing { view: ViewNumber(4) }), NONE, "an older one");
    let told = story.hears(1, Input::NotServing { view: ViewNumber(5) });
    assert_eq!(told, ["release 1", "answer 1: not primary of 5, ask nobody"]);
    assert_eq!(story.read(2, 2, history("a")), ["answer 2: not primary of 5, ask nobody"]);
}

#[test]
fn section_6_a_message_is_located_and_its_absence_is_confirmed_too() {
    let mut story = Story::serving(&view(5, 3, &[3], &[]));
    let query = Query::Message { id: Timestamp(77) };
    assert_eq!(story.read(0, 1, query.clone()), ["locate 1 77"]);
    let located = Input::Located { request: RequestId(1), channel: Some(name("b")) };
    assert_eq!(story.hears(0, located), ["acquire 1: store IntentShared, b Shared"]);
    assert_eq!(story.read(0, 2, query), ["locate 2 77"]);
    let located = Input::Located { request: RequestId(2), channel: None };
    assert_eq!(story.hears(0, located.clone()), ["confirm n3 view 5 round 1"]);
    assert_eq!(story.hears(0, located), NONE, "told twice");
    assert_eq!(story.says(0, peer(3), 1, None), ["answer 2: there is no message 0000000000.000077"]);
    let others = Input::Located { request: RequestId(9), channel: None };
    assert_eq!(story.hears(0, others), NONE, "the coordinator's");
}

#[test]
fn section_6_lists_of_channels_lock_the_store_and_one_channel_its_name() {
    let mut story = Story::serving(&view(5, 3, &[3], &[]));
    assert_eq!(story.read(0, 1, Query::Channels { limit: 9, after: None }), ["acquire 1: store Shared"]);
    let one = Query::Channel { channel: name("b") };
    assert_eq!(story.read(0, 2, one), ["acquire 2: store IntentShared, b Shared"]);
}

#[test]
fn section_6_an_error_of_the_store_is_an_answer() {
    let mut story = Story::serving(&view(5, 3, &[3], &[]));
    story.read(0, 1, history("a"));
    story.granted(0, 1);
    story.says(0, peer(3), 1, None);
    let found = Err(OperationError::ChannelNotFound { channel: name("a") });
    let told = story.hears(0, Input::Queried { request: RequestId(1), found, index: Index(1) });
    assert_eq!(told, ["release 1", "answer 1: there is no channel a"]);
}

#[test]
fn r2_an_answer_from_the_store_waits_for_a_confirmation_that_begins_later() {
    let mut story = Story::serving(&view(5, 3, &[3], &[]));
    story.read(0, 1, history("a"));
    story.granted(0, 1);
    let answer = Answer::Failed(OperationError::KeyReused);
    assert_eq!(story.hears(0, Input::AnswerWhenConfirmed { request: RequestId(2), answer }), NONE);
    assert_eq!(story.says(0, peer(3), 1, None), ["query 1", "confirm n3 view 5 round 2"]);
    let told = story.says(0, peer(3), 2, None);
    assert_eq!(told, ["answer 2: this idempotency key was used for a different request"]);
}

#[test]
fn section_6_who_is_a_quorum_by_itself_asks_nobody_else() {
    let mut story = Story::serving(&view(5, 3, &[2, 3], &[]));
    story.read(0, 1, history("a"));
    assert_eq!(story.granted(1, 1), ["confirm n3 view 5 round 1"]);
}

#[test]
fn section_6_too_long_for_locks_is_overloaded_and_for_a_confirmation_not_primary() {
    let mut story = Story::serving(&view(5, 3, &[1, 2, 3], &[]));
    story.read(0, 1, history("a"));
    story.read(500, 2, history("b"));
    assert_eq!(story.granted(600, 2).len(), 3);
    assert_eq!(story.tick(950).len(), 3, "asked again");
    let told = story.tick(1_000);
    assert_eq!(told, ["release 1", "answer 1: overloaded: too many requests wait"]);
    assert_eq!(story.granted(1_001, 1), ["release 1"]);
    let told = story.tick(3_600);
    assert_eq!(told, ["release 2", "answer 2: not primary of 5, ask nobody"]);
    assert_eq!(story.0.deadline(), None, "nobody waits for the round");
    story.read(4_000, 3, history("a"));
    assert_eq!(story.granted(4_001, 3)[0], "confirm n1 view 5 round 2", "the next reader tries again");
}

#[test]
fn section_6_too_many_reads_are_refused() {
    let mut story = Story::serving(&view(5, 3, &[3], &[]));
    for n in 1..=4 {
        story.read(0, n, history("a"));
    }
    assert_eq!(story.read(0, 5, history("a")), ["answer 5: overloaded: too many requests wait"]);
    assert_eq!(story.waiting(), 4);
}

#[test]
fn section_11_a_late_older_view_changes_nothing() {
    let mut story = Story::serving(&view(5, 3, &[3], &[]));
    story.read(0, 1, history("a"));
    assert_eq!(story.hears(0, Input::ViewChanged(view(4, 2, &[2, 3], &[]))), NONE);
    assert_eq!(story.hears(0, Input::ViewChanged(view(5, 3, &[3], &[]))), NONE);
    assert_eq!(story.granted(0, 1), ["confirm n3 view 5 round 1"]);
}

#[test]
fn r5_a_half_decided_view_is_asked_about_again_after_a_while_and_in_a_later_view_at_once() {
    let mut story = Story::serving(&view(5, 3, &[1, 2, 3], &[]));
    let accepted = || Some(Refusal::Accepted(Ballot { round: 1, node: NodeId(2) }));
    let timeout = Timing::default().heartbeat_timeout_ms;
    story.read(0, 1, history("a"));
    story.granted(0, 1);
    assert_eq!(story.says(0, peer(2), 1, accepted()), ["end view 5"]);
    assert_eq!(story.says(timeout - 1, peer(2), 1, accepted()), NONE);
    assert_eq!(story.says(timeout, peer(2), 1, accepted()), ["end view 5"], "the campaign may have been outbid");
    story.hears(timeout, Input::ViewChanged(view(6, 3, &[1, 2, 3], &[])));
    story.hears(timeout, Input::Serving { view: ViewNumber(6) });
    story.read(timeout, 2, history("a"));
    assert_eq!(story.granted(timeout, 2)[0], "confirm n1 view 6 round 2");
    let no = Input::Confirmed { from: peer(2), view: ViewNumber(6), round: 2, refusal: accepted() };
    assert_eq!(story.hears(timeout + 1, no), ["end view 6"]);
}

//! at the primary.

mod batches;
mod course;
mod leaving;

use super::*;
use crate::change::{Fault, Leave, Reason};
use crate::ids::Hash;
use crate::ids::Peer;
use crate::machine::Effect;
use crate::message::PeerMessage;
use crate::operation::{KeyOwner, Message};
use crate::status::{NodeStatus, Role};
use crate::testing::{all_letters, at, entry, letters, node, notes, observed, post, requests, setup, view};

/// Node 3, primary of view `number` of these replicas, serving.
struct Primary {
    machine: Coordinator,
    view: View,
}

/// What came of a step, sorted by kind.
fn answers(effects: &Effects) -> Vec<(RequestId, Answer)> {
    let answer = |effect: &Effect| match effect {
        Effect::Answer { request, answer } => Some((*request, answer.clone())),
        _ => None,
    };
    effects.as_slice().iter().filter_map(answer).collect()
}

fn prepares(effects: &Effects) -> Vec<(String, Attempt, Arc<Entry>)> {
    let letter = |(to, message)| match message {
        PeerMessage::Prepare { attempt, entry, .. } => Some((to, attempt, entry)),
        _ => None,
    };
    all_letters(effects).into_iter().filter_map(letter).collect()
}

fn commits(effects: &Effects) -> usize {
    all_letters(effects).iter().filter(|(_, message)| matches!(message, PeerMessage::Commit { .. })).count()
}

impl Primary {
    fn new(replicas: &[u32]) -> Self {
        Self::leading(
            Coordinator::new(&setup(&node(3))),
            view(1, 3, replicas, 0),
            Vec::new(),
            (Index(0), Hash::default()),
        )
        .serving()
    }

    fn leading(mut machine: Coordinator, view: View, tail: Vec<Arc<Entry>>, committed: (Index, Hash)) -> Self {
        let known = Arc::new(view.clone());
        let _ = machine.step(at(0), Input::ViewChanged(known.clone()));
        let _ = machine.step(at(0), Input::Lead { view: known, tail, committed, last_timestamp: Timestamp(0) });
        Self { machine, view }
    }

    /// Lets everything in flight commit, until nothing is.
    fn serving(mut self) -> Self {
        while self.machine.flight.is_some() || !self.machine.committing.is_empty() {
            let _ = self.complete();
        }
        assert_eq!(self.machine.phase, Phase::Serving);
        self
    }

    /// What is out for votes, else what was decided last.
    fn flight(&self) -> (Attempt, Arc<Entry>) {
        let flight = self.machine.flight.as_ref().or(self.machine.committing.back()).expect("something is in flight");
        (flight.attempt, flight.entry.clone())
    }

    /// What is not acknowledged yet, the earliest; else what is out for votes.
    fn committing(&self) -> (Attempt, Arc<Entry>) {
        let flight = self.machine.committing.front().or(self.machine.flight.as_ref()).expect("something is in flight");
        (flight.attempt, flight.entry.clone())
    }

    fn vote(&mut self, from: u32, refusal: Option<Refusal>) -> Effects {
        let (attempt, entry) = self.flight();
        let view = self.view.number;
        self.machine.step(at(10), Input::Vote { from: node(from), view, attempt, index: entry.index, refusal })
    }

    fn acknowledge(&mut self, from: u32) -> Effects {
        let (attempt, entry) = self.committing();
        let view = self.view.number;
        self.machine.step(at(10), Input::Committed { from: node(from), view, attempt, index: entry.index })
    }

    fn replicas(&self) -> Vec<u32> {
        self.view.replicas.keys().map(|id| id.0).collect()
    }

    fn vote_all(&mut self) -> Effects {
        let mut effects = Effects::none();
        if let Some(owner) = self.machine.flight.as_ref().and_then(|flight| flight.inherited_lock) {
            effects.append(self.machine.step(at(10), Input::Granted { owner }));
        }
        for id in self.replicas() {
            effects.append(self.vote(id, None));
        }
        effects
    }

    /// Votes, application and acknowledgements of what is in flight.
    fn complete(&mut self) -> Effects {
        let mut effects = self.vote_all();
        effects.append(self.apply());
        for id in self.replicas() {
            effects.append(self.acknowledge(id));
        }
        effects
    }

    /// The store is asked to apply it; locks go.
    fn order(&mut self) -> Effects {
        let index = self.committing().1.index;
        self.machine.step(at(10), Input::Applying { index })
    }

    fn apply(&mut self) -> Effects {
        let mut effects = self.order();
        effects.append(self.applied());
        effects
    }

    fn applied(&mut self) -> Effects {
        let (_, entry) = self.committing();
        let outcomes = match &entry.batch {
            Batch::Operations { operations, .. } => operations.iter().map(outcome).collect(),
            Batch::Abort { .. } | Batch::View(_) | Batch::Courses(_) | Batch::Remove(_) => Vec::new(),
        };
        self.machine.step(at(10), Input::Applied { index: entry.index, outcomes })
    }

    /// The store applied an entry of an earlier view.
    fn applied_late(&mut self, entry: &Entry) -> Effects {
        let Batch::Operations { operations, .. } = &entry.batch else { panic!("only posts here") };
        let outcomes = operations.iter().map(outcome).collect();
        self.machine.step(at(20), Input::Applied { index: entry.index, outcomes })
    }

    /// A write, through its locks and the look at the store, until it is in flight or waits.
    fn submit(&mut self, request: u64, operation: Operation) -> Effects {
        let effects = self.machine.step(at(10), Input::Submit { request: RequestId(request), operation });
        self.settle(effects)
    }

    /// What the storage says, having applied all that is decided.
    fn examined(&self, round: u64, verdicts: Vec<Verdict>) -> Input {
        Input::Examined { round, verdicts, keys_at: Timestamp(0), index: self.machine.end.0 }
    }

    /// A write, until the store is asked to look at it. Under which number.
    fn look(&mut self, operation: Operation) -> u64 {
        let asked = self.machine.step(at(10), Input::Submit { request: RequestId(1), operation });
        let [Note::Acquire { owner, .. }] = notes(&asked)[..] else { panic!("{asked:?}") };
        let examine = self.machine.step(at(10), Input::Granted { owner });
        let [StorageRequest::Examine { round, .. }] = requests(&examine)[..] else { panic!("{examine:?}") };
        round
    }

    /// Grants all locks and finds everything valid.
    fn settle(&mut self, effects: Effects) -> Effects {
        let mut all = Effects::none();
        let mut queue: VecDeque<Effect> = effects.into_iter().collect();
        while let Some(effect) = queue.pop_front() {
            let input = match &effect {
                Effect::Tell(Note::Acquire { owner, .. }) => Some(Input::Granted { owner: *owner }),
                Effect::Storage(StorageRequest::Examine { round, operations }) => {
                    let channel = ChannelName::new("general").expect("a name");
                    let verdicts = operations.iter().map(|_| Verdict::Valid(channel.clone())).collect();
                    Some(self.examined(*round, verdicts))
                }
                _ => None,
            };
            all.push(effect);
            queue.extend(input.into_iter().flat_map(|input| self.machine.step(at(10), input)));
        }
        all
    }

    /// Decides as many entries as may wait for acknowledgements, which do not come.
    fn leave_unacknowledged(&mut self) {
        for n in 1..=COMMITTING_MAX as u64 {
            assert!(!prepares(&self.submit(n, post(&n.to_string()))).is_empty(), "{n}");
            let _ = self.vote_all();
            let _ = self.machine.step(at(10), Input::Applying { index: self.machine.end.0 });
        }
    }

    fn next_view(&mut self, next: View, tail: Vec<Arc<Entry>>, committed: (Index, Hash)) -> Effects {
        let known = Arc::new(next.clone());
        self.view = next;
        let mut effects = self.machine.step(at(20), Input::ViewChanged(known.clone()));
        let lead = Input::Lead { view: known, tail, committed, last_timestamp: Timestamp(0) };
        effects.append(self.machine.step(at(20), lead));
        effects
    }
}

fn outcome(operation: &LoggedOperation) -> Outcome {
    let Action::Post { channel, text, .. } = &operation.operation.action else { panic!("only posts here") };
    Outcome::Message(Message {
        id: operation.at,
        channel: channel.clone(),
        user: operation.operation.owner.user.clone(),
        text: text.clone(),
        starred_by: Vec::new(),
    })
}

fn sets_offline(note: &Note, who: u32, why: Fault) -> bool {
    let reason = Reason::SetOffline { voter: Voter::Replica(NodeId(who)), fault: why };
    matches!(note, Note::SetOffline { reasons, .. } if *reasons == [reason])
}

fn handed_over(effects: &Effects) -> Option<(NodeId, Option<Leave>)> {
    notes(effects).iter().find_map(|note| match note {
        Note::HandOverNow { to, leaves, .. } => Some((*to, *leaves)),
        _ => None,
    })
}

fn is_written(answers: &[(RequestId, Answer)], request: u64) -> bool {
    matches!(answers, [(id, Answer::Written(..))] if *id == RequestId(request))
}

#[test]
fn r4_r6_r7_the_client_hears_after_every_replica_acknowledged_the_commit() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let sent = primary.submit(1, post("a"));
    assert_eq!(prepares(&sent).iter().map(|(to, ..)| to.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
    for id in [1, 3] {
        assert_eq!(commits(&primary.vote(id, None)), 0, "not every replica has voted");
    }
    assert_eq!(commits(&primary.vote(2, None)), 3);
    assert!(answers(&primary.apply()).is_empty());
    for id in [3, 1] {
        assert!(answers(&primary.acknowledge(id)).is_empty(), "not every replica has acknowledged");
    }
    let told = answers(&primary.acknowledge(2));
    assert!(is_written(&told, 1), "{told:?}");
    let Answer::Written(_, receipt) = &told[0].1 else { panic!() };
    assert_eq!((receipt.view, receipt.index, receipt.copies), (ViewNumber(1), Index(2), 3));
}

#[test]
fn r1_what_arrives_while_a_batch_is_in_flight_is_the_next_batch() {
    let mut primary = Primary::new(&[3]);
    let sent = primary.submit(1, post("a"));
    assert_eq!(prepares(&sent).len(), 1, "an idle system sends a lone operation at once");
    for (request, text) in [(2, "b"), (3, "c")] {
        let waiting = primary.submit(request, post(text));
        assert!(prepares(&waiting).is_empty());
    }
    let effects = primary.complete();
    let effects = primary.settle(effects);
    assert!(is_written(&answers(&effects), 1));
    let Batch::Operations { operations, .. } = &primary.flight().1.batch else { panic!("a batch is in flight") };
    let keys: Vec<&str> = operations.iter().map(|op| op.operation.owner.key.as_str()).collect();
    assert_eq!(keys, ["b", "c"], "in order of arrival");
    assert!(operations[0].at < operations[1].at, "R-3");
}

#[test]
fn r2_a_repeated_key_in_flight_is_answered_with_the_first_result() {
    let mut primary = Primary::new(&[3]);
    let _ = primary.submit(1, post("a"));
    assert!(answers(&primary.submit(2, post("a"))).is_empty());
    let other = Operation { owner: post("a").owner, action: post("b").action };
    let answer = Answer::Failed(OperationError::KeyReused);
    assert_eq!(notes(&primary.submit(3, other)), [Note::AnswerWhenConfirmed { request: RequestId(3), answer }]);
    let told: Vec<u64> = answers(&primary.complete()).iter().map(|(id, _)| id.0).collect();
    assert_eq!(told, [1, 2]);
}

#[test]
fn r2_an_invalid_operation_is_answered_after_a_confirmation_and_not_logged() {
    let mut primary = Primary::new(&[3]);
    let asked = primary.machine.step(at(10), Input::Submit { request: RequestId(1), operation: post("a") });
    let [Note::Acquire { owner, .. }] = notes(&asked)[..] else { panic!("{asked:?}") };
    let examine = primary.machine.step(at(10), Input::Granted { owner });
    let [StorageRequest::Examine { round, .. }] = requests(&examine)[..] else { panic!("{examine:?}") };
    let error = OperationError::ChannelNotFound { channel: ChannelName::new("general").expect("a name") };
    let verdicts = vec![Verdict::Failed(error.clone())];
    let examined = primary.examined(round, verdicts);
    let effects = primary.machine.step(at(10), examined);
    let answer = Answer::Failed(error);
    assert_eq!(notes(&effects), [Note::AnswerWhenConfirmed { request: RequestId(1), answer }, Note::Release { owner }]);
    assert!(primary.machine.flight.is_none());
}

#[test]
fn r2_what_was_examined_in_an_older_state_is_examined_again() {
    let mut primary = Primary::new(&[3]);
    let asked = primary.machine.step(at(10), Input::Submit { request: RequestId(1), operation: post("a") });
    let [Note::Acquire { owner, .. }] = notes(&asked)[..] else { panic!("{asked:?}") };
    let examine = primary.machine.step(at(10), Input::Granted { owner });
    let [StorageRequest::Examine { round, .. }] = requests(&examine)[..] else { panic!("{examine:?}") };
    let verdicts = vec![Verdict::Valid(ChannelName::new("general").expect("a name"))];
    let index = primary.machine.end.0.before();
    let early = Input::Examined { round, verdicts: verdicts.clone(), keys_at: Timestamp(0), index };
    let again = primary.machine.step(at(10), early);
    let [StorageRequest::Examine { round, operations }] = &requests(&again)[..] else { panic!("{again:?}") };
    assert_eq!(*operations, [post("a")]);
    assert!(primary.machine.flight.is_none());
    let examined = primary.examined(*round, verdicts);
    drop(primary.machine.step(at(10), examined));
    assert!(primary.machine.flight.is_some());
}

#[test]
fn r3_timestamps_rise_through_clock_jumps() {
    let mut primary = Primary::new(&[3]);
    let _ = primary.submit(1, post("a"));
    let first = primary.flight().1.last_timestamp();
    let _ = primary.complete();
    let back = Now { elapsed: Millis(11), wall: Timestamp(5) };
    let asked = primary.machine.step(back, Input::Submit { request: RequestId(2), operation: post("b") });
    let _ = primary.settle(asked);
    assert!(primary.flight().1.last_timestamp() > first);
}

#[test]
fn r8_who_does_not_vote_is_set_offline_and_the_batch_goes_on_in_the_next_view() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let (_, e) = primary.flight();
    let _ = primary.vote(1, None);
    let _ = primary.vote(3, None);
    let deadline = 10 + setup(&node(3)).timing.vote_timeout_ms;
    let effects = primary.machine.tick(at(deadline));
    let offline = |note: &Note| sets_offline(note, 2, Fault::Slow { ms: 2_000 });
    assert!(notes(&effects).iter().any(offline), "{effects:?}");
    let committed = primary.machine.end;
    let effects = primary.next_view(view(2, 3, &[1, 3], 0), vec![e.clone()], committed);
    let sent = prepares(&effects);
    assert_eq!(
        sent.iter().map(|(to, at, e)| (to.as_str(), at.0, e.index)).collect::<Vec<_>>(),
        [("1", 1, e.index), ("3", 1, e.index)]
    );
    assert!(is_written(&answers(&primary.complete()), 1));
}

#[test]
fn r8_a_crashed_replica_is_set_offline_at_once() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let effects = primary.machine.step(at(11), Input::Unreachable { address: node(2).address });
    assert!(matches!(&notes(&effects)[..], [note] if sets_offline(note, 2, Fault::Reset)));
}

#[test]
fn r8_after_the_third_attempt_comes_the_abort() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let (_, e) = primary.flight();
    let committed = primary.machine.end;
    for number in 2..=3 {
        let _ = primary.next_view(view(number, 3, &[1, 3], 0), vec![e.clone()], committed);
        assert_eq!(primary.flight().1, e, "attempt {number}");
    }
    let _ = primary.next_view(view(4, 3, &[1, 3], 0), vec![e.clone()], committed);
    assert!(matches!(primary.flight().1.batch, Batch::Abort { .. }));
    assert_eq!(answers(&primary.complete()), [(RequestId(1), Answer::Failed(OperationError::Aborted))]);
}

#[test]
fn r9_an_abort_is_an_entry_in_the_same_slot_committed_by_all_before_the_client_hears() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let (attempt, e) = primary.flight();
    let effects = primary.vote(2, Some(Refusal::LockTimeout));
    assert!(answers(&effects).is_empty());
    let (next, abort) = primary.flight();
    assert_eq!((next, abort.index, abort.prev_hash), (attempt.next(), e.index, e.prev_hash));
    assert_eq!(
        abort.batch,
        Batch::Abort {
            keys: vec![(post("a").owner, e.last_timestamp().expect("a post"))],
            keys_at: e.keys_at().expect("a key")
        }
    );
    assert!(answers(&primary.vote_all()).is_empty());
    assert!(answers(&primary.apply()).is_empty());
    let _ = primary.acknowledge(1);
    let _ = primary.acknowledge(2);
    assert_eq!(answers(&primary.acknowledge(3)), [(RequestId(1), Answer::Failed(OperationError::Aborted))]);
}

#[test]
fn r9_votes_count_only_for_the_last_attempt_sent() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let (attempt, e) = primary.flight();
    let _ = primary.vote(2, Some(Refusal::LockTimeout));
    let late = |id| Input::Vote { from: node(id), view: ViewNumber(1), attempt, index: e.index, refusal: None };
    for id in 1..=3 {
        assert_eq!(commits(&primary.machine.step(at(11), late(id))), 0, "a vote for another attempt");
    }
    let other_life = Peer { incarnation: crate::ids::Incarnation(77), ..node(1) };
    let (attempt, e) = primary.flight();
    for from in [node(4), other_life] {
        let vote = Input::Vote { from, view: ViewNumber(1), attempt, index: e.index, refusal: None };
        let _ = primary.machine.step(at(11), vote);
    }
    assert!(primary.machine.flight.as_ref().is_some_and(|flight| flight.heard.is_empty()));
}

#[test]
fn r9_d5_what_a_new_primary_found_in_its_log_is_never_aborted() {
    let e = entry(1, Hash::default(), "found");
    let machine = Coordinator::new(&setup(&node(3)));
    let mut primary = Primary::leading(machine, view(4, 3, &[1, 3], 0), vec![e.clone()], (Index(0), Hash::default()));
    let owner = primary.machine.flight.as_ref().and_then(|flight| flight.inherited_lock).expect("it takes its locks");
    assert_eq!(prepares(&primary.machine.step(at(1), Input::Granted { owner })).len(), 2);
    let _ = primary.vote(1, Some(Refusal::LockTimeout));
    assert_eq!(primary.flight().1, e, "asked again, not aborted");
    let effects = primary.vote(1, Some(Refusal::Malformed));
    assert!(matches!(&notes(&effects)[..], [note] if sets_offline(note, 1, Fault::Malformed)));
}

#[test]
fn r9_d5_what_another_primary_came_after_is_not_its_own_any_more() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let (_, e) = primary.flight();
    let committed = primary.machine.end;
    let effects = primary.next_view(view(3, 3, &[1, 3], 0), vec![e], committed);
    assert_eq!(answers(&effects), [(RequestId(1), Answer::Failed(OperationError::OutcomeUnknown))]);
    let owner = primary.machine.flight.as_ref().and_then(|flight| flight.inherited_lock).expect("found in the log");
    let _ = primary.machine.step(at(21), Input::Granted { owner });
    assert!(!primary.machine.may_abort());
}

#[test]
fn r9_a_decided_batch_is_answered_once_the_next_view_entry_is_committed() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let (_, e) = primary.flight();
    let _ = primary.vote_all();
    let _ = primary.apply();
    let _ = primary.acknowledge(1);
    // Node 2 never acknowledges: the next view goes without it; here the entry is committed already.
    let effects = primary.next_view(view(2, 3, &[1, 3], 0), Vec::new(), (e.index, e.hash));
    assert!(answers(&effects).is_empty());
    assert!(matches!(primary.flight().1.batch, Batch::View(_)));
    assert!(is_written(&answers(&primary.complete()), 1));
}

#[test]
fn r10_without_a_quorum_it_stops_being_primary() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("sent"));
    let _ = primary.submit(2, post("waits"));
    let failed = Input::CampaignFailed { view: ViewNumber(1), no_quorum: true, reason: "alone".to_owned() };
    let effects = primary.machine.step(at(12), failed);
    let told = answers(&effects);
    assert!(told.contains(&(RequestId(1), Answer::Failed(OperationError::OutcomeUnknown))), "{told:?}");
    let not_primary = OperationError::NotPrimary { view: ViewNumber(1), primary: None };
    assert!(told.contains(&(RequestId(2), Answer::Failed(not_primary.clone()))), "{told:?}");
    assert!(notes(&effects).contains(&Note::NotServing { view: ViewNumber(1), can_lead: false }));
    assert_eq!(answers(&primary.submit(3, post("later"))), [(RequestId(3), Answer::Failed(not_primary))]);
}

#[test]
fn r16_the_view_entry_closes_the_log_before_anything_is_served() {
    let e = entry(1, Hash::default(), "found");
    let machine = Coordinator::new(&setup(&node(3)));
    let mut primary = Primary::leading(machine, view(2, 3, &[1, 3], 0), vec![e], (Index(0), Hash::default()));
    let waiting = primary.submit(1, post("a"));
    assert!(prepares(&waiting).is_empty());
    let effects = primary.complete();
    assert!(!notes(&effects).contains(&Note::Serving { view: ViewNumber(2) }));
    assert!(matches!(&primary.flight().1.batch, Batch::View(view) if view.number == ViewNumber(2)));
    let effects = primary.complete();
    assert!(notes(&effects).contains(&Note::Serving { view: ViewNumber(2) }));
    let _ = primary.settle(effects);
    assert!(matches!(primary.flight().1.batch, Batch::Operations { .. }), "now what waited goes out");
}

#[test]
fn r16_r9_an_abort_of_its_own_goes_on_though_its_log_still_holds_the_batch() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let (_, e) = primary.flight();
    let _ = primary.vote(1, Some(Refusal::LockTimeout));
    let committed = primary.machine.end;
    let _ = primary.next_view(view(2, 3, &[1, 3], 0), vec![e], committed);
    assert!(matches!(primary.flight().1.batch, Batch::Abort { .. }));
}

#[test]
fn r17_a_hand_over_finishes_what_is_in_flight_first() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let effects = primary.machine.step(at(11), Input::HandOver { to: None });
    assert!(!notes(&effects).iter().any(|note| matches!(note, Note::HandOverNow { .. })));
    let refused = answers(&primary.submit(2, post("b")));
    assert!(matches!(refused[..], [(_, Answer::Failed(OperationError::NotPrimary { .. }))]));
    let effects = primary.complete();
    assert!(is_written(&answers(&effects), 1));
    assert!(
        notes(&effects).contains(&Note::HandOverNow {
            view: ViewNumber(1),
            to: NodeId(2),
            leaves: Some(Leave::Stops),
            since: Millis(11)
        }),
        "the highest other"
    );
}

#[test]
fn r17_a_batch_that_the_store_looks_at_goes_before_the_hand_over() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let round = primary.look(post("a"));
    assert_eq!(handed_over(&primary.machine.step(at(11), Input::HandOver { to: None })), None);
    let valid = primary.examined(round, vec![Verdict::Valid(ChannelName::new("general").expect("a name"))]);
    assert_eq!(prepares(&primary.machine.step(at(12), valid)).len(), 3);
    let effects = primary.complete();
    assert!(is_written(&answers(&effects), 1));
    assert_eq!(handed_over(&effects), Some((NodeId(2), Some(Leave::Stops))));
}

#[test]
fn r12_r17_only_a_replica_of_the_view_in_force_takes_over() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let wiped = Peer { incarnation: node(1).incarnation.next(), ..node(1) };
    let mut asked = |from: Peer, view: u64| {
        handed_over(&primary.machine.step(at(11), Input::TakeOver { from, view: ViewNumber(view) }))
    };
    assert_eq!((asked(node(1), 0), asked(wiped, 1), asked(node(4), 1)), (None, None, None));
    assert_eq!(asked(node(1), 1), Some((NodeId(1), None)), "not the highest other: the one that asked");
}

#[test]
fn r17_a_witness_that_is_not_listed_stops_no_hand_over() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let _ = primary.machine.step(at(11), Input::HandOver { to: None });
    let reason = "a witness is listed once everybody answers".to_owned();
    let _ = primary.machine.step(at(12), Input::CampaignFailed { view: ViewNumber(1), no_quorum: false, reason });
    let effects = primary.complete();
    assert!(notes(&effects).iter().any(|note| matches!(note, Note::HandOverNow { .. })));
}

#[test]
fn r4_the_next_batch_goes_out_as_soon_as_the_store_was_asked_to_apply_the_decided_one() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let first = primary.flight().1;
    assert!(prepares(&primary.submit(2, post("b"))).is_empty(), "one slot is in doubt");
    let decided = primary.vote_all();
    assert_eq!((commits(&decided), prepares(&decided).len()), (2, 0), "what it would meet is not asked for yet");
    let effects = primary.order();
    let released = |effect: &Effect| matches!(effect, Effect::Tell(Note::Release { .. }));
    assert!(effects.as_slice().iter().any(released), "its locks go");
    let sent = prepares(&primary.settle(effects));
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|(_, _, entry)| entry.index == first.index.next() && entry.prev_hash == first.hash));
    assert!(answers(&primary.applied()).is_empty(), "R-7: nobody has acknowledged");
    assert!(answers(&primary.acknowledge(3)).is_empty());
    assert!(is_written(&answers(&primary.acknowledge(1)), 1), "while the second is out for votes");
    assert!(is_written(&answers(&primary.complete()), 2));
}

#[test]
fn r16_what_was_decided_and_what_was_out_for_votes_both_go_on_in_the_next_view() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let first = primary.flight().1;
    let _ = primary.submit(2, post("b"));
    let _ = primary.vote_all();
    let effects = primary.order();
    let _ = primary.settle(effects);
    let second = primary.flight().1;
    // The first is committed here; nobody else has acknowledged it. The second is in this node's log.
    let effects = primary.next_view(view(2, 3, &[1, 3], 0), vec![second.clone()], (first.index, first.hash));
    assert!(answers(&effects).is_empty(), "R-9: not before the view entry");
    assert!(prepares(&effects).iter().all(|(_, attempt, entry)| *attempt == Attempt(1) && *entry == second));
    let _ = primary.applied_late(&first);
    let _ = primary.complete();
    let told = answers(&primary.complete());
    assert!(matches!(primary.machine.phase, Phase::Serving));
    assert!(is_written(&told, 1), "{told:?}");
    let text = told.iter().find_map(|(_, answer)| match answer {
        Answer::Written(Outcome::Message(message), _) => Some(message.text.as_str()),
        _ => None,
    });
    assert_eq!(text, Some("a"), "its own outcome, and not that of what was applied after it");
}

#[test]
fn r8_who_does_not_acknowledge_is_set_offline_though_it_votes_on() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let _ = primary.vote_all();
    let _ = primary.apply();
    let _ = primary.acknowledge(3);
    let timeout = setup(&node(3)).timing.vote_timeout_ms;
    let effects = primary.machine.tick(at(10 + timeout));
    assert!(notes(&effects).iter().any(|note| sets_offline(note, 1, Fault::Slow { ms: timeout })), "{effects:?}");
}

#[test]
fn r5_r8_a_gap_is_filled_from_what_this_view_sent() {
    let mut primary = Primary::new(&[1, 3]);
    let view_entry = primary.machine.sent.back().cloned().expect("the view entry").1;
    let _ = primary.submit(1, post("a"));
    let effects = primary.vote(1, Some(Refusal::Gap(Index(0))));
    let sent: Vec<Index> = prepares(&effects).iter().map(|(_, _, entry)| entry.index).collect();
    assert_eq!(sent, [view_entry.index, view_entry.index.next()]);
}

#[test]
fn r5_an_accepted_next_view_is_brought_to_its_end() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let ballot = crate::ids::Ballot { round: 3, node: NodeId(1) };
    let effects = primary.vote(1, Some(Refusal::Accepted(ballot)));
    assert!(
        matches!(&notes(&effects)[..], [Note::SetOffline { reasons, .. }] if matches!(reasons[..], [Reason::Unfinished { .. }]))
    );
    assert!(notes(&primary.vote(1, Some(Refusal::Accepted(ballot)))).is_empty(), "once is enough for a while");
}

#[test]
fn a_lost_prepare_is_sent_again_to_who_has_not_voted() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let _ = primary.vote(1, None);
    let effects = primary.machine.tick(at(10 + setup(&node(3)).timing.resend_ms));
    assert!(letters(&effects, &node(1)).is_empty());
    assert_eq!(prepares(&effects).len(), 2);
}

#[test]
fn r2_a_gateway_that_creates_no_channels_repeats_the_same_request() {
    let mut primary = Primary::new(&[3]);
    let _ = primary.submit(1, post("a"));
    let mut again = post("a");
    let Action::Post { create_channel, .. } = &mut again.action else { panic!("a post") };
    *create_channel = false;
    assert!(answers(&primary.submit(2, again)).is_empty());
    assert_eq!(answers(&primary.complete()).len(), 2);
}

/// While the inherited entry waits for one channel behind a reader, a client's ticket would take the other, and keep it till this
/// primary serves, which is never (`lockstep sim --seed 17538`).
#[test]
fn r16_no_client_holds_locks_before_the_primary_serves() {
    let e = entry(1, Hash::default(), "found");
    let machine = Coordinator::new(&setup(&node(3)));
    let mut primary = Primary::leading(machine, view(4, 3, &[3], 0), vec![e], (Index(0), Hash::default()));
    let asked = primary.machine.step(at(10), Input::Submit { request: RequestId(1), operation: post("a") });
    assert!(notes(&asked).is_empty(), "{asked:?}");
    let asks = |note: &Note| matches!(note, Note::Acquire { .. });
    assert!(!notes(&primary.complete()).iter().any(asks), "the view entry is still to come");
    assert!(notes(&primary.complete()).iter().any(asks), "once it serves");
}

#[test]
fn r16_nothing_is_sent_between_a_view_and_its_lead() {
    let mut primary = Primary::new(&[1, 3]);
    let round = primary.look(post("a"));
    let _ = primary.machine.step(at(11), Input::ViewChanged(Arc::new(view(2, 3, &[1, 3], 0))));
    let verdicts = vec![Verdict::Valid(ChannelName::new("general").expect("a name"))];
    let late = primary.examined(round, verdicts);
    let late = primary.machine.step(at(12), late);
    assert!(late.as_slice().is_empty(), "an attempt of the ended view, in the new one: {late:?}");
}

#[test]
fn r16_nothing_is_sent_again_between_a_view_and_its_lead() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let _ = primary.machine.step(at(11), Input::ViewChanged(Arc::new(view(2, 3, &[1, 3], 0))));
    assert_eq!(primary.machine.deadline(), None);
    let late = primary.machine.tick(at(10 + setup(&node(3)).timing.resend_ms));
    assert!(late.as_slice().is_empty(), "an attempt of the ended view, in the new one: {late:?}");
}

#[test]
fn r20_a_paced_batch_that_is_examined_again_after_a_view_change_has_a_timer() {
    let mut primary = Primary::new(&[3]);
    let _ = primary.machine.step(at(10), Input::Pace { delay_ms: 50 });
    let asked = primary.machine.step(at(10), Input::Submit { request: RequestId(1), operation: post("a") });
    let [Note::Acquire { owner, .. }] = notes(&asked)[..] else { panic!("{asked:?}") };
    assert_eq!(requests(&primary.machine.step(at(10), Input::Granted { owner })).len(), 1);
    let committed = primary.machine.end;
    let _ = primary.next_view(view(2, 3, &[3], 0), Vec::new(), committed);
    let _ = primary.complete();
    let paced = primary.machine.deadline().expect("it waits for its turn");
    assert_eq!(requests(&primary.machine.tick(at(paced.0))).len(), 1, "and is examined then");
}

#[test]
fn section_4_keys_grow_old_by_the_time_that_primaries_lead_and_by_no_wall_clock() {
    const DAY_MS: u64 = 24 * 3_600 * 1_000;
    let mut primary = Primary::new(&[3]);
    let mut write = |request: u64, elapsed: u64, days_ahead: u64, applied: u64| {
        let wall = Timestamp(at(elapsed).wall.0 + days_ahead * DAY_MS * 1_000);
        let now = Now { elapsed: Millis(elapsed), wall };
        let submitted = Input::Submit { request: RequestId(request), operation: post(&request.to_string()) };
        let mut asked = Effects::none();
        for note in notes(&primary.machine.step(now, submitted)) {
            let Note::Acquire { owner, .. } = note else { continue };
            asked.append(primary.machine.step(now, Input::Granted { owner }));
        }
        let [StorageRequest::Examine { round, .. }] = requests(&asked)[..] else { panic!("{asked:?}") };
        let verdicts = vec![Verdict::Valid(ChannelName::new("general").expect("a name"))];
        let index = primary.machine.end.0;
        let examined = Input::Examined { round, verdicts, keys_at: Timestamp(applied), index };
        drop(primary.machine.step(now, examined));
        let entry = primary.flight().1;
        drop(primary.complete());
        let Batch::Operations { keys_at, expire_keys_before, .. } = entry.batch.clone() else { panic!("{entry:?}") };
        (keys_at.0, expire_keys_before.0)
    };
    assert_eq!(write(1, 100, 0, 7_000), (7_000, 0), "from where the log's clock stands");
    assert_eq!(write(2, 150, 30, 7_000), (57_000, 0), "a wall clock that jumps by a month is not asked");
    assert_eq!(write(3, 100 + DAY_MS + 1, 0, 57_000), (DAY_MS * 1_000 + 8_000, 8_000), "a day has gone by");
}

#[test]
fn min_replicas_refuses_what_waited_for_the_view_too() {
    let mut setup = setup(&node(3));
    setup.limits.replicas_min = 2;
    let machine = Coordinator::new(&setup);
    let mut primary = Primary::leading(machine, view(1, 3, &[1, 3], 0), Vec::new(), (Index(0), Hash::default()));
    let _ = primary.submit(1, post("a"));
    let committed = primary.machine.end;
    let _ = primary.next_view(view(2, 3, &[3], 0), Vec::new(), committed);
    let error = OperationError::TooFewReplicas { replicas: 1, needed: 2 };
    assert_eq!(answers(&primary.complete()), [(RequestId(1), Answer::Failed(error))]);
}

#[test]
fn min_replicas_refuses_writes() {
    let mut setup = setup(&node(3));
    setup.limits.replicas_min = 2;
    let machine = Coordinator::new(&setup);
    let mut primary = Primary::leading(machine, view(1, 3, &[3], 0), Vec::new(), (Index(0), Hash::default())).serving();
    let error = OperationError::TooFewReplicas { replicas: 1, needed: 2 };
    assert_eq!(answers(&primary.submit(1, post("a"))), [(RequestId(1), Answer::Failed(error))]);
}

/// Writes for four seconds, node 1 voting 60 ms after the others each time; who is set offline for it.
fn set_offline_while_late(mut primary: Primary, others: &[u32], late: u32) -> Vec<Reason> {
    let mut offline = Vec::new();
    for n in 0..40 {
        let _ = primary.submit(n, post(&n.to_string()));
        let (attempt, entry) = primary.flight();
        let view = primary.view.number;
        let ms = 1_000 + n * 100;
        let vote = |id: u32| Input::Vote { from: node(id), view, attempt, index: entry.index, refusal: None };
        for id in others {
            let _ = primary.machine.step(at(ms), vote(*id));
        }
        for note in notes(&primary.machine.step(at(ms + 60), vote(late))) {
            let Note::SetOffline { reasons, .. } = note else { continue };
            offline.extend(reasons);
        }
        let _ = primary.apply();
        primary.replicas().into_iter().for_each(|id| drop(primary.acknowledge(id)));
    }
    offline
}

#[test]
fn r8_a_replica_that_holds_every_write_up_is_set_offline_unless_too_few_are_left() {
    let fault = Fault::Late { limit_ms: 50, ms: 3_000 };
    let late = Reason::SetOffline { voter: Voter::Replica(NodeId(1)), fault };
    assert_eq!(set_offline_while_late(Primary::new(&[1, 2, 3]), &[3, 2], 1), [late]);
    assert_eq!(set_offline_while_late(Primary::new(&[1, 3]), &[3], 1), [], "two copies are better than one");
    assert_eq!(set_offline_while_late(Primary::new(&[1, 2, 3]), &[1, 2], 3), [], "the primary itself");
    let mut strict = Primary::new(&[1, 2, 3]);
    strict.machine.limits.replicas_min = 3;
    assert_eq!(set_offline_while_late(strict, &[3, 2], 1), [], "replication.min_replicas");
}

#[test]
fn api_a_star_of_a_message_that_there_is_not_is_answered_once_that_is_confirmed() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let star =
        Operation { owner: KeyOwner::new("ada", "star").expect("a key"), action: Action::Star { id: Timestamp(9) } };
    let effects = primary.machine.step(at(10), Input::Submit { request: RequestId(1), operation: star });
    assert!(answers(&effects).is_empty() && notes(&effects).iter().all(|note| !matches!(note, Note::Acquire { .. })));
    let effects = primary.machine.step(at(11), Input::Located { request: RequestId(1), channel: None });
    let answer = Answer::Failed(OperationError::MessageNotFound { id: Timestamp(9) });
    assert_eq!(notes(&effects), [Note::AnswerWhenConfirmed { request: RequestId(1), answer }]);
}

/// A look at the store that is asked for anew has a number of its own: the answer to the last one says nothing of the store as
/// it is now.
#[test]
fn r2_each_look_at_the_store_has_its_own_number() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let mut rounds = Vec::new();
    for n in 1..=3 {
        let effects = primary.submit(n, post(&n.to_string()));
        let round = |request: StorageRequest| match request {
            StorageRequest::Examine { round, .. } => Some(round),
            _ => None,
        };
        rounds.extend(requests(&effects).into_iter().find_map(round));
        let _ = primary.complete();
    }
    assert!(rounds.len() == 3 && rounds.is_sorted_by(|a, b| a < b), "{rounds:?}");
}

#[test]
fn section_12_a_primary_says_that_it_serves_and_how_much_waits() {
    let mut primary = Primary::new(&[1, 3]);
    let status = |primary: &Primary| observed(|status| primary.machine.observe(status));
    let before = status(&primary);
    assert_eq!((before.role, before.serving, before.writes_waiting), (Role::Primary, Some(ViewNumber(1)), 0));
    (1..=3).for_each(|n| drop(primary.submit(n, post(&n.to_string()))));
    assert_eq!(status(&primary).writes_waiting, 3, "one is out for votes, two wait");
    let effects = primary.complete();
    let _ = primary.settle(effects);
    let _ = primary.complete();
    let after = status(&primary);
    assert_eq!((after.writes_waiting, after.tally.committed), (0, 2));
    assert_eq!((after.tally.operations.sum(), after.tally.bytes.sum()), (3, 3), "a byte of text each");
    assert_eq!(after.tally.attempts, before.tally.attempts + 2);
    let _ = primary.machine.step(at(20), Input::ViewChanged(Arc::new(view(2, 1, &[1, 3], 0))));
    assert_eq!((status(&primary).role, status(&primary).serving), (NodeStatus::default().role, None));
}

#[test]
fn r2_another_request_under_a_key_that_still_waits_is_not_judged() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let _ = primary.submit(2, post("b"));
    let other = Operation { owner: post("b").owner, action: post("c").action };
    let effects = primary.machine.step(at(10), Input::Submit { request: RequestId(3), operation: other });
    assert_eq!(answers(&effects), [(RequestId(3), Answer::Failed(OperationError::OutcomeUnknown))]);
    assert!(notes(&effects).is_empty(), "the store was not asked which of the two it knows");
}

#[test]
fn r4_only_so_many_decided_entries_wait_for_acknowledgements() {
    let mut primary = Primary::new(&[1, 3]);
    primary.leave_unacknowledged();
    assert!(prepares(&primary.submit(99, post("late"))).is_empty());
    assert!(primary.machine.deadline() > Some(Millis(10)), "nor does it wake for it again and again");
    let _ = primary.applied();
    let mut effects = primary.acknowledge(1);
    effects.append(primary.acknowledge(3));
    assert!(!prepares(&primary.settle(effects)).is_empty(), "there is room again");
}

#[test]
fn r2_an_answer_of_another_look_at_the_store_is_not_this_ones() {
    let mut primary = Primary::new(&[1, 3]);
    let round = primary.look(post("a"));
    let valid = || vec![Verdict::Valid(ChannelName::new("general").expect("a name"))];
    let late = primary.examined(round - 1, valid());
    assert!(primary.machine.step(at(10), late).as_slice().is_empty());
    let its_own = primary.examined(round, valid());
    assert_eq!(prepares(&primary.machine.step(at(10), its_own)).len(), 2);
}

#[test]
fn r10_a_campaign_of_another_view_that_failed_deposes_nobody() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let failed = Input::CampaignFailed { view: ViewNumber(9), no_quorum: true, reason: "late".into() };
    assert!(primary.machine.step(at(11), failed).as_slice().is_empty());
    assert_eq!(primary.machine.phase, Phase::Serving);
}

#[test]
fn r16_a_batch_that_was_in_no_log_yet_goes_on_in_the_next_view() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let (_, sent) = primary.flight();
    let committed = (Index(sent.index.0 - 1), sent.prev_hash);
    let again = prepares(&primary.next_view(view(2, 3, &[1, 3], 0), Vec::new(), committed));
    assert!(again.len() == 2 && again.iter().all(|(_, _, entry)| *entry == sent), "{again:?}");
}

#[test]
fn r16_the_next_time_too_no_client_holds_locks_before_the_primary_serves() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.next_view(view(2, 3, &[1, 3], 0), Vec::new(), primary.machine.end);
    let effects = primary.machine.step(at(21), Input::Submit { request: RequestId(1), operation: post("a") });
    assert!(effects.as_slice().is_empty(), "{effects:?}");
    let asked = |note: &Note| matches!(note, Note::Acquire { .. });
    assert!(notes(&primary.complete()).iter().any(asked), "it serves");
}

/// A post of `name` to channel `name`.
fn post_to(name: &str) -> Operation {
    let mut operation = post(name);
    if let Action::Post { channel, .. } = &mut operation.action {
        *channel = ChannelName::new(name).expect("a name");
    }
    operation
}

#[test]
fn r1_writes_to_two_channels_wait_for_locks_of_their_own() {
    let mut primary = Primary::new(&[1, 3]);
    let mut owners = std::collections::BTreeSet::new();
    for (n, name) in [(1, "general"), (2, "random")] {
        let operation = post_to(name);
        let effects = primary.machine.step(at(10), Input::Submit { request: RequestId(n), operation });
        let [Note::Acquire { owner, .. }] = notes(&effects)[..] else { panic!("{effects:?}") };
        owners.insert(owner);
    }
    assert_eq!(owners.len(), 2);
}

#[test]
fn r16_an_inherited_entry_waits_for_its_own_lock_and_no_other() {
    let tail = vec![entry(1, Hash::default(), "a")];
    let machine = Coordinator::new(&setup(&node(3)));
    let mut primary = Primary::leading(machine, view(2, 3, &[1, 3], 0), tail, (Index(0), Hash::default()));
    let another = LockOwner::Ticket(1_000);
    assert!(primary.machine.step(at(1), Input::Granted { owner: another }).as_slice().is_empty());
    let own = primary.machine.flight.as_ref().and_then(|flight| flight.inherited_lock).expect("it takes its lock");
    assert_eq!(prepares(&primary.machine.step(at(1), Input::Granted { owner: own })).len(), 2);
}

#[test]
fn r9_votes_of_another_view_or_disk_do_not_count() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let (attempt, entry) = primary.flight();
    let wiped = Peer { incarnation: node(1).incarnation.next(), ..node(1) };
    let _ = primary.vote(3, None);
    for (from, view) in [(node(1), ViewNumber(2)), (wiped, ViewNumber(1)), (node(2), ViewNumber(1))] {
        let vote = Input::Vote { from, view, attempt, index: entry.index, refusal: None };
        assert!(primary.machine.step(at(10), vote).as_slice().is_empty());
    }
    assert_eq!(commits(&primary.vote(1, None)), 2);
}

#[test]
fn r11_only_another_voter_of_its_view_is_set_offline_for_silence() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let mut told = |n: u32, view: u64| {
        let silent = Input::Silent { view: ViewNumber(view), voter: node(n).voter, ms: 3_000 };
        notes(&primary.machine.step(at(10), silent)).len()
    };
    assert_eq!((told(9, 1), told(3, 1), told(2, 7)), (0, 0, 0));
    assert_eq!(told(2, 1), 1);
}

#[test]
fn section_6_what_a_batch_in_flight_held_up_is_not_held_against_who_waits_for_its_locks() {
    let mut primary = Primary::new(&[1, 3]);
    let lock_timeout_ms = setup(&node(3)).timing.lock_timeout_ms;
    let _ = primary.submit(1, post("a"));
    let _ = primary.machine.step(at(10), Input::Submit { request: RequestId(2), operation: post("b") });
    let _ = primary.vote_all();
    let ordered_ms = 10 + lock_timeout_ms;
    let _ = primary.machine.step(at(ordered_ms), Input::Applying { index: primary.machine.end.0 });
    assert!(answers(&primary.machine.tick(at(ordered_ms))).is_empty(), "its time would be over");
    assert_eq!(primary.machine.queue.deadline(), Some(Millis(ordered_ms + lock_timeout_ms)));
}

#[test]
fn section_6_only_who_waits_for_locks_for_too_long_is_turned_away() {
    let mut primary = Primary::new(&[1, 3]);
    primary.leave_unacknowledged();
    let _ = primary.submit(97, post_to("granted"));
    for (request, ms, name) in [(98, 10, "early"), (99, 11, "late")] {
        let waits = Input::Submit { request: RequestId(request), operation: post_to(name) };
        let _ = primary.machine.step(at(ms), waits);
    }
    let effects = primary.machine.tick(at(10 + setup(&node(3)).timing.lock_timeout_ms));
    assert_eq!(answers(&effects), [(RequestId(98), Answer::Failed(OperationError::Overloaded))]);
    assert!(notes(&effects).iter().any(|note| matches!(note, Note::Release { .. })), "it would be granted yet");
}

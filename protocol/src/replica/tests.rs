//! and section 2, at one voter.

use super::*;
use crate::ids::{ClusterId, NodeId};
use crate::message::{BallotAnswer, Refusal};
use crate::testing::{
    all_letters, at, entry, letters, node, notes, observed, recovered, requests, setup, view, witness,
};

/// Replica 1 of view 1 {1, 2, 3}, primary 3.
fn replica() -> Replica {
    let mut replica = Replica::new(&setup(&node(1)), &recovered(&node(1), Some(view(1, 3, &[1, 2, 3], 2))));
    let _ = replica.tick(at(0));
    replica
}

fn prepare(view: u64, attempt: u64, entry: &Arc<Entry>) -> Input {
    let (view, attempt) = (ViewNumber(view), Attempt(attempt));
    Input::Prepare { from: node(3), view, attempt, entry: entry.clone(), commit_index: Index(0) }
}

/// Carries out what a replica asks of locks and disk, at once, and returns all letters that it sends.
fn run(replica: &mut Replica, input: Input) -> Vec<(String, PeerMessage)> {
    let mut inputs = vec![input];
    let mut sent = Vec::new();
    while let Some(input) = inputs.pop() {
        let effects = replica.step(at(1), input);
        sent.extend(all_letters(&effects));
        for effect in effects {
            match effect {
                Effect::Storage(StorageRequest::WriteLog { write, .. } | StorageRequest::WriteVote { write, .. }) => {
                    inputs.push(Input::Durable { write });
                }
                Effect::Storage(StorageRequest::Apply { entry }) => inputs.push(Input::Applied { index: entry.index }),
                Effect::Tell(Note::Acquire { owner, .. }) => inputs.push(Input::Granted { owner }),
                _ => {}
            }
        }
    }
    sent
}

fn vote(view: u64, attempt: u64, index: u64, refusal: Option<Refusal>) -> PeerMessage {
    PeerMessage::Vote { view: ViewNumber(view), attempt: Attempt(attempt), index: Index(index), refusal }
}

fn ballot(round: u64, id: u32) -> Ballot {
    Ballot { round, node: NodeId(id) }
}

#[test]
fn r5_a_vote_waits_for_locks_and_then_for_the_disk() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "a");
    let effects = replica.step(at(1), prepare(1, 1, &e));
    assert!(all_letters(&effects).is_empty() && requests(&effects).is_empty(), "{effects:?}");
    let [Note::Acquire { owner, locks }] = &notes(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(*locks, e.locks());
    let effects = replica.step(at(2), Input::Granted { owner: *owner });
    assert!(all_letters(&effects).is_empty(), "a vote before the flush could be taken back by a crash");
    let [StorageRequest::WriteLog { write, record }] = &requests(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((record.view, record.attempt), (ViewNumber(1), Attempt(1)));
    let effects = replica.step(at(3), Input::Durable { write: *write });
    assert_eq!(letters(&effects, &node(3)), [vote(1, 1, 1, None)]);
}

#[test]
fn r5_d1_d2_a_late_copy_of_an_earlier_attempt_replaces_nothing() {
    let mut replica = replica();
    let (e, f) = (entry(1, Hash::default(), "e"), entry(1, Hash::default(), "f"));
    assert_eq!(run(&mut replica, prepare(1, 1, &e)), [("3".to_owned(), vote(1, 1, 1, None))]);
    assert_eq!(run(&mut replica, prepare(1, 2, &f)), [("3".to_owned(), vote(1, 2, 1, None))]);
    let refused = vote(1, 1, 1, Some(Refusal::StaleAttempt));
    assert_eq!(run(&mut replica, prepare(1, 1, &e)), [("3".to_owned(), refused.clone())]);
    assert_eq!(replica.slots.end(), (Index(1), f.hash));
    // Committed, and forgotten by nobody: the late copy does not come back behind the commit either.
    let commit =
        Input::Commit { from: node(3), view: ViewNumber(1), attempt: Attempt(2), index: Index(1), hash: f.hash };
    assert_eq!(run(&mut replica, commit).len(), 1);
    assert_eq!(run(&mut replica, prepare(1, 1, &e)), [("3".to_owned(), refused)]);
}

#[test]
fn r5_d3_a_repeated_yes_takes_over_the_new_attempt_durably() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let _ = run(&mut replica, prepare(1, 1, &e));
    let effects = replica.step(at(2), prepare(1, 2, &e));
    assert!(all_letters(&effects).is_empty(), "the new attempt is not durable yet");
    let [StorageRequest::WriteLog { record, write }] = &requests(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(record.attempt, Attempt(2));
    let effects = replica.step(at(3), Input::Durable { write: *write });
    assert_eq!(letters(&effects, &node(3)), [vote(1, 2, 1, None)]);
}

#[test]
fn r5_an_entry_that_differs_replaces_its_slot_and_all_after_it_and_nothing_before() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let f = entry(2, e.hash, "f");
    let other = entry(2, e.hash, "other");
    for (attempt, entry) in [(1, &e), (2, &f), (3, &entry(3, f.hash, "g")), (4, &other)] {
        let voted = vote(1, attempt, entry.index.0, None);
        assert_eq!(run(&mut replica, prepare(1, attempt, entry)), [("3".to_owned(), voted)]);
    }
    assert!(replica.slots.tail().map(|slot| &slot.entry).eq([&e, &other]), "{:?}", replica.slots);
}

#[test]
fn r5_says_no_with_the_reason() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let gap = entry(3, e.hash, "late");
    assert_eq!(run(&mut replica, prepare(1, 1, &gap))[0].1, vote(1, 1, 3, Some(Refusal::Gap(Index(0)))));
    let other_history = entry(1, Hash([9; 32]), "e");
    assert!(matches!(
        run(&mut replica, prepare(1, 2, &other_history))[0].1,
        PeerMessage::Vote { refusal: Some(Refusal::Gap(_)), .. }
    ));
    let wrong = Arc::new(Entry { hash: Hash([1; 32]), ..e.as_ref().clone() });
    assert_eq!(run(&mut replica, prepare(1, 3, &wrong))[0].1, vote(1, 3, 1, Some(Refusal::Malformed)));
    assert_eq!(run(&mut replica, prepare(0, 1, &e))[0].1, vote(0, 1, 1, Some(Refusal::StaleView)));
    let not_the_primary =
        Input::Prepare { from: node(2), view: ViewNumber(1), attempt: Attempt(9), entry: e, commit_index: Index(0) };
    assert!(run(&mut replica, not_the_primary).is_empty());
}

#[test]
fn r9_a_wait_for_locks_that_is_too_long_fails_and_leaves_the_log_alone() {
    let mut replica = replica();
    let _ = replica.step(at(1), prepare(1, 1, &entry(1, Hash::default(), "e")));
    let until = replica.deadline().expect("it waits");
    assert!(replica.tick(at(until.0 - 1)).as_slice().is_empty());
    let effects = replica.tick(at(until.0));
    assert_eq!(letters(&effects, &node(3)), [vote(1, 1, 1, Some(Refusal::LockTimeout))]);
    assert!(matches!(notes(&effects)[..], [Note::Release { .. }]));
    assert_eq!(replica.slots.end().0, Index(0));
}

#[test]
fn r5_a_grant_of_an_entry_that_was_given_up_locks_nothing_else() {
    let mut replica = replica();
    let first = notes(&replica.step(at(1), prepare(1, 1, &entry(1, Hash::default(), "e"))));
    let [Note::Acquire { owner: first, .. }] = first[..] else { panic!("{first:?}") };
    let second = replica.step(at(2), prepare(1, 2, &entry(1, Hash::default(), "f")));
    assert!(matches!(notes(&second)[..], [Note::Release { owner }, Note::Acquire { .. }] if owner == first));
    assert!(replica.step(at(3), Input::Granted { owner: first }).as_slice().is_empty(), "that grant was given back");
}

#[test]
fn r6_d4_a_commit_needs_the_hash_and_is_acknowledged_once_applied() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let _ = run(&mut replica, prepare(1, 1, &e));
    let commit =
        |hash| Input::Commit { from: node(3), view: ViewNumber(1), attempt: Attempt(1), index: Index(1), hash };
    assert!(replica.step(at(2), commit(Hash([4; 32]))).as_slice().is_empty(), "a bare index commits nothing");
    let effects = replica.step(at(2), commit(e.hash));
    assert_eq!(requests(&effects), [StorageRequest::Apply { entry: e.clone() }]);
    let place = |wanted: fn(&Effect) -> bool| effects.as_slice().iter().position(wanted);
    let asked = place(|effect| matches!(effect, Effect::Storage(_)));
    let released = place(|effect| matches!(effect, Effect::Tell(Note::Release { .. })));
    assert!(
        released.is_some() && asked < released,
        "strict: whoever gets the locks asks a store that was asked this before"
    );
    assert!(all_letters(&effects).is_empty(), "not applied yet");
    let effects = replica.step(at(3), Input::Applied { index: Index(1) });
    let acknowledged = PeerMessage::Committed { view: ViewNumber(1), attempt: Attempt(1), index: Index(1) };
    assert_eq!(letters(&effects, &node(3)), std::slice::from_ref(&acknowledged));
    assert_eq!(letters(&replica.step(at(4), commit(e.hash)), &node(3)), [acknowledged], "the first may have been lost");
}

#[test]
fn section_4_a_prepare_carries_what_is_committed_before_it() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let _ = run(&mut replica, prepare(1, 1, &e));
    let f = entry(2, e.hash, "f");
    let (from, view, attempt, commit_index) = (node(3), ViewNumber(1), Attempt(2), Index(1));
    let sent = run(&mut replica, Input::Prepare { from, view, attempt, entry: f, commit_index });
    assert_eq!(sent, [("3".to_owned(), vote(1, 2, 2, None))]);
    assert_eq!(replica.slots.committed, (Index(1), e.hash));
}

#[test]
fn r14_who_accepted_a_next_view_votes_on_nothing_and_confirms_nothing() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let effects = replica.step(at(1), prepare(1, 1, &e));
    let [Note::Acquire { owner, .. }] = notes(&effects)[..] else { panic!("{effects:?}") };
    let logging = requests(&replica.step(at(1), Input::Granted { owner }));
    let [StorageRequest::WriteLog { write: logged, .. }] = logging[..] else { panic!("{logging:?}") };
    let next = view(2, 2, &[1, 2], 1);
    let accept = Input::Accept { from: node(2), view: ViewNumber(1), ballot: ballot(1, 2), proposal: next };
    let accepting = requests(&replica.step(at(2), accept));
    assert!(matches!(accepting[..], [StorageRequest::WriteVote { .. }]));
    let accepted = Some(Refusal::Accepted(ballot(1, 2)));
    // Even what was being written before, and even before the acceptance is on disk.
    assert_eq!(
        letters(&replica.step(at(3), Input::Durable { write: logged }), &node(3)),
        [vote(1, 1, 1, accepted.clone())]
    );
    assert_eq!(run(&mut replica, prepare(1, 1, &e))[0].1, vote(1, 1, 1, accepted.clone()));
    let confirm = Input::Confirm { from: node(3), view: ViewNumber(1), round: 4 };
    let refused = PeerMessage::Confirmed { view: ViewNumber(1), round: 4, refusal: accepted };
    assert_eq!(letters(&replica.step(at(4), confirm), &node(3)), [refused]);
}

#[test]
fn r13_a_promise_is_durable_before_it_is_said_and_outbids_lower_ballots() {
    let mut replica = replica();
    let promise = |round, id| Input::Promise { from: node(id), view: ViewNumber(1), ballot: ballot(round, id) };
    let effects = replica.step(at(1), promise(2, 2));
    assert!(all_letters(&effects).is_empty());
    let [StorageRequest::WriteVote { write, vote }] = &requests(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(vote.promised, Some(ballot(2, 2)));
    let sent = letters(&replica.step(at(2), Input::Durable { write: *write }), &node(2));
    let yes = BallotAnswer::Yes(None);
    assert_eq!(sent, [PeerMessage::Promised { view: ViewNumber(1), ballot: ballot(2, 2), answer: yes }]);
    let outbid = BallotAnswer::Outbid(ballot(2, 2));
    let lower = run(&mut replica, promise(1, 3));
    let answer = PeerMessage::Promised { view: ViewNumber(1), ballot: ballot(1, 3), answer: outbid };
    assert_eq!(lower, [("3".to_owned(), answer)]);
}

#[test]
fn r14_a_promise_that_a_hung_disk_does_not_keep_outbids_nobody() {
    let mut replica = replica();
    let lower = Input::Promise { from: node(3), view: ViewNumber(1), ballot: ballot(1, 3) };
    let _ = replica.step(at(1), Input::Promise { from: node(2), view: ViewNumber(1), ballot: ballot(2, 2) });
    assert!(all_letters(&replica.step(at(2), lower)).is_empty());
    let proposal = view(2, 3, &[1, 3], 1);
    let accept = Input::Accept { from: node(3), view: ViewNumber(1), ballot: ballot(1, 3), proposal };
    assert!(all_letters(&replica.step(at(3), accept)).is_empty());
}

#[test]
fn r13_a_promise_tells_what_was_accepted() {
    let mut replica = replica();
    let next = view(2, 2, &[1, 2], 1);
    let accept = Input::Accept { from: node(2), view: ViewNumber(1), ballot: ballot(1, 2), proposal: next.clone() };
    assert_eq!(run(&mut replica, accept).len(), 1);
    let sent = run(&mut replica, Input::Promise { from: node(3), view: ViewNumber(1), ballot: ballot(2, 3) });
    let answer = BallotAnswer::Yes(Some((ballot(1, 2), next)));
    assert_eq!(sent, [("3".to_owned(), PeerMessage::Promised { view: ViewNumber(1), ballot: ballot(2, 3), answer })]);
}

#[test]
fn r13_voters_refuse_who_is_no_replica_of_the_view() {
    let mut replica = replica();
    for from in [node(4), witness(1), Peer { incarnation: crate::ids::Incarnation(99), ..node(2) }] {
        let ballot = ballot(5, from.voter.node().map_or(2, |id| id.0));
        let promise = Input::Promise { from: from.clone(), view: ViewNumber(1), ballot };
        assert!(replica.step(at(1), promise).as_slice().is_empty(), "{from:?} was heard");
    }
    let for_another = Input::Promise { from: node(2), view: ViewNumber(1), ballot: ballot(5, 3) };
    assert!(replica.step(at(1), for_another).as_slice().is_empty());
}

#[test]
fn r13_only_voters_of_the_last_view_that_they_know_answer_a_ballot() {
    let mut replica = replica();
    let promise = |view: u64| Input::Promise { from: node(2), view: ViewNumber(view), ballot: ballot(1, 2) };
    assert!(run(&mut replica, promise(0)).is_empty() && run(&mut replica, promise(2)).is_empty());
    let _ = replica.step(at(1), Input::Learnt { view: view(2, 3, &[1, 2, 3], 2) });
    let late = replica.step(at(2), promise(1));
    assert!(late.as_slice().is_empty(), "the view that is being written would be written over: {late:?}");
}

#[test]
fn r13_d14_a_trial_is_refused_by_who_trusts_the_primary_unless_the_primary_asks() {
    let mut replica = replica();
    let trial = |from: u32| Input::Trial { from: node(from), view: ViewNumber(1), campaign: 1 };
    let willing = |sent: Vec<PeerMessage>| matches!(sent[..], [PeerMessage::TrialAnswer { willing: true, .. }]);
    assert!(!willing(letters(&replica.step(at(1), trial(2)), &node(2))));
    assert!(willing(letters(&replica.step(at(1), trial(3)), &node(3))));
    let _ = replica.step(at(1), Input::Suspects { view: ViewNumber(1), sign: Some(crate::change::Sign::Reset) });
    assert!(willing(letters(&replica.step(at(1), trial(2)), &node(2))));
}

#[test]
fn section_2_a_decided_view_is_durable_before_it_is_acted_on() {
    let mut replica = replica();
    let next = view(2, 1, &[1, 2], 1);
    let effects = replica.step(at(1), Input::Learnt { view: next.clone() });
    assert!(notes(&effects).is_empty());
    let [StorageRequest::WriteVote { write, vote: record }] = &requests(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(record.view, next);
    // Till then nothing is voted for any more.
    assert_eq!(
        run(&mut replica, prepare(1, 1, &entry(1, Hash::default(), "e")))[0].1,
        vote(1, 1, 1, Some(Refusal::StaleView))
    );
    let told = notes(&replica.step(at(2), Input::Durable { write: *write }));
    assert!(matches!(&told[0], Note::ViewChanged { view } if **view == next));
    assert!(matches!(told.last(), Some(Note::Lead { .. })), "it names this node: {told:?}");
}

#[test]
fn section_2_what_was_being_written_for_a_vote_is_not_voted_for_once_a_later_view_is_known() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let _ = run(&mut replica, prepare(1, 1, &e));
    let logging = requests(&replica.step(at(2), prepare(1, 2, &e)));
    let [StorageRequest::WriteLog { write, .. }] = logging[..] else { panic!("{logging:?}") };
    let _ = replica.step(at(3), Input::Learnt { view: view(2, 2, &[1, 2], 1) });
    assert!(all_letters(&replica.step(at(4), Input::Durable { write })).is_empty());
}

#[test]
fn section_2_d6_being_primary_is_not_durable() {
    let mut replica = Replica::new(&setup(&node(3)), &recovered(&node(3), Some(view(1, 3, &[1, 2, 3], 0))));
    let told = notes(&replica.tick(at(0)));
    assert!(told.iter().all(|note| !matches!(note, Note::Lead { .. })), "{told:?}");
    assert!(told.contains(&Note::NotServing { view: ViewNumber(1), can_lead: true }));
}

#[test]
fn section_2_two_views_of_one_number_stop_the_node() {
    let mut replica = replica();
    let effects = replica.step(at(1), Input::Learnt { view: view(1, 2, &[1, 2, 3], 2) });
    assert!(matches!(effects.as_slice(), [Effect::Halt(_)]));
    assert!(replica.step(at(1), Input::Learnt { view: view(1, 3, &[1, 2, 3], 2) }).as_slice().is_empty());
}

#[test]
fn section_2_a_view_of_another_cluster_is_never_its_own() {
    let mut replica = replica();
    let stray = View { cluster: ClusterId(8), ..view(2, 3, &[1, 3], 1) };
    assert!(replica.step(at(1), Input::Learnt { view: stray }).as_slice().is_empty());
    assert!(!replica.step(at(1), Input::Learnt { view: view(2, 3, &[1, 3], 1) }).as_slice().is_empty());
}

#[test]
fn section_11_a_letter_of_a_later_view_waits_for_it() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    assert!(run(&mut replica, prepare(2, 1, &e)).is_empty());
    let sent = run(&mut replica, Input::Learnt { view: view(2, 3, &[1, 3], 1) });
    assert_eq!(sent, [("3".to_owned(), vote(2, 1, 1, None))]);
}

#[test]
fn section_11_who_is_behind_is_told_and_asks() {
    let mut replica = replica();
    let known = view(1, 3, &[1, 2, 3], 2);
    let effects = replica.step(at(1), Input::Heard { from: node(4), view: ViewNumber(0) });
    assert_eq!(letters(&effects, &node(4)), [PeerMessage::ViewIs { view: known }]);
    let effects = replica.step(at(1), Input::Heard { from: node(2), view: ViewNumber(5) });
    assert_eq!(letters(&effects, &node(2)), [PeerMessage::AskView]);
}

#[test]
fn r11_another_history_under_the_same_index_refuses_to_serve() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let _ = run(&mut replica, prepare(1, 1, &e));
    let _ = replica.step(at(2), Input::CommitSeen { index: Index(1), hash: e.hash });
    let effects = replica.step(at(3), Input::CommitSeen { index: Index(1), hash: Hash([3; 32]) });
    assert!(matches!(effects.as_slice(), [Effect::Announce(_)]));
    let refused = run(&mut replica, prepare(1, 2, &entry(2, e.hash, "f")));
    assert_eq!(refused[0].1, vote(1, 2, 2, Some(Refusal::Storage)));
    // D16: it joins from scratch, but only once it is set offline.
    let effects = replica.step(at(4), Input::Learnt { view: view(2, 3, &[2, 3], 1) });
    let [StorageRequest::WriteVote { write, .. }] = requests(&effects)[..] else { panic!("{effects:?}") };
    assert!(notes(&replica.step(at(5), Input::Durable { write })).contains(&Note::Diverged));
}

#[test]
fn r17_who_is_left_out_votes_no_more() {
    let mut replica = replica();
    let _ = run(&mut replica, Input::Learnt { view: view(2, 3, &[2, 3], 1) });
    assert!(run(&mut replica, prepare(2, 1, &entry(1, Hash::default(), "e"))).is_empty());
    let promise = Input::Promise { from: node(2), view: ViewNumber(2), ballot: ballot(1, 2) };
    assert!(run(&mut replica, promise).is_empty());
}

#[test]
fn r21_a_late_word_of_the_joins_end_changes_nothing_in_a_replica_that_has_voted_since() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let _ = run(&mut replica, prepare(1, 1, &e));
    let late = Input::Synced { index: Index(0), hash: Hash::default(), last_timestamp: Timestamp(0) };
    assert!(replica.step(at(2), late).as_slice().is_empty());
    assert_eq!(replica.slots.end(), (Index(1), e.hash));
}

#[test]
fn a_witness_has_a_vote_and_no_log() {
    let me = witness(1);
    let mut replica = Replica::new(&setup(&me), &recovered(&me, Some(view(1, 3, &[1, 2, 3], 2))));
    let _ = replica.tick(at(0));
    assert!(run(&mut replica, prepare(1, 1, &entry(1, Hash::default(), "e"))).is_empty());
    let promise = Input::Promise { from: node(2), view: ViewNumber(1), ballot: ballot(1, 2) };
    assert_eq!(run(&mut replica, promise).len(), 1);
    let confirm = Input::Confirm { from: node(3), view: ViewNumber(1), round: 1 };
    assert!(matches!(run(&mut replica, confirm)[0].1, PeerMessage::Confirmed { refusal: None, .. }));
}

#[test]
fn r3_a_session_never_takes_instants_back() {
    let mut replica = Replica::new(&setup(&node(1)), &recovered(&node(1), Some(view(1, 3, &[2, 3], 1))));
    let _ = replica.tick(at(0));
    let e = entry(9, Hash::default(), "a"); // Its instant is 9; a session of no new posts knows of none.
    let synced = |at| Input::Synced { index: Index(9), hash: e.hash, last_timestamp: Timestamp(at) };
    let _ = replica.step(at(1), synced(9));
    let _ = replica.step(at(2), Input::SyncBegan { from: SyncFrom::Log(Index(9)) });
    let _ = replica.step(at(3), synced(0));
    assert_eq!(replica.slots.last_timestamp, Timestamp(9));
}

#[test]
fn r6_the_commit_index_of_an_entry_that_does_not_follow_commits_nothing() {
    let mut replica = replica();
    let (left_over, decided) = (entry(1, Hash::default(), "left-over"), entry(1, Hash::default(), "decided"));
    let _ = run(&mut replica, prepare(1, 1, &left_over));
    let (attempt, commit_index) = (Attempt(3), Index(1));
    let next = entry(2, decided.hash, "next");
    let ask = Input::Prepare { from: node(3), view: ViewNumber(1), attempt, entry: next, commit_index };
    assert_eq!(run(&mut replica, ask), [("3".to_owned(), vote(1, 3, 2, Some(Refusal::Gap(Index(0)))))]);
    assert_eq!(replica.slots.committed, (Index(0), Hash::default()), "another entry is decided at that index");
}

/// What a letter says is committed below its entry, and no more: under the same index there may be another entry yet.
#[test]
fn r6_a_prepare_commits_what_lies_before_its_entry_and_nothing_else() {
    let mut replica = replica();
    let (e, f) = (entry(1, Hash::default(), "e"), entry(1, Hash::default(), "f"));
    let _ = run(&mut replica, prepare(1, 1, &e));
    let (view, attempt) = (ViewNumber(1), Attempt(2));
    let _ = run(&mut replica, Input::Prepare { from: node(3), view, attempt, entry: f, commit_index: Index(1) });
    assert_eq!(replica.slots.committed.0, Index(0));
}

#[test]
fn r14_only_the_very_next_view_of_its_own_cluster_is_accepted() {
    let next = view(2, 2, &[1, 2], 1);
    let accepted = |proposal: &View, ballot| {
        let accept = Input::Accept { from: node(2), view: ViewNumber(1), ballot, proposal: proposal.clone() };
        !run(&mut replica(), accept).is_empty()
    };
    assert!(accepted(&next, ballot(1, 2)));
    assert!(!accepted(&View { cluster: ClusterId(8), ..next.clone() }, ballot(1, 2)));
    assert!(!accepted(&View { number: ViewNumber(3), ..next.clone() }, ballot(1, 2)));
    assert!(!accepted(&next, ballot(1, 1)), "a ballot of somebody else");
}

#[test]
fn r13_who_knows_that_its_history_is_wrong_does_not_want_to_lead_but_may_follow() {
    let willing = |diverged: bool, from: &Peer| {
        let mut replica = replica();
        let e = entry(1, Hash::default(), "e");
        let _ = run(&mut replica, prepare(1, 1, &e));
        let _ = replica.step(at(2), Input::CommitSeen { index: Index(1), hash: e.hash });
        if diverged {
            let _ = replica.step(at(3), Input::CommitSeen { index: Index(1), hash: Hash([3; 32]) });
        }
        let _ = replica.step(at(4), Input::Suspects { view: ViewNumber(1), sign: Some(Sign::Reset) });
        let trial = Input::Trial { from: from.clone(), view: ViewNumber(1), campaign: 1 };
        let answered = letters(&replica.step(at(5), trial), from);
        let [PeerMessage::TrialAnswer { willing, .. }] = answered[..] else { panic!("{answered:?}") };
        willing
    };
    assert!(willing(false, &node(1)) && willing(false, &node(2)));
    assert!(!willing(true, &node(1)) && willing(true, &node(2)));
}

#[test]
fn section_12_a_node_says_what_it_is() {
    let role = |replica: &Replica| {
        let status = observed(|status| replica.observe(status));
        (status.role, status.view.map(|view| view.number.0))
    };
    let mut replica = replica();
    assert_eq!(role(&replica), (Role::Replica, Some(1)));
    let _ = run(&mut replica, Input::Learnt { view: view(2, 3, &[2, 3], 1) });
    assert_eq!(role(&replica), (Role::Syncing, Some(2)));
    let me = witness(1);
    let known = Some(view(1, 3, &[1, 2, 3], 2));
    assert_eq!(role(&Replica::new(&setup(&me), &recovered(&me, known))), (Role::Witness, Some(1)));
    assert_eq!(role(&Replica::new(&setup(&node(1)), &recovered(&node(1), None))), (Role::Waiting, None));
}

#[test]
fn section_11_a_letter_of_a_later_view_is_kept_once_however_often_it_comes() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    (0..3).for_each(|_| assert!(run(&mut replica, prepare(2, 1, &e)).is_empty()));
    let sent = run(&mut replica, Input::Learnt { view: view(2, 3, &[1, 3], 1) });
    assert_eq!(sent, [("3".to_owned(), vote(2, 1, 1, None))]);
}

#[test]
fn section_11_a_view_that_is_being_written_is_not_asked_for() {
    let mut replica = replica();
    let _ = replica.step(at(1), Input::Learnt { view: view(2, 3, &[1, 3], 1) });
    let mut asks = |view: u64| {
        let effects = replica.step(at(2), Input::Heard { from: node(3), view: ViewNumber(view) });
        letters(&effects, &node(3)).contains(&PeerMessage::AskView)
    };
    assert!(!asks(2) && asks(3));
}

#[test]
fn r6_a_late_commit_of_what_is_committed_long_since_is_acknowledged_again() {
    let mut replica = replica();
    let e = entry(1, Hash::default(), "e");
    let f = entry(2, e.hash, "f");
    let commit = |attempt, index, hash| {
        let (view, attempt) = (ViewNumber(1), Attempt(attempt));
        Input::Commit { from: node(3), view, attempt, index: Index(index), hash }
    };
    for (attempt, entry) in [(1, &e), (2, &f)] {
        let _ = run(&mut replica, prepare(1, attempt, entry));
        let _ = run(&mut replica, commit(attempt, entry.index.0, entry.hash));
    }
    assert_eq!(run(&mut replica, commit(1, 1, e.hash)).len(), 1);
    assert!(run(&mut replica, commit(1, 1, f.hash)).is_empty(), "that was never committed there");
    assert_eq!(run(&mut replica, prepare(1, 1, &e))[0].1, vote(1, 1, 1, None));
}

#[test]
fn r11_what_is_in_doubt_may_differ_from_what_the_primary_committed() {
    let mut replica = replica();
    let _ = run(&mut replica, prepare(1, 1, &entry(1, Hash::default(), "e")));
    let seen = Input::CommitSeen { index: Index(1), hash: entry(1, Hash::default(), "f").hash };
    assert!(replica.step(at(2), seen).as_slice().is_empty(), "its own was never committed: no history is wrong");
}

#[test]
fn section_6_only_the_primary_is_told_that_its_view_is_in_force() {
    let mut replica = replica();
    let refusal = |replica: &mut Replica, from: u32, view: u64| {
        let confirm = Input::Confirm { from: node(from), view: ViewNumber(view), round: 4 };
        match letters(&replica.step(at(2), confirm), &node(from)).pop() {
            Some(PeerMessage::Confirmed { refusal, round: 4, .. }) => Some(refusal),
            _ => None,
        }
    };
    assert_eq!(refusal(&mut replica, 3, 1), Some(None));
    assert_eq!(refusal(&mut replica, 2, 1), None, "it leads nothing");
    let effects = replica.step(at(1), Input::Learnt { view: view(2, 1, &[1, 2], 1) });
    assert_eq!(refusal(&mut replica, 3, 1), Some(Some(Refusal::StaleView)), "already while that is being written");
    let [StorageRequest::WriteVote { write, .. }] = requests(&effects)[..] else { panic!("{effects:?}") };
    let _ = replica.step(at(2), Input::Durable { write });
    assert_eq!(refusal(&mut replica, 3, 1), Some(Some(Refusal::StaleView)));
}

#[test]
fn r18_a_session_begins_where_the_log_is_committed_and_nothing_in_doubt_stays() {
    let mut replica = replica();
    let _ = run(&mut replica, prepare(1, 1, &entry(1, Hash::default(), "e")));
    assert_eq!(replica.slots.end().0, Index(1));
    let effects = replica.step(at(2), Input::SyncBegan { from: SyncFrom::Log(Index(0)) });
    assert_eq!(replica.slots.end().0, Index(0));
    let told = notes(&effects);
    assert!(matches!(told[..], [Note::Release { .. }, Note::LogPosition { log_end: Index(0), .. }]), "{told:?}");
}

#[test]
fn section_6_what_is_in_doubt_is_locked_by_who_follows_and_by_nobody_who_is_left_out() {
    let locks = |replicas: &[u32]| {
        let mut replica = replica();
        let e = entry(1, Hash::default(), "e");
        let _ = run(&mut replica, prepare(1, 1, &e));
        let effects = replica.step(at(2), Input::Learnt { view: view(2, 3, replicas, 0) });
        let [StorageRequest::WriteVote { write, .. }] = requests(&effects)[..] else { panic!("{effects:?}") };
        let told = notes(&replica.step(at(3), Input::Durable { write }));
        let released: Vec<LockOwner> = told.iter().filter_map(released).collect();
        let taken: Vec<LockOwner> = told.iter().filter_map(taken).collect();
        assert!(released.len() == 1 && !taken.contains(&released[0]), "each time another owner: {told:?}");
        taken.len()
    };
    assert_eq!((locks(&[1, 3]), locks(&[2, 3])), (1, 0));
}

fn released(note: &Note) -> Option<LockOwner> {
    if let Note::Release { owner } = note { Some(*owner) } else { None }
}

fn taken(note: &Note) -> Option<LockOwner> {
    if let Note::Acquire { owner, .. } = note { Some(*owner) } else { None }
}

#[test]
fn r25_whom_the_disk_knows_as_members_is_told_at_the_start() {
    let told = |members: Members| {
        let on_disk = Recovered { members, ..recovered(&node(1), Some(view(1, 3, &[1, 2, 3], 2))) };
        let started = notes(&Replica::new(&setup(&node(1)), &on_disk).tick(at(0)));
        started.into_iter().any(|note| matches!(note, Note::Members { .. }))
    };
    let member = crate::member::Member { peer: node(2), removed: true };
    assert!(told(Members::new(vec![member])) && !told(Members::default()));
}

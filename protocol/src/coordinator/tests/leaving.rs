//! at the primary: who leaves by somebody's wish, and who may not.

use super::*;
use crate::lock::{Mode, Resource};
use crate::member::{Member, Members};
use crate::operator::{OperatorAnswer, OperatorRefusal};
use crate::testing::witness;

fn voter(n: u32) -> Voter {
    node(n).voter
}

/// Nodes 1 to 4 and witness 1 are members; these were removed.
fn members(removed: &[Voter]) -> Input {
    let all = (1..=4).map(node).chain([witness(1)]);
    let member = |peer: Peer| Member { removed: removed.contains(&peer.voter), peer };
    Input::Members(Members::new(all.map(member).collect()))
}

fn primary_of(replicas: &[u32], copies_min: u32) -> Primary {
    let mut setup = setup(&node(3));
    setup.limits.replicas_min = copies_min;
    let view = view(1, 3, replicas, u32::try_from(replicas.len() - 1).expect("few").min(1));
    let mut primary =
        Primary::leading(Coordinator::new(&setup), view, Vec::new(), (Index(0), Hash::default())).serving();
    let _ = primary.machine.step(at(10), members(&[]));
    primary
}

fn remove(primary: &mut Primary, request: u64, voter: Voter) -> Effects {
    let call = OperatorCall::Remove { voter };
    primary.machine.step(at(10), Input::Operator { request: RequestId(request), call })
}

fn drain(primary: &mut Primary, on: bool) -> Effects {
    let call = OperatorCall::Drain { on };
    primary.machine.step(at(10), Input::Operator { request: RequestId(9), call })
}

/// What is answered at once, or once it is confirmed.
fn answer(effects: &Effects) -> Option<Answer> {
    let confirmed = |note: &Note| match note {
        Note::AnswerWhenConfirmed { answer, .. } => Some(answer.clone()),
        _ => None,
    };
    let at_once = answers(effects).into_iter().map(|(_, answer)| answer).next();
    at_once.or_else(|| notes(effects).iter().find_map(confirmed))
}

fn refused(refusal: OperatorRefusal) -> Option<Answer> {
    Some(Answer::Operator(OperatorAnswer::Refused(refusal)))
}

/// Whom the campaign is asked to leave out, and why.
fn left_out(effects: &Effects) -> Vec<(Voter, Leave)> {
    let reasons = notes(effects).into_iter().filter_map(|note| match note {
        Note::SetOffline { reasons, .. } => Some(reasons),
        _ => None,
    });
    let left = |reason| match reason {
        Reason::Left { voter, why } => Some((voter, why)),
        _ => None,
    };
    reasons.flatten().filter_map(left).collect()
}

/// The next view, until it serves.
fn serve_next(primary: &mut Primary, next: View) -> Effects {
    let mut effects = primary.next_view(next, Vec::new(), primary.machine.end);
    while primary.machine.flight.is_some() {
        effects.append(primary.complete());
    }
    effects
}

#[test]
fn r25_a_removal_is_an_entry_on_every_replica_before_anybody_leaves() {
    let mut primary = primary_of(&[1, 2, 3], 1);
    let effects = remove(&mut primary, 1, voter(2));
    let locks = |note: &Note| matches!(note, Note::Acquire { locks, .. } if *locks == [(Resource::Store, Mode::IntentExclusive)]);
    assert!(
        notes(&effects).iter().any(locks) && prepares(&effects).is_empty(),
        "nothing slips into a join's last round"
    );
    assert_eq!(primary.flight().1.batch, Batch::Remove(voter(2)));
    let effects = primary.complete();
    assert_eq!(answers(&effects), [(RequestId(1), Answer::Operator(OperatorAnswer::Removed))]);
    assert!(left_out(&effects).is_empty(), "the store has not said it yet");
    let effects = primary.machine.step(at(10), members(&[voter(2)]));
    assert_eq!(left_out(&effects), [(voter(2), Leave::Removed)]);
    let again = primary.machine.deadline().expect("it is seen to");
    assert_eq!(
        left_out(&primary.machine.tick(at(again.0.max(2_000)))),
        [(voter(2), Leave::Removed)],
        "until it is out"
    );
    let effects = remove(&mut primary, 2, voter(2));
    assert_eq!(answer(&effects), Some(Answer::Operator(OperatorAnswer::Removed)), "again is no error");
    let is_removal = |flight: &Flight| matches!(flight.entry.batch, Batch::Remove(_));
    assert!(!primary.machine.flight.as_ref().is_some_and(is_removal), "and no second entry");
}

#[test]
fn r25_a_write_in_flight_goes_first_and_two_removals_one_after_the_other() {
    let mut primary = primary_of(&[1, 2, 3, 4], 1);
    let _ = primary.submit(1, post("a"));
    assert!(answer(&remove(&mut primary, 2, voter(1))).is_none());
    assert!(answer(&remove(&mut primary, 3, voter(2))).is_none());
    assert!(answer(&remove(&mut primary, 4, voter(1))).is_none(), "the same again waits with the first");
    assert!(is_written(&answers(&primary.complete()), 1));
    let removed = Answer::Operator(OperatorAnswer::Removed);
    assert_eq!(answers(&primary.complete()), [(RequestId(2), removed.clone()), (RequestId(4), removed.clone())]);
    assert_eq!(answers(&primary.complete()), [(RequestId(3), removed)]);
    assert!(primary.machine.flight.is_none());
}

#[test]
fn r25_strangers_the_last_copy_and_too_few_are_refused_by_name() {
    let mut primary = primary_of(&[1, 2, 3], 2);
    let unknown = OperatorRefusal::Unknown { voter: voter(9) };
    assert_eq!(answer(&remove(&mut primary, 1, voter(9))), refused(unknown));
    let _ = remove(&mut primary, 2, voter(1));
    let too_few = OperatorRefusal::TooFew { voter: voter(2), left: 1, needed: 2 };
    assert_eq!(answer(&remove(&mut primary, 3, voter(2))), refused(too_few), "the first one counts already");
    assert_eq!(answer(&remove(&mut primary, 4, witness(1).voter)), None, "a witness holds nothing");

    let mut alone = primary_of(&[3], 1);
    assert_eq!(answer(&remove(&mut alone, 1, voter(3))), refused(OperatorRefusal::LastCopy { voter: voter(3) }));
    assert_eq!(answer(&remove(&mut alone, 2, voter(1))), None, "one that is offline already");
    assert_eq!(answers(&alone.complete()), [(RequestId(2), Answer::Operator(OperatorAnswer::Removed))]);
}

/// A view that lists a witness came into force, and the next one without it before its entry was ever sent: the entry of the
/// removal would mark nothing.
#[test]
fn r25_a_witness_that_left_before_any_view_entry_listed_it_is_not_said_to_be_removed() {
    let machine = Coordinator::new(&setup(&node(3)));
    let mut primary = Primary::leading(machine, view(1, 3, &[2, 3], 1), Vec::new(), (Index(0), Hash::default()));
    assert_eq!(answer(&remove(&mut primary, 1, witness(1).voter)), None, "the view lists it");
    let effects = serve_next(&mut primary, view(2, 3, &[3], 0));
    assert_eq!(answer(&effects), refused(OperatorRefusal::Unknown { voter: witness(1).voter }));
}

#[test]
fn r25_a_removed_primary_hands_over_and_sees_others_off_first() {
    let mut primary = primary_of(&[1, 2, 3], 1);
    let effects = primary.machine.step(at(10), members(&[voter(1), voter(3), witness(1).voter]));
    assert_eq!(left_out(&effects), [(voter(1), Leave::Removed), (witness(1).voter, Leave::Removed)]);
    assert_eq!(handed_over(&effects), None);
    let effects = serve_next(&mut primary, view(2, 3, &[2, 3], 0));
    assert_eq!(handed_over(&effects), Some((NodeId(2), Some(Leave::Removed))), "as soon as it serves");
}

#[test]
fn r25_nobody_leaves_when_too_few_would_stay() {
    let mut primary = primary_of(&[1, 2, 3], 2);
    let effects = primary.machine.step(at(10), members(&[voter(1), voter(2)]));
    assert_eq!(left_out(&effects), [(voter(1), Leave::Removed)], "one can be spared");
    let effects = serve_next(&mut primary, view(2, 3, &[2, 3], 1));
    assert!(left_out(&effects).is_empty(), "the other waits until somebody has joined");
    let effects = serve_next(&mut primary, view(3, 3, &[2, 3, 4], 1));
    assert_eq!(left_out(&effects), [(voter(2), Leave::Removed)]);
}

#[test]
fn r25_a_removed_primary_stays_while_too_few_would_be_left() {
    let mut primary = primary_of(&[2, 3], 2);
    assert_eq!(handed_over(&primary.machine.step(at(10), members(&[voter(3)]))), None);
    let effects = serve_next(&mut primary, view(2, 3, &[2, 3, 4], 1));
    assert_eq!(handed_over(&effects), Some((NodeId(4), Some(Leave::Removed))), "once somebody has joined");
}

#[test]
fn r25_who_holds_nothing_of_the_view_may_be_removed_however_few_hold_it() {
    assert_eq!(answer(&remove(&mut primary_of(&[3], 2), 1, voter(1))), None, "one that is offline already");
    assert_eq!(answer(&remove(&mut primary_of(&[2, 3], 3), 1, witness(1).voter)), None, "a witness");
}

#[test]
fn r25_the_next_primary_finishes_what_the_last_one_began() {
    let mut machine = Coordinator::new(&setup(&node(3)));
    let _ = machine.step(at(0), members(&[voter(2)]));
    let mut primary = Primary::leading(machine, view(2, 3, &[2, 3], 0), Vec::new(), (Index(0), Hash::default()));
    assert_eq!(left_out(&primary.complete()), [(voter(2), Leave::Removed)]);
    let entry = Entry::new(Index(1), Hash::default(), Batch::Remove(voter(2)));
    let tail = vec![Arc::new(entry)];
    let view = view(3, 3, &[2, 3], 0);
    let mut primary = Primary::leading(Coordinator::new(&setup(&node(3))), view, tail, (Index(0), Hash::default()));
    let _ = primary.machine.step(at(5), remove_input(voter(2)));
    let mut effects = primary.complete();
    effects.append(primary.complete());
    let told = answers(&effects);
    assert_eq!(
        told,
        [(RequestId(7), Answer::Operator(OperatorAnswer::Removed))],
        "asked again, it waits with the first"
    );
}

fn remove_input(voter: Voter) -> Input {
    Input::Operator { request: RequestId(7), call: OperatorCall::Remove { voter } }
}

#[test]
fn r25_a_deposed_primary_does_not_know() {
    let mut primary = primary_of(&[1, 2, 3], 1);
    let _ = remove(&mut primary, 1, voter(1));
    let effects = primary.machine.step(at(20), Input::ViewChanged(Arc::new(view(2, 2, &[1, 2], 0))));
    assert_eq!(answers(&effects), [(RequestId(1), Answer::Failed(OperationError::OutcomeUnknown))]);
    let effects = remove(&mut primary, 2, voter(1));
    assert!(matches!(answer(&effects), Some(Answer::Failed(OperationError::NotPrimary { .. }))));
}

#[test]
fn r25_r18_a_hand_over_drops_a_removal_that_waits_for_its_lock() {
    let mut primary = primary_of(&[1, 2, 3], 1);
    let _ = remove(&mut primary, 1, voter(1));
    let effects = primary.machine.step(at(11), Input::HandOver { to: None });
    assert_eq!(handed_over(&effects), Some((NodeId(2), Some(Leave::Stops))), "a join may hold the store");
    let failed = Input::CampaignFailed { view: ViewNumber(1), no_quorum: false, reason: "outbid".into() };
    let _ = primary.machine.step(at(20), failed);
    assert_eq!(primary.flight().1.batch, Batch::Remove(voter(1)), "and is taken up again when that fails");
}

#[test]
fn r26_a_drained_primary_hands_over_and_a_drained_replica_is_let_go() {
    let mut primary = primary_of(&[1, 2, 3], 1);
    let asks = |n: u32, view: u64| Input::LetMeGo { from: node(n), view: ViewNumber(view) };
    assert!(left_out(&primary.machine.step(at(10), asks(1, 9))).is_empty(), "of another view");
    assert!(left_out(&primary.machine.step(at(10), asks(4, 1))).is_empty(), "not a replica");
    assert_eq!(left_out(&primary.machine.step(at(10), asks(1, 1))), [(voter(1), Leave::Drained)]);
    assert!(left_out(&primary.machine.step(at(10), asks(1, 1))).is_empty(), "asked for already");
    let too_few = answer(&drain(&mut primary_of(&[1, 3], 2), true));
    assert_eq!(too_few, refused(OperatorRefusal::TooFew { voter: voter(3), left: 1, needed: 2 }));
    let last = answer(&drain(&mut primary_of(&[3], 1), true));
    assert_eq!(last, refused(OperatorRefusal::LastCopy { voter: voter(3) }));

    let mut primary = primary_of(&[1, 2, 3], 1);
    let effects = drain(&mut primary, true);
    assert_eq!(answer(&effects), Some(Answer::Operator(OperatorAnswer::Draining)));
    assert!(notes(&effects).contains(&Note::Draining { on: true }));
    assert_eq!(handed_over(&effects), Some((NodeId(2), Some(Leave::Drained))));
    let effects = drain(&mut primary, false);
    assert!(notes(&effects).contains(&Note::Draining { on: false }));
    assert_eq!(answer(&effects), Some(Answer::Operator(OperatorAnswer::DrainEnded)));
}

#[test]
fn r26_who_stopped_leading_while_it_handed_over_asks_for_no_tick() {
    let mut primary = primary_of(&[1, 2, 3], 1);
    let _ = drain(&mut primary, true);
    let failed = Input::CampaignFailed { view: ViewNumber(1), no_quorum: true, reason: "no quorum".into() };
    let _ = primary.machine.step(at(20), failed);
    let due = primary.machine.deadline().unwrap_or(Millis(0));
    let _ = primary.machine.tick(at(due.0 + 60_000));
    assert_eq!(primary.machine.deadline(), None);
}

#[test]
fn r26_a_witness_needs_no_drain() {
    let mut machine = Coordinator::new(&setup(&witness(1)));
    let call = OperatorCall::Drain { on: true };
    let effects = machine.step(at(0), Input::Operator { request: RequestId(1), call });
    assert_eq!(answer(&effects), refused(OperatorRefusal::HoldsNothing { voter: witness(1).voter }));
}

#[test]
fn r25_what_an_earlier_primary_removed_meanwhile_is_answered_without_an_entry() {
    let machine = Coordinator::new(&setup(&node(3)));
    let mut primary = Primary::leading(machine, view(1, 3, &[2, 3], 0), Vec::new(), (Index(0), Hash::default()));
    let _ = primary.machine.step(at(1), members(&[]));
    assert_eq!(answer(&remove(&mut primary, 1, voter(2))), None, "it does not serve yet");
    let _ = primary.machine.step(at(2), members(&[voter(2)]));
    let mut effects = Effects::none();
    while primary.machine.flight.is_some() {
        let is_removal = matches!(primary.flight().1.batch, Batch::Remove(_));
        assert!(!is_removal, "it is in the log already");
        effects.append(primary.complete());
    }
    assert_eq!(answer(&effects), Some(Answer::Operator(OperatorAnswer::Removed)));
}

#[test]
fn r26_a_drained_replica_that_is_still_listed_is_seen_off_again() {
    let mut primary = primary_of(&[1, 2, 3], 1);
    let _ = primary.machine.step(at(10), Input::LetMeGo { from: node(1), view: ViewNumber(1) });
    let again = primary.machine.leaving.deadline().expect("it is seen to");
    assert!(left_out(&primary.machine.tick(at(again.0 - 1))).is_empty());
    assert_eq!(left_out(&primary.machine.tick(at(again.0))), [(voter(1), Leave::Drained)]);
}

#[test]
fn r26_a_drain_can_always_be_ended() {
    let ended = answer(&drain(&mut primary_of(&[3], 1), false));
    assert_eq!(ended, Some(Answer::Operator(OperatorAnswer::DrainEnded)), "also by the last copy");
}

#[test]
fn r25_a_drained_node_that_is_out_of_the_view_is_told_that_it_was_removed() {
    let mut primary = primary_of(&[2, 3], 1);
    let _ = primary.machine.step(at(10), members(&[voter(1)]));
    let mut asks = |n: u32| {
        let effects = primary.machine.step(at(11), Input::LetMeGo { from: node(n), view: ViewNumber(1) });
        letters(&effects, &node(n))
    };
    assert_eq!(asks(1), [PeerMessage::Removed { incarnation: node(1).incarnation }]);
    assert!(asks(4).is_empty());
}

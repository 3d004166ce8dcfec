//! at the candidate.

use super::*;
use crate::change::{Fault, Leave};
use crate::testing::{all_letters, at, node, notes, observed, setup, suspicion, view, witness};

/// Node 3 in view 1 of {1, 2, 3} and w1, w2.
fn machine() -> Campaign {
    let mut campaign = Campaign::new(&setup(&node(3)));
    let _ = campaign.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[1, 2, 3], 2))));
    campaign
}

const V1: ViewNumber = ViewNumber(1);

fn stand(campaign: &mut Campaign) -> Effects {
    campaign.step(at(0), Input::Campaign { view: V1, suspicion: Some(suspicion()) })
}

fn set_offline(campaign: &mut Campaign, who: u32) -> Effects {
    let reasons = vec![Reason::SetOffline { voter: node(who).voter, fault: Fault::Storage }];
    campaign.step(at(0), Input::SetOffline { view: V1, reasons })
}

fn trial_answer(campaign: &mut Campaign, from: &Peer, willing: bool) -> Effects {
    let number = campaign.campaigns;
    let (from, sign) = (from.clone(), willing.then_some(Sign::Reset));
    campaign.step(at(1), Input::TrialAnswer { from, view: V1, campaign: number, willing, promised: None, sign })
}

fn promised(campaign: &mut Campaign, from: &Peer, accepted: Option<(Ballot, View)>) -> Effects {
    let ballot = campaign.run.as_ref().expect("a campaign").ballot;
    let answer = BallotAnswer::Yes(accepted);
    campaign.step(at(1), Input::Promised { from: from.clone(), view: V1, ballot, answer })
}

fn accepted(campaign: &mut Campaign, from: &Peer) -> Effects {
    let ballot = campaign.run.as_ref().expect("a campaign").ballot;
    campaign.step(at(1), Input::Accepted { from: from.clone(), view: V1, ballot, answer: BallotAnswer::Yes(None) })
}

fn addressed(effects: &Effects) -> Vec<String> {
    all_letters(effects).into_iter().map(|(to, _)| to).collect()
}

fn proposal(effects: &Effects) -> View {
    let letter = |(_, message)| match message {
        PeerMessage::Accept { proposal, .. } => Some(proposal),
        _ => None,
    };
    all_letters(effects).into_iter().find_map(letter).expect("a proposal")
}

/// A primary's campaign until its own promise is durable: the promises of the others are asked for.
fn primary_gathers(campaign: &mut Campaign, who: u32) -> Effects {
    assert_eq!(addressed(&set_offline(campaign, who)), ["3"], "a primary asks only itself for leave");
    let own = trial_answer(campaign, &node(3), true);
    assert_eq!(addressed(&own), ["3"], "its own promise is durable first");
    promised(campaign, &node(3), None)
}

#[test]
fn r13_a_trial_that_nobody_supports_changes_nothing() {
    let mut campaign = machine();
    assert_eq!(addressed(&stand(&mut campaign)), ["1", "2", "3", "w1", "w2"]);
    for from in [node(1), node(2), witness(1), witness(2)] {
        assert!(all_letters(&trial_answer(&mut campaign, &from, false)).is_empty());
    }
    let effects = trial_answer(&mut campaign, &node(3), true);
    let [Note::CampaignFailed { no_quorum, .. }] = notes(&effects)[..] else { panic!("{effects:?}") };
    assert!(!no_quorum, "they answered: they only trust the primary");
}

#[test]
fn r12_who_stands_for_a_lower_node_and_suspects_nobody_yet_can_lead_all_the_same() {
    let fails = |own: Option<Sign>| {
        let mut campaign = machine();
        let _ = stand(&mut campaign);
        for from in [node(1), node(2), witness(1), witness(2)] {
            let _ = trial_answer(&mut campaign, &from, true);
        }
        let (view, number) = (V1, campaign.campaigns);
        let own =
            Input::TrialAnswer { from: node(3), view, campaign: number, willing: false, promised: None, sign: own };
        let effects = campaign.step(at(2), own);
        let [Note::CampaignFailed { no_quorum, .. }] = notes(&effects)[..] else { panic!("{effects:?}") };
        no_quorum
    };
    assert!(!fails(None), "its own heartbeat will tell it soon");
    assert!(fails(Some(Sign::Reset)), "it suspects, and is unwilling: its history is another");
}

#[test]
fn r13_the_own_answer_to_the_trial_is_awaited_so_that_no_ballot_is_used_twice() {
    let mut campaign = machine();
    let _ = stand(&mut campaign);
    for from in [node(1), witness(1), witness(2)] {
        assert!(trial_answer(&mut campaign, &from, true).as_slice().is_empty());
    }
    let before_the_restart = Ballot { round: 8, node: NodeId(3) };
    let promised = Some(before_the_restart);
    let answer = Input::TrialAnswer { from: node(3), view: V1, campaign: 1, willing: true, promised, sign: None };
    let effects = campaign.step(at(1), answer);
    let ballot = Ballot { round: 9, node: NodeId(3) };
    assert_eq!(all_letters(&effects), [("3".to_owned(), PeerMessage::Promise { view: V1, ballot })]);
}

#[test]
fn r13_who_is_alive_is_not_left_out() {
    let mut campaign = machine();
    let effects = primary_gathers(&mut campaign, 1);
    assert_eq!(addressed(&effects), ["1", "2", "w1", "w2"]);
    for from in [witness(1), witness(2)] {
        assert!(promised(&mut campaign, &from, None).as_slice().is_empty(), "a quorum is not all");
    }
    let next = proposal(&promised(&mut campaign, &node(2), None));
    assert_eq!(next.replicas.keys().map(|id| id.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(next.number, ViewNumber(2));
    assert_eq!(next.witnesses.len(), 1, "section 3: at most one witness less than replicas");
}

#[test]
fn r13_after_gather_timeout_a_quorum_is_enough() {
    let mut campaign = machine();
    let _ = primary_gathers(&mut campaign, 1);
    let _ = promised(&mut campaign, &witness(1), None);
    let _ = promised(&mut campaign, &witness(2), None);
    let next = proposal(&campaign.tick(at(1 + setup(&node(3)).timing.gather_timeout_ms)));
    assert_eq!(next.replicas.keys().map(|id| id.0).collect::<Vec<_>>(), [3], "2 was silent");
    assert!(next.cause.to_string().ends_with("no answer from node 2"), "{}", next.cause);
}

#[test]
fn r13_an_unreachable_voter_is_not_waited_for() {
    let mut campaign = machine();
    let _ = primary_gathers(&mut campaign, 1);
    let _ = promised(&mut campaign, &witness(1), None);
    let _ = promised(&mut campaign, &node(2), None);
    let _ = proposal(&campaign.step(at(1), Input::Unreachable { address: witness(2).address }));
}

/// It would step down at once, be elected again, find the same, and so on for ever (`lockstep sim --seed 8285`).
#[test]
fn r13_who_is_to_be_set_offline_may_still_be_needed_for_the_quorum() {
    let mut campaign = machine();
    let reason = |voter| Reason::SetOffline { voter, fault: Fault::Storage };
    let others = [node(1), node(2), witness(1), witness(2)];
    let reasons = others.iter().map(|peer| reason(peer.voter.clone())).collect();
    let _ = campaign.step(at(0), Input::SetOffline { view: V1, reasons });
    let _ = trial_answer(&mut campaign, &node(3), true);
    let effects = promised(&mut campaign, &node(3), None);
    assert!(notes(&effects).is_empty(), "nobody was asked yet: {effects:?}");
    let _ = promised(&mut campaign, &others[0], None);
    let next = proposal(&promised(&mut campaign, &others[2], None));
    assert_eq!(next.replicas.keys().map(|id| id.0).collect::<Vec<_>>(), [3], "a quorum leaves them out");
}

#[test]
fn r14_the_accepted_view_of_the_highest_ballot_is_proposed() {
    let mut campaign = machine();
    let _ = primary_gathers(&mut campaign, 1);
    let ballot = |round| Ballot { round, node: NodeId(2) };
    let (old, newer) = (view(2, 2, &[1, 2], 0), view(2, 2, &[2, 3], 1));
    let _ = promised(&mut campaign, &witness(1), Some((ballot(4), newer.clone())));
    let _ = promised(&mut campaign, &witness(2), Some((ballot(3), old)));
    assert_eq!(proposal(&promised(&mut campaign, &node(2), None)), newer);
}

#[test]
fn r14_d10_it_accepts_itself_durably_before_it_asks_the_others() {
    let mut campaign = machine();
    let _ = primary_gathers(&mut campaign, 1);
    for from in [witness(1), witness(2)] {
        let _ = promised(&mut campaign, &from, None);
    }
    assert_eq!(addressed(&promised(&mut campaign, &node(2), None)), ["3"]);
    assert_eq!(addressed(&accepted(&mut campaign, &node(3))), ["1", "2", "w1", "w2"]);
    assert!(notes(&accepted(&mut campaign, &witness(1))).is_empty());
    let effects = accepted(&mut campaign, &witness(2));
    assert!(matches!(&notes(&effects)[..], [Note::Learnt { view }] if view.number == ViewNumber(2)));
    let victory = |(_, message): &(String, PeerMessage)| matches!(message, PeerMessage::Victory { .. });
    assert!(all_letters(&effects).iter().all(victory));
    assert_eq!(addressed(&effects), ["1", "2", "w1", "w2"], "who is left out hears it too");
}

#[test]
fn r14_an_acceptance_of_another_ballot_or_stranger_counts_for_nothing() {
    let mut campaign = machine();
    let _ = primary_gathers(&mut campaign, 1);
    for from in [witness(1), witness(2), node(2)] {
        let _ = promised(&mut campaign, &from, None);
    }
    let _ = accepted(&mut campaign, &node(3));
    let ballot = Ballot { round: 77, node: NodeId(3) };
    let answer = BallotAnswer::Yes(None);
    for from in [witness(1), witness(2), node(2)] {
        let late = Input::Accepted { from, view: V1, ballot, answer: answer.clone() };
        assert!(campaign.step(at(2), late).as_slice().is_empty());
    }
    for from in [node(5), Peer { incarnation: crate::ids::Incarnation(9), ..node(2) }, witness(3)] {
        assert!(accepted(&mut campaign, &from).as_slice().is_empty());
    }
}

#[test]
fn r14_outbid_a_candidate_gives_up_and_a_primary_tries_higher() {
    let mut campaign = machine();
    let _ = primary_gathers(&mut campaign, 1);
    let ballot = campaign.run.as_ref().expect("a campaign").ballot;
    let answer = BallotAnswer::Outbid(Ballot { round: 6, node: NodeId(2) });
    let effects = campaign.step(at(1), Input::Promised { from: node(2), view: V1, ballot, answer });
    assert!(effects.as_slice().is_empty());
    let again = campaign.tick(at(campaign.deadline().expect("a try").0));
    assert_eq!(addressed(&again), ["3"]);
    let _ = trial_answer(&mut campaign, &node(3), true);
    assert_eq!(campaign.run.as_ref().expect("a campaign").ballot.round, 7);
}

#[test]
fn r15_who_is_set_offline_is_left_out_even_if_it_promises() {
    let mut campaign = machine();
    let _ = primary_gathers(&mut campaign, 1);
    for from in [node(1), witness(1), witness(2)] {
        let _ = promised(&mut campaign, &from, None);
    }
    let next = proposal(&promised(&mut campaign, &node(2), None));
    assert!(!next.replicas.contains_key(&NodeId(1)));
}

#[test]
fn r17_a_hand_over_names_the_other_or_fails() {
    let mut campaign = machine();
    let _ = campaign.step(at(0), Input::HandOverNow { view: V1, to: NodeId(2), leaves: None, since: Millis(0) });
    let _ = trial_answer(&mut campaign, &node(3), true);
    for from in [node(3), node(1), witness(1), witness(2)] {
        let _ = promised(&mut campaign, &from, None);
    }
    assert_eq!(proposal(&promised(&mut campaign, &node(2), None)).primary, NodeId(2));

    let mut campaign = machine();
    let _ = campaign.step(at(0), Input::HandOverNow { view: V1, to: NodeId(2), leaves: None, since: Millis(0) });
    let _ = trial_answer(&mut campaign, &node(3), true);
    for from in [node(3), node(1), witness(1), witness(2)] {
        let _ = promised(&mut campaign, &from, None);
    }
    let effects = campaign.step(at(1), Input::Unreachable { address: node(2).address });
    assert!(matches!(notes(&effects)[..], [Note::CampaignFailed { no_quorum: false, .. }]));
}

#[test]
fn r17_who_stops_leaves_the_view_so_that_nobody_waits_for_it() {
    let mut campaign = machine();
    let _ = campaign
        .step(at(0), Input::HandOverNow { view: V1, to: NodeId(2), leaves: Some(Leave::Stops), since: Millis(0) });
    let _ = trial_answer(&mut campaign, &node(3), true);
    for from in [node(3), node(1), witness(1), witness(2)] {
        let _ = promised(&mut campaign, &from, None);
    }
    let next = proposal(&promised(&mut campaign, &node(2), None));
    assert_eq!(next.replicas.keys().map(|id| id.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((next.primary, next.witnesses.len()), (NodeId(2), 1));
}

#[test]
fn r22_a_join_counts_only_in_the_view_of_its_lock() {
    let mut campaign = machine();
    let _ = campaign.step(at(0), Input::AddReplica { view: V1, peer: node(4), locked_at: Millis(0) });
    assert!(campaign.run.is_some());
    let effects = campaign.step(at(1), Input::ViewChanged(Arc::new(view(2, 3, &[2, 3], 1))));
    assert!(effects.as_slice().is_empty() && campaign.run.is_none(), "{effects:?}");
    let effects = campaign.step(at(2), Input::AddReplica { view: V1, peer: node(4), locked_at: Millis(0) });
    assert_eq!(notes(&effects), [Note::AddFailed { view: V1, peer: node(4) }]);
}

#[test]
fn r22_d17_a_listed_id_is_not_added_again() {
    let mut campaign = machine();
    let wiped = Peer { incarnation: crate::ids::Incarnation(99), ..node(2) };
    let effects = campaign.step(at(0), Input::AddReplica { view: V1, peer: wiped.clone(), locked_at: Millis(0) });
    assert_eq!(notes(&effects), [Note::AddFailed { view: V1, peer: wiped }]);
    assert!(campaign.run.is_none());
}

#[test]
fn r22_a_join_that_comes_to_nothing_is_told_and_forgotten() {
    let mut campaign = machine();
    let _ = campaign.step(at(0), Input::AddReplica { view: V1, peer: node(4), locked_at: Millis(0) });
    let _ = trial_answer(&mut campaign, &node(3), true);
    let _ = promised(&mut campaign, &node(3), None);
    let effects = campaign.tick(at(10 * setup(&node(3)).timing.gather_timeout_ms));
    assert!(notes(&effects).contains(&Note::AddFailed { view: V1, peer: node(4) }), "{effects:?}");
    assert!(matches!(notes(&effects)[..], [_, Note::CampaignFailed { no_quorum: true, .. }]));
    let _ = primary_gathers(&mut campaign, 1);
    for from in [witness(1), witness(2)] {
        let _ = promised(&mut campaign, &from, None);
    }
    assert!(!proposal(&promised(&mut campaign, &node(2), None)).replicas.contains_key(&NodeId(4)));
}

#[test]
fn r24_a_witness_is_listed_when_there_is_room() {
    let mut campaign = machine();
    let _ = campaign.step(at(0), Input::AddWitness { view: V1, peer: witness(3) });
    assert!(campaign.run.is_none(), "two witnesses are as many as three replicas allow");
    let mut campaign = Campaign::new(&setup(&node(3)));
    let _ = campaign.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[1, 2, 3], 1))));
    let _ = campaign.step(at(0), Input::AddWitness { view: V1, peer: witness(3) });
    assert!(campaign.run.is_some());
}

/// A slow replica that had just joined was left out for it, and with it the room for the witness; both joined again, and so on
/// (`lockstep sim --liveness --seed 66497`).
#[test]
fn r24_nobody_is_left_out_for_a_witness() {
    let mut campaign = Campaign::new(&setup(&node(3)));
    let _ = campaign.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[1, 2, 3], 1))));
    let begin = |campaign: &mut Campaign| {
        let _ = campaign.step(at(0), Input::AddWitness { view: V1, peer: witness(3) });
        let _ = trial_answer(campaign, &node(3), true);
        for from in [node(3), node(2), witness(1)] {
            let _ = promised(campaign, &from, None);
        }
    };
    begin(&mut campaign);
    let late = campaign.tick(at(1 + setup(&node(3)).timing.gather_timeout_ms));
    assert!(matches!(notes(&late)[..], [Note::CampaignFailed { no_quorum: false, .. }]), "{late:?}");
    begin(&mut campaign);
    let next = proposal(&promised(&mut campaign, &node(1), None));
    assert_eq!((next.replicas.len(), next.witnesses.len()), (3, 2));
}

#[test]
fn r13_who_is_no_replica_of_the_view_never_stands() {
    let mut campaign = Campaign::new(&setup(&node(4)));
    let _ = campaign.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[1, 2, 3], 2))));
    assert!(stand(&mut campaign).as_slice().is_empty());
    assert!(set_offline(&mut campaign, 1).as_slice().is_empty());
}

#[test]
fn r14_nothing_is_begun_between_a_decision_and_its_view() {
    let mut campaign = machine();
    let _ = primary_gathers(&mut campaign, 1);
    for from in [witness(1), witness(2), node(2)] {
        let _ = promised(&mut campaign, &from, None);
    }
    let _ = accepted(&mut campaign, &node(3));
    let _ = accepted(&mut campaign, &witness(1));
    let effects = accepted(&mut campaign, &witness(2));
    assert!(matches!(notes(&effects)[..], [Note::Learnt { .. }]));
    assert!(set_offline(&mut campaign, 2).as_slice().is_empty(), "it would fail, and the primary step down");
    let effects = campaign.step(at(9), Input::ViewChanged(Arc::new(view(2, 3, &[2, 3], 1))));
    assert_eq!(addressed(&effects), ["3"], "what is still wanted goes on in the next view");
}

#[test]
fn r13_a_slow_disk_is_waited_for_as_long_as_for_a_vote() {
    let mut campaign = machine();
    let _ = primary_gathers(&mut campaign, 1);
    let timing = setup(&node(3)).timing;
    let effects = campaign.tick(at(1 + timing.gather_timeout_ms));
    assert!(notes(&effects).is_empty(), "no quorum yet, and no reason to give up: {effects:?}");
    let effects = campaign.tick(at(1 + timing.vote_timeout_ms));
    assert!(matches!(notes(&effects)[..], [Note::CampaignFailed { no_quorum: true, .. }]));
}

#[test]
fn alone_in_its_view_it_needs_nobody() {
    let mut campaign = Campaign::new(&setup(&node(3)));
    let _ = campaign.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[3], 0))));
    let _ = stand(&mut campaign);
    let _ = trial_answer(&mut campaign, &node(3), true);
    let next = proposal(&promised(&mut campaign, &node(3), None));
    assert_eq!((next.primary, next.replicas.len()), (NodeId(3), 1));
    assert!(matches!(&notes(&accepted(&mut campaign, &node(3)))[..], [Note::Learnt { view }] if *view == next));
}

#[test]
fn section_12_the_cause_lists_what_each_voter_saw_and_the_decision_who_voted() {
    let mut campaign = Campaign::new(&setup(&node(2)));
    let _ = campaign.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[1, 2, 3], 2))));
    let suspicion = Suspicion { sign: Sign::Reset, served_at: Millis(40), noticed_at: Millis(40) };
    let _ = campaign.step(at(50), Input::Campaign { view: V1, suspicion: Some(suspicion) });
    let trial = |from: Peer, ms: Option<u64>| {
        let sign = Some(ms.map_or(Sign::Reset, |ms| Sign::Silent { ms }));
        Input::TrialAnswer { from, view: V1, campaign: 1, willing: true, promised: None, sign }
    };
    let _ = campaign.step(at(60), trial(node(2), None));
    let _ = campaign.step(at(60), trial(node(1), None));
    let _ = campaign.step(at(61), trial(witness(1), Some(3_000)));
    let _ = campaign.step(at(62), trial(witness(2), None));
    let ballot = campaign.run.as_ref().expect("a campaign").ballot;
    let promise = |from| Input::Promised { from, view: V1, ballot, answer: BallotAnswer::Yes(None) };
    let _ = campaign.step(at(70), Input::Unreachable { address: node(3).address });
    let _ = campaign.step(at(70), promise(node(2)));
    let _ = campaign.step(at(70), Input::Unreachable { address: node(3).address });
    for from in [node(1), witness(1)] {
        let _ = campaign.step(at(75), promise(from));
    }
    let next = proposal(&campaign.step(at(80), promise(witness(2))));
    let seen = "connection reset, seen by 1, 2, w2; no answer for 3000 ms, seen by w1";
    assert_eq!(next.cause.to_string(), format!("node 3 died ({seen})"));
    assert_eq!((next.cause.asked_by, next.cause.at), (NodeId(2), at(40).wall), "when it was noticed");
    let accept = |from| Input::Accepted { from, view: V1, ballot, answer: BallotAnswer::Yes(None) };
    let _ = campaign.step(at(81), accept(node(2)));
    let _ = campaign.step(at(82), accept(node(1)));
    let _ = campaign.step(at(85), accept(witness(1)));
    let other = Ballot { round: 9, ..ballot };
    let of_another = Input::Accepted { from: node(3), view: V1, ballot: other, answer: BallotAnswer::Yes(None) };
    let _ = campaign.step(at(85), of_another);
    let of_the_next = Input::Accepted { from: node(3), view: V1.next(), ballot, answer: BallotAnswer::Yes(None) };
    let _ = campaign.step(at(85), of_the_next);
    let _ = campaign.step(at(85), accept(node(9)));
    let _ = campaign.step(at(86), accept(witness(2)));
    let effects = campaign.step(at(90), Input::ViewChanged(Arc::new(next)));
    let [Note::Decided { view: ViewNumber(2), decision }] = &notes(&effects)[..] else { panic!("{effects:?}") };
    let phases = [decision.suspect_ms, decision.trial_ms, decision.promise_ms, decision.accept_ms, decision.stalled_ms];
    assert_eq!(phases, [0, 21, 19, 5, 50], "till 40, 61, 80, 85; and told at 90");
    assert_eq!((decision.votes, decision.promised.len(), decision.accepted.len()), (5, 4, 4), "the late one too");
}

#[test]
fn section_12_what_an_operator_made_is_told_by_the_first_view_that_serves() {
    let mut campaign = Campaign::new(&setup(&node(3)));
    let mut made = view(1_007, 3, &[3], 0);
    let reason = Reason::Recovered { from: ViewNumber(7), made: ViewNumber(1_007) };
    made.cause = crate::change::Cause::new(crate::ids::Timestamp(1), NodeId(3), vec![reason]).into();
    let number = made.number;
    let _ = campaign.step(at(0), Input::ViewChanged(Arc::new(made)));
    let _ = campaign.step(at(0), Input::Campaign { view: number, suspicion: Some(suspicion()) });
    let sign = Some(Sign::Restarted);
    let answer = Input::TrialAnswer { from: node(3), view: number, campaign: 1, willing: true, promised: None, sign };
    let _ = campaign.step(at(1), answer);
    let ballot = campaign.run.as_ref().expect("a campaign").ballot;
    let answer = BallotAnswer::Yes(None);
    let next = proposal(&campaign.step(at(1), Input::Promised { from: node(3), view: number, ballot, answer }));
    assert_eq!(next.cause.to_string(), "an operator recovered node 3 from view 7");
    let _ = campaign.step(at(2), Input::ViewChanged(Arc::new(next.clone())));
    let _ = campaign.step(at(3), Input::Campaign { view: next.number, suspicion: Some(suspicion()) });
    let cause = campaign.goals.cause(&next, &node(3), &BTreeSet::new(), &Default::default());
    assert!(cause.to_string().starts_with("node 3 restarted"), "once: {cause}");
}

#[test]
fn r12_who_stands_already_begins_no_second_campaign_nor_one_by_itself() {
    let mut campaign = machine();
    assert!(campaign.tick(at(100_000)).as_slice().is_empty());
    let _ = stand(&mut campaign);
    assert!(stand(&mut campaign).as_slice().is_empty());
    assert_eq!(campaign.campaigns, 1);
}

#[test]
fn section_11_what_a_campaign_asks_is_asked_again_of_those_who_have_not_answered() {
    let mut campaign = machine();
    let _ = stand(&mut campaign);
    let _ = trial_answer(&mut campaign, &node(1), true);
    let due = campaign.deadline().expect("letters are lost").0;
    assert!(campaign.tick(at(due - 1)).as_slice().is_empty());
    assert_eq!(addressed(&campaign.tick(at(due))), ["2", "3", "w1", "w2"]);
    assert!(campaign.tick(at(due)).as_slice().is_empty(), "once each time");
}

#[test]
fn r24_where_there_is_room_for_one_witness_the_one_that_is_listed_stays() {
    let mut known = view(1, 3, &[1, 2, 3], 2);
    known.witnesses.remove(&crate::ids::WitnessName::new("w1"));
    let mut campaign = Campaign::new(&setup(&node(3)));
    let _ = campaign.step(at(0), Input::ViewChanged(Arc::new(known)));
    let _ = campaign.step(at(0), Input::AddWitness { view: V1, peer: witness(1) });
    let _ = set_offline(&mut campaign, 1);
    let _ = trial_answer(&mut campaign, &node(3), true);
    let mut effects = promised(&mut campaign, &node(3), None);
    for from in [node(2), witness(2)] {
        effects.append(promised(&mut campaign, &from, None));
    }
    let listed: Vec<String> = proposal(&effects).witnesses.keys().map(ToString::to_string).collect();
    assert_eq!(listed, ["w2"]);
}

#[test]
fn r15_who_is_still_listed_is_set_offline_in_the_next_view_for_the_first_fault_told() {
    let mut campaign = machine();
    let _ = set_offline(&mut campaign, 1);
    let voter = node(1).voter;
    let again = Reason::SetOffline { voter: voter.clone(), fault: Fault::Reset };
    let _ = campaign.step(at(0), Input::SetOffline { view: V1, reasons: vec![again] });
    let next = view(2, 3, &[1, 2, 3], 2);
    assert_eq!(addressed(&campaign.step(at(1), Input::ViewChanged(Arc::new(next.clone())))), ["3"]);
    let cause = campaign.goals.cause(&next, &node(3), &BTreeSet::new(), &Default::default());
    assert_eq!(cause.reasons, [Reason::SetOffline { voter, fault: Fault::Storage }]);
}

#[test]
fn r15_what_a_primary_wanted_ends_with_its_lead() {
    let mut campaign = machine();
    let _ = set_offline(&mut campaign, 1);
    let effects = campaign.step(at(1), Input::ViewChanged(Arc::new(view(2, 2, &[1, 2, 3], 2))));
    assert!(effects.as_slice().is_empty() && campaign.run.is_none(), "{effects:?}");
}

#[test]
fn section_12_a_candidate_says_what_it_waits_for() {
    let waits = |campaign: &Campaign| observed(|status| campaign.observe(status)).waiting_for;
    let mut campaign = machine();
    assert_eq!(waits(&campaign), "");
    let _ = stand(&mut campaign);
    assert_eq!(waits(&campaign), "a quorum for the next view");
}

//! R-12, its five rules.

use super::*;
use crate::testing::{all_letters, at, letters, node, notes, observed, setup, view, witness};

const V1: ViewNumber = ViewNumber(1);

/// Node `id` in view 1 of {1, 2, 3, 4}, whose primary is 4.
fn machine(id: u32) -> Election {
    let mut election = Election::new(&setup(&node(id)));
    let _ = election.step(at(0), Input::ViewChanged(Arc::new(view(1, 4, &[1, 2, 3, 4], 0))));
    election
}

fn suspect(election: &mut Election) -> Effects {
    election.step(at(1), Input::Suspected { view: V1, suspicion: crate::testing::suspicion() })
}

fn campaigns(effects: &Effects) -> bool {
    notes(effects).iter().any(|note| matches!(note, Note::Campaign { view: V1, .. }))
}

fn alive(from: u32, can_lead: bool) -> Input {
    Input::Alive { from: node(from), view: V1, can_lead }
}

#[test]
fn r12_1_every_higher_replica_is_asked() {
    let mut election = machine(2);
    let asked: Vec<String> = all_letters(&suspect(&mut election)).into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, ["3", "4"]);
}

#[test]
fn r12_2_without_an_answer_it_has_won() {
    let mut election = machine(2);
    let _ = suspect(&mut election);
    let answer_timeout = setup(&node(2)).timing.election_answer_timeout_ms;
    assert!(!campaigns(&election.tick(at(answer_timeout))));
    assert!(campaigns(&election.tick(at(1 + answer_timeout))));
}

#[test]
fn r12_2_r11_processes_that_are_gone_are_not_waited_for() {
    let mut election = machine(2);
    let _ = suspect(&mut election);
    assert!(!campaigns(&election.step(at(2), Input::Unreachable { address: node(4).address })));
    assert!(campaigns(&election.step(at(2), Input::Unreachable { address: node(3).address })));
}

#[test]
fn r12_2_the_highest_stands_at_once() {
    let mut election = Election::new(&setup(&node(4)));
    let _ = election.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[1, 2, 3, 4], 0))));
    assert!(campaigns(&suspect(&mut election)));
}

#[test]
fn r12_3_an_alive_is_given_time_for_its_victory() {
    let mut election = machine(2);
    let _ = suspect(&mut election);
    assert!(election.step(at(2), alive(3, true)).as_slice().is_empty());
    let until = 2 + setup(&node(2)).timing.election_victory_timeout_ms;
    assert_eq!(election.deadline(), Some(Millis(until)));
    let again = election.tick(at(until));
    assert_eq!(letters(&again, &node(3)).len(), 1, "then it begins again");
}

#[test]
fn r12_4_a_lower_one_gets_alive_and_an_election_begins() {
    let mut election = machine(3);
    let from_lower = Input::Election { from: node(1), view: view(1, 4, &[1, 2, 3, 4], 0) };
    let effects = election.step(at(1), from_lower.clone());
    assert_eq!(letters(&effects, &node(1)), [PeerMessage::Alive { view: V1, can_lead: true }]);
    assert_eq!(letters(&effects, &node(4)).len(), 1);
    let _ = election.step(at(1), Input::ViewChanged(Arc::new(view(2, 3, &[1, 2, 3], 0))));
    let _ = election.step(at(1), Input::Serving { view: ViewNumber(2) });
    let known = view(2, 3, &[1, 2, 3], 0);
    let effects = election.step(at(2), Input::Election { from: node(1), view: known.clone() });
    assert_eq!(
        all_letters(&effects),
        [("1".to_owned(), PeerMessage::Victory { view: known, decision: None })],
        "it serves"
    );
}

fn stands_back_ms() -> u64 {
    let timing = setup(&node(3)).timing;
    timing.heartbeat_interval_ms + timing.election_retry_ms
}

#[test]
fn r12_4_d12_who_reached_no_quorum_cannot_lead_for_a_while() {
    let mut election = machine(3);
    let _ = suspect(&mut election);
    let failed = Input::CampaignFailed { view: V1, no_quorum: true, reason: String::new() };
    let _ = election.step(at(10), failed);
    let can_lead = |election: &mut Election, ms| {
        let effects = election.step(at(ms), Input::Election { from: node(1), view: view(1, 4, &[1, 2, 3, 4], 0) });
        matches!(letters(&effects, &node(1))[..], [PeerMessage::Alive { can_lead: true, .. }])
    };
    assert!(!can_lead(&mut election, 11));
    assert!(!can_lead(&mut election, 9 + stands_back_ms()));
    assert!(can_lead(&mut election, 10 + stands_back_ms()));
}

#[test]
fn r12_4_answers_of_nodes_that_cannot_lead_do_not_block() {
    let mut election = machine(2);
    let _ = suspect(&mut election);
    assert!(!campaigns(&election.step(at(2), alive(3, false))));
    assert!(campaigns(&election.step(at(2), alive(4, false))));
}

#[test]
fn r12_5_d13_a_higher_one_takes_over_only_when_it_reaches_everyone_and_once_per_backoff() {
    let mut election = Election::new(&setup(&node(3)));
    let _ = election.step(at(0), Input::ViewChanged(Arc::new(view(1, 2, &[1, 2, 3], 1))));
    let timing = setup(&node(3)).timing;
    let due = timing.election_victory_timeout_ms;
    let asked: Vec<String> = all_letters(&election.tick(at(due))).into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, ["1", "2", "w1"]);
    let reached = |from| Input::Reached { from, view: V1 };
    assert!(election.step(at(due), reached(node(2))).as_slice().is_empty(), "1 is not reached");
    assert!(election.step(at(due), reached(node(1))).as_slice().is_empty(), "nor is w1, whom it would set offline");
    let effects = election.step(at(due), reached(witness(1)));
    assert_eq!(letters(&effects, &node(2)), [PeerMessage::TakeOver { view: V1 }]);
    assert!(election.step(at(due), reached(node(1))).as_slice().is_empty());
    assert_eq!(election.deadline(), Some(Millis(due + timing.takeover_backoff_ms)));
}

#[test]
fn r12_a_node_outside_the_view_neither_stands_nor_answers() {
    let mut election = Election::new(&setup(&node(5)));
    let _ = election.step(at(0), Input::ViewChanged(Arc::new(view(1, 4, &[1, 2, 3, 4], 0))));
    assert!(suspect(&mut election).as_slice().is_empty());
    let from_lower = Input::Election { from: node(1), view: view(1, 4, &[1, 2, 3, 4], 0) };
    assert!(election.step(at(1), from_lower).as_slice().is_empty());
}

#[test]
fn r14_failed_campaigns_wait_at_random_and_longer_each_time() {
    let mut election = machine(4);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let failed = Input::CampaignFailed { view: V1, no_quorum: false, reason: String::new() };
        let _ = election.step(at(0), failed);
        waits.push(election.deadline().expect("it rests").0);
    }
    let retry = setup(&node(4)).timing.election_retry_ms;
    assert!(waits[0] <= retry / 16 && waits[5] > retry / 4 && waits.iter().all(|wait| *wait <= retry), "{waits:?}");
}

#[test]
fn r12_4_a_primary_that_still_finishes_its_log_does_not_campaign_against_itself() {
    let mut election = Election::new(&setup(&node(3)));
    let known = view(1, 3, &[1, 2, 3], 0);
    let _ = election.step(at(0), Input::ViewChanged(Arc::new(known.clone())));
    let effects = election.step(at(1), Input::Election { from: node(1), view: known.clone() });
    assert_eq!(all_letters(&effects), [("1".to_owned(), PeerMessage::Victory { view: known, decision: None })]);
    assert!(notes(&effects).is_empty());
}

#[test]
fn r12_4_who_had_to_step_down_lets_others_stand_first() {
    let mut election = Election::new(&setup(&node(3)));
    let _ = election.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[1, 2, 3], 0))));
    let _ = election.step(at(10), Input::NotServing { view: V1, can_lead: false });
    assert!(!campaigns(&suspect(&mut election)), "it would win, and step down again, for ever");
    let again = election.deadline().expect("it rests");
    assert_eq!(
        again,
        Millis(10 + stands_back_ms()),
        "the others hear of it with their next beat, and then have their time"
    );
    assert!(campaigns(&election.tick(at(again.0))), "but not for ever: it may be the last one");
}

#[test]
fn trust_ends_an_election() {
    let mut election = machine(2);
    let _ = suspect(&mut election);
    let _ = election.step(at(2), Input::Trusted { view: V1 });
    assert!(!campaigns(&election.tick(at(100_000))));
}

#[test]
fn r12_a_victory_of_another_view_or_of_a_stranger_changes_nothing() {
    let victory = |from: u32, number: u64| {
        let mut election = machine(2);
        let _ = suspect(&mut election);
        let heard = Input::Victory { from: node(from), view: view(number, from, &[1, 2, 3, 4], 0) };
        let _ = election.step(at(2), heard);
        matches!(election.phase, Phase::Resting { .. })
    };
    assert!(victory(4, 1), "its primary leads after all");
    assert!(!victory(4, 2), "of a view that is not in force here");
    assert!(!victory(3, 1), "not the primary");
}

#[test]
fn r12_5_d13_only_voters_of_the_view_that_say_the_same_view_are_reached() {
    let mut election = Election::new(&setup(&node(3)));
    let _ = election.step(at(0), Input::ViewChanged(Arc::new(view(1, 2, &[1, 2, 3], 0))));
    let due = setup(&node(3)).timing.election_victory_timeout_ms;
    let _ = election.tick(at(due));
    let mut reached = |from, view| election.step(at(due), Input::Reached { from, view });
    assert!(reached(node(1), V1).as_slice().is_empty());
    assert!(reached(node(2), ViewNumber(2)).as_slice().is_empty(), "it knows of another view");
    let wiped = Peer { incarnation: node(2).incarnation.next(), ..node(2) };
    assert!(reached(wiped, V1).as_slice().is_empty(), "another disk");
    assert!(!reached(node(2), V1).as_slice().is_empty());
}

#[test]
fn section_12_a_replica_without_a_primary_says_what_it_waits_for() {
    let waits = |election: &Election| observed(|status| election.observe(status)).waiting_for;
    let mut election = machine(2);
    assert_eq!(waits(&election), "");
    let _ = suspect(&mut election);
    assert!(waits(&election).starts_with("a primary: the last one is suspected"), "{}", waits(&election));
    let mut told = NodeStatus { waiting_for: "something else".into(), ..NodeStatus::default() };
    election.observe(&mut told);
    assert_eq!(told.waiting_for, "something else");
}

#[test]
fn r12_whoever_campaigns_waits_for_an_end_and_begins_again() {
    let mut election = Election::new(&setup(&node(4)));
    let _ = election.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[1, 2, 3, 4], 0))));
    let effects = suspect(&mut election);
    let is_told = |effect: &crate::machine::Effect| matches!(effect, crate::machine::Effect::Announce(_));
    assert!(campaigns(&effects) && effects.as_slice().iter().any(is_told), "{effects:?}");
    let timing = setup(&node(4)).timing;
    let patience_ms = timing.vote_timeout_ms * 2 + timing.gather_timeout_ms * 3;
    assert!(!campaigns(&election.tick(at(patience_ms))));
    assert!(campaigns(&election.tick(at(1 + patience_ms))));
}

#[test]
fn r12_a_suspicion_of_another_view_or_of_oneself_begins_nothing() {
    let mut election = machine(2);
    let other = Input::Suspected { view: ViewNumber(9), suspicion: crate::testing::suspicion() };
    assert!(election.step(at(1), other).as_slice().is_empty());
    let mut primary = machine(4);
    assert!(suspect(&mut primary).as_slice().is_empty());
}

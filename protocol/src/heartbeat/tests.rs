//!

use super::*;
use crate::ids::ViewNumber;
use crate::testing::{all_letters, at, letters, node, notes, observed, setup, view, witness};

const V1: ViewNumber = ViewNumber(1);

fn machine(me: &Peer) -> (Heartbeats, Effects) {
    let mut heartbeats = Heartbeats::new(&setup(me));
    let effects = heartbeats.step(at(0), Input::ViewChanged(Arc::new(view(1, 3, &[1, 2, 3], 1))));
    (heartbeats, effects)
}

fn answer(beat: u64, leads: bool) -> Input {
    let serving = leads.then_some((Index(4), Hash([4; 32])));
    Input::HeartbeatAnswer { from: node(3), view: V1, beat, serving }
}

fn suspicion(effects: &Effects) -> bool {
    notes(effects).iter().any(|note| matches!(note, Note::Suspected { view: V1, .. }))
}

#[test]
fn r11_replicas_and_witnesses_beat_and_watch_from_the_view_on() {
    for me in [node(1), witness(1)] {
        let (mut heartbeats, effects) = machine(&me);
        assert!(matches!(letters(&effects, &node(3))[..], [PeerMessage::Heartbeat { beat: 1, .. }]));
        assert!(effects.as_slice().contains(&Effect::Watch(Some(node(3).address))));
        let interval = setup(&me).timing.heartbeat_interval_ms;
        let next = heartbeats.tick(at(interval));
        assert!(matches!(letters(&next, &node(3))[..], [PeerMessage::Heartbeat { beat: 2, .. }]));
        assert!(all_letters(&heartbeats.tick(at(interval + 1))).is_empty(), "once an interval");
    }
    let (mut primary, effects) = machine(&node(3));
    assert!(all_letters(&effects).is_empty() && effects.as_slice().contains(&Effect::Watch(None)));
    assert!(all_letters(&primary.tick(at(setup(&node(3)).timing.heartbeat_interval_ms))).is_empty());
}

#[test]
fn r11_silence_is_suspected_after_the_timeout_and_trust_comes_back() {
    let (mut heartbeats, _) = machine(&node(1));
    let _ = heartbeats.step(at(100), answer(1, true));
    let timeout = setup(&node(1)).timing.heartbeat_timeout_ms;
    assert!(!suspicion(&heartbeats.tick(at(99 + timeout))));
    assert!(suspicion(&heartbeats.tick(at(100 + timeout))));
    assert!(!suspicion(&heartbeats.tick(at(101 + timeout))), "once");
    let effects = heartbeats.step(at(102 + timeout), answer(2, true));
    assert!(notes(&effects).contains(&Note::Trusted { view: V1 }));
}

#[test]
fn r11_a_late_copy_of_an_answer_renews_no_trust() {
    let (mut heartbeats, _) = machine(&node(1));
    let timeout = setup(&node(1)).timing.heartbeat_timeout_ms;
    let _ = heartbeats.step(at(10), answer(1, true));
    let _ = heartbeats.step(at(timeout), answer(1, true));
    assert!(suspicion(&heartbeats.tick(at(10 + timeout))), "a copy came before the timeout");
    assert!(notes(&heartbeats.step(at(11 + timeout), answer(1, true))).is_empty(), "another one after it");
    let (mut heartbeats, _) = machine(&node(1));
    assert!(suspicion(&heartbeats.tick(at(timeout))));
    assert!(
        notes(&heartbeats.step(at(timeout), answer(1, true))).is_empty(),
        "the only answer, and later than the timeout"
    );
}

#[test]
fn r11_a_dead_process_is_noticed_at_once() {
    for input in [Input::WatchEnded { address: node(3).address }, Input::Unreachable { address: node(3).address }] {
        let (mut heartbeats, _) = machine(&node(1));
        assert!(suspicion(&heartbeats.step(at(5), input)));
    }
    let (mut heartbeats, _) = machine(&node(1));
    assert!(!suspicion(&heartbeats.step(at(5), Input::Unreachable { address: node(2).address })));
}

#[test]
fn r10_d12_not_primary_is_a_suspicion() {
    let (mut heartbeats, _) = machine(&node(1));
    assert!(suspicion(&heartbeats.step(at(5), answer(1, false))));
}

#[test]
fn r10_who_leads_no_more_answers_not_primary_and_suspects_itself() {
    let (mut heartbeats, _) = machine(&node(3));
    let beat = || Input::Heartbeat {
        from: node(1),
        view: V1,
        beat: 7,
        log_end: Index(1),
        commit_index: Index(1),
        hash: Hash::default(),
        is_answered: true,
    };
    let leads = |effects: &Effects| {
        matches!(letters(effects, &node(1))[..], [PeerMessage::HeartbeatAnswer { beat: 7, serving: Some(_), .. }])
    };
    assert!(leads(&heartbeats.step(at(1), beat())), "from the view's beginning on");
    assert!(suspicion(&heartbeats.step(at(2), Input::NotServing { view: V1 })));
    assert!(!leads(&heartbeats.step(at(3), beat())));
}

#[test]
fn r11_the_answer_tells_what_is_committed() {
    let (mut heartbeats, _) = machine(&node(1));
    let effects = heartbeats.step(at(1), answer(1, true));
    assert_eq!(notes(&effects), [Note::CommitSeen { index: Index(4), hash: Hash([4; 32]) }]);
    assert!(heartbeats.step(at(1), answer(9, true)).as_slice().is_empty(), "an answer to a beat that was never sent");
}

#[test]
fn r11_the_primary_reports_who_is_silent() {
    let (mut heartbeats, _) = machine(&node(3));
    let timeout = setup(&node(3)).timing.heartbeat_timeout_ms;
    for from in [node(1), witness(1)] {
        let (commit_index, hash) = (Index(0), Hash::default());
        let log_end = Index(0);
        let beat = Input::Heartbeat { from, view: V1, beat: 1, log_end, commit_index, hash, is_answered: true };
        let _ = heartbeats.step(at(10), beat);
    }
    let effects = heartbeats.tick(at(timeout));
    assert!(matches!(&notes(&effects)[..], [Note::Silent { voter, .. }] if *voter == node(2).voter), "{effects:?}");
}

#[test]
fn r11_one_that_hears_no_answer_is_set_offline_however_often_it_speaks() {
    let (mut deaf, _) = machine(&witness(1));
    let (mut primary, _) = machine(&node(3));
    let Timing { heartbeat_interval_ms: interval, heartbeat_timeout_ms: timeout, .. } = setup(&node(3)).timing;
    let mut silent = Vec::new();
    for now in (interval..=3 * timeout).step_by(usize::try_from(interval).expect("small")) {
        for letter in letters(&deaf.tick(at(now)), &node(3)) {
            let PeerMessage::Heartbeat { view, beat, log_end, commit_index, hash, is_answered } = letter else {
                continue;
            };
            let from = witness(1);
            let beat = Input::Heartbeat { from, view, beat, log_end, commit_index, hash, is_answered };
            let _lost = primary.step(at(now), beat);
        }
        silent.extend(notes(&primary.tick(at(now))));
    }
    let is_it = |note: &Note| matches!(note, Note::Silent { voter, .. } if *voter == witness(1).voter);
    assert!(silent.iter().any(is_it), "{silent:?}");
}

#[test]
fn r24_a_witness_that_is_not_listed_asks_to_be_and_the_primary_passes_it_on() {
    let (mut heartbeats, effects) = machine(&witness(2));
    let [PeerMessage::Heartbeat { view, beat, .. }] = letters(&effects, &node(3))[..] else { panic!("{effects:?}") };
    let (mut primary, _) = machine(&node(3));
    let serving = Some((Index(0), Hash::default()));
    let answer = Input::HeartbeatAnswer { from: node(3), view, beat, serving };
    let effects = heartbeats.step(at(1), answer);
    assert_eq!(letters(&effects, &node(3)), [PeerMessage::ListMe { view: V1 }]);
    assert!(!suspicion(&heartbeats.tick(at(100_000))), "who does not vote suspects nobody");
    let effects = primary.step(at(1), Input::ListMe { from: witness(2), view: V1 });
    assert_eq!(notes(&effects), [Note::AddWitness { view: V1, peer: witness(2) }]);
    assert!(notes(&primary.step(at(1), Input::ListMe { from: witness(1), view: V1 })).is_empty(), "it is listed");
    let behind = Input::ListMe { from: witness(2), view: ViewNumber(0) };
    assert!(notes(&primary.step(at(1), behind)).is_empty(), "it does not keep up with views");
}

/// It hears of views from others. Two such witnesses were listed and set offline in turn, for ever (`lockstep sim --liveness
/// --seed 5626`).
#[test]
fn r24_a_witness_that_the_primary_never_answers_does_not_ask_to_be_listed() {
    let (mut heartbeats, _) = machine(&witness(2));
    let interval_ms = setup(&node(3)).timing.heartbeat_interval_ms;
    for (beats, number) in (1..20).zip(2..) {
        let now = at(beats * interval_ms);
        let known = Input::ViewChanged(Arc::new(view(number, 3, &[1, 2, 3], 1)));
        let mut effects = heartbeats.step(now, known);
        effects.append(heartbeats.tick(now));
        let letters = letters(&effects, &node(3));
        assert!(matches!(letters[0], PeerMessage::Heartbeat { .. }));
        assert!(!letters.iter().any(|letter| matches!(letter, PeerMessage::ListMe { .. })), "{letters:?}");
    }
}

#[test]
fn who_has_lost_its_primary_asks_around_for_the_view() {
    let (mut heartbeats, _) = machine(&node(1));
    let effects = heartbeats.step(at(5), Input::WatchEnded { address: node(3).address });
    assert!(all_letters(&effects).iter().any(|(_, message)| *message == PeerMessage::AskView), "{effects:?}");
}

#[test]
fn section_12_a_silence_lasts_through_views_whose_primary_never_answered() {
    let (mut heartbeats, _) = machine(&node(1));
    let _ = heartbeats.step(at(100), answer(1, true));
    let timeout = setup(&node(1)).timing.heartbeat_timeout_ms;
    let told = |effects: &Effects| {
        let suspicion = |note: &Note| match note {
            Note::Suspected { suspicion, .. } => Some((suspicion.sign, suspicion.served_at.0)),
            _ => None,
        };
        notes(effects).iter().find_map(suspicion)
    };
    assert_eq!(told(&heartbeats.tick(at(100 + timeout))), Some((Sign::Silent { ms: timeout }, 100)));
    let _ = heartbeats.step(at(5_000), Input::ViewChanged(Arc::new(view(2, 2, &[1, 2], 1))));
    let effects = heartbeats.step(at(5_100), Input::WatchEnded { address: node(2).address });
    assert_eq!(told(&effects), Some((Sign::Reset, 100)), "2 never said that it leads");
    let (from, view, beat, serving) = (node(2), ViewNumber(2), heartbeats.beats, Some(Default::default()));
    let answers = Input::HeartbeatAnswer { from, view, beat, serving };
    let _ = heartbeats.step(at(5_200), answers);
    let effects = heartbeats.step(at(5_300), Input::WatchEnded { address: node(2).address });
    assert_eq!(told(&effects), Some((Sign::Reset, 5_300)));
}

fn removed(peer: &Peer) -> Input {
    let member = crate::member::Member { peer: peer.clone(), removed: true };
    Input::Members(crate::member::Members::new(vec![member]))
}

#[test]
fn r25_a_removed_witness_is_told_by_a_primary_that_serves_and_never_listed() {
    let (mut primary, _) = machine(&node(3));
    let _ = primary.step(at(1), removed(&witness(2)));
    let asks = || Input::ListMe { from: witness(2), view: V1 };
    let effects = primary.step(at(1), asks());
    assert!(notes(&effects).is_empty() && all_letters(&effects).is_empty(), "it does not serve yet");
    let _ = primary.step(at(2), Input::Serving { view: V1 });
    let effects = primary.step(at(2), asks());
    let told = PeerMessage::Removed { incarnation: witness(2).incarnation };
    assert_eq!(letters(&effects, &witness(2)), [told]);
    assert!(notes(&effects).is_empty());
    let emptied = Peer { incarnation: witness(2).incarnation.next(), ..witness(2) };
    let effects = primary.step(at(3), Input::ListMe { from: emptied.clone(), view: V1 });
    assert_eq!(notes(&effects), [Note::AddWitness { view: V1, peer: emptied }], "another disk may come");
}

#[test]
fn r25_who_is_told_ends_unless_the_view_lists_it_or_another_disk_was_meant() {
    let retires = |effects: &Effects| effects.as_slice().iter().any(|effect| matches!(effect, Effect::Retire(_)));
    for me in [node(4), witness(2)] {
        let (mut heartbeats, _) = machine(&me);
        assert!(
            !retires(&heartbeats.step(at(1), removed(&me))),
            "its own store is no reason: it may be the only one that knows"
        );
        assert!(!retires(&heartbeats.step(at(1), Input::Removed { incarnation: me.incarnation.next() })));
        assert!(retires(&heartbeats.step(at(1), Input::Removed { incarnation: me.incarnation })));
    }
    let (mut listed, _) = machine(&node(1));
    assert!(
        !retires(&listed.step(at(1), Input::Removed { incarnation: node(1).incarnation })),
        "it votes, till it is left out"
    );
}

#[test]
fn r26_a_drained_replica_asks_to_be_let_go_with_each_beat_and_outside_asks_on() {
    let (mut heartbeats, _) = machine(&node(1));
    let effects = heartbeats.step(at(1), Input::Draining { on: true });
    let asks = |effects: &Effects, view| letters(effects, &node(3)).contains(&PeerMessage::LetMeGo { view });
    assert!(asks(&effects, V1), "at once");
    let interval = setup(&node(1)).timing.heartbeat_interval_ms;
    assert!(asks(&heartbeats.tick(at(1 + interval)), V1));
    let without = Arc::new(view(2, 3, &[2, 3], 1));
    assert!(
        asks(&heartbeats.step(at(1_500), Input::ViewChanged(without)), ViewNumber(2)),
        "so it hears of later views"
    );
    let _ = heartbeats.step(at(1_600), Input::Draining { on: false });
    assert!(!asks(&heartbeats.tick(at(10_000)), ViewNumber(2)));
    let (mut primary, _) = machine(&node(3));
    assert!(all_letters(&primary.step(at(1), Input::Draining { on: true })).is_empty(), "a primary hands over");
}

#[test]
fn r11_the_primary_alone_says_how_the_others_stand() {
    let told = |heartbeats: &Heartbeats| observed(|status| heartbeats.observe(status)).peers;
    let (mut primary, _) = machine(&node(3));
    let (log_end, commit_index, hash) = (Index(9), Index(8), Hash::default());
    let beat = |from, view| Input::Heartbeat { from, view, beat: 1, log_end, commit_index, hash, is_answered: true };
    let _ = primary.step(at(10), beat(node(1), V1));
    let _ = primary.step(at(11), beat(node(2), ViewNumber(2)));
    let _ = primary.step(at(11), beat(witness(2), V1));
    let peers = told(&primary);
    assert_eq!(peers.get(&node(2).voter), Some(&PeerStatus::default()), "it spoke of another view");
    assert!(!peers.contains_key(&witness(2).voter), "it is not listed");
    assert_eq!(peers.get(&node(1).voter), Some(&PeerStatus { log_end, commit_index, heard_at: Millis(10) }));
    assert_eq!(peers.len(), 3, "those who have not spoken yet, too");
    assert!(told(&machine(&node(1)).0).is_empty());
}

#[test]
fn r11_an_answer_to_a_beat_of_another_life_says_nothing() {
    let (mut heartbeats, _) = machine(&node(1));
    for leads in [true, false] {
        assert!(heartbeats.step(at(1), answer(9, leads)).as_slice().is_empty());
    }
    assert!(!notes(&heartbeats.step(at(2), answer(1, true))).is_empty(), "the awaited one counts as before");
}

#[test]
fn r26_the_end_of_a_drain_waits_for_the_next_beat() {
    let (mut heartbeats, _) = machine(&node(1));
    let _ = heartbeats.step(at(1), Input::Draining { on: true });
    assert!(all_letters(&heartbeats.step(at(2), Input::Draining { on: false })).is_empty());
    let interval = setup(&node(1)).timing.heartbeat_interval_ms;
    let next = heartbeats.tick(at(1 + interval));
    assert!(matches!(letters(&next, &node(3))[..], [PeerMessage::Heartbeat { .. }]), "and asks for nothing: {next:?}");
}

//! Section 12, at the primary: what it tells of its view's beginning, and that nobody waits for it.

use super::*;
use crate::change::{Course, Decision};
use crate::lock::{Mode, Resource};

fn decision(stalled_ms: u64) -> Decision {
    let at_once = crate::testing::decision(Default::default(), Default::default());
    Decision { suspect_ms: 5, trial_ms: 1, promise_ms: 2, accept_ms: 3, stalled_ms, ..at_once }
}

/// When the courses of a view that serves since instant 10 may be told.
fn due() -> u64 {
    10 + setup(&node(3)).timing.resend_ms
}

fn told(primary: &Primary) -> Option<Vec<Course>> {
    match &primary.machine.flight.as_ref()?.entry.batch {
        Batch::Courses(courses) => Some(courses.clone()),
        Batch::Operations { .. } | Batch::Abort { .. } | Batch::View(_) | Batch::Remove(_) => None,
    }
}

#[test]
fn section_12_the_course_is_told_when_nothing_else_is_to_be_done() {
    let mut machine = Coordinator::new(&setup(&node(3)));
    let _ = machine.step(at(0), Input::Decided { view: ViewNumber(2), decision: decision(40) });
    let mut primary = Primary::leading(machine, view(2, 3, &[1, 3], 0), Vec::new(), (Index(0), Hash::default()));
    let _ = primary.complete();
    assert_eq!((primary.machine.deadline(), told(&primary)), (Some(Millis(due())), None), "not at once");
    let effects = primary.machine.tick(at(due()));
    let locks = |note: &Note| matches!(note, Note::Acquire { locks, .. } if *locks == [(Resource::Store, Mode::IntentExclusive)]);
    assert!(notes(&effects).iter().any(locks) && prepares(&effects).is_empty(), "{effects:?}");
    let [course] = &told(&primary).expect("the course")[..] else { panic!("one") };
    assert_eq!((course.view, course.decision.clone()), (ViewNumber(2), Some(decision(40))));
    assert_eq!((course.finish_ms, course.serve_ms, course.stall_ms), (0, 10, Some(10)), "the clock began at 0");
    let _ = primary.complete();
    assert!(primary.machine.flight.is_none() && primary.machine.deadline().is_none(), "once");
}

#[test]
fn section_12_a_write_goes_before_what_is_told() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.submit(1, post("a"));
    let _ = primary.machine.tick(at(due()));
    assert_eq!(told(&primary), None);
    let effects = primary.complete();
    assert!(is_written(&answers(&effects), 1));
    assert_eq!(told(&primary), None, "it is told at its time, and not at once");
    let _ = primary.machine.tick(at(due()));
    assert!(told(&primary).is_some());
}

#[test]
fn section_12_what_is_told_is_no_entry_more_than_may_wait_for_acknowledgements() {
    let mut primary = Primary::new(&[1, 3]);
    primary.leave_unacknowledged();
    let _ = primary.machine.tick(at(due()));
    assert_eq!(told(&primary), None);
    assert!(primary.machine.deadline() > Some(Millis(due())), "nor does it wake for it again and again");
    let _ = primary.applied();
    for id in [1, 3] {
        let _ = primary.acknowledge(id);
    }
    let _ = primary.machine.tick(at(due()));
    assert!(told(&primary).is_some());
}

#[test]
fn section_12_under_a_load_that_never_ends_it_is_told_all_the_same() {
    let mut primary = Primary::new(&[1, 3]);
    let timing = setup(&node(3)).timing;
    let late = at(10 + 10 * timing.resend_ms);
    let _ = primary.submit(1, post("a"));
    let asked = primary.machine.step(at(11), Input::Submit { request: RequestId(2), operation: post("b") });
    let _ = primary.settle(asked);
    let effects = primary.vote_all();
    assert!(answers(&effects).is_empty());
    let _ = primary.machine.step(late, Input::Applying { index: primary.committing().1.index });
    assert!(told(&primary).is_some(), "the second write waits for one entry");
    assert!(is_written(&answers(&primary.complete()), 1));
    let effects = primary.complete();
    let _ = primary.settle(effects);
    assert!(matches!(primary.flight().1.batch, Batch::Operations { .. }));
}

#[test]
fn section_12_what_a_view_change_interrupts_is_told_in_the_next_view() {
    let mut primary = Primary::new(&[1, 3]);
    let _ = primary.machine.tick(at(due()));
    assert!(told(&primary).is_some());
    let committed = primary.machine.end;
    let effects = primary.next_view(view(2, 3, &[1, 3], 0), Vec::new(), committed);
    assert!(matches!(primary.flight().1.batch, Batch::View(_)), "it was in no log: {effects:?}");
    assert!(notes(&effects).iter().any(|note| matches!(note, Note::Release { .. })), "its lock goes");
    let _ = primary.complete();
    let _ = primary.machine.tick(at(due()));
    let views: Vec<_> = told(&primary).expect("both").iter().map(|course| course.view.0).collect();
    assert_eq!(views, [1, 2]);
}

#[test]
fn section_12_r16_a_course_that_another_primary_told_is_committed_again_and_never_aborted() {
    let course = Course { view: ViewNumber(1), decision: None, finish_ms: 0, serve_ms: 0, stall_ms: None };
    let found = Arc::new(Entry::new(Index(1), Hash::default(), Batch::Courses(vec![course])));
    let machine = Coordinator::new(&setup(&node(3)));
    let mut primary =
        Primary::leading(machine, view(2, 3, &[1, 3], 0), vec![found.clone()], (Index(0), Hash::default()));
    let owner = primary.machine.flight.as_ref().and_then(|flight| flight.inherited_lock).expect("it takes its lock");
    assert_eq!(prepares(&primary.machine.step(at(1), Input::Granted { owner })).len(), 2);
    let _ = primary.vote(1, Some(Refusal::LockTimeout));
    assert_eq!(primary.flight().1, found, "asked again");
}

#[test]
fn section_12_r17_a_hand_over_does_not_wait_for_a_course_that_waits_for_a_join() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.machine.tick(at(due()));
    assert!(told(&primary).is_some(), "it waits for its lock");
    let effects = primary.machine.step(at(due()), Input::HandOver { to: None });
    assert!(notes(&effects).iter().any(|note| matches!(note, Note::Release { .. })));
    assert!(notes(&effects).iter().any(|note| matches!(note, Note::HandOverNow { .. })), "{effects:?}");
}

#[test]
fn section_12_r17_a_hand_over_waits_for_a_course_that_is_out_for_votes() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.machine.tick(at(due()));
    let owner = primary.machine.flight.as_ref().and_then(|flight| flight.inherited_lock).expect("it takes its lock");
    assert_eq!(prepares(&primary.machine.step(at(due()), Input::Granted { owner })).len(), 3);
    assert_eq!(handed_over(&primary.machine.step(at(due()), Input::HandOver { to: None })), None);
    assert!(told(&primary).is_some(), "a replica may hold it already");
    assert_eq!(handed_over(&primary.complete()), Some((NodeId(2), Some(Leave::Stops))));
}

#[test]
fn section_12_the_time_without_service_begins_with_the_batch_that_the_view_change_interrupted() {
    let mut primary = Primary::new(&[1, 2, 3]);
    let _ = primary.submit(1, post("a"));
    let (_, sent) = primary.flight();
    let committed = primary.machine.end;
    let next = view(2, 3, &[1, 3], 0);
    let _ = primary.machine.step(at(19), Input::Decided { view: ViewNumber(2), decision: decision(2) });
    let _ = primary.next_view(next, vec![sent], committed);
    // The helper's answers come at instant 10: the clocks of this test stand still while it serves.
    let _ = primary.complete();
    let attempt = primary.flight().0;
    assert!(attempt > Attempt(0));
    let index = primary.flight().1.index;
    for id in [1, 3] {
        let _ = primary
            .machine
            .step(at(25), Input::Vote { from: node(id), view: ViewNumber(2), attempt, index, refusal: None });
    }
    let _ = primary.apply();
    for id in [1, 3] {
        let _ = primary.machine.step(at(30), Input::Committed { from: node(id), view: ViewNumber(2), attempt, index });
    }
    let _ = primary.machine.tick(at(30 + setup(&node(3)).timing.resend_ms));
    let courses = told(&primary).expect("both views");
    assert_eq!(courses.last().and_then(|course| course.stall_ms), Some(20), "sent at 10, served at 30");
}

//! The deterministic simulator: the shipped machines, in a world that loses, delays, repeats, cuts, crashes and wipes.
//!
//! One seed is one run, bit for bit. The seed draws a [`plan`]; the world runs it, the checker watches; the first broken
//! promise ends it. Each machine has its own queue, and whose turn it is is drawn, as six actors on threads would have it.
//!
//! # Reading order
//!
//! [`plan`] and `deal`: what a seed draws. `world`: events (`schedule`) and effects; `node`: a node and its disk's mirror; [`disk`]; [`network`];
//! `faults`; `client`. What must hold: [`checker`] and [`oracle`] (S1 to S5), `observe` (what they rest on), [`calm`] (the
//! cluster comes back), `lasting` (a healthy core serves whatever ails the others). [`met`] and `corners`: what was reached. [`story`]: what happened, for people.
//!
//! [`stage`]: the same nodes in hand, without a seed: whoever holds them says what happens next (golden scripts, model).
//!
//! Not here: threads, clocks and printing, which belong to whoever runs seeds.

pub mod calm;
pub mod checker;
mod client;
mod corners;
mod deal;
pub mod disk;
mod faults;
mod lasting;
pub mod met;
pub mod network;
pub mod node;
mod observe;
pub mod oracle;
pub mod plan;
mod schedule;
pub mod stage;
pub mod story;
#[cfg(test)]
mod tests;
mod world;

use crate::invariant::Violation;
use met::Meetings;
use plan::{Ill, Plan, Shape};
use std::cell::RefCell;
use std::rc::Rc;
use story::{Sink, Story, Trace, Weight};
use world::World;

pub use world::Counts;

/// What one run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// What was counted.
    pub counts: Counts,
    /// Which faults and corners were met, and how often.
    pub met: Meetings,
    /// How many writes were acknowledged, and how many slots of the log decided.
    pub acknowledged: u64,
    /// Decided slots of the log.
    pub decided: u64,
    /// The last decided view's number.
    pub views: u64,
    /// How long the run was. Simulated microseconds.
    pub lasted_us: u64,
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, shape: Shape) -> Report {
    run_plan(Plan::new(seed, shape), Trace::off())
}

/// Runs one seed, and tells what happens while it does.
#[must_use]
pub fn run_traced(seed: u64, shape: Shape, most: Weight, sink: Sink) -> Report {
    run_plan(Plan::new(seed, shape), Trace::to(most, sink))
}

/// The shortest story of how a seed fails: its lines, the last of which names what was broken. Empty when it does not.
#[must_use]
pub fn shortest_story(seed: u64, shape: Shape) -> Vec<String> {
    let plan = Plan::new(seed, shape);
    let Some(violation) = run_plan(plan.clone(), Trace::off()).violation else { return Vec::new() };
    let (plan, _) = story::shorten(&plan, violation.rule);
    let (data, witnesses, faults, calls) = (plan.data, plan.witnesses, plan.faults.len(), plan.calls.len());
    let story = Rc::new(RefCell::new(Story::default()));
    let sink = Rc::clone(&story);
    let trace = Trace::to(Weight::Letter, Box::new(move |weight, line| sink.borrow_mut().push(weight, line)));
    let ill = plan.lasting.iter().flat_map(|lasting| &lasting.ills).filter(|ill| **ill != Ill::Well).count();
    let kept =
        format!("{data} data nodes, {witnesses} witnesses, {faults} faults, {calls} calls, at most {ill} ill for ever");
    let report = run_plan(plan, trace);
    let mut lines = vec![format!("seed {seed}, made smaller: {kept}")];
    lines.extend(story.take().told());
    lines.extend(report.violation.map(|violation| violation.to_string()));
    lines
}

/// Runs a plan.
#[must_use]
pub fn run_plan(plan: Plan, trace: Trace) -> Report {
    let seed = plan.seed;
    let mut world = World::new(plan, trace);
    let violation = world.run().err();
    Report {
        seed,
        violation,
        counts: world.counts,
        met: world.met,
        acknowledged: world.checker.acknowledged(),
        decided: world.checker.log().last().0,
        views: world.checker.views().last().map_or(0, |view| view.number.0),
        lasted_us: world.now,
    }
}

//! What happened, for people: the trace of one run, and the smallest run that still fails as a given one does.
//!
//! A failing plan is made smaller by leaving out faults and calls, halves first and then one by one, and by calming the
//! weather, by making faults simpler and the ill well, as long as the same promise breaks. What is left is told line by line.
//!
//! Source: Zeller, "Yesterday, my program worked. Today, it does not. Why?", 1999 (delta debugging).

use super::plan::{self, Ending, Fault, Ill, Plan};
use super::run_plan;
use crate::ids::{Address, Voter};
use crate::invariant::{Rule, Violation};
use crate::message::PeerMessage;
use std::fmt::Write as _;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Views, faults, decisions: what the story needs.
    Story,
    /// Calls and their answers.
    Call,
    /// Letters.
    Letter,
    /// Every input of every machine.
    Full,
}

/// Takes the lines of a trace, and how much each matters.
pub type Sink = Box<dyn FnMut(Weight, &str)>;

/// Where lines go; nowhere, mostly, and then none is made.
#[derive(Default)]
pub struct Trace {
    sink: Option<Sink>,
    most: Option<Weight>,
}

impl Trace {
    /// No trace.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// All lines up to this weight go to `sink`.
    #[must_use]
    pub fn to(most: Weight, sink: Sink) -> Self {
        Self { sink: Some(sink), most: Some(most) }
    }

    /// Whether anything is told.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.most.is_some()
    }

    /// Whether every input is told.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.most == Some(Weight::Full)
    }

    /// One line, made only if it is wanted.
    pub fn say(&mut self, now_us: u64, weight: Weight, text: impl FnOnce() -> String) {
        if self.most.is_none_or(|most| weight > most) {
            return;
        }
        if let Some(sink) = self.sink.as_mut() {
            sink(weight, &format!("{:>5}.{:06} {}", now_us / 1_000_000, now_us % 1_000_000, text()));
        }
    }

    /// A letter leaves.
    pub fn letter(&mut self, now_us: u64, from: &Voter, to: &Address, message: &PeerMessage) {
        let beats = matches!(message, PeerMessage::Heartbeat { .. } | PeerMessage::HeartbeatAnswer { .. });
        let weight = if beats { Weight::Full } else { Weight::Letter };
        self.say(now_us, weight, || format!("{from} -> {to}: {}", letter(message)));
    }
}

/// A letter on one line.
fn letter(message: &PeerMessage) -> String {
    let mut text = match message {
        PeerMessage::Prepare { view, attempt, entry, commit_index } => {
            format!(
                "Prepare view {view} attempt {attempt} slot {} {} commit {commit_index} {:?}",
                entry.index, entry.hash, entry.batch
            )
        }
        PeerMessage::Chunk { pairs, last, .. } => format!("Chunk of {} pairs, last {last}", pairs.len()),
        PeerMessage::Entries { after, entries, last, .. } => {
            format!("Entries after {after}: {}, last {last}", entries.len())
        }
        PeerMessage::Election { view } => format!("Election in view {}", view.number),
        PeerMessage::Victory { view, .. } => format!("Victory {}", super::observe::brief(view)),
        PeerMessage::ViewIs { view } => format!("ViewIs {}", super::observe::brief(view)),
        PeerMessage::Accept { view, ballot, proposal } => {
            format!("Accept {ballot} after view {view}: {}", super::observe::brief(proposal))
        }
        other => format!("{other:?}"),
    };
    if text.len() > LINE_BYTES_MAX {
        let end = (0..=LINE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        let _infallible = write!(text, " ...");
    }
    text
}

/// The longest letter on a line. Bytes.
const LINE_BYTES_MAX: usize = 300;

/// How many of the last letters a story keeps: what comes before them is told by views, faults and decisions.
const LETTERS_TOLD: usize = 40;

/// The lines of a story, in order; of the letters, only the last.
#[derive(Debug, Default)]
pub struct Story {
    lines: Vec<(Weight, String)>,
}

impl Story {
    /// One more line.
    pub fn push(&mut self, weight: Weight, line: &str) {
        self.lines.push((weight, line.to_owned()));
    }

    /// What is to be told.
    #[must_use]
    pub fn told(self) -> Vec<String> {
        let letters = self.lines.iter().filter(|(weight, _)| *weight >= Weight::Letter).count();
        let mut left_out = letters.saturating_sub(LETTERS_TOLD);
        let mut keeps = |weight: Weight| {
            let is_early = weight >= Weight::Letter && left_out > 0;
            left_out -= usize::from(is_early);
            !is_early
        };
        self.lines.into_iter().filter(|(weight, _)| keeps(*weight)).map(|(_, line)| line).collect()
    }
}

/// How many runs a plan's shortening may cost.
const RUNS_MAX: u32 = 500;

/// A smaller plan that breaks the same promise.
#[must_use]
pub fn shorten(plan: &Plan, rule: Rule) -> (Plan, Option<Violation>) {
    let mut shortener = Shortener { best: plan.clone(), violation: None, rule, runs: 0 };
    shortener.calm_down();
    shortener.leave_out(|plan| plan.faults.len(), |plan, from, to| drop(plan.faults.drain(from..to)));
    shortener.leave_out(|plan| plan.calls.len(), |plan, from, to| drop(plan.calls.drain(from..to)));
    shortener.leave_out(|plan| plan.faults.len(), |plan, from, to| drop(plan.faults.drain(from..to)));
    shortener.simplify_faults();
    shortener.make_well();
    (shortener.best, shortener.violation)
}

struct Shortener {
    best: Plan,
    violation: Option<Violation>,
    rule: Rule,
    runs: u32,
}

impl Shortener {
    /// Keeps the change if the promise still breaks.
    fn attempt(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let mut plan = self.best.clone();
        change(&mut plan);
        if plan == self.best {
            return false;
        }
        let violation = run_plan(plan.clone(), Trace::off()).violation;
        let fails = violation.as_ref().is_some_and(|violation| violation.rule == self.rule);
        if fails {
            self.best = plan;
            self.violation = violation;
        }
        fails
    }

    fn calm_down(&mut self) {
        self.attempt(|plan| plan.weather = plan.weather.calm());
        self.attempt(|plan| plan.weather.loss_ppm = 0);
        self.attempt(|plan| plan.weather.repeat_ppm = 0);
        self.attempt(|plan| plan.weather.late_ppm = 0);
        self.attempt(|plan| plan.weather.reset_ppm = 0);
        self.attempt(|plan| plan.weather.overtake = false);
        self.attempt(|plan| plan.weather.between_ppm = 0);
        self.attempt(|plan| plan.ending = Ending::All);
        self.attempt(|plan| plan.starts.fill(0));
        self.attempt(|plan| plan.drifts_ppm.fill(0));
        self.attempt(|plan| plan.is_born = true);
        for _ in 0..plan::WITNESSES_MAX {
            self.attempt(Plan::without_a_witness);
        }
    }

    /// One that flaps crashes less often; what is cut or slow is so until the faults end, so that its end does not matter.
    fn simplify_faults(&mut self) {
        for place in 0..self.best.faults.len() {
            while self.attempt(|plan| {
                if let Fault::Flap { times, .. } = &mut plan.faults[place].1 {
                    *times = (*times / 2).max(1);
                }
            }) {}
            self.attempt(|plan| {
                if let Some(lasts_us) = plan.faults[place].1.lasts_us_mut() {
                    *lasts_us = plan.faults_end_us;
                }
            });
        }
    }

    /// Of a run for liveness: who need not be ill, or only dead.
    fn make_well(&mut self) {
        for place in 0..self.best.nodes() {
            for ill in [Ill::Well, Ill::Dead] {
                let kept = self.attempt(|plan| {
                    if let Some(known) = plan.lasting.as_mut().and_then(|lasting| lasting.ills.get_mut(place)) {
                        *known = ill;
                    }
                });
                if kept {
                    break;
                }
            }
        }
    }

    fn leave_out(&mut self, count: fn(&Plan) -> usize, remove: fn(&mut Plan, usize, usize)) {
        let mut size = count(&self.best).div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < count(&self.best) {
                let to = (from + size).min(count(&self.best));
                if !self.attempt(|plan| remove(plan, from, to)) {
                    from = to;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_keeps_its_last_letters_and_all_that_matters_more() {
        let mut story = Story::default();
        story.push(Weight::Story, "a view");
        for letter in 0..100 {
            story.push(Weight::Letter, &letter.to_string());
        }
        story.push(Weight::Call, "an answer");
        let told = story.told();
        assert_eq!(told.len(), LETTERS_TOLD + 2);
        assert_eq!(
            (told[0].as_str(), told[1].as_str(), told[LETTERS_TOLD + 1].as_str()),
            ("a view", "60", "an answer")
        );
    }
}

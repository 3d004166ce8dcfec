//! What is compared while a run goes on: what nodes say, with what their disks hold; what they apply, with what was decided.
//!
//! These are the promises under S1 to S5: a vote, a promise and an acceptance are durable before they are said (R-5,
//! R-13); a decided entry is on the disk of every replica of its view; a replica of a view that acts lacks nothing
//! that was decided before it (section 2), nor does a primary that begins to serve.
//!
//! Not here: S1 to S5 themselves (`checker.rs`).

use super::checker::Checker;
use super::node::{Mirror, Node};
use super::story::{Trace, Weight};
use crate::ids::{Attempt, Hash, Index, ViewNumber};
use crate::invariant::{Checked, Rule, Violation, require};
use crate::machine::{Note, Timing};
use crate::message::{BallotAnswer, PeerMessage};
use crate::storage::{Recovered, StorageRequest};
use crate::view::View;
use std::sync::Arc;

/// Who looks: at the nodes of one run, with its record.
pub(super) struct Observer<'a> {
    /// The nodes.
    pub nodes: &'a mut [Node],
    /// What was decided and answered.
    pub checker: &'a mut Checker,
    /// Where lines go, if anywhere.
    pub trace: Option<&'a mut Trace>,
    /// Time limits, which say what a record may tell.
    pub timing: &'a Timing,
    /// Microseconds from the start of the run.
    pub now: u64,
}

impl Observer<'_> {
    fn say(&mut self, node: usize, text: impl FnOnce() -> String) {
        if let Some(trace) = self.trace.as_deref_mut() {
            let voter = &self.nodes[node].me.voter;
            trace.say(self.now, Weight::Story, || format!("{voter} {}", text()));
        }
    }

    /// A node says this.
    pub(super) fn said(&mut self, node: usize, message: &PeerMessage) -> Checked {
        match message {
            PeerMessage::Prepare { view, attempt, entry, .. } => self.checker.prepared(*view, *attempt, entry),
            PeerMessage::Vote { view, attempt, index, refusal: None } => self.voted(node, *view, *attempt, *index),
            PeerMessage::Confirmed { view, refusal: None, .. } => self.has_not_left(node, *view),
            PeerMessage::Promised { view, ballot, answer: BallotAnswer::Yes(_) } => {
                let known = &self.nodes[node];
                require(known.mirror.promised(*view, *ballot), Rule::NotDurable, || {
                    format!("{} promises {ballot} after view {view}, and its disk does not", known.me.voter)
                })
            }
            PeerMessage::Accepted { view, ballot, answer: BallotAnswer::Yes(_) } => {
                let known = &mut self.nodes[node];
                known.left = known.left.max(Some(*view));
                require(known.mirror.accepted(*view, *ballot), Rule::NotDurable, || {
                    format!("{} accepts {ballot} after view {view}, and its disk does not", known.me.voter)
                })
            }
            PeerMessage::Commit { view, attempt, index, hash } => self.decided(node, *view, *attempt, *index, *hash),
            PeerMessage::Promise { view, .. } | PeerMessage::Accept { view, .. } => {
                self.nodes[node].campaigned = self.nodes[node].campaigned.max(*view);
                Ok(())
            }
            // Nothing to compare: these neither promise nor decide.
            _ => Ok(()),
        }
    }

    fn voted(&self, node: usize, view: ViewNumber, attempt: Attempt, index: Index) -> Checked {
        let known = &self.nodes[node];
        // What is committed already needs no new attempt: nothing replaces it.
        let is_decided = self.checker.entry(view, attempt).is_some_and(|entry| {
            let decided = self.checker.log().get(index).is_some_and(|slot| slot.hash == entry.hash);
            decided && known.mirror.holds(index, entry.hash)
        });
        require(is_decided || known.mirror.voted(view, attempt, index), Rule::NotDurable, || {
            format!(
                "{} votes for slot {index} in attempt {attempt} of view {view}, which is not on its disk",
                known.me.voter
            )
        })?;
        self.has_not_left(node, view)
    }

    fn has_not_left(&self, node: usize, view: ViewNumber) -> Checked {
        let known = &self.nodes[node];
        require(known.left.is_none_or(|left| left < view), Rule::Lacks, || {
            format!("{} votes or confirms in view {view}, after which it said that it accepted another", known.me.voter)
        })
    }

    fn decided(&mut self, node: usize, view: ViewNumber, attempt: Attempt, index: Index, hash: Hash) -> Checked {
        if !self.checker.decided((view, attempt), index, hash)? {
            return Ok(());
        }
        self.say(node, || format!("decides slot {index} {hash} in view {view}"));
        for known in self.nodes.iter().filter(|known| known.is_data()) {
            let acts_in = known.mirror.vote.as_ref().map(|vote| &vote.view).filter(|theirs| theirs.number > view);
            let concerns = match (acts_in, self.checker.views().get(view)) {
                (Some(theirs), _) => theirs.lists_replica(&known.me),
                (None, Some(ours)) => ours.lists_replica(&known.me),
                (None, None) => false,
            };
            require(!concerns || known.mirror.holds(index, hash), Rule::Lacks, || {
                format!("slot {index} is decided as {hash} in view {view}, and {} does not hold it", known.me.voter)
            })?;
        }
        Ok(())
    }

    /// A node tells its machines this.
    pub(super) fn note(&mut self, node: usize, note: &Note) -> Checked {
        match note {
            Note::ViewChanged { view } => self.acts_in(node, view),
            Note::Serving { view } => {
                if let Some(process) = self.nodes[node].process.as_mut() {
                    process.serving = Some(*view);
                }
                self.say(node, || format!("serves in view {view}"));
                self.lacks_nothing(node, view.next(), Rule::Lost)
            }
            Note::NotServing { view, .. } => {
                if let Some(process) = self.nodes[node].process.as_mut() {
                    process.serving = None;
                }
                self.say(node, || format!("stops serving in view {view}"));
                Ok(())
            }
            // Between the machines of one node; what matters of it becomes a letter or a write.
            _ => Ok(()),
        }
    }

    fn acts_in(&mut self, node: usize, view: &Arc<View>) -> Checked {
        self.checker.view(view, self.timing)?;
        let known = &mut self.nodes[node];
        if let Some(process) = known.process.as_mut() {
            process.known.learn(view);
            process.serving = None;
        }
        let voter = &known.me.voter;
        require(known.mirror.view() >= view.number, Rule::NotDurable, || {
            format!("{voter} acts in view {}, which is not on its disk", view.number)
        })?;
        self.say(node, || format!("acts in view {}", brief(view)));
        let is_listed = view.lists_replica(&self.nodes[node].me);
        if is_listed { self.lacks_nothing(node, view.number, Rule::Lacks) } else { Ok(()) }
    }

    fn lacks_nothing(&self, node: usize, view: ViewNumber, rule: Rule) -> Checked {
        let known = &self.nodes[node];
        match self.checker.log().lacking(view, |index, hash| known.mirror.holds(index, hash)) {
            None => Ok(()),
            Some(index) => {
                let what = format!("{} acts in view {}, and lacks slot {index}", known.me.voter, known.mirror.view());
                Err(Violation::new(rule, what))
            }
        }
    }

    /// A disk served this.
    pub(super) fn served(&mut self, node: usize, requests: &[StorageRequest]) -> Checked {
        let known = &mut self.nodes[node];
        for request in requests {
            for entry in known.mirror.served(request) {
                self.checker.log().applied(&known.me.voter, entry.index, entry.hash)?;
            }
        }
        let Some(process) = known.process.as_ref() else { return Ok(()) };
        let (applied, hash) = process.storage.applied();
        known.mirror.applied = applied;
        if applied > Index(0) { self.checker.log().applied(&known.me.voter, applied, hash) } else { Ok(()) }
    }

    /// A restart found this.
    pub(super) fn recovered(&mut self, node: usize, found: &Recovered) -> Checked {
        let (applied, hash) = found.committed;
        let known = &mut self.nodes[node];
        if applied > Index(0) {
            self.checker.log().applied(&known.me.voter, applied, hash)?;
        }
        require(found.identity.incarnation == known.me.incarnation, Rule::Stopped, || {
            format!("{} finds the disk of another life", known.me.voter)
        })?;
        known.mirror = Mirror::recovered(found);
        Ok(())
    }
}

/// A view on one line.
pub(super) fn brief(view: &View) -> String {
    let replicas: Vec<String> = view.replicas.keys().map(ToString::to_string).collect();
    let witnesses: Vec<String> = view.witnesses.keys().map(ToString::to_string).collect();
    let (number, primary, cause) = (view.number, view.primary, &view.cause);
    format!("{number}: primary {primary}, replicas {}, witnesses {} ({cause})", replicas.join(" "), witnesses.join(" "))
}

//! Who is alive.
//!
//! Every other voter tells the primary each `heartbeat.interval` that it lives, and keeps one request open there, which the
//! kernel ends when the primary's process dies: so a dead process is noticed at once, and a silent one after
//! `heartbeat.timeout`. A voter that the view does not list, and one that has lost its primary, asks around for the view.
//!
//! Not here: what follows from a suspicion (`election.rs`) or from silence (`coordinator.rs`).

#[cfg(test)]
mod tests;

use crate::change::{Sign, Suspicion};
use crate::ids::{Address, Hash, Incarnation, Index, Millis, Now, Peer, ViewNumber, Voter};
use crate::machine::{Effect, Effects, Machine, Note, Setup, Timing};
use crate::member::{Members, Turns};
use crate::message::PeerMessage;
use crate::status::{NodeStatus, PeerStatus};
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// A replica or witness lives.
    Heartbeat {
        from: Peer,
        view: ViewNumber,
        beat: u64,
        log_end: Index,
        commit_index: Index,
        hash: Hash,
        is_answered: bool,
    },
    /// The primary's answer.
    HeartbeatAnswer { from: Peer, view: ViewNumber, beat: u64, serving: Option<(Index, Hash)> },
    /// The request kept open at the primary ended.
    WatchEnded { address: Address },
    /// A connection was refused or reset.
    Unreachable { address: Address },
    /// A view is in force.
    ViewChanged(Arc<View>),
    /// Where this node's log stands.
    LogPosition { log_end: Index, committed: (Index, Hash) },
    /// This node serves as primary.
    Serving { view: ViewNumber },
    /// It does not any more.
    NotServing { view: ViewNumber },
    /// R-24, a witness asks to be listed.
    ListMe { from: Peer, view: ViewNumber },
    /// R-25, a primary says that this disk was removed.
    Removed { incarnation: Incarnation },
    /// R-25, who is a member.
    Members(Members),
    ///
    Draining { on: bool },
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    me: Peer,
    seeds: Vec<Address>,
    timing: Timing,
    view: Option<Arc<View>>,
    /// This node is the view's primary and has not ceased to be it: from the view's beginning on, so that those who beat
    /// while it finishes its log do not elect another.
    leading: bool,
    log_end: Index,
    committed: (Index, Hash),
    beats: u64,
    /// When the beats were sent that no answer came to yet, nor to a later one; none that was sent longer ago than the timeout.
    unanswered: VecDeque<(u64, Millis)>,
    next_beat: Millis,
    /// When the primary last answered that it leads.
    answered_at: Millis,
    suspected: bool,
    /// When a primary was last known to serve, from the first suspicion until one answers again: a view whose primary never
    /// did is no end of the silence.
    lost_at: Option<Millis>,
    /// Of the primary: when each other voter was last heard, and where its log stood.
    heard: BTreeMap<Voter, PeerStatus>,
    /// Whom to ask next for the view when the primary says nothing.
    asked: Turns,
    members: Members,
    /// The view in which this node serves as primary.
    serving: Option<ViewNumber>,
    /// It is to leave the view.
    draining: bool,
}

impl Heartbeats {
    /// A machine that has heard of no view yet.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self {
            me: setup.me.clone(),
            seeds: setup.seeds.clone(),
            timing: setup.timing.clone(),
            view: None,
            leading: false,
            log_end: Index(0),
            committed: (Index(0), Hash::default()),
            beats: 0,
            unanswered: VecDeque::new(),
            next_beat: Millis(u64::MAX),
            answered_at: Millis(0),
            suspected: false,
            lost_at: None,
            heard: BTreeMap::new(),
            asked: Turns::default(),
            members: Members::default(),
            serving: None,
            draining: false,
        }
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        if self.leading {
            status.peers.clone_from(&self.heard);
        }
    }

    fn on_view_changed(&mut self, now: Now, view: Arc<View>) -> Effects {
        let mut effects = Effects::none();
        self.leading = view.is_primary(&self.me);
        self.suspected = false;
        self.answered_at = now.elapsed;
        let heard = PeerStatus { heard_at: now.elapsed, ..PeerStatus::default() };
        self.heard = view.others(&self.me.voter).map(|peer| (peer.voter, heard)).collect();
        let watched = view.primary_peer().filter(|_| !self.leading && view.lists(&self.me));
        effects.push(Effect::Watch(watched.map(|peer| peer.address)));
        self.view = Some(view);
        effects.append(self.beat(now));
        effects
    }

    /// One beat to the primary, of a witness that is not listed too. Who hears nothing from the primary asks another node for the
    /// view, which may have changed without it.
    fn beat(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        let Some(view) = self.view.clone() else { return effects };
        self.next_beat = now.elapsed.plus(self.timing.heartbeat_interval_ms);
        if self.leading {
            return effects;
        }
        let listed = view.lists(&self.me);
        let primary = view.primary_peer().filter(|peer| peer.voter != self.me.voter);
        if let Some(primary) = primary {
            if listed || self.is_witness() {
                self.beats += 1;
                self.forget_late_beats(now);
                self.unanswered.push_back((self.beats, now.elapsed));
                let (log_end, (commit_index, hash)) = (self.log_end, self.committed);
                let (view, beat) = (view.number, self.beats);
                let is_answered = !self.is_unanswered(now);
                let beat = PeerMessage::Heartbeat { view, beat, log_end, commit_index, hash, is_answered };
                effects.send(&primary.address, beat);
            }
            if self.draining {
                // Out of the view too: so it hears of later views, and of its removal.
                effects.send(&primary.address, PeerMessage::LetMeGo { view: view.number });
            }
        }
        let is_outside = !listed && (self.is_witness() || self.draining);
        if self.suspected || is_outside {
            effects.append(self.ask_around(&view));
        }
        effects
    }

    fn is_witness(&self) -> bool {
        self.me.voter.node().is_none()
    }

    fn ask_around(&mut self, view: &View) -> Effects {
        let mut effects = Effects::none();
        let known = view.others(&self.me.voter).map(|peer| peer.address);
        let members = self.members.data_addresses();
        let mut addresses: BTreeSet<Address> = known.chain(self.seeds.iter().cloned()).chain(members).collect();
        addresses.remove(&self.me.address);
        if let Some(address) = self.asked.next(&addresses) {
            effects.send(&address, PeerMessage::AskView);
        }
        effects
    }

    /// Whether the primary has said nothing for `heartbeat.timeout`.
    fn is_unanswered(&self, now: Now) -> bool {
        now.elapsed >= self.answered_at.plus(self.timing.heartbeat_timeout_ms)
    }

    /// One that hears no answer does not count as heard: it can be asked nothing, and would be listed for ever.
    fn on_heartbeat(
        &mut self,
        now: Now,
        from: &Peer,
        (view, beat): (ViewNumber, u64),
        is_answered: bool,
        status: PeerStatus,
    ) -> Effects {
        let mut effects = Effects::none();
        let Some(known) = &self.view else { return effects };
        if known.number == view && known.lists(from) && is_answered {
            self.heard.insert(from.voter.clone(), PeerStatus { heard_at: now.elapsed, ..status });
        }
        let serving = self.leading.then_some(self.committed);
        effects.send(&from.address, PeerMessage::HeartbeatAnswer { view: known.number, beat, serving });
        effects
    }

    fn on_answer(
        &mut self,
        now: Now,
        from: &Peer,
        view: ViewNumber,
        beat: u64,
        serving: Option<(Index, Hash)>,
    ) -> Effects {
        let mut effects = Effects::none();
        let known = self.view.as_ref().filter(|known| known.number == view && known.is_primary(from));
        let Some(is_listed) = known.map(|known| known.lists(&self.me)) else { return effects };
        if beat > self.beats || self.leading {
            return effects;
        }
        let Some((index, hash)) = serving else { return self.suspect(now, Sign::SteppedDown) };
        if !self.counts(now, beat) {
            return effects;
        }
        self.answered_at = now.elapsed;
        self.lost_at = None;
        effects.tell(Note::CommitSeen { index, hash });
        if !is_listed && self.is_witness() {
            // with an answer in hand only. One that hears of views from others alone would be listed and set offline for ever.
            effects.send(&from.address, PeerMessage::ListMe { view });
        }
        if std::mem::take(&mut self.suspected) {
            effects.tell(Note::Trusted { view });
        }
        effects
    }

    /// Whether this answer says that the primary lives: it is the first to its beat, and that was sent within the timeout. A late
    /// copy says nothing: it would renew the trust in a primary that is long silent.
    fn counts(&mut self, now: Now, beat: u64) -> bool {
        self.forget_late_beats(now);
        let is_awaited = self.unanswered.iter().any(|(known, _)| *known == beat);
        self.unanswered.retain(|(known, _)| *known > beat);
        is_awaited
    }

    /// An answer to a beat that was sent longer ago than the timeout says nothing any more.
    fn forget_late_beats(&mut self, now: Now) {
        let timeout_ms = self.timing.heartbeat_timeout_ms;
        self.unanswered.retain(|(_, sent_at)| now.elapsed < sent_at.plus(timeout_ms));
    }

    fn suspect(&mut self, now: Now, sign: Sign) -> Effects {
        let mut effects = Effects::none();
        let Some(view) = &self.view else { return effects };
        if self.suspected || self.leading || !view.lists(&self.me) {
            return effects;
        }
        self.suspected = true;
        let last = match sign {
            Sign::Silent { .. } => self.answered_at,
            Sign::Reset | Sign::SteppedDown | Sign::Restarted => now.elapsed,
        };
        let served_at = *self.lost_at.get_or_insert(last);
        let suspicion = Suspicion { sign, served_at, noticed_at: now.elapsed };
        effects.tell(Note::Suspected { view: view.number, suspicion });
        effects
    }

    /// The primary's process is gone, or the link to it: suspected at once, and asked again at once, since it may only be
    /// the link.
    fn on_lost(&mut self, now: Now, address: &Address, watch: bool) -> Effects {
        let primary = self.view.as_ref().and_then(|view| view.primary_peer());
        let Some(primary) = primary.filter(|peer| peer.address == *address && peer.voter != self.me.voter) else {
            return Effects::none();
        };
        let was = self.suspected;
        let mut effects = self.suspect(now, Sign::Reset);
        if watch {
            effects.push(Effect::Watch(Some(primary.address)));
        }
        if !was && self.suspected {
            effects.append(self.beat(now));
        }
        effects
    }

    /// One whose letters arrive while it learns of no view would be listed and set offline again, for ever.
    fn on_list_me(&self, from: &Peer, theirs: ViewNumber) -> Effects {
        let mut effects = Effects::none();
        let current = |view: &&Arc<View>| self.leading && view.number == theirs;
        let Some(view) = self.view.as_ref().filter(current) else { return effects };
        if self.members.is_removed(from) {
            if self.serving == Some(view.number) {
                effects.send(&from.address, PeerMessage::Removed { incarnation: from.incarnation });
            }
            return effects;
        }
        if from.voter.node().is_none() && view.seat(&from.voter).is_none() {
            effects.tell(Note::AddWitness { view: view.number, peer: from.clone() });
        }
        effects
    }

    /// a primary that serves says that this disk was removed. Nobody else's word will do, this node's own neither: it may
    /// be the only one that knows the view that leaves it out.
    fn retire(&self) -> Effects {
        let mut effects = Effects::none();
        if let Some(view) = self.view.as_ref().filter(|view| !view.lists(&self.me)) {
            effects.retire(format!(
                "{} was removed from cluster {} for good: what its data directory holds is of no use to it any more. With an \
                 empty one it joins as a new node",
                self.me.voter, view.cluster
            ));
        }
        effects
    }

    /// it says so at once, and with each beat for as long as it lasts.
    fn on_draining(&mut self, now: Now, on: bool) -> Effects {
        self.draining = on;
        if on && !self.leading { self.beat(now) } else { Effects::none() }
    }

    /// R-11, of the primary: who was silent too long.
    fn report_silent(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        let Some(view) = self.view.as_ref().filter(|_| self.leading) else { return effects };
        let timeout_ms = self.timing.heartbeat_timeout_ms;
        for (voter, status) in &mut self.heard {
            if now.elapsed >= status.heard_at.plus(timeout_ms) {
                let ms = now.elapsed.since(status.heard_at);
                status.heard_at = now.elapsed; // Reported again only after as long a silence.
                effects.tell(Note::Silent { view: view.number, voter: voter.clone(), ms });
            }
        }
        effects
    }
}

impl Machine for Heartbeats {
    type Input = Input;

    fn step(&mut self, now: Now, input: Input) -> Effects {
        match input {
            Input::Heartbeat { from, view, beat, log_end, commit_index, hash: _, is_answered } => {
                let status = PeerStatus { log_end, commit_index, heard_at: now.elapsed };
                self.on_heartbeat(now, &from, (view, beat), is_answered, status)
            }
            Input::HeartbeatAnswer { from, view, beat, serving } => self.on_answer(now, &from, view, beat, serving),
            Input::WatchEnded { address } => self.on_lost(now, &address, true),
            Input::Unreachable { address } => self.on_lost(now, &address, false),
            Input::ViewChanged(view) => self.on_view_changed(now, view),
            Input::LogPosition { log_end, committed } => {
                self.log_end = log_end;
                self.committed = committed;
                Effects::none()
            }
            Input::Serving { view } => {
                self.lost_at = None; // It leads since the view began.
                self.serving = Some(view);
                Effects::none()
            }
            Input::NotServing { view } => {
                if self.view.as_ref().is_none_or(|known| known.number != view) {
                    return Effects::none();
                }
                self.leading = false;
                self.serving = None;
                self.suspect(now, Sign::Restarted)
            }
            Input::ListMe { from, view } => self.on_list_me(&from, view),
            Input::Removed { incarnation } if incarnation == self.me.incarnation => self.retire(),
            Input::Removed { .. } => Effects::none(), // For the disk that was here before.
            Input::Members(members) => {
                self.members = members;
                Effects::none()
            }
            Input::Draining { on } => self.on_draining(now, on),
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.view.as_ref()?;
        let timeout_ms = self.timing.heartbeat_timeout_ms;
        if self.leading {
            return self.heard.values().map(|status| status.heard_at.plus(timeout_ms)).min();
        }
        // Who is not listed suspects nobody: it would be called for ever.
        let suspects = !self.suspected && self.view.as_ref().is_some_and(|view| view.lists(&self.me));
        let silence = Some(self.answered_at.plus(timeout_ms)).filter(|_| suspects);
        silence.into_iter().chain([self.next_beat]).min()
    }

    fn tick(&mut self, now: Now) -> Effects {
        let mut effects = self.report_silent(now);
        let listed = self.view.as_ref().is_some_and(|view| view.lists(&self.me));
        if listed && !self.leading && self.is_unanswered(now) {
            let ms = now.elapsed.since(self.answered_at);
            effects.append(self.suspect(now, Sign::Silent { ms }));
        }
        if !self.leading && now.elapsed >= self.next_beat {
            effects.append(self.beat(now));
        }
        effects
    }
}

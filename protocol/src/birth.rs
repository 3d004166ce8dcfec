//! The first view, and refusing a second cluster (section 9).
//!
//! A node that knows no view asks every seed, again and again, until one of them tells it a view. A data node founds a
//! cluster, view 1 with itself alone, only when
//!
//! - it is itself among the seeds, by the address that it is known by;
//! - every other seed has answered just now (an old answer may be from a disk that is gone), knows no view, and was told
//!   the same seeds;
//! - the seeds are data nodes, their ids differ, and its own is the highest.
//!
//! Two seeds never found beside each other, since each would have to have the highest id. Else it waits, and says for whom.
//! A witness asks too, never founds, and answers as everyone does.
//!
//! Not here: joining (`sync.rs`), the durable view (`replica.rs`), and a restarted node whose peers cannot be reached: it
//! knows a view, and stands in elections of that one.

use crate::change::{Cause, Reason};
use crate::ids::{Address, ClusterId, Millis, Now, Peer, ViewNumber, Voter};
use crate::machine::{Effects, Machine, Note, Setup};
use crate::message::PeerMessage;
use crate::status::NodeStatus;
use crate::storage::Recovered;
use crate::view::{Seat, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// For how many asking rounds an answer counts.
const ANSWER_ROUNDS_MAX: u64 = 3;
/// What sets this machine's randomness apart from that of the others, which begin with the same seed.
const SEED_SALT: u64 = 0x6269_7274_6800;
/// The same for the number of its first question.
const ROUND_SALT: u64 = 0x0050_4c1d;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// Somebody asks who this is.
    Hello { from: Peer, round: u64, seeds: Vec<Address> },
    /// A seed answers.
    HelloAnswer { from: Peer, round: u64, seeds: Vec<Address>, view: Option<View> },
    /// A view is in force.
    ViewChanged(Arc<View>),
}

/// What a seed said last.
#[derive(Clone, Debug)]
struct SeedAnswer {
    voter: Voter,
    seeds: BTreeSet<Address>,
    knows_view: bool,
    round: u64,
    at: Millis,
}

/// What stands between this node and a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Found,
    Wait(String),
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Birth {
    setup: Setup,
    seeds: BTreeSet<Address>,
    /// The latest view in force here.
    view: Option<Arc<View>>,
    /// It decided view 1, which is on its way to the disk.
    founded: bool,
    answers: BTreeMap<Address, SeedAnswer>,
    /// The first round of questions of this process, and the last. An answer to any other was for another life of this node's
    /// address, when the seed may well have known nothing.
    rounds: (u64, u64),
    ask_at: Millis,
    waiting_for: String,
}

impl Birth {
    /// A machine that has heard nothing yet; its first `tick` begins.
    #[must_use]
    pub fn new(setup: &Setup, recovered: &Recovered) -> Self {
        let round = u64::from(fastrand::Rng::with_seed(setup.seed ^ ROUND_SALT).u32(..)) << 32;
        Self {
            setup: setup.clone(),
            seeds: setup.seeds.iter().cloned().collect(),
            rounds: (round, round),
            view: recovered.vote.as_ref().map(|vote| Arc::new(vote.view.clone())),
            founded: false,
            answers: BTreeMap::new(),
            ask_at: Millis(0),
            waiting_for: String::new(),
        }
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        if self.is_asking() {
            status.waiting_for.clone_from(&self.waiting_for);
        }
    }

    fn is_asking(&self) -> bool {
        self.view.is_none() && !self.founded
    }

    fn other_seeds(&self) -> impl Iterator<Item = &Address> {
        self.seeds.iter().filter(|seed| **seed != self.setup.me.address)
    }

    /// Everyone answers, a node without a view too: that it has none is what the founder needs to hear.
    fn on_hello(&self, from: &Peer, round: u64) -> Effects {
        let mut effects = Effects::none();
        let view = self.view.as_ref().map(|view| View::clone(view));
        let seeds = self.seeds.iter().cloned().collect();
        effects.send(&from.address, PeerMessage::HelloAnswer { round, seeds, view });
        effects
    }

    /// The view in it goes to the replica machine by another way; here it only forbids to found.
    fn on_answer(&mut self, now: Now, from: Peer, round: u64, seeds: Vec<Address>, knows_view: bool) -> Effects {
        if !self.is_asking() || from.address == self.setup.me.address || !self.seeds.contains(&from.address) {
            return Effects::none();
        }
        let first = self.answers.get(&from.address).map_or(self.rounds.0, |answer| answer.round);
        if round < first || round > self.rounds.1 {
            return Effects::none();
        }
        let seeds = seeds.into_iter().collect();
        let answer = SeedAnswer { voter: from.voter, seeds, knows_view, round, at: now.elapsed };
        self.answers.insert(from.address, answer);
        self.judge(now)
    }

    fn judge(&mut self, now: Now) -> Effects {
        match self.verdict() {
            Verdict::Found => self.found(now),
            Verdict::Wait(reason) => {
                let mut effects = Effects::none();
                if reason != self.waiting_for {
                    effects.announce(format!("no cluster yet: {reason}"));
                    self.waiting_for = reason;
                }
                effects
            }
        }
    }

    fn verdict(&self) -> Verdict {
        let obstacles = [
            self.known_elsewhere(),
            self.twins(),
            self.strangers(),
            self.dissenters(),
            self.outsider(),
            self.unheard(),
            self.outranked(),
        ];
        obstacles.into_iter().flatten().next().map_or(Verdict::Found, Verdict::Wait)
    }

    fn known_elsewhere(&self) -> Option<String> {
        let knows = self.answers.iter().find(|(_, answer)| answer.knows_view).map(|(seed, _)| seed)?;
        Some(format!("{knows} belongs to a cluster, whose view is on its way"))
    }

    /// Two seeds with one id would both have the highest one.
    fn twins(&self) -> Option<String> {
        let me = (&self.setup.me.address, &self.setup.me.voter);
        let own = self.seeds.contains(me.0).then_some(me);
        let mut places: BTreeMap<&Voter, &Address> = BTreeMap::new();
        for (seed, voter) in own.into_iter().chain(self.answers.iter().map(|(seed, answer)| (seed, &answer.voter))) {
            if let Some(twin) = places.insert(voter, seed) {
                return Some(format!(
                    "{twin} and {seed} both say that they are {voter}: give each data node its own id"
                ));
            }
        }
        None
    }

    fn strangers(&self) -> Option<String> {
        let (seed, answer) = self.answers.iter().find(|(_, answer)| answer.voter.node().is_none())?;
        Some(format!("the seed {seed} is {}, and seeds must be data nodes", answer.voter))
    }

    fn dissenters(&self) -> Option<String> {
        self.setup.me.voter.node()?; // A gateway is told of the data nodes that it needs, not of all.
        let (seed, answer) = self.answers.iter().find(|(_, answer)| answer.seeds != self.seeds)?;
        let [ours, theirs] = [&self.seeds, &answer.seeds].map(|seeds| list(seeds.iter()));
        Some(format!("{seed} was told other seeds ({theirs}) than this node ({ours}): they must be the same"))
    }

    fn outsider(&self) -> Option<String> {
        let seeds = || list(self.seeds.iter());
        match self.setup.me.voter.node() {
            None => Some(format!("a view from any of {}", seeds())),
            Some(_) if !self.seeds.contains(&self.setup.me.address) => {
                let me = &self.setup.me.address;
                Some(format!("a view from any of {}; {me} is not among the seeds, and founds no cluster", seeds()))
            }
            Some(_) => None,
        }
    }

    fn unheard(&self) -> Option<String> {
        let missing: Vec<_> = self.other_seeds().filter(|seed| !self.answers.contains_key(*seed)).collect();
        (!missing.is_empty()).then(|| format!("an answer from {}", list(missing.into_iter())))
    }

    fn outranked(&self) -> Option<String> {
        let highest = self.answers.values().map(|answer| &answer.voter).max()?;
        (*highest > self.setup.me.voter).then(|| format!("{highest}, which has the highest id, to found the cluster"))
    }

    fn found(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        let Some(id) = self.setup.me.voter.node() else { return effects };
        assert!(self.is_asking(), "a node that knows a view founds no cluster");
        self.founded = true;
        let mut rng = fastrand::Rng::with_seed(self.setup.seed ^ SEED_SALT ^ now.wall.0);
        let seat = Seat { incarnation: self.setup.me.incarnation, address: self.setup.me.address.clone() };
        let view = View {
            cluster: ClusterId(rng.u128(..)),
            number: ViewNumber(1),
            primary: id,
            replicas: BTreeMap::from([(id, seat)]),
            witnesses: BTreeMap::new(),
            cause: Cause::new(now.wall, id, vec![Reason::Founded]).into(),
        };
        debug_assert!(view.is_well_formed());
        effects.announce(format!("founded cluster {}: all seeds answered, and none knew of one", view.cluster));
        effects.tell(Note::Learnt { view });
        effects
    }

    fn ask(&mut self, now: Now) -> Effects {
        let interval = self.setup.timing.seek_interval_ms;
        self.ask_at = now.elapsed.plus(interval);
        self.answers.retain(|_, answer| now.elapsed.since(answer.at) <= interval * ANSWER_ROUNDS_MAX);
        self.rounds.1 += 1;
        let mut effects = Effects::none();
        for seed in self.other_seeds() {
            let seeds = self.seeds.iter().cloned().collect();
            effects.send(seed, PeerMessage::Hello { round: self.rounds.1, seeds });
        }
        effects.append(self.judge(now));
        effects
    }
}

fn list<'a>(addresses: impl Iterator<Item = &'a Address>) -> String {
    addresses.map(Address::as_str).collect::<Vec<_>>().join(", ")
}

impl Machine for Birth {
    type Input = Input;

    fn step(&mut self, now: Now, input: Input) -> Effects {
        match input {
            Input::Hello { from, round, seeds: _ } => self.on_hello(&from, round),
            Input::HelloAnswer { from, round, seeds, view } => self.on_answer(now, from, round, seeds, view.is_some()),
            Input::ViewChanged(view) => {
                if self.view.as_ref().is_none_or(|known| known.number < view.number) {
                    self.view = Some(view);
                    self.answers.clear();
                }
                Effects::none()
            }
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.is_asking().then_some(self.ask_at)
    }

    fn tick(&mut self, now: Now) -> Effects {
        if self.is_asking() && self.ask_at <= now.elapsed { self.ask(now) } else { Effects::none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Hash, Incarnation, Index, NodeId, Timestamp, WitnessName};
    use crate::machine::{Effect, Limits, Timing};
    use crate::storage::{Identity, VoteRecord};
    use crate::testing::observed;

    fn node(id: u32, place: u32) -> Peer {
        let address = Address::new(&format!("n{place}"));
        Peer { voter: Voter::Replica(NodeId(id)), incarnation: Incarnation(id.into()), address }
    }

    fn witness() -> Peer {
        let voter = Voter::Witness(WitnessName::new("gateway-1"));
        Peer { voter, incarnation: Incarnation(9), address: Address::new("w") }
    }

    fn seeds(places: &[u32]) -> Vec<Address> {
        places.iter().map(|n| Address::new(&format!("n{n}"))).collect()
    }

    fn view(number: u64) -> View {
        let seat = Seat { incarnation: Incarnation(1), address: Address::new("n1") };
        View {
            cluster: ClusterId(5),
            number: ViewNumber(number),
            primary: NodeId(1),
            replicas: BTreeMap::from([(NodeId(1), seat)]),
            witnesses: BTreeMap::new(),
            cause: Cause::new(Timestamp(0), NodeId(1), Vec::new()).into(),
        }
    }

    fn at(ms: u64) -> Now {
        Now { elapsed: Millis(ms), wall: Timestamp(0) }
    }

    fn birth_with(me: &Peer, places: &[u32], vote: Option<View>, seed: u64) -> Birth {
        let setup =
            Setup { me: me.clone(), seeds: seeds(places), timing: Timing::default(), limits: Limits::default(), seed };
        let recovered = Recovered {
            identity: Identity { voter: me.voter.clone(), incarnation: me.incarnation },
            vote: vote.map(|view| VoteRecord { view, promised: None, accepted: None }),
            committed: (Index(0), Hash::default()),
            recent: Vec::new(),
            tail: Vec::new(),
            last_timestamp: Timestamp(0),
            members: Default::default(),
        };
        Birth::new(&setup, &recovered)
    }

    fn birth(me: &Peer, places: &[u32]) -> Birth {
        birth_with(me, places, None, 1)
    }

    fn lines(effects: Effects) -> Vec<String> {
        effects
            .into_iter()
            .map(|effect| match effect {
                Effect::Send { to, message: PeerMessage::Hello { seeds, .. } } => {
                    format!("hello {to} {}", list(seeds.iter()))
                }
                Effect::Send { to, message: PeerMessage::HelloAnswer { seeds, view, .. } } => {
                    format!("answer {to} {} {:?}", list(seeds.iter()), view.map(|view| view.number.0))
                }
                Effect::Tell(Note::Learnt { view }) => {
                    let ids: Vec<_> = view.replicas.keys().map(|id| id.0).collect();
                    format!("learnt {} {} {ids:?} {} {}", view.number, view.primary, view.witnesses.len(), view.cause)
                }
                Effect::Announce(text) => text,
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }

    fn answers(birth: &mut Birth, ms: u64, from: Peer, places: &[u32], view: Option<View>) -> Vec<String> {
        let round = birth.rounds.1;
        lines(birth.step(at(ms), Input::HelloAnswer { from, round, seeds: seeds(places), view }))
    }

    fn waits_for(birth: &Birth) -> String {
        observed(|status| birth.observe(status)).waiting_for
    }

    const NONE: [&str; 0] = [];
    const ALL: [u32; 3] = [1, 2, 3];

    fn founds(told: &[String]) -> bool {
        told.iter().any(|line| line.starts_with("learnt"))
    }

    #[test]
    fn section_9_the_highest_seed_founds_when_all_answered_empty() {
        let mut birth = birth(&node(3, 3), &ALL);
        assert_eq!(birth.deadline(), Some(Millis(0)));
        let asked = lines(birth.tick(at(0)));
        let waits = "no cluster yet: an answer from n1, n2";
        assert_eq!(asked, ["hello n1 n1, n2, n3", "hello n2 n1, n2, n3", waits]);
        let told = answers(&mut birth, 5, node(1, 1), &ALL, None);
        assert_eq!(told, ["no cluster yet: an answer from n2"]);
        assert_eq!(waits_for(&birth), "an answer from n2");
        let told = answers(&mut birth, 6, node(2, 2), &ALL, None);
        assert!(told[0].starts_with("founded cluster "), "{told:?}");
        assert_eq!(told[1..], ["learnt 1 3 [3] 0 node 3 founded the cluster"]);
        assert_eq!((birth.deadline(), waits_for(&birth).as_str()), (None, ""));
        assert_eq!(answers(&mut birth, 7, node(2, 2), &ALL, None), NONE, "once");
        let hello = Input::Hello { from: node(1, 1), round: 1, seeds: seeds(&ALL) };
        assert_eq!(lines(birth.step(at(8), hello.clone())), ["answer n1 n1, n2, n3 None"], "not durable yet");
        assert_eq!(lines(birth.step(at(9), Input::ViewChanged(Arc::new(view(1))))), NONE);
        assert_eq!(lines(birth.step(at(9), hello)), ["answer n1 n1, n2, n3 Some(1)"]);
    }

    #[test]
    fn section_9_a_single_seed_founds_at_once_and_its_cluster_is_random() {
        let found = |seed| {
            let effects = birth_with(&node(1, 1), &[1], None, seed).tick(at(0));
            let learnt = effects.into_iter().find_map(|effect| match effect {
                Effect::Tell(Note::Learnt { view }) => Some(view),
                _ => None,
            });
            learnt.expect("it founds")
        };
        assert!(found(1).is_well_formed());
        assert_eq!(found(1), found(1), "the same inputs, the same effects");
        assert_ne!(found(1).cluster, found(2).cluster);
    }

    #[test]
    fn section_9_a_lower_seed_waits_for_the_highest() {
        let mut birth = birth(&node(2, 2), &[1, 2, 3]);
        drop(birth.tick(at(0)));
        answers(&mut birth, 1, node(1, 1), &ALL, None);
        let told = answers(&mut birth, 1, node(3, 3), &ALL, None);
        assert_eq!(told, ["no cluster yet: node 3, which has the highest id, to found the cluster"]);
        assert_eq!(lines(birth.tick(at(500))), ["hello n1 n1, n2, n3", "hello n3 n1, n2, n3"], "said once");
        assert_eq!(lines(birth.tick(at(501))), NONE, "too early");
    }

    #[test]
    fn section_9_whoever_hears_of_a_view_founds_nothing() {
        let mut birth = birth(&node(3, 3), &ALL);
        drop(birth.tick(at(0)));
        answers(&mut birth, 1, node(2, 2), &ALL, Some(view(7)));
        let told = answers(&mut birth, 1, node(1, 1), &ALL, None);
        assert!(!founds(&told));
        assert_eq!(waits_for(&birth), "n2 belongs to a cluster, whose view is on its way");
        drop(birth.step(at(2), Input::ViewChanged(Arc::new(view(7)))));
        assert_eq!((birth.deadline(), waits_for(&birth).as_str()), (None, ""));
    }

    #[test]
    fn section_9_answers_of_long_ago_do_not_count() {
        let mut birth = birth(&node(3, 3), &ALL);
        drop(birth.tick(at(0)));
        answers(&mut birth, 1, node(1, 1), &ALL, None);
        drop(birth.tick(at(1_000)));
        drop(birth.tick(at(2_000)));
        let told = answers(&mut birth, 2_001, node(2, 2), &ALL, None);
        assert!(!founds(&told));
        assert_eq!(waits_for(&birth), "an answer from n1");
        assert!(founds(&answers(&mut birth, 2_002, node(1, 1), &ALL, None)));
    }

    #[test]
    fn d18_two_seeds_with_one_id_found_nothing_and_say_so() {
        let mut birth = birth(&node(3, 3), &ALL);
        drop(birth.tick(at(0)));
        answers(&mut birth, 1, node(1, 1), &ALL, None);
        let told = answers(&mut birth, 1, node(3, 2), &ALL, None);
        let twins = "n3 and n2 both say that they are node 3: give each data node its own id";
        assert_eq!(told, [format!("no cluster yet: {twins}")]);
        assert_eq!(waits_for(&birth), twins);
        let mut other = self::birth(&node(3, 3), &ALL);
        drop(other.tick(at(0)));
        answers(&mut other, 1, node(1, 1), &ALL, None);
        assert!(!founds(&answers(&mut other, 1, node(1, 2), &ALL, None)), "lower ones too");
    }

    #[test]
    fn section_9_different_seeds_found_nothing() {
        let mut birth = birth(&node(3, 3), &ALL);
        drop(birth.tick(at(0)));
        answers(&mut birth, 1, node(1, 1), &ALL, None);
        let told = answers(&mut birth, 1, node(2, 2), &[1, 2], None);
        let reason = "n2 was told other seeds (n1, n2) than this node (n1, n2, n3): they must be the same";
        assert_eq!(told, [format!("no cluster yet: {reason}")]);
        assert!(founds(&answers(&mut birth, 2, node(2, 2), &ALL, None)), "mended");
    }

    #[test]
    fn section_9_a_node_outside_the_seeds_founds_nothing() {
        let mut birth = birth(&node(9, 9), &[1, 2]);
        drop(birth.tick(at(0)));
        answers(&mut birth, 1, node(1, 1), &[1, 2], None);
        assert!(!founds(&answers(&mut birth, 1, node(2, 2), &[1, 2], None)));
        assert!(waits_for(&birth).contains("n9 is not among the seeds"));
        assert!(!founds(&lines(self::birth(&node(1, 1), &[]).tick(at(0)))), "no seeds at all");
    }

    #[test]
    fn section_9_a_witness_asks_answers_and_never_founds() {
        let mut birth = birth(&witness(), &[1, 2]);
        assert_eq!(lines(birth.tick(at(0))).len(), 3);
        answers(&mut birth, 1, node(1, 1), &ALL, None);
        assert!(!founds(&answers(&mut birth, 1, node(2, 2), &ALL, None)));
        assert_eq!(waits_for(&birth), "a view from any of n1, n2");
        let hello = Input::Hello { from: node(1, 1), round: 1, seeds: seeds(&ALL) };
        assert_eq!(lines(birth.step(at(2), hello)), ["answer n1 n1, n2 None"]);
        let mut lost = self::birth(&node(3, 3), &[2, 3]);
        drop(lost.tick(at(0)));
        let told = answers(&mut lost, 1, Peer { address: Address::new("n2"), ..witness() }, &[2, 3], None);
        assert_eq!(told, ["no cluster yet: the seed n2 is witness gateway-1, and seeds must be data nodes"]);
    }

    #[test]
    fn section_9_an_answer_to_an_earlier_life_of_this_node_does_not_count() {
        let mut lost = birth_with(&node(2, 2), &[1, 2], None, 1);
        drop(lost.tick(at(0)));
        let mut birth = birth_with(&node(2, 2), &[1, 2], None, 2);
        drop(birth.tick(at(0)));
        let late = |round| Input::HelloAnswer { from: node(1, 1), round, seeds: seeds(&[1, 2]), view: None };
        assert!(!founds(&lines(birth.step(at(1), late(lost.rounds.1)))), "it was empty before the disk was lost");
        assert!(!founds(&lines(birth.step(at(1), late(birth.rounds.1 + 1)))));
        let round = birth.rounds.1;
        assert!(founds(&lines(birth.step(at(2), late(round)))));
    }

    #[test]
    fn section_9_answers_of_those_who_are_no_seeds_do_not_count() {
        let mut birth = birth(&node(3, 3), &[2, 3]);
        drop(birth.tick(at(0)));
        assert_eq!(answers(&mut birth, 1, node(1, 7), &[2, 3], None), NONE);
        assert_eq!(answers(&mut birth, 1, node(3, 3), &[2, 3], None), NONE, "its own");
        assert_eq!(waits_for(&birth), "an answer from n2");
    }

    #[test]
    fn section_9_a_restarted_node_with_a_view_asks_nobody_and_tells_the_latest() {
        let mut birth = birth_with(&node(1, 1), &[1, 2], Some(view(4)), 1);
        assert_eq!((birth.deadline(), lines(birth.tick(at(0)))), (None, Vec::new()));
        let hello = Input::Hello { from: witness(), round: 1, seeds: Vec::new() };
        assert_eq!(lines(birth.step(at(0), hello.clone())), ["answer w n1, n2 Some(4)"]);
        drop(birth.step(at(1), Input::ViewChanged(Arc::new(view(6)))));
        drop(birth.step(at(1), Input::ViewChanged(Arc::new(view(5)))));
        assert_eq!(lines(birth.step(at(1), hello)), ["answer w n1, n2 Some(6)"]);
        assert_eq!(answers(&mut birth, 2, node(2, 2), &[1, 2], None), NONE);
    }

    #[test]
    fn section_9_clusters_that_are_founded_apart_have_different_names() {
        let found = |seed: u64, wall: u64| {
            let now = Now { elapsed: Millis(0), wall: Timestamp(wall) };
            let learnt =
                birth_with(&node(1, 1), &[1], None, seed).tick(now).into_iter().find_map(|effect| match effect {
                    Effect::Tell(Note::Learnt { view }) => Some(view.cluster),
                    _ => None,
                });
            learnt.expect("it founds")
        };
        let bits = || (0..u64::BITS).map(|bit| 1_u64 << bit);
        let by_seed: BTreeSet<_> = bits().map(|seed| found(seed, 0)).collect();
        let by_time: BTreeSet<_> = bits().map(|wall| found(0, wall)).collect();
        assert_eq!((by_seed.len(), by_time.len()), (64, 64), "whatever bit of the seed or the clock tells them apart");
    }

    #[test]
    fn section_9_an_answer_counts_for_three_rounds_of_questions() {
        let mut birth = birth(&node(3, 3), &ALL);
        drop(birth.tick(at(0)));
        answers(&mut birth, 1, node(1, 1), &ALL, None);
        for ms in [500, 1_000, 1_500] {
            drop(birth.tick(at(ms)));
        }
        assert!(founds(&answers(&mut birth, 1_501, node(2, 2), &ALL, None)), "seeds need not answer all at once");
    }

    #[test]
    fn section_9_an_answer_that_was_overtaken_takes_nothing_back() {
        let mut birth = birth(&node(3, 3), &ALL);
        drop(birth.tick(at(0)));
        let first = birth.rounds.1;
        drop(birth.tick(at(500)));
        answers(&mut birth, 501, node(1, 1), &ALL, Some(view(7)));
        let late = Input::HelloAnswer { from: node(1, 1), round: first, seeds: seeds(&ALL), view: None };
        assert_eq!(lines(birth.step(at(502), late)), NONE);
        assert!(!founds(&answers(&mut birth, 503, node(2, 2), &ALL, None)), "node 1 belongs to a cluster since");
    }
}

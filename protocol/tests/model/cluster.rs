//! A small cluster as a model: the shipped machines behind the shipped `route.rs`, on the simulator's stage, and everything that may
//! happen next to it.
//!
//! A step delivers, loses or repeats a letter, lets one machine's deadline come, kills or starts a process, has a node hear that a
//! connection was reset, or has a client ask. The clock is no more than that: a deadline that comes may come before earlier ones
//! of other machines, which are late then. Letters of one lane between two nodes keep their order, but for a repeated one, which
//! comes again behind all others. A letter that is never delivered is a lost one, so losing costs no step of its own unless
//! something behind it is to arrive.
//!
//! Each kind of fault has a budget, which bounds the model. A state is told by a hash over the debug form of all of it: the machines
//! are no plain data, and deriving `Hash` for everything that they hold would be for this alone.
//!
//! Not here: what must hold (the simulator's checker and `invariant.rs`), and which models are run (`model.rs`).

use lockstep_protocol::ids::{Address, Incarnation, NodeId, Peer, Voter, WitnessName};
use lockstep_protocol::invariant::{Rule, Violation};
use lockstep_protocol::machine::{Limits, Timing};
use lockstep_protocol::message::Lane;
use lockstep_protocol::operation::{Action, Answer, ChannelName, KeyOwner, Operation, Outcome, Page, Query, Text};
use lockstep_protocol::route::MachineName;
use lockstep_protocol::sim::stage::{Happening, Letter, Stage};
use stateright::{Model, Property};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The way of a letter: from, to, and which connection.
type Link = (usize, usize, Lane);

/// How often each thing may happen, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// A client's write, to whoever serves; after the first, the same under the same key.
    pub writes: u8,
    /// A client's read, to any data node.
    pub reads: u8,
    /// A crash.
    pub crashes: u8,
    /// A dead process that starts again.
    pub starts: u8,
    /// A letter lost.
    pub losses: u8,
    /// A letter repeated.
    pub repeats: u8,
    /// A deadline that comes.
    pub timers: u8,
    /// A connection to a living primary that is reset.
    pub resets: u8,
    /// Views beyond the first.
    pub views: u8,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Deliver(Link),
    Lose(Link),
    Repeat(Link),
    Timer(usize, MachineName),
    Crash(usize),
    Start(usize),
    /// The node hears that its connection to the other was reset.
    Reset(usize, usize),
    Write(usize),
    Read(usize),
}

/// A cluster, its letters, and what may still happen.
pub struct State {
    stage: Stage,
    mail: BTreeMap<Link, VecDeque<Posted>>,
    left: Budget,
    /// Who heard of whose death: the node, the other, and which of its processes.
    noticed: BTreeSet<(usize, usize, u32)>,
    /// The promise that was broken.
    pub broken: Option<Violation>,
    /// A client was told that its write is done; that it found something.
    pub has_written: bool,
    pub has_read: bool,
    /// Of each node, and of all; a step changes one node.
    prints: Vec<blake3::Hash>,
    print: blake3::Hash,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Data nodes.
    pub data: u32,
    /// Witnesses.
    pub witnesses: u32,
    /// Bounds.
    pub budget: Budget,
    /// When nothing new is looked at any more.
    pub until: Option<Instant>,
    /// It is done, and what it found is told: the time does not matter then, and every step must be there again.
    pub is_done: Arc<AtomicBool>,
}

/// The view in which a model begins: view 1 was on the disks, and being primary is not durable.
const FIRST_VIEW: u64 = 2;
/// How long the cluster has served then. Microseconds.
const BEFORE_US: u64 = 6_000_000;

/// Feeds text to a hash.
struct Print(blake3::Hasher);

impl fmt::Write for Print {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// A letter, with its print.
#[derive(Clone)]
struct Posted {
    letter: Letter,
    print: blake3::Hash,
}

fn print(write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) -> blake3::Hash {
    let mut print = Print(blake3::Hasher::new());
    write(&mut print).expect("a hash takes all");
    print.0.finalize()
}

impl Step {
    /// The one node that it changes.
    fn node(self, state: &State) -> usize {
        match self {
            Self::Deliver((from, to, _)) => {
                if state.is_alive(to) {
                    to
                } else {
                    from
                }
            }
            Self::Lose((_, to, _)) | Self::Repeat((_, to, _)) => to,
            Self::Timer(node, _)
            | Self::Crash(node)
            | Self::Start(node)
            | Self::Reset(node, _)
            | Self::Write(node)
            | Self::Read(node) => node,
        }
    }
}

impl Clone for State {
    fn clone(&self) -> Self {
        Self {
            stage: self.stage.duplicate(),
            mail: self.mail.clone(),
            left: self.left,
            noticed: self.noticed.clone(),
            broken: self.broken.clone(),
            has_written: self.has_written,
            has_read: self.has_read,
            prints: self.prints.clone(),
            print: self.print,
        }
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.print.as_bytes().hash(hasher);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state {}, {:?}", self.print, self.broken)
    }
}

impl State {
    /// The number of the last view that anybody acts in.
    pub fn view(&self) -> u64 {
        self.stage.checker().views().last().map_or(0, |view| view.number.0)
    }

    /// Whether one of these promises is broken.
    pub fn broke(&self, rules: &[Rule]) -> bool {
        self.broken.as_ref().is_some_and(|violation| rules.contains(&violation.rule))
    }

    fn is_alive(&self, node: usize) -> bool {
        self.stage.nodes()[node].process.is_some()
    }

    /// Takes in what the last action set off.
    fn gather(&mut self, done: Result<(), Violation>) {
        for letter in self.stage.take_letters() {
            let link = (letter.from, letter.to, letter.envelope.message.lane());
            let print = print(|to| write!(to, "{} {:?}", letter.life, letter.envelope));
            self.mail.entry(link).or_default().push_back(Posted { letter, print });
        }
        for (node, happening) in self.stage.take_happened() {
            match happening {
                Happening::Answered(_, Answer::Written(Outcome::Message(_), _)) => self.has_written = true,
                Happening::Answered(_, Answer::Read(..)) => self.has_read = true,
                Happening::Halted(why) | Happening::Ended(why) => {
                    self.broken = Some(Violation::new(Rule::Stopped, format!("node {node}: {why}")));
                }
                Happening::Sent(_)
                | Happening::Refused(_)
                | Happening::Served(_)
                | Happening::Acts(_)
                | Happening::Serves(_)
                | Happening::Stops(_)
                | Happening::Answered(..) => {}
            }
        }
        self.broken = done.err().or(self.broken.take());
    }

    /// A step changed this node, and letters.
    fn seal(&mut self, node: usize) {
        self.prints[node] = print(|to| self.stage.write_node(node, to));
        let mail: Vec<_> =
            self.mail.iter().map(|(link, mail)| (link, mail.iter().map(|posted| posted.print))).collect();
        let mail: Vec<_> = mail.into_iter().map(|(link, prints)| (link, prints.collect::<Vec<_>>())).collect();
        let rest = (&self.left, &self.noticed, &self.broken, self.has_written, self.has_read);
        let record = print(|to| self.stage.write_record(to));
        self.print = print(|to| write!(to, "{:?} {record:?} {mail:?} {rest:?}", self.prints));
    }

    fn take(&mut self, link: Link) -> Option<Letter> {
        let mail = self.mail.get_mut(&link)?;
        let letter = mail.pop_front();
        if mail.is_empty() {
            self.mail.remove(&link);
        }
        letter.map(|posted| posted.letter)
    }

    /// A letter arrives; a dead process refuses the connection.
    fn deliver(&mut self, link: Link) -> Result<(), Violation> {
        let Some(letter) = self.take(link) else { return Ok(()) };
        let (from, to, life) = (letter.from, letter.to, letter.life);
        if self.is_alive(to) {
            return self.stage.deliver(letter);
        }
        let sender = &self.stage.nodes()[from];
        if sender.process.is_some() && sender.life == life { self.stage.refuse(from, to) } else { Ok(()) }
    }

    /// Everything on its way arrives at once, and deadlines come in their order, for so long.
    fn run_calmly(&mut self, us: u64) -> Result<(), Violation> {
        let end = self.stage.now() + us;
        loop {
            while let Some(link) = self.mail.keys().next().copied() {
                let done = self.deliver(link);
                self.gather(done.clone());
                done?;
            }
            let Some((at, node)) = self.stage.next_deadline().filter(|(at, _)| *at <= end) else { return Ok(()) };
            self.stage.advance(at);
            let done = self.stage.tick(node);
            self.gather(done.clone());
            done?;
        }
    }

    fn carry_out(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Deliver(link) => self.deliver(link),
            Step::Lose(link) => {
                self.left.losses -= 1;
                self.take(link);
                Ok(())
            }
            Step::Repeat(link) => {
                self.left.repeats -= 1;
                if let Some(mail) = self.mail.get_mut(&link) {
                    mail.extend(mail.front().cloned());
                }
                Ok(())
            }
            Step::Timer(node, name) => {
                self.left.timers -= 1;
                self.stage.fire(node, name).map(drop)
            }
            Step::Crash(node) => {
                self.left.crashes -= 1;
                self.stage.kill(node);
                Ok(())
            }
            Step::Start(node) => {
                self.left.starts -= 1;
                self.stage.start(node)
            }
            Step::Reset(node, other) => {
                let other_lives = self.is_alive(other);
                self.left.resets -= u8::from(other_lives);
                if !other_lives {
                    self.noticed.insert((node, other, self.stage.nodes()[other].life));
                }
                self.stage.refuse(node, other)
            }
            Step::Write(node) => {
                self.left.writes -= 1;
                self.stage.write(node, post()).map(drop)
            }
            Step::Read(node) => {
                self.left.reads -= 1;
                self.stage.read(node, history()).map(drop)
            }
        }
    }

    /// Where a node's view says that its primary is, if that is another.
    fn primary_of(&self, node: usize) -> Option<usize> {
        let view = &self.stage.nodes()[node].mirror.vote.as_ref()?.view;
        let primary = view.primary_peer()?;
        self.stage.nodes().iter().position(|other| other.me == primary).filter(|primary| *primary != node)
    }

    fn node_steps(&self, node: usize, steps: &mut Vec<Step>) {
        let known = &self.stage.nodes()[node];
        let Some(process) = known.process.as_ref() else {
            steps.extend((self.left.starts > 0).then_some(Step::Start(node)));
            return;
        };
        if self.left.crashes > 0 {
            steps.push(Step::Crash(node));
        }
        if self.left.timers > 0 {
            let wanted = MachineName::ALL.into_iter().filter(|name| process.deadline(*name).is_some());
            steps.extend(wanted.map(|name| Step::Timer(node, name)));
        }
        if let Some(primary) = self.primary_of(node) {
            let life = self.stage.nodes()[primary].life;
            let is_news = !self.noticed.contains(&(node, primary, life));
            let may_be_reset = if self.is_alive(primary) { self.left.resets > 0 } else { is_news };
            if may_be_reset {
                steps.push(Step::Reset(node, primary));
            }
        }
        if self.left.writes > 0 && known.serving().is_some() {
            steps.push(Step::Write(node));
        }
        if self.left.reads > 0 && known.serving().is_some() {
            steps.push(Step::Read(node));
        }
    }
}

fn post() -> Operation {
    let (channel, text) = (ChannelName::new("general").expect("a name"), Text::new("hello").expect("a text"));
    let owner = KeyOwner::new("ada", "k1").expect("a key");
    Operation { owner, action: Action::Post { channel, text, create_channel: true } }
}

fn history() -> Query {
    let page = Page { limit: 10, before: None, after: None, ascending: true };
    Query::History { channel: ChannelName::new("general").expect("a name"), page }
}

impl Cluster {
    fn is_late(&self) -> bool {
        !self.is_done.load(Ordering::Relaxed) && self.until.is_some_and(|until| Instant::now() > until)
    }

    fn peers(&self) -> Vec<Peer> {
        let data = (1..=self.data).map(|id| (Voter::Replica(NodeId(id)), format!("node-{id}")));
        let names = (1..=self.witnesses).map(|number| format!("witness-{number}"));
        let witnesses = names.map(|name| (Voter::Witness(WitnessName::new(&name)), name));
        let peer = |(number, (voter, address)): (u64, (Voter, String))| Peer {
            voter,
            incarnation: Incarnation(number),
            address: Address::new(&address),
        };
        (1..).zip(data.chain(witnesses)).map(peer).collect()
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    /// A cluster that was started, and serves in its second view; nothing is on its way.
    fn init_states(&self) -> Vec<State> {
        let peers = self.peers();
        let count = peers.len();
        let mut state = State {
            stage: Stage::new(peers, self.data as usize, Timing::default(), Limits::default()),
            mail: BTreeMap::new(),
            left: self.budget,
            noticed: BTreeSet::new(),
            broken: None,
            has_written: false,
            has_read: false,
            prints: vec![blake3::hash(b""); count],
            print: blake3::hash(b""),
        };
        state.stage.found(count).expect("there are data nodes");
        for node in 0..count {
            let done = state.stage.start(node);
            state.gather(done);
        }
        if let Err(violation) = state.run_calmly(BEFORE_US) {
            state.broken = Some(violation); // The model begins with a broken promise, and says so.
        }
        (0..count).for_each(|node| state.seal(node));
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken.is_some() || self.is_late() || state.view() > FIRST_VIEW + u64::from(self.budget.views) {
            return;
        }
        for link in state.mail.keys() {
            steps.push(Step::Deliver(*link));
            if state.left.losses > 0 {
                steps.push(Step::Lose(*link));
            }
            if state.left.repeats > 0 {
                steps.push(Step::Repeat(*link));
            }
        }
        (0..state.stage.nodes().len()).for_each(|node| state.node_steps(node, steps));
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        let (node, done) = (step.node(last), state.carry_out(step));
        state.gather(done);
        state.seal(node);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S1: nothing acknowledged is lost", |_, state: &State| {
                !state.broke(&[Rule::Lost, Rule::Lacks])
            }),
            Property::always("S2: reads and writes are linearizable", |_, state: &State| {
                !state.broke(&[Rule::Stale, Rule::WrongAnswer, Rule::Unasked])
            }),
            Property::always("S3: a key takes effect once", |_, state: &State| !state.broke(&[Rule::Twice])),
            Property::always("S4: what was aborted has no effect", |_, state: &State| {
                !state.broke(&[Rule::Resurrected])
            }),
            Property::always("S5: all apply the same", |_, state: &State| {
                !state.broke(&[Rule::Diverged, Rule::TwoContents])
            }),
            Property::always("two views of one number are one view", |_, state: &State| {
                !state.broke(&[Rule::TwoViews])
            }),
            Property::always("what S1 to S5 rest on", |_, state: &State| state.broken.is_none()),
            Property::sometimes("a write is acknowledged", |_, state: &State| state.has_written),
            Property::sometimes("a read is answered", |_, state: &State| state.has_read),
            Property::sometimes("another view is in force", |_, state: &State| state.view() > FIRST_VIEW),
        ]
    }
}

//! A guard: what `step()`, encoding and locking cost, in allocations and allocated bytes. Unlike time, they are the same on every
//! machine, however busy: so they are compared with the figures that are checked in beside this, and 1 % more fails.
//!
//! `cargo bench -p lockstep-protocol --features sim`; after a change that is worth its price, the same with
//! `LOCKSTEP_FIGURES=write`.
//!
//! Not here: how long anything takes (`lockstep bench`, `benches/peers`).

use allocation_counter::{AllocationInfo, measure};
use lockstep_protocol::ids::{Address, Incarnation, Millis, NodeId, Now, Peer, RequestId, Timestamp, Voter};
use lockstep_protocol::lock::{self, LockOwner, LockTable, Mode, Resource};
use lockstep_protocol::log::{LogRecord, seal, unseal};
use lockstep_protocol::machine::{Effect, Limits, Machine, Timing};
use lockstep_protocol::message::{Envelope, PROTOCOL_VERSION, PeerMessage};
use lockstep_protocol::operation::{Action, ChannelName, KeyOwner, Message, Operation, Page, Query, Text, UserName};
use lockstep_protocol::page::Messages;
use lockstep_protocol::route;
use lockstep_protocol::sim::node::Process;
use lockstep_protocol::sim::stage::Stage;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::hint::black_box;
use std::process::ExitCode;

/// Where the figures lie.
const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/figures.txt");
/// How much more than these is too much: one in so many.
const SLACK: u64 = 100;
/// Data nodes.
const NODES: usize = 3;
/// Posts of a large batch, and messages of a page.
const MANY: usize = 100;

/// Allocations, and bytes of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    allocations: u64,
    bytes: u64,
}

impl Cost {
    fn add(&mut self, info: AllocationInfo) {
        self.allocations += info.count_total;
        self.bytes += info.bytes_total;
    }

    fn of(work: impl FnOnce()) -> Self {
        let mut cost = Self::default();
        cost.add(measure(work));
        cost
    }

    fn is_more_than(self, known: Self) -> bool {
        let exceeds = |found: u64, known: u64| found > known + known / SLACK;
        exceeds(self.allocations, known.allocations) || exceeds(self.bytes, known.bytes)
    }
}

fn channel() -> ChannelName {
    ChannelName::new("general").expect("a name")
}

fn text() -> Text {
    Text::new(&"x".repeat(256)).expect("a text")
}

fn post(key: usize) -> Operation {
    let owner = KeyOwner::new("ada", &format!("k{key}")).expect("a key");
    Operation { owner, action: Action::Post { channel: channel(), text: text(), create_channel: true } }
}

/// Three processes that have founded a cluster; letters arrive in the order of sending, disks are quick, time stands still.
struct Cluster {
    nodes: Vec<(Peer, Process)>,
    now: Now,
    letters: VecDeque<(usize, Envelope)>,
    requests: u64,
    answered: usize,
    /// Of the machines alone: neither disks nor letters.
    cost: Cost,
    prepares: Vec<PeerMessage>,
}

impl Cluster {
    fn new() -> Self {
        let peer = |n: usize| Peer {
            voter: Voter::Replica(NodeId(n as u32)),
            incarnation: Incarnation(n as u64),
            address: Address::new(&format!("n{n}")),
        };
        let mut stage = Stage::new((1..=NODES).map(peer).collect(), NODES, Timing::default(), Limits::default());
        stage.found(NODES).expect("three data nodes");
        (0..NODES).for_each(|node| stage.start(node).expect("starts"));
        let mut on_their_way = VecDeque::new();
        while stage.nodes().iter().all(|node| node.serving().is_none()) || !on_their_way.is_empty() {
            on_their_way.extend(stage.take_letters());
            match on_their_way.pop_front() {
                Some(letter) => stage.deliver(letter).expect("keeps its promises"),
                None => {
                    let (at, node) = stage.next_deadline().expect("somebody waits");
                    stage.advance(at);
                    stage.tick(node).expect("keeps its promises");
                }
            }
        }
        let now = Now { elapsed: Millis(stage.now() / 1_000), wall: Timestamp(stage.now()) };
        let living =
            stage.nodes().iter().map(|node| (node.me.clone(), Process::clone(node.process.as_ref().expect("lives"))));
        let (letters, cost) = (VecDeque::new(), Cost::default());
        Self { nodes: living.collect(), now, letters, requests: 0, answered: 0, cost, prepares: Vec::new() }
    }

    /// What the machines of all nodes allocate until everything that is asked of the primary together is answered.
    fn cost_of(&mut self, asked: Vec<route::Delivery>) -> Cost {
        let count = asked.len();
        (self.cost, self.answered) = (Cost::default(), 0);
        asked.into_iter().for_each(|delivery| self.nodes[NODES - 1].1.queue(delivery));
        self.settle();
        assert_eq!(self.answered, count, "each is answered, once");
        self.cost
    }

    fn writes(&mut self, count: usize) -> Cost {
        let asked = (0..count).map(|_| route::submit(self.next(), post(self.requests as usize))).collect();
        self.cost_of(asked)
    }

    fn reads(&mut self, count: usize) -> Cost {
        let page = Page { limit: 1, before: None, after: None, ascending: false };
        let query = Query::History { channel: channel(), page };
        let asked = (0..count).map(|_| route::query(self.next(), query.clone())).collect();
        self.cost_of(asked)
    }

    fn next(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(1_000_000 + self.requests)
    }

    fn settle(&mut self) {
        loop {
            (0..NODES).for_each(|node| self.run(node));
            let Some((to, envelope)) = self.letters.pop_front() else { return };
            let process = &mut self.nodes[to].1;
            for delivery in route::letter(&process.known, envelope).expect("of this cluster") {
                process.queue(delivery);
            }
        }
    }

    fn run(&mut self, node: usize) {
        loop {
            let (process, now) = (&mut self.nodes[node].1, self.now);
            let mut turn = None;
            self.cost.add(measure(|| turn = process.first_turn(now)));
            if let Some(turn) = turn {
                turn.effects.into_iter().for_each(|effect| self.perform(node, effect));
                continue;
            }
            let asked: Vec<_> = process.asks.drain(..).collect();
            if asked.is_empty() {
                return;
            }
            let told = process.storage.perform(asked).expect("a sound disk");
            told.into_iter().flat_map(route::storage).for_each(|delivery| process.queue(delivery));
        }
    }

    fn perform(&mut self, node: usize, effect: Effect) {
        let (me, process) = &mut self.nodes[node];
        match effect {
            Effect::Send { to, message } => {
                let (cluster, view) = (process.known.cluster, process.known.view);
                let envelope = Envelope { version: PROTOCOL_VERSION, cluster, from: me.clone(), view, message };
                if matches!(envelope.message, PeerMessage::Prepare { .. }) {
                    self.prepares.push(envelope.message.clone());
                }
                let to = self.nodes.iter().position(|(peer, _)| peer.address == to).expect("one of them");
                self.letters.push_back((to, envelope));
            }
            Effect::Tell(note) => route::note(note).into_iter().for_each(|delivery| process.queue(delivery)),
            Effect::Storage(request) => process.asks.push_back(request),
            Effect::Answer { .. } => self.answered += 1,
            Effect::Watch(_) | Effect::Announce(_) => {}
            Effect::Halt(why) | Effect::Retire(why) => panic!("{why}"),
        }
    }
}

/// So many tickets for one channel's lock, one after the other.
fn locking(count: u64) -> Cost {
    let mut table = LockTable::new();
    let now = Now { elapsed: Millis(0), wall: Timestamp(0) };
    let locks = || vec![(Resource::Store, Mode::IntentExclusive), (Resource::Channel(channel()), Mode::Exclusive)];
    Cost::of(|| {
        let (owners, later) = ((0..count).map(LockOwner::Ticket), (0..count).map(LockOwner::Ticket));
        owners.for_each(|owner| drop(table.step(now, lock::Input::Acquire { owner, locks: locks() })));
        later.for_each(|owner| drop(table.step(now, lock::Input::Release { owner })));
    })
}

/// All that is measured, by name.
fn found() -> Vec<(&'static str, Cost)> {
    let mut cluster = Cluster::new();
    cluster.writes(MANY); // What grows once has grown.
    let mut found = vec![
        ("1 post: all machines of 3 nodes", cluster.writes(1)),
        ("100 posts at once: likewise", cluster.writes(MANY)),
        ("1 read: likewise", cluster.reads(1)),
        ("100 reads at once: likewise", cluster.reads(MANY)),
        ("100 tickets for one channel's lock", locking(MANY as u64)),
    ];
    found.extend(entry(&cluster.prepares));
    found.extend(page());
    found
}

/// An entry of a hundred posts, on its way and in the log.
fn entry(prepares: &[PeerMessage]) -> [(&'static str, Cost); 4] {
    let size = |letter: &&PeerMessage| postcard::to_stdvec(letter).map_or(0, |bytes| bytes.len());
    let letter = prepares.iter().max_by_key(size).expect("entries were sent");
    let PeerMessage::Prepare { view, attempt, entry, .. } = letter else { panic!("only such are kept") };
    let record = LogRecord { entry: entry.clone(), view: *view, attempt: *attempt, commit_index: entry.index.before() };
    let (bytes, sealed) = (postcard::to_stdvec(letter).expect("encodes"), seal(&record));
    [
        ("a Prepare of 100 posts: encoded", Cost::of(|| drop(black_box(postcard::to_stdvec(letter))))),
        ("a Prepare of 100 posts: decoded", Cost::of(|| drop(black_box(postcard::from_bytes::<PeerMessage>(&bytes))))),
        ("its record in the log: encoded", Cost::of(|| drop(black_box(seal(&record))))),
        ("its record in the log: decoded", Cost::of(|| drop(black_box(unseal::<LogRecord>(&sealed))))),
    ]
}

/// A page of a hundred messages.
fn page() -> [(&'static str, Cost); 3] {
    let user = UserName::new("ada").expect("a name");
    let message = |n: usize| Message {
        id: Timestamp(n as u64),
        channel: channel(),
        user: user.clone(),
        text: text(),
        starred_by: Vec::new(),
    };
    let page = Messages::of(channel(), &(1..=MANY).map(message).collect::<Vec<_>>());
    let bytes = postcard::to_stdvec(&page).expect("encodes");
    [
        ("a page of 100 messages: encoded", Cost::of(|| drop(black_box(postcard::to_stdvec(&page))))),
        ("a page of 100 messages: decoded", Cost::of(|| drop(black_box(postcard::from_bytes::<Messages>(&bytes))))),
        ("a page of 100 messages: looked through", Cost::of(|| assert_eq!(black_box(page.iter().count()), MANY))),
    ]
}

/// A line is the name, a tabulator, allocations, a tabulator, bytes.
fn parse(line: &str) -> Option<(&str, Cost)> {
    let (name, numbers) = line.split_once('\t')?;
    let (allocations, bytes) = numbers.split_once('\t')?;
    Some((name, Cost { allocations: allocations.parse().ok()?, bytes: bytes.parse().ok()? }))
}

fn main() -> ExitCode {
    let found = found();
    if std::env::var("LOCKSTEP_FIGURES").is_ok_and(|word| word == "write") {
        let mut lines = String::new();
        for (name, Cost { allocations, bytes }) in &found {
            writeln!(lines, "{name}\t{allocations}\t{bytes}").expect("memory takes all");
        }
        std::fs::write(FIGURES, lines).expect("the figures are written");
    }
    let text = std::fs::read_to_string(FIGURES).expect("the figures are there");
    let known: BTreeMap<&str, Cost> = text.lines().filter_map(parse).collect();
    println!("{:<48} {:>24} {:>24}", "", "allocations (known)", "bytes (known)");
    let mut too_much = Vec::new();
    for (name, cost) in &found {
        let before = known.get(name).copied();
        let of = |figure: u64, before: Option<u64>| {
            format!("{figure} ({})", before.map_or("new".to_owned(), |n| n.to_string()))
        };
        let allocations = of(cost.allocations, before.map(|known| known.allocations));
        println!("{name:<48} {allocations:>24} {:>24}", of(cost.bytes, before.map(|known| known.bytes)));
        if before.is_none_or(|known| cost.is_more_than(known)) {
            too_much.push(*name);
        }
    }
    if too_much.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("more than is checked in, or not checked in: {}", too_much.join("; "));
    eprintln!("if it is worth its price, write the figures anew: LOCKSTEP_FIGURES=write");
    ExitCode::FAILURE
}

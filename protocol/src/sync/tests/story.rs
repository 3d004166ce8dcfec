//! Both sides over a network that loses, repeats and overtakes letters, while writes go on: a join always comes to its end,
//! and the node that is listed holds what the primary holds.

use super::*;
use std::collections::BTreeSet;

type Store = BTreeMap<Vec<u8>, Vec<u8>>;

/// A disk in memory: a log that was cut at its beginning, and the store that it makes.
#[derive(Debug, Default)]
struct Disk {
    /// The chain at the place before the log's first entry.
    base: (Index, Hash),
    log: Vec<Arc<Entry>>,
    store: Store,
    pinned: Option<(SessionId, Store)>,
    is_installing: bool,
}

impl Disk {
    fn end(&self) -> (Index, Hash) {
        self.log.last().map_or(self.base, |entry| (entry.index, entry.hash))
    }

    fn push(&mut self, entry: Arc<Entry>) {
        assert!(!self.is_installing, "an entry on half a snapshot");
        assert_eq!((entry.index, entry.prev_hash), (self.end().0.next(), self.end().1), "S5");
        self.store.insert(entry.index.0.to_be_bytes().to_vec(), entry.hash.0.to_vec());
        self.log.push(entry);
    }

    fn hash_at(&self, index: Index) -> Option<Hash> {
        let entry = || self.log.iter().find(|entry| entry.index == index).map(|entry| entry.hash);
        if index == self.base.0 { Some(self.base.1) } else { entry() }
    }

    fn serve(&mut self, request: StorageRequest) -> Option<StorageEvent> {
        let durable = |write| Some(StorageEvent::Durable { write, by: crate::storage::Writer::Sync });
        match request {
            StorageRequest::Pin { session } => {
                self.pinned = Some((session, self.store.clone()));
                let ((index, hash), bytes) = (self.end(), 40 * self.store.len() as u64);
                Some(StorageEvent::Pinned { session, index, hash, bytes, last_timestamp: Timestamp(index.0) })
            }
            StorageRequest::Unpin { session } => {
                self.pinned.take_if(|(pinned, _)| *pinned == session);
                None
            }
            StorageRequest::ReadChunk { session, cursor, bytes_max } => {
                let pinned = self.pinned.as_ref().filter(|(pinned, _)| *pinned == session);
                let chunk = pinned.map(|(_, store)| {
                    let rest = store.iter().filter(|(key, _)| cursor.as_ref().is_none_or(|cursor| *key > cursor));
                    let pairs: Vec<Pair> = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
                    let count = (bytes_max / 40).max(1).min(pairs.len());
                    (pairs[..count].to_vec(), count == pairs.len())
                });
                Some(StorageEvent::ChunkRead { session, cursor, chunk })
            }
            StorageRequest::ReadLog { session, after, bytes_max } => {
                let count = (bytes_max / 100).max(1);
                let hash = self.hash_at(after);
                let rest = self.log.iter().filter(|entry| hash.is_some() && entry.index > after);
                let (entries, applied) = (rest.take(count).cloned().collect(), self.end().0);
                Some(StorageEvent::LogRead { session, after, hash, entries, applied })
            }
            StorageRequest::DropTail => None,
            StorageRequest::InstallBegin => {
                *self = Self { is_installing: true, ..Self::default() };
                None
            }
            StorageRequest::InstallChunk { write, pairs } => {
                assert!(self.is_installing);
                self.store.extend(pairs);
                durable(write)
            }
            StorageRequest::InstallEnd { write, index, hash } => {
                if self.store.len() as u64 != index.0 {
                    return Some(StorageEvent::Mismatch { write });
                }
                (self.base, self.is_installing) = ((index, hash), false);
                durable(write)
            }
            StorageRequest::WriteCommitted { write, entries } => {
                let end = self.end().0;
                entries.into_iter().filter(|entry| entry.index > end).for_each(|entry| self.push(entry));
                durable(write)
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

struct Node {
    me: Peer,
    sync: Sync,
    disk: Disk,
    /// The view in which it serves, if it does.
    serving: bool,
    /// Who waits for the store's lock, and who holds it.
    asks: Option<LockOwner>,
    lock: Option<LockOwner>,
    /// Committed, but Synced not told yet, is no end.
    synced: Option<(Index, Hash)>,
}

/// What is on its way, and when it comes.
enum Coming {
    Input(usize, Input),
    /// The writes that held the lock are done.
    Granted(LockOwner),
    /// The campaign ends, well or not.
    Added(ViewNumber, Peer, bool),
}

struct World {
    rng: fastrand::Rng,
    now: u64,
    nodes: Vec<Node>,
    coming: Vec<(u64, Coming)>,
    view: Arc<View>,
    /// Nothing is lost, repeated, late or refused.
    is_calm: bool,
    joins: u32,
}

const GIVER: usize = 0;
const TAKER: usize = 1;

impl World {
    fn new(seed: u64, kept: u64, joiner_has: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let view = view(5, 3, &[3]);
        let mut giver = Disk::default();
        history(200).into_iter().for_each(|entry| giver.push(entry));
        let cut = usize::try_from(200 - kept).expect("small");
        giver.base = position(200 - kept);
        giver.log.drain(..cut);
        let mut taker = Disk::default();
        history(joiner_has).into_iter().for_each(|entry| taker.push(entry));
        let node = |me: Peer, disk: Disk, seed: u64| {
            let recovered = recovered(&me, disk.end(), Some(View::clone(&view)));
            let sync = Sync::new(&Setup { seed, ..setup(me.clone()) }, &recovered);
            Node { me, sync, disk, serving: false, asks: None, lock: None, synced: None }
        };
        let nodes = vec![node(peer(3), giver, rng.u64(..)), node(peer(1), taker, rng.u64(..))];
        let mut world = Self { rng, now: 0, nodes, coming: Vec::new(), view, is_calm: false, joins: 0 };
        world.serve();
        world
    }

    fn serve(&mut self) {
        self.nodes[GIVER].serving = true;
        self.coming.push((self.now + 5, Coming::Input(GIVER, Input::Serving { view: self.view.number })));
    }

    fn change_view(&mut self, view: Arc<View>) {
        self.view = view.clone();
        for node in [GIVER, TAKER] {
            self.step(node, Input::ViewChanged(view.clone()));
        }
        self.serve();
    }

    fn step(&mut self, node: usize, input: Input) {
        let now = at(self.now);
        let effects = self.nodes[node].sync.step(now, input);
        self.perform(node, effects);
    }

    fn perform(&mut self, node: usize, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(node, &to, message),
                Effect::Tell(note) => self.note(node, note),
                Effect::Storage(request) => {
                    if let Some(event) = self.nodes[node].disk.serve(request) {
                        self.storage(node, event);
                    }
                }
                Effect::Announce(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The storage answers in order.
    fn storage(&mut self, node: usize, event: StorageEvent) {
        for delivery in crate::route::storage(event) {
            if let crate::route::Delivery::Sync(input) = delivery {
                self.coming.push((self.now + 3, Coming::Input(node, input)));
            }
        }
    }

    fn send(&mut self, node: usize, to: &Address, message: PeerMessage) {
        let from = self.nodes[node].me.clone();
        let Some(receiver) = self.nodes.iter().position(|node| node.me.address == *to) else { return };
        let copies = if !self.is_calm && self.rng.u32(..100) < 5 { 2 } else { 1 };
        for _ in 0..copies {
            if !self.is_calm && self.rng.u32(..100) < 10 {
                continue;
            }
            let envelope = crate::message::Envelope {
                version: crate::message::PROTOCOL_VERSION,
                cluster: Some(self.view.cluster),
                from: from.clone(),
                view: self.view.number,
                message: message.clone(),
            };
            let known = crate::route::Known { cluster: Some(self.view.cluster), view: self.view.number };
            let arrives =
                self.now + self.rng.u64(1..40) + if !self.is_calm && self.rng.u32(..50) == 0 { 3_000 } else { 0 };
            for delivery in crate::route::letter(&known, envelope).expect("well formed") {
                if let crate::route::Delivery::Sync(input) = delivery {
                    self.coming.push((arrives, Coming::Input(receiver, input)));
                }
            }
        }
    }

    fn note(&mut self, node: usize, note: Note) {
        let soon = self.now + self.rng.u64(1..30);
        match note {
            Note::Acquire { owner, .. } => {
                // Sometimes a write holds it for too long.
                let wait = if !self.is_calm && self.rng.u32(..4) == 0 { 1_500 } else { 2 };
                self.nodes[node].asks = Some(owner);
                self.coming.push((self.now + wait, Coming::Granted(owner)));
            }
            Note::Release { owner } => {
                self.nodes[node].asks.take_if(|asks| *asks == owner);
                self.nodes[node].lock.take_if(|held| *held == owner);
            }
            Note::Fence { view, session } => {
                self.coming.push((soon, Coming::Input(node, Input::Fenced { view, session, accepted: false })));
            }
            Note::AddReplica { view, peer, .. } => {
                assert!(self.nodes[GIVER].lock.is_some(), "R-22: the store is locked");
                let is_decided = self.is_calm || self.rng.u32(..3) > 0;
                self.coming.push((self.now + 100, Coming::Added(view, peer, is_decided)));
            }
            Note::SyncBegan { .. } => self.nodes[node].synced = None,
            Note::Synced { index, hash, .. } => self.nodes[node].synced = Some((index, hash)),
            Note::Pace { .. } | Note::SetOffline { .. } => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    fn on_granted(&mut self, owner: LockOwner) {
        let giver = &mut self.nodes[GIVER];
        if giver.asks == Some(owner) {
            giver.lock = giver.asks.take();
            let soon = self.now + self.rng.u64(1..10);
            self.coming.push((soon, Coming::Input(GIVER, Input::Granted { owner })));
        }
    }

    fn on_added(&mut self, view: ViewNumber, peer: Peer, is_decided: bool) {
        if view != self.view.number {
            return; // Another view was decided instead.
        }
        if !is_decided {
            return self.step(GIVER, Input::AddFailed { view, peer });
        }
        let [giver, taker] = &self.nodes[..] else { panic!("two nodes") };
        assert_eq!(taker.synced, Some(giver.disk.end()), "the replica of the next view was told where its log ends");
        assert_eq!(taker.disk.end(), giver.disk.end(), "S1: it holds all that is committed");
        assert_eq!(taker.disk.store, giver.disk.store, "S5");
        self.joins += 1;
        self.change_view(view_of(view.next().0, 3, &[self.nodes[GIVER].me.clone(), peer]));
    }

    /// One millisecond.
    fn run(&mut self, writes: bool) {
        self.now += 1;
        let now = self.now;
        let mut due: Vec<_> = self.coming.extract_if(.., |(at, _)| *at <= now).collect();
        due.sort_by_key(|(at, _)| *at);
        for (_, coming) in due {
            match coming {
                Coming::Input(node, input) => self.step(node, input),
                Coming::Granted(owner) => self.on_granted(owner),
                Coming::Added(view, peer, is_decided) => self.on_added(view, peer, is_decided),
            }
        }
        for node in [GIVER, TAKER] {
            if self.nodes[node].sync.deadline().is_some_and(|deadline| deadline.0 <= now) {
                let effects = self.nodes[node].sync.tick(at(now));
                self.perform(node, effects);
            }
        }
        let is_serving = self.nodes[GIVER].serving && self.nodes[GIVER].lock.is_none();
        if writes && is_serving && self.rng.u32(..40) == 0 {
            let disk = &mut self.nodes[GIVER].disk;
            let (index, hash) = disk.end();
            disk.push(Arc::new(Entry::new(
                index.next(),
                hash,
                Batch::Abort { keys: Vec::new(), keys_at: Timestamp(0) },
            )));
        }
    }

    /// The joiner's process ends and comes back with its disk; half a snapshot is nothing.
    fn restart_taker(&mut self) {
        self.coming.retain(|(_, coming)| !matches!(coming, Coming::Input(TAKER, _)));
        let seed = self.rng.u64(..);
        let node = &mut self.nodes[TAKER];
        if node.disk.is_installing {
            node.disk = Disk::default();
        }
        let recovered = recovered(&node.me, node.disk.end(), Some(View::clone(&self.view)));
        node.sync = Sync::new(&Setup { seed, ..setup(node.me.clone()) }, &recovered);
    }
}

fn joins(mut world: World, disturb: impl Fn(&mut World)) -> u64 {
    while world.joins == 0 {
        world.run(true);
        disturb(&mut world);
        assert!(world.now < 200_000, "the join never came to its end");
    }
    for _ in 0..50 {
        world.run(false);
    }
    let disk = &world.nodes[GIVER].disk;
    assert!(disk.pinned.is_none() && world.nodes[GIVER].lock.is_none(), "nothing is left behind");
    assert_eq!(world.nodes[TAKER].sync.deadline(), None);
    world.now
}

#[test]
fn r18_to_r22_a_join_from_the_log_comes_to_its_end() {
    for seed in 0..25 {
        joins(World::new(seed, 200, 30), |_| {});
    }
}

#[test]
fn r18_to_r22_a_join_from_a_snapshot_comes_to_its_end() {
    for seed in 0..25 {
        joins(World::new(seed, 20, 30), |_| {});
    }
}

#[test]
fn r18_to_r22_a_calm_join_is_quick() {
    let mut world = World::new(1, 20, 0);
    world.is_calm = true;
    let took = joins(world, |_| {});
    assert!(took < 1_500, "{took} ms");
}

#[test]
fn r22_r23_a_join_survives_restarts_of_the_joiner_and_other_views() {
    let mut times = BTreeSet::new();
    for seed in 0..40 {
        let kept = if seed % 2 == 0 { 20 } else { 200 };
        times.insert(joins(World::new(seed, kept, 30), |world| {
            if world.rng.u32(..1_500) == 0 {
                world.restart_taker();
            }
            if world.rng.u32(..2_500) == 0 {
                let number = world.view.number.next().0;
                world.change_view(view(number, 3, &[3]));
            }
        }));
    }
    assert!(times.len() > 20, "the seeds tell different stories");
}

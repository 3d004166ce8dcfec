//! What a process tells Prometheus: a page of its node's or witness's state, its gateway's calls, and its own use of the system.
//!
//! State is asked of the machines when somebody wants the page, and of the storage nothing: a page costs a write nothing, and
//! is told while the disk stands still. What is counted is counted anyway, by two atomics an event.
//!
//! Not here: the names and the format (`metric_page.rs`), and the ports (`metrics_server.rs`, `client.rs`).

use super::call_metrics::CallFigures;
use super::metric_page::{self as names, Page};
use crate::system::{self, DiskFigures, ProcessFigures};
use actix_web::dev::Extensions;
use lockstep_actors::Node;
use lockstep_actors::figures::{Counter, GROUPS, Level, StorageFigures};
use lockstep_actors::gateway::figures::ANSWERS;
use lockstep_actors::gateway::{GatewayFigures, GatewayHandle};
use lockstep_protocol::change::KINDS;
use lockstep_protocol::ids::{Millis, Voter};
use lockstep_protocol::message::{Lane, PROTOCOL_VERSION};
use lockstep_protocol::status::{NodeStatus, Role};
use lockstep_protocol::tally::{Tally, VOTES};
use std::path::PathBuf;
use std::sync::Arc;

/// The lanes' names, in the order of [`Lane`].
const LANES: [&str; 3] = ["vital", "work", "bulk"];

/// Letters to other nodes, by lane.
#[derive(Debug, Default)]
pub struct LetterFigures {
    sent: [Counter; LANES.len()],
    failed: [Counter; LANES.len()],
}

impl LetterFigures {
    /// So many letters of one lane were taken by their receiver, or were not.
    pub fn add(&self, lane: Lane, is_sent: bool, count: u64) {
        let counters = if is_sent { &self.sent } else { &self.failed };
        counters[lane as usize].add(count);
    }
}

/// Open connections at one port.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Level>);

/// In a connection's own data, for as long as it is open.
struct Open(Arc<Level>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lower();
    }
}

impl Connections {
    /// How many are open now.
    #[must_use]
    pub fn count_now(&self) -> u64 {
        self.0.get()
    }

    /// A connection with this data is open, until its data are dropped.
    pub fn count(&self, data: &mut Extensions) {
        self.0.raise();
        data.insert(Open(self.0.clone()));
    }
}

/// A data node or a witness, and what is around it.
#[derive(Clone)]
pub struct NodeSource {
    /// The node.
    pub node: Node,
    /// What it owns on disk.
    pub data_dir: PathBuf,
    /// Its letters.
    pub letters: Arc<LetterFigures>,
    /// Connections at its peer port.
    pub peers: Connections,
}

/// A gateway.
#[derive(Clone)]
pub struct GatewaySource {
    /// The gateway.
    pub handle: Arc<dyn GatewayHandle>,
    /// What it counts.
    pub figures: Arc<GatewayFigures>,
    /// Requests at its client port.
    pub calls: Arc<CallFigures>,
    /// Connections at its client port.
    pub clients: Connections,
}

/// All that one process can tell.
#[derive(Clone, Default)]
pub struct Sources {
    /// Its data node, or its witness.
    pub node: Option<NodeSource>,
    /// Its gateway.
    pub gateway: Option<GatewaySource>,
    /// When it began. Seconds since 1970.
    pub started_at: f64,
}

impl Sources {
    /// The page as it is now.
    pub async fn page(&self) -> Page {
        let mut page = Page::default();
        let data_dir = self.node.as_ref().map(|source| source.data_dir.clone());
        // Files are read on a thread that may wait.
        let ask = move || (system::process_figures(), data_dir.and_then(|dir| system::disk_figures(&dir)));
        let (process, disk) = actix_web::web::block(ask).await.unwrap_or_default();
        self.add_process(&mut page, &process);
        if let Some(source) = &self.node {
            // Machines that do not answer are left out.
            if let Some(status) = source.node.status().await {
                add_status(&mut page, &status, source.node.elapsed());
                add_tally(&mut page, &status.tally);
            }
            add_view_changes(&mut page, &source.node);
            add_storage(&mut page, source.node.storage_figures(), disk);
            add_letters(&mut page, &source.letters);
        }
        if let Some(source) = &self.gateway {
            add_gateway(&mut page, source, source.handle.ready().await);
        }
        page
    }

    fn add_process(&self, page: &mut Page, process: &ProcessFigures) {
        let protocol = PROTOCOL_VERSION.to_string();
        let build = vec![("version", env!("CARGO_PKG_VERSION")), ("protocol", protocol.as_str())];
        page.each(names::BUILD, [(build, 1.0)]);
        page.one(names::RESIDENT, process.resident_bytes.map(|bytes| bytes as f64));
        page.one(names::CPU, process.cpu_seconds);
        page.one(names::FILES, process.open_files.map(|count| count as f64));
        page.one(names::STARTED, self.started_at);
        let peers = self.node.as_ref().map(|source| ("peers", &source.peers));
        let clients = self.gateway.as_ref().map(|source| ("clients", &source.clients));
        let ports = peers.into_iter().chain(clients);
        page.each(names::CONNECTIONS, ports.map(|(port, open)| (vec![("port", port)], open.count_now() as f64)));
    }
}

/// 1 or 0.
fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// One of these words is so: 1 for it, 0 for the others.
fn one_of<'a>(label: &'static str, words: &'a [&'a str], now: &str) -> Vec<(Vec<(&'static str, &'a str)>, f64)> {
    words.iter().map(|word| (vec![(label, *word)], flag(*word == now))).collect()
}

const ROLES: [&str; 6] = ["waiting", "primary", "replica", "syncing", "drained", "witness"];
const SYNC_PHASES: [&str; 4] = ["beginning", "snapshot", "entries", "ending"];

fn role(role: Role) -> &'static str {
    match role {
        Role::Waiting => "waiting",
        Role::Primary => "primary",
        Role::Replica => "replica",
        Role::Syncing => "syncing",
        Role::Drained => "drained",
        Role::Witness => "witness",
    }
}

fn add_status(page: &mut Page, status: &NodeStatus, now: Millis) {
    let view = status.view.as_deref();
    page.one(names::SERVING, flag(status.serving.is_some()));
    page.each(names::ROLE, one_of("role", &ROLES, role(status.role)));
    page.one(names::VIEW, view.map_or(0, |view| view.number.0) as f64);
    page.one(names::VIEW_PRIMARY, f64::from(view.map_or(0, |view| view.primary.0)));
    page.one(names::VIEW_REPLICAS, view.map_or(0, |view| view.replicas.len()) as f64);
    page.one(names::VIEW_WITNESSES, view.map_or(0, |view| view.witnesses.len()) as f64);
    page.one(names::LOG_END, status.log_end.0 as f64);
    page.one(names::COMMITTED, status.commit_index.0 as f64);
    page.one(names::APPLIED, status.applied.0 as f64);
    page.one(names::WRITES_WAITING, status.writes_waiting as f64);
    page.one(names::READS_WAITING, status.reads_waiting as f64);
    page.one(names::LOCKS_HELD, status.locks_held as f64);
    page.one(names::LOCKS_WAITING, status.locks_waiting as f64);
    add_replicas(page, status, now);
    let sync = status.sync.as_ref();
    page.each(names::SYNC_PHASE, one_of("phase", &SYNC_PHASES, sync.map_or("", |sync| sync.phase.as_str())));
    page.one(names::SYNC_BYTES, sync.map_or(0, |sync| sync.bytes) as f64);
    page.one(names::SYNC_EXPECTED, sync.map_or(0, |sync| sync.bytes_total) as f64);
    page.one(names::SYNC_INDEX, sync.map_or(0, |sync| sync.index.0) as f64);
}

/// What the primary knows of the other replicas.
fn add_replicas(page: &mut Page, status: &NodeStatus, now: Millis) {
    let replica = |(voter, peer)| match voter {
        &Voter::Replica(id) => Some((id.to_string(), peer)),
        Voter::Witness(_) => None,
    };
    let replicas: Vec<_> = status.peers.iter().filter(|_| status.serving.is_some()).filter_map(replica).collect();
    let lag = |peer: &lockstep_protocol::status::PeerStatus| status.commit_index.0.saturating_sub(peer.commit_index.0);
    page.each(names::LAG, replicas.iter().map(|(id, peer)| (vec![("node", id.as_str())], lag(peer) as f64)));
    let silence = |peer: &lockstep_protocol::status::PeerStatus| now.since(peer.heard_at) as f64 / 1e3;
    page.each(names::SILENCE, replicas.iter().map(|(id, peer)| (vec![("node", id.as_str())], silence(peer))));
}

fn add_tally(page: &mut Page, tally: &Tally) {
    let batches = [("committed", tally.committed), ("aborted", tally.aborted)];
    page.each(names::BATCHES, batches.map(|(outcome, count)| (vec![("outcome", outcome)], count as f64)));
    page.distributions(names::BATCH_OPERATIONS, 1.0, [(vec![], tally.operations.clone())]);
    page.distributions(names::BATCH_BYTES, 1.0, [(vec![], tally.bytes.clone())]);
    page.distributions(names::ENTRY_SECONDS, 1e3, [(vec![], tally.entry_ms.clone())]);
    page.one(names::ATTEMPTS, tally.attempts as f64);
    let votes = VOTES.into_iter().zip(tally.votes);
    page.each(names::VOTES, votes.map(|(vote, count)| (vec![("vote", vote)], count as f64)));
}

fn add_view_changes(page: &mut Page, node: &Node) {
    let counts = node.view_change_counts();
    let count = |kind: &&str| counts.get(kind).copied().unwrap_or(0) as f64;
    page.each(names::VIEW_CHANGES, KINDS.iter().map(|kind| (vec![("cause", *kind)], count(kind))));
}

fn add_storage(page: &mut Page, figures: &StorageFigures, disk: Option<DiskFigures>) {
    let flushes = GROUPS.into_iter().zip(&figures.flush_us);
    let flushes = flushes.map(|(group, times)| (vec![("requests", group)], times.read()));
    page.distributions(names::FLUSHES, 1e6, flushes);
    page.distributions(names::GROUPS, 1.0, [(vec![], figures.group_requests.read())]);
    page.one(names::DISK_SIZE, disk.map(|disk| disk.size_bytes as f64));
    page.one(names::DISK_FREE, disk.map(|disk| disk.free_bytes as f64));
}

fn add_letters(page: &mut Page, letters: &LetterFigures) {
    let by_lane =
        |outcome, counters| LANES.into_iter().zip(counters).map(move |(lane, counter)| (lane, outcome, counter));
    let all = by_lane("sent", &letters.sent).chain(by_lane("failed", &letters.failed));
    let sample =
        |(lane, outcome, counter): (_, _, &Counter)| (vec![("lane", lane), ("outcome", outcome)], counter.get() as f64);
    page.each(names::LETTERS, all.map(sample));
}

fn add_gateway(page: &mut Page, source: &GatewaySource, is_ready: bool) {
    let figures = &source.figures;
    page.one(names::READY, flag(is_ready));
    page.distributions(names::REQUESTS, 1e6, source.calls.read());
    page.one(names::UNDER_WAY, figures.under_way.get() as f64);
    page.one(names::ON_HOLD, figures.on_hold.get() as f64);
    page.one(names::HELD, figures.held.get() as f64);
    page.one(names::RETRIES, figures.retries.get() as f64);
    let by_answer =
        |kind, counters| ANSWERS.into_iter().zip(counters).map(move |(answer, counter)| (kind, answer, counter));
    let all = by_answer("write", &figures.writes).chain(by_answer("read", &figures.reads));
    let sample =
        |(kind, answer, counter): (_, _, &Counter)| (vec![("kind", kind), ("answer", answer)], counter.get() as f64);
    page.each(names::ANSWERS, all.map(sample));
}

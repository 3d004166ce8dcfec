//! A cluster of real processes in a folder of its own: written down, started, killed, wiped, grown.
//!
//! Not here: what clients do to it (`load.rs`), and what must be true in the end (`check.rs`).

use super::gate::{self, eventually};
use super::http::{Client, Reply, Request};
use super::load::Load;
use super::process::Process;
use super::view::{is_at_rest, is_view_of};
use lockstep::cli::drill::links::Links;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a cluster is made of.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Data nodes, with ids from 1.
    pub nodes: u32,
    /// Gateways, with names from `gateway-1`.
    pub gateways: usize,
    /// How many of the gateways vote.
    pub witnesses: usize,
    /// Whether each process is reached through a relay.
    pub relayed: bool,
    /// More lines of settings, for every process.
    pub settings: &'static str,
}

/// Three data nodes and two gateways with witnesses: the demo.
pub const DEMO: Plan = Plan { nodes: 3, gateways: 2, witnesses: 2, relayed: false, settings: "" };

/// Posts that show that the cluster serves.
pub const SOME: u64 = 50;

/// The demo, with all its witnesses, and writers on the channel `busy` that are served.
pub fn busy_cluster() -> (Cluster, Load) {
    let cluster = Cluster::ready(DEMO);
    cluster.wait_for_witnesses(2);
    let load = Load::start(&cluster.client_ports, "busy", 4);
    load.wait_for_more(SOME);
    (cluster, load)
}

/// A data node's ports.
#[derive(Clone, Copy)]
struct Place {
    /// Where it is.
    listen: SocketAddr,
    /// How others reach it.
    address: SocketAddr,
    /// Where it tells its metrics.
    metrics: SocketAddr,
}

/// The cluster. Dropping it kills all of it; a test that fails prints what the processes said last.
pub struct Cluster {
    plan: Plan,
    /// The data nodes, by id.
    pub nodes: BTreeMap<u32, Process>,
    /// The gateways.
    pub gateways: Vec<Process>,
    /// Their client ports.
    pub client_ports: Vec<SocketAddr>,
    /// The wires, when the plan has relays.
    pub links: Links,
    places: BTreeMap<u32, Place>,
    seeds: Vec<SocketAddr>,
    // In the order of dropping: processes first, then their folder, then the next test's turn.
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Written and started, but maybe not ready.
    pub fn start(plan: Plan) -> Self {
        let turn = gate::enter();
        let folder = TempDir::with_prefix("lockstep-test-").expect("a folder for the cluster");
        std::fs::write(folder.path().join("secret"), "a secret of these tests alone\n".replace(' ', "-"))
            .expect("secret");
        let mut cluster = Self {
            plan,
            nodes: BTreeMap::new(),
            gateways: Vec::new(),
            client_ports: Vec::new(),
            links: Links::default(),
            places: BTreeMap::new(),
            seeds: Vec::new(),
            folder,
            _turn: turn,
        };
        for id in 1..=plan.nodes {
            cluster.place(id);
        }
        cluster.seeds = cluster.places.values().map(|place| place.address).collect();
        (1..=plan.nodes).for_each(|id| cluster.add_node(id));
        (0..plan.gateways).for_each(|index| cluster.add_gateway(index < plan.witnesses));
        cluster
    }

    /// Started, all data nodes are in the view and all witnesses vote.
    pub fn ready(plan: Plan) -> Self {
        let mut cluster = Self::start(plan);
        cluster.wait_for_all();
        cluster
    }

    /// A file or folder of this cluster's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A data node's directory.
    pub fn data_dir(&self, id: u32) -> PathBuf {
        self.path(&format!("node-{id}-data"))
    }

    fn place(&mut self, id: u32) -> Place {
        let listen = gate::free_address();
        let address = if self.plan.relayed { gate::free_address() } else { listen };
        if self.plan.relayed {
            self.links.relay(address, &node_name(id), listen).expect("the relay's port is free");
        }
        let place = Place { listen, address, metrics: gate::free_address() };
        self.places.insert(id, place);
        place
    }

    /// Starts a data node that is not there yet.
    pub fn add_node(&mut self, id: u32) {
        let place = self.places.get(&id).copied().unwrap_or_else(|| self.place(id));
        let mut text = format!("[node]\nid = {id}\ndata_dir = {:?}\n", self.data_dir(id));
        write!(text, "listen = \"{}\"\naddress = \"{}\"\n", place.listen, place.address).expect("a String takes all");
        write!(text, "[metrics]\nlisten = \"{}\"\n", place.metrics).expect("a String takes all");
        let config = self.write_config(&node_name(id), &text);
        let mut process = Process::new(&node_name(id), self.folder.path(), &["node", "--config", &config]);
        process.start();
        self.nodes.insert(id, process);
    }

    /// Starts one more gateway.
    pub fn add_gateway(&mut self, votes: bool) {
        let name = gateway_name(self.gateways.len());
        let client_port = gate::free_address();
        let mut text = format!("[gateway]\nname = \"{name}\"\nlisten = \"{client_port}\"\n");
        if votes {
            let listen = gate::free_address();
            let address = if self.plan.relayed { gate::free_address() } else { listen };
            if self.plan.relayed {
                self.links.relay(address, &name, listen).expect("the relay's port is free");
            }
            let data = self.path(&format!("{name}-data"));
            write!(text, "[witness]\ndata_dir = {data:?}\nlisten = \"{listen}\"\naddress = \"{address}\"\n")
                .expect("text");
        }
        let config = self.write_config(&name, &text);
        let mut process = Process::new(&name, self.folder.path(), &["gateway", "--config", &config]);
        process.start();
        self.gateways.push(process);
        self.client_ports.push(client_port);
    }

    fn write_config(&self, name: &str, own: &str) -> String {
        let seeds: Vec<_> = self.seeds.iter().map(ToString::to_string).collect();
        let cluster = format!("[cluster]\nseeds = {seeds:?}\nsecret_file = {:?}\n", self.path("secret"));
        let path = self.path(&format!("{name}.toml"));
        std::fs::write(&path, format!("{own}{cluster}{}", self.plan.settings)).expect("its settings can be written");
        path.to_string_lossy().into_owned()
    }

    /// The data node.
    pub fn node(&mut self, id: u32) -> &mut Process {
        self.nodes.get_mut(&id).expect("there is such a node")
    }

    /// Removes a stopped node's directory: its disk is lost.
    pub fn wipe(&mut self, id: u32) {
        assert!(!self.node(id).is_running(), "node {id} runs on its directory");
        std::fs::remove_dir_all(self.data_dir(id)).expect("its directory can be removed");
    }

    /// Ids of the data nodes that run.
    pub fn running(&mut self) -> BTreeSet<u32> {
        let running = self.nodes.iter_mut().filter_map(|(id, process)| process.is_running().then_some(*id));
        running.collect()
    }

    /// A client of this gateway.
    pub fn client(&self, gateway: usize) -> Client {
        Client::new(self.client_ports[gateway])
    }

    /// `GET /v1/cluster` of the first gateway that answers.
    pub fn status(&self) -> Option<Value> {
        let ask = |address: &SocketAddr| Client::new(*address).get("/v1/cluster").ok();
        self.client_ports.iter().find_map(ask).filter(|reply| reply.status == 200).map(|reply| reply.json)
    }

    /// What a data node tells Prometheus, if it answers.
    pub fn node_metrics(&self, id: u32) -> Option<String> {
        Client::new(self.places.get(&id)?.metrics).get("/metrics").ok().filter(|reply| reply.status == 200)?.text()
    }

    /// What a gateway tells Prometheus, if it answers.
    pub fn gateway_metrics(&self, gateway: usize) -> Option<String> {
        self.client(gateway).get("/metrics").ok().filter(|reply| reply.status == 200)?.text()
    }

    /// The view's number and primary, once one of `among` serves.
    pub fn primary_among(&mut self, among: &BTreeSet<u32>) -> (u64, u32) {
        eventually(&format!("a primary among {among:?}"), || {
            let status = self.status()?;
            let serving = status["nodes"].as_array()?.iter().find(|node| node["state"] == "primary")?;
            let id = u32::try_from(serving["id"].as_u64()?).ok()?;
            among.contains(&id).then_some((status["view"]["number"].as_u64()?, id))
        })
    }

    /// The view's number and primary, once one that runs serves.
    pub fn primary(&mut self) -> (u64, u32) {
        let running = self.running();
        self.primary_among(&running)
    }

    /// Waits until exactly the running data nodes make up the view, a primary serves, and all have applied all.
    pub fn wait_for_all(&mut self) {
        let running = self.running();
        self.wait_until(&format!("{running:?} at one index"), |status| {
            is_view_of(status, &running) && is_at_rest(status)
        });
    }

    /// Waits until exactly the running data nodes make up the view, and a primary serves.
    pub fn wait_for_members(&mut self) {
        let running = self.running();
        self.wait_for_view_of(&running);
    }

    /// Waits until exactly these data nodes make up the view, and a primary serves.
    pub fn wait_for_view_of(&self, ids: &BTreeSet<u32>) {
        self.wait_until(&format!("a view of {ids:?}"), |status| is_view_of(status, ids));
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let (mut last, begin) = (None, Instant::now());
        loop {
            let status = self.status();
            if status.as_ref().is_some_and(&holds) {
                return;
            }
            last = status.or(last);
            assert!(begin.elapsed() < gate::WIDE, "waited in vain: {what}; last seen: {last:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the view lists so many witnesses.
    pub fn wait_for_witnesses(&self, count: usize) {
        eventually(&format!("{count} witnesses in the view"), || {
            (self.status()?["view"]["witnesses"].as_array()?.len() == count).then_some(())
        });
    }

    /// Posts through any gateway, whatever happens meanwhile, and returns the answer.
    pub fn post(&self, channel: &str, text: &str) -> Reply {
        let path = format!("/v1/channels/{channel}/messages");
        let request = Request::post(&path, text).with("Idempotency-Key", text);
        self.insist(&request)
    }

    /// Asks the gateways in turn until one answers something else than "ask again".
    pub fn insist(&self, request: &Request<'_>) -> Reply {
        eventually("an answer from any gateway", || {
            let answers = self.client_ports.iter().filter_map(|address| Client::new(*address).send(request).ok());
            answers.into_iter().find(|reply| reply.status < 500)
        })
    }

    /// Kill -9 of everything, at one moment: frozen first, so that nobody sees another die.
    pub fn kill_all(&mut self) {
        let all = self.nodes.values_mut().chain(&mut self.gateways);
        all.filter_map(|process| process.is_running().then_some(process))
            .for_each(|process| process.signal(Signal::SIGSTOP));
        self.nodes.values_mut().for_each(Process::kill);
        self.gateways.iter_mut().for_each(Process::kill);
    }
}

/// As the relays and the peer client call a data node.
pub fn node_name(id: u32) -> String {
    format!("node-{id}")
}

/// The name of the gateway with this place in the list.
pub fn gateway_name(index: usize) -> String {
    format!("gateway-{}", index + 1)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for process in self.nodes.values().chain(&self.gateways) {
            let lines = process.lines();
            let tail: Vec<_> = lines.lines().rev().take(40).collect();
            eprintln!("--- {} said last:", process.name);
            tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

//! A cluster in containers: started from a copy of `docker/`, under a project name of its own, and with its containers, volumes
//! and networks removed in the end, and nobody else's.
//!
//! Clients go to the gateways' own addresses, which the test fixes, so that a gateway that restarts is found again; the data
//! nodes' addresses are as the engine gives them, and change.
//!
//! Not here: what clients do to it (`load.rs`, `strict.rs`), and what must be true in the end (`check.rs`).

use super::engine::{self, address_in, compose, create_network, docker, try_docker};
use super::gate::{self, eventually};
use super::http::Client;
use super::view::{is_at_rest, is_view_of};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The image under test.
const IMAGE_VARIABLE: &str = "LOCKSTEP_IMAGE";
/// A gateway's client port in its container.
const CLIENT_PORT: u16 = 8080;
const GATEWAYS: [&str; 2] = ["gateway-1", "gateway-2"];
/// More than there ever are.
const IDS: std::ops::RangeInclusive<u32> = 1..=4;

/// The cluster. Dropping it removes all of it; a test that fails prints what the containers said last.
pub struct Cluster {
    project: String,
    variables: Vec<(String, String)>,
    /// The gateways' client ports, where this test goes to them.
    pub client_ports: Vec<SocketAddr>,
    /// The same ports, as this machine publishes them.
    pub published: Vec<SocketAddr>,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Started, all data nodes are in the view and both witnesses vote.
    pub fn ready() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let turn = gate::enter();
        let image = std::env::var(IMAGE_VARIABLE).expect("docker/test.sh names the image");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let project = format!("lockstep-test-{}-{count}", std::process::id());
        let folder = TempDir::with_prefix("lockstep-test-").expect("a folder for the cluster");
        let published = vec![gate::free_address(), gate::free_address()];
        let ports = published.iter().zip(1..).map(|(at, n)| (format!("LOCKSTEP_PORT_{n}"), at.port().to_string()));
        let own = [(IMAGE_VARIABLE, image.as_str()), ("COMPOSE_PROJECT_NAME", &project)];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = own.into_iter().chain(ports).collect();
        let mut cluster = Self { project, variables, client_ports: Vec::new(), published, folder, _turn: turn };
        cluster.copy_files();
        cluster.fix_addresses();
        cluster.up(&[]);
        cluster.wait_for_all();
        cluster.wait_for_witnesses();
        cluster
    }

    fn copy_files(&self) {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docker");
        std::fs::create_dir_all(self.compose_folder().join("config")).expect("a folder");
        let copy = |name: &Path| {
            std::fs::copy(source.join(name), self.compose_folder().join(name)).expect("a file of docker/");
        };
        copy(Path::new("compose.yaml"));
        for file in std::fs::read_dir(source.join("config")).expect("docker/config") {
            copy(&Path::new("config").join(file.expect("can be listed").file_name()));
        }
    }

    /// A network with known addresses, and in it the gateways at fixed ones.
    fn fix_addresses(&mut self) {
        let third = create_network(&self.project);
        let mut text = String::from("services:\n");
        for (gateway, last) in GATEWAYS.iter().zip(101..) {
            let ip = format!("10.213.{third}.{last}");
            writeln!(text, "  {gateway}: {{networks: {{default: {{ipv4_address: {ip}}}}}}}")
                .expect("a String takes all");
            self.client_ports.push(SocketAddr::new(ip.parse().expect("an address"), CLIENT_PORT));
        }
        writeln!(text, "networks: {{default: {{external: true, name: {}}}}}", self.project).expect("text");
        std::fs::write(self.compose_folder().join("test.yaml"), text).expect("it can be written");
    }

    fn compose_folder(&self) -> PathBuf {
        self.folder.path().join("docker")
    }

    /// Starts these services, or all that are not only for growth.
    fn up(&self, services: &[&str]) {
        compose(&self.compose_folder(), &self.variables, &[&["up", "--detach"], services].concat());
    }

    /// The container of a service.
    fn container(&self, service: &str) -> String {
        let of_service = format!("label=com.docker.compose.service={service}");
        let found = engine::names(&["ps", "--all", "--quiet", "--filter", &of_service], &self.project);
        found.into_iter().next().unwrap_or_else(|| panic!("there is no container of {service}"))
    }

    /// Says one word to the containers of these services, all at once: `kill`, `start`, `pause`, `unpause`.
    pub fn tell(&self, word: &str, services: &[String]) {
        let containers: Vec<_> = services.iter().map(|service| self.container(service)).collect();
        let containers: Vec<_> = containers.iter().map(String::as_str).collect();
        docker(&[&[word], &containers[..]].concat());
    }

    /// Stopped as an operator would, and started again.
    pub fn restart(&self, service: &str) {
        docker(&["restart", "--time", "30", &self.container(service)]);
    }

    /// Takes these data nodes off the network: what they send vanishes, and what is sent to them.
    pub fn disconnect(&self, ids: &[u32]) {
        ids.iter().for_each(|id| drop(docker(&["network", "disconnect", &self.project, &self.container(&node(*id))])));
    }

    /// Puts these data nodes on a network, under their names.
    fn connect(&self, network: &str, ids: &[u32]) {
        for id in ids {
            docker(&["network", "connect", "--alias", &node(*id), network, &self.container(&node(*id))]);
        }
    }

    /// Puts them back where they were.
    pub fn reconnect(&self, ids: &[u32]) {
        self.connect(&self.project, ids);
    }

    /// Moves these data nodes to a network of their own, where a gateway without a vote is; a client of that one.
    pub fn exile(&self, ids: &[u32]) -> Client {
        let island = self.island();
        create_network(&island);
        self.disconnect(ids);
        self.connect(&island, ids);
        let text = "[gateway]\nname = \"observer\"\nlisten = \"0.0.0.0:8080\"\nrequest_timeout_ms = 2000\n";
        let seeds = "[cluster]\nseeds = [\"node-1:7101\", \"node-2:7102\", \"node-3:7103\"]\n";
        let config = self.compose_folder().join("config");
        std::fs::write(config.join("observer.toml"), format!("{text}{seeds}secret_file = \"/secret/secret\"\n"))
            .expect("it can be written");
        let label = format!("com.docker.compose.project={}", self.project);
        let (mount, secret) =
            (format!("{}:/config:ro", config.display()), format!("{}_secret:/secret:ro", self.project));
        let image = &self.variables[0].1;
        let run = ["run", "--detach", "--read-only", "--network", &island, "--label", &label, "--volume", &mount];
        let gateway = ["--volume", &secret, image, "gateway", "--config", "/config/observer.toml"];
        let observer = docker(&[&run[..], &gateway[..]].concat());
        Client::new(SocketAddr::new(address_in(&island, &observer), CLIENT_PORT))
    }

    /// Moves them back.
    pub fn bring_back(&self, ids: &[u32]) {
        for id in ids {
            docker(&["network", "disconnect", &self.island(), &self.container(&node(*id))]);
        }
        self.reconnect(ids);
    }

    fn island(&self) -> String {
        format!("{}-island", self.project)
    }

    /// What a data node says of itself, asked inside its container; empty when it is not well.
    pub fn health(&self, id: u32) -> String {
        let config = format!("/config/{}.toml", node(id));
        let asked = ["exec", &self.container(&node(id)), "lockstep", "health", "--config", &config];
        String::from_utf8_lossy(&try_docker(&asked).stdout).trim().to_owned()
    }

    /// Starts a data node more, as the README says: one file, one command.
    pub fn add_node(&self, id: u32) {
        let config = self.compose_folder().join("config");
        let third = std::fs::read_to_string(config.join("node-3.toml")).expect("it is there");
        let lines = third.lines().map(|line| match line.starts_with("seeds") {
            true => line.to_owned(),
            false => line.replace('3', &id.to_string()),
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        std::fs::write(config.join(format!("{}.toml", node(id))), text).expect("it can be written");
        self.up(&[&node(id)]);
    }

    /// Removes a dead data node's container and its volume, and starts another in its place.
    pub fn replace(&self, id: u32) {
        docker(&["rm", &self.container(&node(id))]);
        docker(&["volume", "rm", &format!("{}_{}", self.project, node(id))]);
        self.up(&[&node(id)]);
    }

    /// A client of this gateway.
    pub fn client(&self, gateway: usize) -> Client {
        Client::new(self.client_ports[gateway])
    }

    /// Ids of the data nodes that run, and are not paused.
    pub fn running(&self) -> BTreeSet<u32> {
        let only = ["ps", "--filter", "status=running", "--format", "{{.Label \"com.docker.compose.service\"}}"];
        let services = engine::names(&only, &self.project);
        IDS.filter(|id| services.contains(&node(*id))).collect()
    }

    /// `GET /v1/cluster` of the first gateway that answers.
    fn status(&self) -> Option<Value> {
        let ask = |address: &SocketAddr| Client::new(*address).get("/v1/cluster").ok();
        self.client_ports.iter().find_map(ask).filter(|reply| reply.status == 200).map(|reply| reply.json)
    }

    /// The view's number and primary, once one that runs serves.
    pub fn primary(&self) -> (u64, u32) {
        let running = self.running();
        eventually(&format!("a primary among {running:?}"), || {
            let status = self.status()?;
            let serving = status["nodes"].as_array()?.iter().find(|node| node["state"] == "primary")?;
            let id = u32::try_from(serving["id"].as_u64()?).ok()?;
            running.contains(&id).then_some((status["view"]["number"].as_u64()?, id))
        })
    }

    /// Waits until exactly the running data nodes make up the view, a primary serves, and all have applied all.
    pub fn wait_for_all(&self) {
        let running = self.running();
        self.wait_until(&format!("{running:?} at one index"), |status| {
            is_view_of(status, &running) && is_at_rest(status)
        });
    }

    /// Waits until exactly the running data nodes make up the view, and a primary serves.
    pub fn wait_for_members(&self) {
        let running = self.running();
        self.wait_until(&format!("a view of {running:?}"), |status| is_view_of(status, &running));
    }

    /// Waits until both witnesses vote.
    pub fn wait_for_witnesses(&self) {
        self.wait_until("two witnesses in the view", |status| {
            status["view"]["witnesses"].as_array().is_some_and(|list| list.len() == GATEWAYS.len())
        });
    }

    /// Waits until a gateway can serve.
    pub fn wait_for_gateways(&self) {
        for address in &self.client_ports {
            eventually("a gateway that is ready", || {
                Client::new(*address).get("/readyz").ok().filter(|reply| reply.status == 200)
            });
        }
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
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills everything, and takes the data directories out of the containers.
    pub fn kill_all(&mut self) {
        let ids = self.running();
        let all: Vec<_> = ids.iter().map(|id| node(*id)).chain(GATEWAYS.map(str::to_owned)).collect();
        self.tell("kill", &all);
        for id in ids {
            let (from, to) = (format!("{}:/data/node", self.container(&node(id))), self.data_dir(id));
            docker(&["cp", &from, &to.to_string_lossy()]);
        }
    }

    /// A data node's directory, once all were killed.
    pub fn data_dir(&self, id: u32) -> PathBuf {
        self.folder.path().join(format!("{}-data", node(id)))
    }

    /// Prints what every container said last.
    fn tell_last_lines(&self) {
        let containers = engine::names(&["ps", "--all", "--format", "{{.Names}}"], &self.project);
        for container in containers {
            let said = try_docker(&["logs", "--tail", "15", &container]);
            eprintln!("--- {container} said last:\n{}", String::from_utf8_lossy(&said.stderr));
        }
    }
}

/// A data node's service, and its name on the network.
pub fn node(id: u32) -> String {
    format!("node-{id}")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_last_lines();
        }
        let remove = |what: &[&str], names: Vec<String>| {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let output = (!names.is_empty()).then(|| try_docker(&[what, &names].concat()));
            if let Some(output) = output.filter(|output| !output.status.success()) {
                eprintln!("{names:?} stay behind: {}", String::from_utf8_lossy(&output.stderr));
            }
        };
        remove(&["rm", "--force", "--volumes"], engine::names(&["ps", "--all", "--quiet"], &self.project));
        remove(&["volume", "rm"], engine::names(&["volume", "ls", "--quiet"], &self.project));
        let networks = docker(&["network", "ls", "--format", "{{.Name}}"]);
        let own = [self.project.clone(), self.island()];
        remove(&["network", "rm"], own.into_iter().filter(|own| networks.lines().any(|name| name == own)).collect());
    }
}

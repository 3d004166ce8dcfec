//! Where a demo's files lie, which ports it takes, and what its settings say.
//!
//! The cluster of the README, three data nodes and two gateways in `./lockstep-data`, reads the files of `config/`, so
//! that editing them works; any other gets files of the same form in its own directory.

use std::io;
use std::path::{Path, PathBuf};

/// Where a demo keeps everything when nobody says.
pub const DIR: &str = "lockstep-data";
/// The data nodes of the files in `config/`, which their seeds list.
const NODES_IN_CONFIG: u32 = 3;
/// The most data nodes: their ports must not reach those of the witnesses.
pub const NODES_MAX: u32 = 49;
/// The most gateways.
pub const GATEWAYS_MAX: u32 = 49;
/// The most that may be added to every port.
pub const PORT_OFFSET_MAX: u32 = 57_000;

const NODE_PORT: u32 = 7_100;
const WITNESS_PORT: u32 = 7_150;
const METRICS_PORT: u32 = 7_200;
/// Where a relay takes what is meant for a peer port: so much above it.
const RELAYED: u32 = 150;
const CLIENT_PORT: u32 = 8_079;

/// What a member of the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A data node.
    Node,
    /// A gateway with a witness.
    Gateway,
}

/// One process of the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `node-1`, `gateway-1`, and so on.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its number, from 1.
    pub number: u32,
    /// Its settings.
    pub config: PathBuf,
    /// What is added to each of its ports.
    port_offset: u32,
    /// Whether others reach it through a relay.
    relayed: bool,
}

impl Member {
    /// The command that runs it.
    pub fn command(&self) -> &'static str {
        match self.kind {
            Kind::Node => "node",
            Kind::Gateway => "gateway",
        }
    }

    fn port(&self, base: u32) -> u32 {
        base + self.port_offset + self.number
    }

    /// The ports that it takes, and what for. No two members of one demo share one: see [`NODES_MAX`] and [`GATEWAYS_MAX`].
    pub fn ports(&self) -> Vec<(&'static str, u16)> {
        let port = |base: u32| u16::try_from(self.port(base)).unwrap_or(0);
        match self.kind {
            Kind::Node => vec![("peers", port(NODE_PORT)), ("metrics", port(METRICS_PORT))],
            Kind::Gateway => vec![("clients", port(CLIENT_PORT)), ("witness", port(WITNESS_PORT))],
        }
    }

    /// Where clients reach a gateway.
    pub fn url(&self) -> String {
        format!("http://{}", self.client_address())
    }

    /// The same, without the scheme.
    pub fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.port(CLIENT_PORT))
    }

    /// Where it listens for its peers.
    fn listen_port(&self) -> u32 {
        match self.kind {
            Kind::Node => self.port(NODE_PORT),
            Kind::Gateway => self.port(WITNESS_PORT),
        }
    }

    /// Where a relay must listen for it, and where it listens itself; none when its peers reach it directly.
    pub fn relay(&self) -> Option<(u16, u16)> {
        let (listen, relay) = (self.listen_port(), self.listen_port() + RELAYED);
        self.relayed.then(|| (u16::try_from(relay).unwrap_or(0), u16::try_from(listen).unwrap_or(0)))
    }

    /// How its peers reach it, when that is not where it listens.
    fn address_line(&self) -> String {
        self.relay().map_or_else(String::new, |(relay, _)| format!("address = \"127.0.0.1:{relay}\"\n"))
    }
}

/// A whole demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// Data nodes by id, then gateways.
    pub members: Vec<Member>,
    nodes: u32,
}

impl Layout {
    /// A demo of so many processes in this directory, with this added to every port.
    pub fn new(dir: &Path, nodes: u32, gateways: u32, port_offset: u32) -> Self {
        let member = |kind: Kind, word: &str, number: u32| {
            let name = format!("{word}-{number}");
            let ours = Path::new("config").join(format!("{name}.toml"));
            let as_in_readme = dir == Path::new(DIR) && nodes == NODES_IN_CONFIG && port_offset == 0 && ours.exists();
            let config = if as_in_readme { ours } else { dir.join("config").join(format!("{name}.toml")) };
            Member { name, kind, number, config, port_offset, relayed: false }
        };
        let data_nodes = (1..=nodes).map(|n| member(Kind::Node, "node", n));
        let members = data_nodes.chain((1..=gateways).map(|n| member(Kind::Gateway, "gateway", n))).collect();
        Self { dir: dir.to_owned(), members, nodes }
    }

    /// The same, with a relay before each peer port.
    pub fn relayed(mut self) -> Self {
        self.members.iter_mut().for_each(|member| member.relayed = true);
        self
    }

    /// One more data node than there are, which no seed names.
    pub fn newcomer(&self) -> Option<Member> {
        let last = self.members.iter().rfind(|member| member.kind == Kind::Node)?;
        let name = format!("node-{}", last.number + 1);
        let config = self.dir.join("config").join(format!("{name}.toml"));
        Some(Member { name, number: last.number + 1, config, ..last.clone() })
    }

    /// The data nodes, by number.
    pub fn nodes(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.kind == Kind::Node)
    }

    /// The gateways, by number.
    pub fn gateways(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.kind == Kind::Gateway)
    }

    /// How many data nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes as usize
    }

    /// The file with the cluster's secret.
    pub fn secret(&self) -> PathBuf {
        self.dir.join("secret")
    }

    /// The file to which a process's output goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("log")
    }

    /// The file in which a process keeps its id.
    pub fn pid(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("pid")
    }

    /// What is typed to start one process by hand.
    pub fn command_line(&self, member: &Member) -> String {
        let program = std::env::current_exe().map_or_else(|_| "lockstep".into(), |path| path.display().to_string());
        let (config, pid, log) = (member.config.display(), self.pid(&member.name), self.log(&member.name));
        let (pid, log) = (pid.display(), log.display());
        format!("{program} {} --config {config} --pid-file {pid} >> {log} 2>&1 &", member.command())
    }

    /// Writes the settings that are not those of `config/`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_configs(&self) -> io::Result<()> {
        let mut own = self.members.iter().filter(|member| member.config.starts_with(&self.dir));
        own.try_for_each(|member| self.write_config(member))
    }

    /// Writes the settings of one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_config(&self, member: &Member) -> io::Result<()> {
        member.config.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(&member.config, self.config_text(member))
    }

    /// Where a member keeps its data.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("data")
    }

    /// A member's settings: what differs from the defaults, as the files in `config/` have it.
    fn config_text(&self, member: &Member) -> String {
        let Member { name, number, .. } = member;
        let data = toml_text(&self.data_dir(name));
        let relayed = if member.relayed { RELAYED } else { 0 };
        let seed = |n| format!("\"127.0.0.1:{}\"", NODE_PORT + member.port_offset + relayed + n);
        let seeds: Vec<_> = (1..=self.nodes).map(seed).collect();
        let address = member.address_line();
        let cluster =
            format!("[cluster]\nseeds = [{}]\nsecret_file = {}\n", seeds.join(", "), toml_text(&self.secret()));
        match member.kind {
            Kind::Node => format!(
                "# Data node {number} of the demo. Every other key: default.toml.\n\n\
                 [node]\nid = {number}\ndata_dir = {data}\nlisten = \"127.0.0.1:{}\"\n{address}\n\
                 [metrics]\nlisten = \"127.0.0.1:{}\"\n\n{cluster}",
                member.port(NODE_PORT),
                member.port(METRICS_PORT)
            ),
            Kind::Gateway => format!(
                "# Gateway {number} of the demo, with a witness. Every other key: default.toml.\n\n\
                 [gateway]\nname = \"{name}\"\nlisten = \"127.0.0.1:{}\"\n\n\
                 [witness]\ndata_dir = {data}\nlisten = \"127.0.0.1:{}\"\n{address}\n{cluster}",
                member.port(CLIENT_PORT),
                member.port(WITNESS_PORT)
            ),
        }
    }

    /// Deletes what a demo keeps here, of however many processes, and nothing else.
    ///
    /// # Errors
    /// When something cannot be deleted.
    pub fn clear(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == "secret" {
                std::fs::remove_file(entry.path())?;
            } else if name == "config" || name.to_str().is_some_and(is_member) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// Processes of an earlier demo in this directory that still run.
    pub fn survivors(&self) -> Vec<(String, i32)> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_member(name));
        let mut survivors: Vec<_> = names.filter_map(|name| Some((name.clone(), self.running(&name)?))).collect();
        survivors.sort();
        survivors
    }

    /// The id in a member's pid file, if that process runs and is one of ours.
    fn running(&self, name: &str) -> Option<i32> {
        let pid: i32 = std::fs::read_to_string(self.pid(name)).ok()?.trim().parse().ok().filter(|pid| *pid > 1)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).ok()?;
        // Ids are used again. Where the system does not tell what runs, the pid file is believed.
        match std::fs::read(format!("/proc/{pid}/cmdline")) {
            Ok(line) => String::from_utf8_lossy(&line).contains("--pid-file").then_some(pid),
            Err(_) => Some(pid),
        }
    }

    /// Four lines to paste: post, read, star, look.
    pub fn curl_lines(&self) -> Vec<String> {
        let urls: Vec<_> = self.gateways().map(Member::url).collect();
        let (Some(first), Some(last)) = (urls.first(), urls.last()) else { return Vec::new() };
        let messages = "v1/channels/general/messages";
        let newest = format!("$(curl -s '{last}/{messages}?limit=1' | sed 's/.*\"id\":\"\\([0-9.]*\\)\".*/\\1/')");
        vec![
            format!(
                "curl -s {first}/{messages} -H 'Content-Type: application/json' -H 'Lockstep-User: ada' -d '{{\"text\":\"Hello\"}}'"
            ),
            format!("curl -s {last}/{messages}"),
            format!("curl -s -X PUT -H 'Lockstep-User: grace' {first}/v1/messages/{newest}/star"),
            format!("curl -s {last}/v1/channels/general/stars"),
        ]
    }
}

/// `node-7`, `gateway-2`: what a demo names its members.
fn is_member(name: &str) -> bool {
    let number = name.strip_prefix("node-").or_else(|| name.strip_prefix("gateway-"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// A path as a TOML string.
fn toml_text(path: &Path) -> String {
    let escaped = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_in_config_are_what_a_demo_would_write() {
        let layout = Layout::new(Path::new(DIR), 3, 2, 0);
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        for member in &layout.members {
            let file = std::fs::read_to_string(config.join(format!("{}.toml", member.name))).expect("in config/");
            assert_eq!(file, layout.config_text(member), "{}", member.name);
        }
    }

    #[test]
    fn another_demo_gets_files_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path(), 5, 1, 100);
        assert_eq!(layout.members.len(), 6);
        layout.write_configs().expect("written");
        let text = std::fs::read_to_string(dir.path().join("config/node-5.toml")).expect("there");
        assert!(text.contains("id = 5") && text.contains("127.0.0.1:7205\"]"), "{text}");
        assert_eq!(layout.members[4].ports(), [("peers", 7_205), ("metrics", 7_305)]);
        assert_eq!(layout.members[5].ports(), [("clients", 8_180), ("witness", 7_251)]);
    }

    #[test]
    fn a_relayed_member_is_reached_at_its_relay_and_listens_behind_it() {
        let layout = Layout::new(Path::new("x"), 3, 1, 0).relayed();
        let text = layout.config_text(&layout.members[0]);
        assert!(text.contains("listen = \"127.0.0.1:7101\"\naddress = \"127.0.0.1:7251\"\n"), "{text}");
        assert!(text.contains("seeds = [\"127.0.0.1:7251\", \"127.0.0.1:7252\", \"127.0.0.1:7253\"]"), "{text}");
        assert_eq!(layout.members[3].relay(), Some((7_301, 7_151)));
        let newcomer = layout.newcomer().expect("there is room");
        assert_eq!((newcomer.name.as_str(), newcomer.relay()), ("node-4", Some((7_254, 7_104))));
    }

    #[test]
    fn fresh_deletes_what_is_ours_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        for ours in ["node-1/data", "gateway-12", "config", "node-x", "nodes"] {
            std::fs::create_dir_all(dir.path().join(ours)).expect("made");
        }
        for file in ["secret", "notes"] {
            std::fs::write(dir.path().join(file), "x").expect("written");
        }
        Layout::new(dir.path(), 1, 1, 0).clear().expect("cleared");
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).expect("read").map(|e| e.expect("entry").file_name()).collect();
        left.sort();
        assert_eq!(left, ["node-x", "nodes", "notes"]);
    }

    #[test]
    fn a_pid_that_runs_something_else_is_no_survivor() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path(), 1, 1, 0);
        std::fs::create_dir_all(dir.path().join("node-1")).expect("made");
        for text in ["", "x", "-1", "1", &std::process::id().to_string()] {
            std::fs::write(layout.pid("node-1"), text).expect("written");
            assert_eq!(layout.survivors(), [], "{text:?}");
        }
    }
}

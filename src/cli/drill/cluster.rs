//! The cluster that is drilled: a demo of its own, each process behind a relay, and what can be done to it.
//!
//! Not here: when and to whom it is done (`nemesis.rs`).

use super::super::Failure;
use super::super::bench::connection::Gateway;
use super::super::demo::children::Children;
use super::super::demo::layout::{Layout, Member};
use super::disk::SmallDisk;
use super::links::Links;
use super::watch::Watch;
use nix::sys::signal::Signal;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Where ports are looked for: below those that the kernel gives to outgoing connections.
const OFFSETS: std::ops::Range<u32> = 2_000..22_000;
/// So far apart no two drills share a port.
const OFFSET_STEP: usize = 401;
/// How often is looked whether something happened.
pub const LOOK: Duration = Duration::from_millis(50);
/// How long anything may take that has no limit of its own.
pub const WIDE: Duration = Duration::from_secs(60);

/// Its processes and their wires.
pub struct Cluster {
    /// Where all of it lies.
    pub layout: Layout,
    /// The fourth data node, which comes and goes.
    pub newcomer: Member,
    /// The wires.
    pub links: Links,
    /// Who is asked how the cluster is.
    pub watch: Rc<Watch>,
    /// The disk that can be filled, of the first data node.
    pub disk: Option<SmallDisk>,
    children: Children,
}

impl Cluster {
    /// Written down, not started.
    ///
    /// # Errors
    /// When there are no free ports, or its files cannot be written.
    pub fn new(dir: &Path, nodes: u32, gateways: u32) -> Result<Self, Failure> {
        let none = || Failure::new("there are not enough free ports on 127.0.0.1");
        let layouts = OFFSETS.step_by(OFFSET_STEP).map(|offset| Layout::new(dir, nodes, gateways, offset).relayed());
        let layout = layouts.into_iter().find(is_free).ok_or_else(none)?;
        let newcomer = layout.newcomer().ok_or_else(|| Failure::new("there is no data node"))?;
        let wrong = |e: std::io::Error| Failure::new(format!("the settings cannot be written: {e}"));
        layout.write_configs().map_err(wrong)?;
        layout.write_config(&newcomer).map_err(wrong)?;
        let links = Links::default();
        for member in layout.members.iter().chain([&newcomer]) {
            let Some((relay, listen)) = member.relay() else { continue };
            let taken = |e| Failure::new(format!("no relay for {}: {e}", member.name));
            links
                .relay(([127, 0, 0, 1], relay).into(), &member.name, ([127, 0, 0, 1], listen).into())
                .map_err(taken)?;
        }
        let watch = Rc::new(Watch::new(layout.gateways().map(Member::url).collect()));
        Ok(Self { layout, newcomer, links, watch, disk: None, children: Children::default() })
    }

    /// Where clients ask.
    pub fn gateways(&self) -> Vec<Gateway> {
        let gateway = |member: &Member| {
            let name = member.client_address();
            Some(Gateway { address: name.parse().ok()?, name })
        };
        self.layout.gateways().filter_map(gateway).collect()
    }

    /// Starts all, and waits until all data nodes are in the view and all seats of witnesses are taken.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn start(&mut self) -> Result<(), Failure> {
        let names: Vec<_> = self.layout.members.iter().map(|member| member.name.clone()).collect();
        names.iter().try_for_each(|name| self.start_one(name))?;
        let is_whole = self.wait_until_whole(WIDE).await;
        is_whole
            .map(|_| ())
            .ok_or_else(|| Failure::new(format!("the cluster does not serve after {} s", WIDE.as_secs())))
    }

    /// Starts a process that does not run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_one(&mut self, name: &str) -> Result<(), Failure> {
        self.children.reap();
        let all = self.layout.members.iter().chain([&self.newcomer]);
        let member = all.into_iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| Failure::new(format!("there is no {name}")))?;
        let file = self.fail_flush_file(name);
        self.children.start_with(&self.layout, member, &[(super::super::process::FAIL_FLUSH_VARIABLE, &file)])?;
        Ok(())
    }

    /// While this file is there, its flushes fail.
    pub fn fail_flush_file(&self, name: &str) -> PathBuf {
        self.layout.dir.join(name).join("fail-flush")
    }

    /// Sends a signal to these.
    pub fn signal(&self, names: &[String], signal: Signal) {
        self.children.signal(names, signal);
    }

    /// Kill -9 of these, at one moment: stopped first, so that none sees another die.
    pub async fn kill(&mut self, names: &[String]) {
        self.signal(names, Signal::SIGSTOP);
        self.signal(names, Signal::SIGKILL);
        self.wait_until_ended(names).await;
    }

    /// Waits until these have ended; whether they did.
    pub async fn wait_until_ended(&mut self, names: &[String]) -> bool {
        let begun = Instant::now();
        loop {
            self.children.reap();
            if !names.iter().any(|name| self.children.is_running(name)) {
                return true;
            }
            if begun.elapsed() > WIDE {
                return false;
            }
            tokio::time::sleep(LOOK / 5).await;
        }
    }

    /// Removes what a stopped data node kept, but not the directory, which may be a disk of its own.
    ///
    /// # Errors
    /// When something cannot be deleted.
    pub fn wipe(&self, name: &str) -> std::io::Result<()> {
        for entry in std::fs::read_dir(self.layout.data_dir(name))? {
            let path = entry?.path();
            if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
        }
        Ok(())
    }

    /// Starts all of the cluster that do not run, and lets all go on: whatever a fault did, it is over.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn restore(&mut self) -> Result<(), Failure> {
        self.links.heal();
        self.children.reap();
        let names: Vec<_> = self.layout.members.iter().map(|member| member.name.clone()).collect();
        self.signal(&names, Signal::SIGCONT);
        for name in names {
            self.links.slow_down(&name, Duration::ZERO);
            let _ = std::fs::remove_file(self.fail_flush_file(&name));
            if !self.children.is_running(&name) {
                self.start_one(&name)?;
            }
        }
        Ok(())
    }

    /// Waits until the view has exactly the data nodes of the layout, one serves, and no seat of a witness is free; how long
    /// that took, if it came.
    pub async fn wait_until_whole(&self, limit: Duration) -> Option<Duration> {
        let nodes: Vec<_> = self.layout.nodes().map(|member| member.number).collect();
        // A view lists one witness fewer than data nodes at most.
        let witnesses = self.layout.gateways().count().min(nodes.len().saturating_sub(1));
        let is_whole = |seen: &super::watch::Seen| seen.serves && seen.replicas == nodes && seen.witnesses == witnesses;
        self.watch.wait_until(limit, is_whole).await
    }

    /// Runs a command of this program on the cluster, with the settings of the first data node.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub async fn run_command(&self, arguments: &[&str]) -> Result<(), Failure> {
        let wrong = |e: std::io::Error| Failure::new(format!("{arguments:?}: {e}"));
        let program = std::env::current_exe().map_err(wrong)?;
        let config = self.layout.nodes().next().map(|member| member.config.clone()).unwrap_or_default();
        let mut command = tokio::process::Command::new(program);
        let output = command.args(arguments).arg("--config").arg(config).output().await.map_err(wrong)?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(Failure::new(said)) }
    }

    /// Ends all processes, and gives the disk back.
    pub fn end(&mut self) {
        self.links.heal();
        self.children.kill();
        self.disk = None;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether nobody listens at any port of this layout, those of its relays and of the newcomer too.
fn is_free(layout: &Layout) -> bool {
    let newcomer = layout.newcomer();
    let members = layout.members.iter().chain(&newcomer);
    let ports = members.flat_map(|member| {
        let relay = member.relay().map(|(relay, _)| relay);
        member.ports().into_iter().map(|(_, port)| port).chain(relay)
    });
    ports.into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// The name of a data node.
pub fn node_name(number: u32) -> String {
    format!("node-{number}")
}

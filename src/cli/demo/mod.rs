//! `lockstep demo`: a whole cluster on this machine, each data node and gateway a process of its own.
//!
//! It starts them, waits until they serve, says how to try them, and stops them in order at Ctrl-C: data nodes first, the
//! lowest first, so that leadership moves once at most; gateways last, because their witnesses vote until the end. What
//! was posted stays in the directory and is there at the next start.
//!
//! A process that dies is not started again: whoever tries out what happens then wants to see it.
//!
//! Not here: where files lie and what they say (`layout.rs`), and starting and ending processes (`children.rs`).

pub mod children;
pub mod layout;

use super::api::random_hex;
use super::{Failure, block_on};
use children::Children;
use clap::Args;
use layout::{GATEWAYS_MAX, Layout, Member, NODES_MAX, PORT_OFFSET_MAX};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the cluster may take until it serves.
const START: Duration = Duration::from_secs(60);
/// How long it may then take until every data node is in the view.
const JOIN: Duration = Duration::from_secs(30);
/// How often is looked whether something happened.
const LOOK: Duration = Duration::from_millis(200);

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where everything is kept
    #[arg(long, default_value = layout::DIR)]
    dir: PathBuf,
    /// How many data nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    data_nodes: u32,
    /// How many gateways
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=i64::from(GATEWAYS_MAX)))]
    gateways: u32,
    /// Added to every port, to run beside what has them already; 150 or more beside another demo
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=i64::from(PORT_OFFSET_MAX)))]
    port_offset: u32,
    /// Begin with nothing: delete what an earlier demo kept in the directory
    #[arg(long)]
    fresh: bool,
}

/// Runs the demo until it is told to stop.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Arguments { dir, data_nodes, gateways, port_offset, .. } = arguments;
    let layout = Layout::new(dir, *data_nodes, *gateways, *port_offset);
    make_dir(&layout.dir)?;
    let _lock = lock(&layout)?;
    refuse_survivors(&layout)?;
    if arguments.fresh {
        layout.clear().map_err(|e| Failure::new(format!("{} cannot be cleared: {e}", layout.dir.display())))?;
    }
    refuse_ports_in_use(&layout)?;
    write_secret(&layout.secret())?;
    layout.write_configs().map_err(|e| Failure::new(format!("the settings cannot be written: {e}")))?;
    block_on(supervise(&layout))
}

/// Makes a directory.
pub fn make_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|e| Failure::new(format!("{} cannot be made: {e}", dir.display())))
}

/// One demo at a time in a directory; the lock goes with the process.
pub fn lock(layout: &Layout) -> Result<File, Failure> {
    let path = layout.dir.join("demo.lock");
    let file = File::create(&path).map_err(|e| Failure::new(format!("{} cannot be made: {e}", path.display())))?;
    let dir = layout.dir.display();
    let held = |_| Failure::new(format!("another demo runs in {dir}: stop it first, or take another --dir"));
    file.try_lock().map_err(held)?;
    Ok(file)
}

/// Processes that an earlier demo could not stop, because it was killed itself, still hold their directories.
pub fn refuse_survivors(layout: &Layout) -> Result<(), Failure> {
    let survivors = layout.survivors();
    if survivors.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = survivors.iter().map(|(name, pid)| format!("{name} (pid {pid})")).collect();
    let pids: Vec<_> = survivors.iter().map(|(_, pid)| pid.to_string()).collect();
    let (names, pids) = (names.join(", "), pids.join(" "));
    Err(Failure::new(format!("of an earlier demo there still run {names}. Stop them: kill {pids}")))
}

fn refuse_ports_in_use(layout: &Layout) -> Result<(), Failure> {
    for member in &layout.members {
        for (what, port) in member.ports() {
            let name = &member.name;
            let taken = |e| Failure::new(format!("{name} needs port {port} of 127.0.0.1 for its {what}: {e}"));
            std::net::TcpListener::bind(("127.0.0.1", port)).map_err(taken)?;
        }
    }
    Ok(())
}

/// A random secret that only this user can read; one that is there stays.
pub fn write_secret(path: &Path) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let wrong = |e: std::io::Error| Failure::new(format!("{} cannot be written: {e}", path.display()));
    if path.exists() {
        return Ok(());
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(wrong)?;
    writeln!(file, "{}", random_hex(32)?).map_err(wrong)
}

/// What a person or the system may say meanwhile.
pub struct Stops([Signal; 3]);

impl Stops {
    /// From now on they are waited for, and end nothing by themselves.
    pub fn new() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(|e| Failure::new(format!("no signals: {e}")));
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    /// Waits for one.
    pub async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

async fn supervise(layout: &Layout) -> Result<ExitCode, Failure> {
    let mut stops = Stops::new()?;
    let mut children = Children::default();
    let started = start(layout, &mut children);
    let served = tokio::select! {
        served = async { started?; serve(layout, &mut children).await } => served,
        () = stops.next() => Ok(()),
    };
    println!("\nStopping. Ctrl-C again ends it at once.");
    tokio::select! {
        () = children.stop() => println!("All stopped. What was posted is kept in {}.", layout.dir.display()),
        () = stops.next() => {
            children.kill();
            println!("Ended. What was acknowledged is kept in {}.", layout.dir.display());
        }
    }
    served.map(|()| ExitCode::SUCCESS)
}

fn start(layout: &Layout, children: &mut Children) -> Result<(), Failure> {
    println!("Starting in {}:", layout.dir.display());
    layout.members.iter().try_for_each(|member| children.start(layout, member))
}

/// Waits until the cluster serves, says so, and then watches; ends only with a failure.
async fn serve(layout: &Layout, children: &mut Children) -> Result<(), Failure> {
    let client = awc::Client::builder().timeout(Duration::from_secs(3)).finish();
    println!("Waiting until it serves ...");
    wait_until_ready(layout, children, &client).await?;
    let joined = wait_until_joined(layout, &client).await;
    welcome(layout, joined);
    loop {
        for (name, how) in children.reap() {
            say_lost(layout, &name, &how);
        }
        if children.is_empty() {
            return Err(Failure::new("every process has ended"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn wait_until_ready(layout: &Layout, children: &mut Children, client: &awc::Client) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut waited_for: Vec<&Member> = layout.gateways().collect();
    while let Some(gateway) = waited_for.last() {
        if let Some((name, how)) = children.reap().first() {
            let log = layout.log(name);
            return Err(Failure::new(format!(
                "{name} {how} before the cluster served; its last lines:\n{}",
                tail(&log)
            )));
        }
        if begun.elapsed() > START {
            let logs = layout.dir.join("*/log");
            return Err(Failure::new(format!("it does not serve after {} s; see {}", START.as_secs(), logs.display())));
        }
        match client.get(format!("{}/readyz", gateway.url())).send().await {
            Ok(response) if response.status().is_success() => drop(waited_for.pop()),
            Ok(_) | Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
    Ok(())
}

/// How many data nodes are in the view, once it is all of them or the time is over.
async fn wait_until_joined(layout: &Layout, client: &awc::Client) -> usize {
    let begun = Instant::now();
    loop {
        let joined = match layout.gateways().next() {
            Some(gateway) => joined(&format!("{}/v1/cluster", gateway.url()), client).await,
            None => 0,
        };
        if joined >= layout.node_count() || begun.elapsed() > JOIN {
            return joined;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn joined(url: &str, client: &awc::Client) -> usize {
    let Ok(mut response) = client.get(url).send().await else { return 0 };
    let Ok(bytes) = response.body().limit(4 << 20).await else { return 0 };
    let cluster: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    cluster["view"]["replicas"].as_array().map_or(0, Vec::len)
}

fn welcome(layout: &Layout, joined: usize) {
    println!("\nLockstep serves, with {joined} of {} data nodes in its view.\n", layout.node_count());
    for gateway in layout.gateways() {
        println!("    {}    {}", gateway.url(), gateway.name);
    }
    println!("\nPaste these:\n");
    for line in layout.curl_lines() {
        println!("  {line}");
    }
    println!(
        "\nEach process has its files `pid` and `log` in {}/<name>. Ctrl-C stops everything.",
        layout.dir.display()
    );
}

fn say_lost(layout: &Layout, name: &str, how: &str) {
    println!("\n{name} {how}; its log: {}", layout.log(name).display());
    if let Some(member) = layout.members.iter().find(|member| member.name == name) {
        println!("Start it again: {}", layout.command_line(member));
    }
}

/// The last lines of a process's log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

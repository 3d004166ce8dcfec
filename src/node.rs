//! A data node as a process: opens its disk, serves its peer port, runs its actors, and hands over when it is told to stop.
//!
//! A gateway's witness is run by the same code (`start`); only a data node waits for signals here.
//!
//! Not here: the command line and the settings file, which give plain values.

use crate::http::peer::{self, PeerApi};
use crate::http::peer_client::PeerClient;
use actix_rt::{Arbiter, ArbiterHandle};
use actix_web::dev::ServerHandle;
use lockstep_actors::hands::OnHalt;
use lockstep_actors::{Arbiters, Node, NodeConfig, open};
use lockstep_protocol::ids::Voter;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// The exit code of a node that met what cannot be, or whose disk failed. The process manager restarts it.
pub const EXIT_HALTED: i32 = 70;

/// How long a handover may take, before the process stops without one: the others elect then.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(5);

/// Everything that a node is run with. Plain, checked values.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// Who it is and what it owns.
    pub config: NodeConfig,
    /// The peer port.
    pub listen: SocketAddr,
    /// The cluster's secret.
    pub secret: String,
}

/// A node whose port is served.
pub struct Running {
    /// Its handle.
    pub node: Node,
    server: ServerHandle,
    stop: watch::Sender<bool>,
    /// Their threads end with them.
    arbiters: Vec<Arbiter>,
}

/// Runs a data node until it is told to stop. Within an actix system.
///
/// # Errors
/// Why it could not start, for the operator.
pub async fn run(plan: NodePlan) -> Result<(), String> {
    let mut told = Signals::new()?;
    let running = start(plan).await?;
    log::info!("{} runs at {}", running.node.me().voter, running.node.me().address);
    let why = told.next().await;
    log::info!("{why}: handing over and stopping");
    tokio::select! {
        () = running.stop() => {}
        why = told.next() => log::warn!("{why} again: stopping at once"),
    }
    Ok(())
}

/// What tells a process to stop.
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on they do not end the process by themselves.
    ///
    /// # Errors
    /// When the system does not let them be heard.
    pub fn new() -> Result<Self, String> {
        let hear = |kind| signal(kind).map_err(|error| format!("signals cannot be heard: {error}"));
        Ok(Self { terminate: hear(SignalKind::terminate())?, interrupt: hear(SignalKind::interrupt())? })
    }

    /// The next one's name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Opens the disk and serves the port.
///
/// # Errors
/// Why it could not, for the operator.
pub async fn start(plan: NodePlan) -> Result<Running, String> {
    let NodePlan { config, listen, secret } = plan;
    let listener = listen_on(listen)?;
    let dir = config.data_dir.display().to_string();
    let own_name = process_name(&config.voter);
    let opened = open(config, on_halt()).map_err(|error| format!("{dir}: {error}"))?;
    let node: Arc<OnceLock<Node>> = Arc::default();
    let (stop, stopping) = watch::channel(false);
    let (on_thread, mut threads) = mpsc::unbounded_channel();
    let api = PeerApi::new(&secret, node.clone(), stopping);
    let server = peer::serve(listener, api, move || {
        let _ = on_thread.send(Arbiter::current()); // Nobody listens any more once the first is known.
    });
    let server = server.map_err(|error| format!("{listen}: {error}"))?;
    let handle = server.handle();
    actix_rt::spawn(server);
    let work: ArbiterHandle = threads.recv().await.ok_or("the peer port's thread did not start")?;
    let (vital, bulk) = (Arbiter::new(), Arbiter::new());
    let arbiters = Arbiters { work, vital: vital.handle(), bulk: bulk.handle() };
    let outbox = PeerClient::new(&secret, &own_name, node.clone(), arbiters.clone());
    let started = opened.start(&arbiters, outbox).map_err(|error| error.to_string())?;
    let _ = node.set(started.clone()); // It was made here, and is set once.
    Ok(Running { node: started, server: handle, stop, arbiters: vec![vital, bulk] })
}

/// A witness goes by its gateway's name.
fn process_name(voter: &Voter) -> String {
    match voter {
        Voter::Replica(id) => format!("node-{id}"),
        Voter::Witness(name) => name.to_string(),
    }
}

/// # Errors
/// Why the port cannot be had.
pub fn listen_on(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// Nothing that runs on can do harm after this: the process ends here, and recovery reads the disk.
fn on_halt() -> OnHalt {
    Arc::new(|_| std::process::exit(EXIT_HALTED))
}

impl Running {
    /// Hands over, lets watches end, closes the port, and closes the disk.
    pub async fn stop(self) {
        self.node.hand_over(HAND_OVER_PATIENCE).await;
        self.stop.send_replace(true);
        self.server.stop(true).await;
        for arbiter in self.arbiters {
            arbiter.stop();
        }
        self.node.stop();
    }
}

//! A data node as a process: opens its disk, serves its peer port, runs its actors, and hands over when it is told to stop.
//!
//! A gateway's witness is run by the same code (`start`); only a data node waits for signals here.
//!
//! Not here: the command line and the settings file, which give plain values.

use crate::http::metrics::{NodeSource, Sources};
use crate::http::metrics_server;
use crate::http::peer::{self, PeerApi};
use crate::http::peer_client::PeerClient;
use crate::system::unix_seconds;
use actix_rt::time::sleep;
use actix_rt::{Arbiter, ArbiterHandle};
use actix_web::dev::ServerHandle;
use lockstep_actors::hands::{End, OnEnd};
use lockstep_actors::{Arbiters, Node, NodeConfig, open};
use lockstep_protocol::ids::Voter;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// The exit code of a node that met what cannot be, or whose disk failed. The process manager restarts it.
pub const EXIT_HALTED: i32 = 70;

/// The exit code of a process that was removed from its cluster: starting it again is no use.
pub const EXIT_REMOVED: u8 = 71;

/// How long a handover may take, before the process stops without one: the others elect then.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(5);

/// How long the last answers may take to leave.
const LAST_WORDS: Duration = Duration::from_millis(20);

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
    /// What it tells of itself.
    pub source: NodeSource,
    server: ServerHandle,
    stop: watch::Sender<bool>,
    removed: watch::Receiver<bool>,
    /// Their threads end with them.
    arbiters: Vec<Arbiter>,
}

/// Why a process stopped that had started well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was told to.
    Told,
    /// It was removed from its cluster for good.
    Removed,
}

/// Runs a data node until it is told to stop, or is removed, and its metrics port if it has one. Within an actix system.
///
/// # Errors
/// Why it could not start, for the operator.
pub async fn run(plan: NodePlan, metrics: Option<SocketAddr>) -> Result<Stopped, String> {
    let started_at = unix_seconds();
    let mut told = Signals::new()?;
    metrics.map(listen_on).transpose()?; // Early, for a clear error; while the disk is read, a refused connection says more.
    let mut running = start(plan).await?;
    let sources = Sources { node: Some(running.source.clone()), gateway: None, started_at };
    serve_metrics(metrics, sources)?;
    log::info!("{} runs at {}", running.node.me().voter, running.node.me().address);
    let why = tokio::select! {
        why = told.next() => why,
        () = running.is_removed() => {
            running.stop().await;
            return Ok(Stopped::Removed);
        }
    };
    log::info!("{why}: handing over and stopping");
    tokio::select! {
        () = running.stop() => {}
        why = told.next() => log::warn!("{why} again: stopping at once"),
    }
    Ok(Stopped::Told)
}

/// Serves the metrics port, if there is to be one.
///
/// # Errors
/// Why it cannot be had.
pub fn serve_metrics(listen: Option<SocketAddr>, sources: Sources) -> Result<(), String> {
    let Some(listen) = listen else { return Ok(()) };
    let server = metrics_server::serve(listen_on(listen)?, sources).map_err(|error| format!("{listen}: {error}"))?;
    actix_rt::spawn(server);
    log::info!("metrics are told at {listen}");
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
    let data_dir = config.data_dir.clone();
    // Early, for a clear error; but nobody is let wait in line while the disk is read: a refused connection says more.
    drop(listen_on(listen)?);
    let dir = data_dir.display().to_string();
    let own_name = process_name(&config.voter);
    let (remove, removed) = watch::channel(false);
    let opened = open(config, on_end(remove)).map_err(|error| format!("{dir}: {error}{}", error.remedy()))?;
    let listener = listen_on(listen)?;
    let node: Arc<OnceLock<Node>> = Arc::default();
    let (stop, stopping) = watch::channel(false);
    let (on_thread, mut threads) = mpsc::unbounded_channel();
    let api = PeerApi::new(&secret, node.clone(), stopping, &data_dir);
    let peers = api.connections.clone();
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
    let letters = outbox.letters();
    let started = opened.start(&arbiters, outbox).map_err(|error| error.to_string())?;
    let _ = node.set(started.clone()); // It was made here, and is set once.
    let source = NodeSource { node: started.clone(), data_dir, letters, peers };
    Ok(Running { node: started, source, server: handle, stop, removed, arbiters: vec![vital, bulk] })
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

/// After a halt nothing that runs on can do harm: the process ends here, and recovery reads the disk. A removed one is in no
/// view, and stops as if it was told to.
fn on_end(remove: watch::Sender<bool>) -> OnEnd {
    Arc::new(move |end| match end {
        End::Halted(_) => std::process::exit(EXIT_HALTED),
        End::Removed(_) => drop(remove.send_replace(true)),
    })
}

impl Running {
    /// Waits until it hears that it was removed from its cluster.
    pub async fn is_removed(&mut self) {
        if self.removed.wait_for(|is_removed| *is_removed).await.is_err() {
            std::future::pending::<()>().await; // The node has ended otherwise.
        }
    }

    /// Hands over, lets watches end, closes the port, and closes the disk.
    pub async fn stop(self) {
        self.node.hand_over(HAND_OVER_PATIENCE).await;
        self.stop.send_replace(true);
        // All answers are written by now; what other nodes keep open would only be waited for in vain.
        sleep(LAST_WORDS).await;
        self.server.stop(false).await;
        for arbiter in self.arbiters {
            arbiter.stop();
        }
        self.node.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::call_client::CallClient;
    use crate::http::peer_http::{self, PostFailed};
    use bytes::Bytes;
    use futures_util::{SinkExt, StreamExt};
    use lockstep_actors::engine::FaultPlan;
    use lockstep_actors::gateway::{ClientCall, NodePort};
    use lockstep_protocol::ids::{Address, ClusterId, NodeId, ViewNumber};
    use lockstep_protocol::machine::{Limits, Timing};
    use lockstep_protocol::message::{Envelope, PROTOCOL_VERSION, PeerMessage};
    use lockstep_protocol::operation::{
        Action, Answer, ChannelName, Found, IdempotencyKey, KeyOwner, Operation, Query, UserName,
    };
    use std::path::Path;

    const SECRET: &str = "a secret of the cluster";

    /// A port that nobody has.
    fn port() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound")
    }

    /// A cluster of one.
    async fn alone(dir: &Path, listen: SocketAddr) -> (Running, Address) {
        let address = Address::new(&listen.to_string());
        let config = NodeConfig {
            voter: Voter::Replica(NodeId(1)),
            address: address.clone(),
            seeds: vec![address.clone()],
            timing: Timing { seek_interval_ms: 50, ..Timing::default() },
            limits: Limits::default(),
            data_dir: dir.to_owned(),
            faults: FaultPlan::default(),
        };
        let plan = NodePlan { config, listen, secret: SECRET.to_owned() };
        let running = start(plan).await.expect("starts");
        for _ in 0..500 {
            if running.node.leading(ViewNumber(0)).serving.is_some() {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        (running, address)
    }

    fn create(name: &str) -> ClientCall {
        let owner =
            KeyOwner { user: UserName::new("ada").expect("a name"), key: IdempotencyKey::new(name).expect("a key") };
        ClientCall::Write(Operation { owner, action: Action::CreateChannel { channel: channel(name) } })
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).expect("a name")
    }

    #[actix_rt::test]
    async fn a_node_serves_calls_over_its_port_and_keeps_what_it_acknowledged() {
        let dir = tempfile::tempdir().expect("a directory");
        let listen = port();
        let (running, address) = alone(dir.path(), listen).await;
        let port = CallClient::new(SECRET, "test");
        let known = ViewNumber(0);
        let writes = (0..20).map(|n| port.call(&address, known, create(&format!("c{n}"))));
        for reply in futures_util::future::join_all(writes).await {
            let reply = reply.expect("answered");
            assert!(matches!(reply.answer, Answer::Written(..)), "{:?}", reply.answer);
            assert!(reply.view.is_some(), "the caller knew none");
        }
        let report = port.report(&address).await.expect("a report, as JSON");
        assert_eq!((report.me.voter, report.changes.len()), (Voter::Replica(NodeId(1)), 1));
        running.stop().await;

        let (running, address) = alone(dir.path(), listen).await;
        let all = ClientCall::Read(Query::Channels { limit: 100, after: None });
        let reply = port.call(&address, known, all).await.expect("answered");
        let Answer::Read(Found::Channels { channels, .. }, _) = reply.answer else {
            unreachable!("not what was asked: {:?}", reply.answer)
        };
        assert_eq!(channels.len(), 20);
        running.stop().await;
    }

    #[actix_rt::test]
    async fn section_11_another_cluster_is_refused_and_says_which() {
        let dir = tempfile::tempdir().expect("a directory");
        let (running, address) = alone(dir.path(), port()).await;
        let letter = Envelope {
            version: PROTOCOL_VERSION,
            cluster: Some(ClusterId(1)),
            from: running.node.me().clone(),
            view: ViewNumber(1),
            message: PeerMessage::AskView,
        };
        let body = Bytes::from(postcard::to_stdvec(&vec![letter]).expect("encodes"));
        let post = |secret: &'static str| {
            let (url, body) = (peer_http::url(&address, "letters"), body.clone());
            async move {
                let client = peer_http::client(secret, "test", 1);
                peer_http::post(&client, &url, body, Duration::from_secs(5)).await
            }
        };
        let Err(PostFailed::Denied(reason)) = post(SECRET).await else { unreachable!("it was taken") };
        assert!(reason.starts_with("409") && reason.contains("this node belongs to"), "{reason}");
        let Err(PostFailed::Denied(reason)) = post("another").await else { unreachable!("it was taken") };
        assert!(reason.starts_with("401"), "{reason}");
        running.stop().await;
    }

    #[actix_rt::test]
    async fn a_stream_answers_whoever_asks_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (running, address) = alone(dir.path(), port()).await;
        let client = peer_http::client(SECRET, "test", 1);
        let (_, mut stream) = client.ws(peer_http::url(&address, "stream")).connect().await.expect("a stream");
        stream.send(awc::ws::Message::Ping(Bytes::from_static(b"there?"))).await.expect("sent");
        let answer = stream.next().await.expect("an answer").expect("a frame");
        assert_eq!(answer, awc::ws::Frame::Pong(Bytes::from_static(b"there?")));
        running.stop().await;
    }

    #[actix_rt::test]
    async fn r11_a_stopping_process_ends_its_watches() {
        let dir = tempfile::tempdir().expect("a directory");
        let (running, address) = alone(dir.path(), port()).await;
        let client = peer_http::client(SECRET, "test", 1);
        let mut watch = client.get(peer_http::url(&address, "watch")).send().await.expect("answered");
        assert!(watch.next().await.is_some_and(|byte| byte.is_ok()), "the head comes at once");
        let ended = async { while let Some(Ok(_)) = watch.next().await {} };
        let (stopped, ()) = tokio::join!(running.stop(), ended);
        assert_eq!(stopped, ());
    }
}

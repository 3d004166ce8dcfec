//! A gateway as a process: the client port over the actor that follows the cluster, and a witness if it has a directory.
//!
//! Not here: the command line and the settings file, which give plain values.

use crate::http::call_client::CallClient;
use crate::http::client::ClientApi;
use crate::http::client_server;
use crate::http::metrics::Sources;
use crate::node::{self, NodePlan, Running, Signals, Stopped};
use crate::system::unix_seconds;
use lockstep_actors::gateway::{Gateway, GatewayActor, GatewayConfig, GatewayFigures, GatewayHandle};
use std::net::SocketAddr;
use std::sync::Arc;

/// Everything that a gateway is run with. Plain, checked values.
#[derive(Clone, Debug)]
pub struct GatewayPlan {
    /// How it follows the cluster.
    pub config: GatewayConfig,
    /// How it calls itself to the data nodes.
    pub name: String,
    /// The client port.
    pub listen: SocketAddr,
    /// The cluster's secret.
    pub secret: String,
    /// Its witness, if it votes.
    pub witness: Option<NodePlan>,
    /// Where it tells its metrics, beside the client port.
    pub metrics: Option<SocketAddr>,
}

/// Runs a gateway until it is told to stop, or its witness is removed. Within an actix system. `api` makes the client API over the gateway's handle.
///
/// # Errors
/// Why it could not start, for the operator.
pub async fn run(plan: GatewayPlan, api: impl FnOnce(Arc<dyn GatewayHandle>) -> ClientApi) -> Result<Stopped, String> {
    let started_at = unix_seconds();
    let GatewayPlan { config, name, listen, secret, witness, metrics } = plan;
    let mut told = Signals::new()?;
    let listener = node::listen_on(listen)?;
    let mut witness = match witness {
        Some(plan) => Some(node::start(plan).await?),
        None => None,
    };
    let seed = getrandom::u64().map_err(|error| format!("no randomness: {error}"))?;
    let gateway = Gateway::default();
    let figures = Arc::<GatewayFigures>::default();
    let counts = figures.clone();
    let handle: Arc<dyn GatewayHandle> = Arc::new(gateway.clone());
    let on_thread = move || {
        let port = Box::new(CallClient::new(&secret, &name));
        gateway.start_here(|| GatewayActor::new(config, port, seed, counts));
    };
    let node = witness.as_ref().map(|witness| witness.source.clone());
    let api = api(handle).telling(figures, Sources { node, gateway: None, started_at });
    node::serve_metrics(metrics, api.sources())?;
    let server = client_server::serve(listener, api, on_thread).map_err(|error| format!("{listen}: {error}"))?;
    log::info!("the client port is {listen}");
    let stopped = tokio::select! {
        why = told.next() => {
            log::info!("{why}: stopping");
            Stopped::Told
        }
        () = is_removed(witness.as_mut()) => Stopped::Removed,
    };
    // What is under way is answered first: a client sees no error when a gateway is replaced.
    server.stop().await;
    if let Some(witness) = witness {
        witness.stop().await;
    }
    Ok(stopped)
}

async fn is_removed(witness: Option<&mut Running>) {
    match witness {
        Some(witness) => witness.is_removed().await,
        None => std::future::pending().await,
    }
}

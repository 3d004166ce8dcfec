//! A gateway as a process: the client port over the actor that follows the cluster, and a witness if it has a directory.
//!
//! Not here: the command line.

use crate::http::call_client::CallClient;
use crate::http::client::{self, ClientApi};
use crate::node::{self, NodePlan, Signals};
use crate::settings::Settings;
use actix::Actor;
use actix_rt::Arbiter;
use lockstep_actors::gateway::{GatewayActor, GatewayConfig, handle};
use std::time::Duration;

/// How many requests may be under way or held at once, beside what the nodes let wait.
const REQUESTS_MAX: usize = 20_000;

/// Runs a gateway until it is told to stop. Within an actix system.
///
/// # Errors
/// Why it could not start, for the operator.
pub async fn run(settings: &Settings) -> Result<(), String> {
    let config = GatewayConfig {
        data_nodes: settings.data_nodes(),
        request_timeout: Duration::from_millis(settings.gateway.request_timeout_ms),
        refresh: Duration::from_millis(settings.gateway.refresh_ms),
        requests_max: REQUESTS_MAX,
    };
    let (secret, listen) = (node::secret(settings)?, settings.gateway.listen);
    let mut told = Signals::new()?;
    let listener = node::listen_on(listen)?;
    let witness = match NodePlan::of_witness(settings)? {
        Some(plan) => Some(node::start(plan).await?),
        None => None,
    };
    let thread = Arbiter::new();
    let seed = getrandom::u64().map_err(|error| format!("no randomness: {error}"))?;
    let actor = GatewayActor::start_in_arbiter(&thread.handle(), move |_| {
        GatewayActor::new(config, Box::new(CallClient::new(&secret)), seed)
    });
    let server = client::serve(listener, ClientApi::new(handle(actor), settings))
        .map_err(|error| format!("{listen}: {error}"))?;
    let serving = server.handle();
    actix_rt::spawn(server);
    log::info!("the client port is {listen}");
    let why = told.next().await;
    log::info!("{why}: stopping");
    // What is under way is answered first: a client sees no error when a gateway is replaced.
    serving.stop(true).await;
    if let Some(witness) = witness {
        witness.stop().await;
    }
    thread.stop();
    Ok(())
}

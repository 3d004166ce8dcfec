//! `lockstep health`: how the process of a settings file is, asked at its own port. Exit code 0 well, 1 not.
//!
//! For whoever starts processes (containers, service managers): it needs nothing but the binary and the settings. A data node is
//! well when it answers and belongs to a cluster, whether it is in the view or not; a gateway, when it can serve requests.
//!
//! Not here: how the cluster is (`status.rs`).

use super::{Failure, block_on};
use crate::http::call_client::CallClient;
use crate::settings::{Role, Settings};
use clap::Args;
use lockstep_actors::gateway::{Leading, NodePort};
use lockstep_protocol::ids::{Address, ViewNumber};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long the process may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The settings that the process was started with; a gateway's have a name for it
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let as_gateway = Settings::load(Some(&arguments.config), Role::Gateway);
    let said = match as_gateway {
        Ok(settings) => block_on(gateway(settings.gateway.listen)),
        Err(_) => {
            let settings = Settings::load(Some(&arguments.config), Role::Node)?;
            block_on(node(settings.node.listen, settings.secret()?.as_str()))
        }
    }?;
    println!("{said}");
    Ok(ExitCode::SUCCESS)
}

async fn gateway(listen: SocketAddr) -> Result<String, Failure> {
    let url = format!("http://{}/readyz", here(listen));
    let client = awc::Client::builder().timeout(PATIENCE).disable_redirects().finish();
    let answer = client.get(&url).send().await.map_err(|error| Failure::new(format!("{url}: {error}")))?;
    match answer.status() {
        status if status.is_success() => Ok("ready".to_owned()),
        status => Err(Failure::new(format!("{url}: {status}: nobody is known to lead"))),
    }
}

async fn node(listen: SocketAddr, secret: &str) -> Result<String, Failure> {
    let address = Address::new(&here(listen).to_string());
    let asked = CallClient::new(secret, "health").leading(&address, ViewNumber(u64::MAX));
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let answer = answer.map_err(|_| Failure::new(format!("{address}: no answer in {} s", PATIENCE.as_secs())))?;
    told(&answer.map_err(|error| Failure::new(format!("{address}: {error}")))?)
}

fn told(leading: &Leading) -> Result<String, Failure> {
    match (leading.cluster, leading.serving) {
        (Some(cluster), Some(view)) => Ok(format!("of cluster {cluster}, primary in view {view}")),
        (Some(cluster), None) => Ok(format!("of cluster {cluster}, not the primary")),
        (None, _) => Err(Failure::new("it answers, and belongs to no cluster yet")),
    }
}

/// A port that is listened on everywhere is asked on the loopback interface.
fn here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_protocol::ids::ClusterId;

    #[test]
    fn an_unspecified_address_is_asked_here() {
        for (listen, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.1.2.3:3", "10.1.2.3:3")] {
            let listen: SocketAddr = listen.parse().expect("an address");
            assert_eq!(here(listen).to_string(), asked);
        }
    }

    #[test]
    fn a_node_is_well_once_it_belongs_to_a_cluster() {
        let mut leading = Leading::default();
        assert!(told(&leading).is_err());
        leading.cluster = Some(ClusterId(7));
        assert!(told(&leading).is_ok_and(|text| text.ends_with("not the primary")));
        leading.serving = Some(ViewNumber(3));
        assert!(told(&leading).is_ok_and(|text| text.ends_with("primary in view 3")));
    }
}

//! Free ports, none of them among those that the system gives to outgoing connections: there one may be taken while its server
//! restarts, and whoever asks whether somebody listens on it may meet himself.

use std::net::TcpListener;
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, ensure};

/// How many are tried for each that is wanted.
const TRIES: usize = 100;
/// Below are ports of well-known services.
const LOWEST: u16 = 10_000;

/// Prints so many, on one line.
///
/// # Errors
/// There are not so many.
pub fn print(count: usize) -> Result<()> {
    let outgoing = outgoing()?;
    let mut held = Vec::new();
    for _ in 0..count * TRIES {
        let port = fastrand::u16(LOWEST..);
        if held.len() < count && !outgoing.contains(&port) {
            held.extend(TcpListener::bind(("127.0.0.1", port)).ok());
        }
    }
    ensure!(held.len() == count, "only {} of {count} ports are free", held.len());
    let ports: Result<Vec<_>, _> = held.iter().map(|held| held.local_addr().map(|at| at.port().to_string())).collect();
    drop(held); // Before anybody learns of them.
    println!("{}", ports?.join(" "));
    Ok(())
}

/// What the system gives to outgoing connections.
fn outgoing() -> Result<RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let (low, high) = text.trim().split_once(char::is_whitespace).context("no range of outgoing ports")?;
    Ok(low.trim().parse()?..=high.trim().parse()?)
}

//! What each setting may be: the range of every number, the form of every text, and what must hold between two of them.
//!
//! A number out of its range would start a process that then fails in a way that nobody traces back to a typing error.

use super::layers::Layers;
use super::{Role, SettingsError};
use std::net::SocketAddr;

/// The range of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its dotted key.
    pub key: &'static str,
    /// The least.
    pub min: i64,
    /// The most.
    pub max: i64,
    /// What is counted, for people.
    pub unit: &'static str,
}

impl Bound {
    /// The range, for people.
    #[must_use]
    pub fn allowed(&self) -> String {
        format!("a whole number from {} to {} ({})", self.min, self.max, self.unit)
    }
}

const fn bound(key: &'static str, min: i64, max: i64, unit: &'static str) -> Bound {
    Bound { key, min, max, unit }
}

const MS: &str = "milliseconds";
const BYTES: &str = "bytes";
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const MIB: i64 = 1 << 20;

/// The range of every number in the settings.
pub const BOUNDS: &[Bound] = &[
    bound("node.id", 0, u32::MAX as i64, "an id; 0 stands for not set"),
    bound("cluster.seek_interval_ms", 10, MINUTE_MS, MS),
    bound("heartbeat.interval_ms", 10, MINUTE_MS, MS),
    bound("heartbeat.timeout_ms", 20, 10 * MINUTE_MS, MS),
    bound("replication.vote_timeout_ms", 10, 10 * MINUTE_MS, MS),
    bound("replication.resend_ms", 10, MINUTE_MS, MS),
    bound("replication.attempts_max", 1, 100, "attempts"),
    bound("replication.min_replicas", 1, 1_000, "data nodes"),
    bound("slow_replica.limit_ms", 1, 10 * MINUTE_MS, MS),
    bound("slow_replica.window_s", 1, 3_600, "seconds"),
    bound("batch.max_ops", 1, 100_000, "writes"),
    bound("batch.max_bytes", 1_024, 64 * MIB, BYTES),
    bound("queue.max_ops", 1, 1_000_000, "requests"),
    bound("lock.timeout_ms", 10, 10 * MINUTE_MS, MS),
    bound("election.answer_timeout_ms", 10, MINUTE_MS, MS),
    bound("election.victory_timeout_ms", 20, 10 * MINUTE_MS, MS),
    bound("election.retry_ms", 10, 10 * MINUTE_MS, MS),
    bound("election.takeover_backoff_ms", 0, 24 * HOUR_MS, MS),
    bound("election.gather_timeout_ms", 10, MINUTE_MS, MS),
    bound("sync.timeout_ms", 100, HOUR_MS, MS),
    bound("sync.chunk_bytes", 1_024, 16 * MIB, BYTES),
    bound("sync.rounds_max", 1, 10_000, "rounds"),
    bound("idempotency.retention_hours", 1, 24 * 365, "hours"),
    bound("log.retain_entries", 1, 10_000_000, "entries"),
    bound("log.retain_bytes", 1 << 20, 1 << 40, "bytes"),
    bound("gateway.request_timeout_ms", 100, HOUR_MS, MS),
    bound("gateway.refresh_ms", 10, 10 * MINUTE_MS, MS),
    bound("gateway.header_timeout_ms", 100, HOUR_MS, MS),
    bound("gateway.body_timeout_ms", 100, HOUR_MS, MS),
    bound("gateway.header_bytes_max", 1_024, 128 * 1_024, BYTES),
    bound("gateway.body_bytes_max", 1_024, 64 * MIB, BYTES),
    bound("gateway.connections_max", 1, 1_000_000, "connections"),
];

/// The longest name of a gateway. Bytes.
const NAME_BYTES_MAX: usize = 40;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Checks all that a process of this role will use.
pub(super) fn check(layers: &Layers, role: Role) -> Result<(), SettingsError> {
    BOUNDS.iter().try_for_each(|bound| check_number(layers, bound))?;
    check_relations(layers)?;
    for key in ["node.listen", "gateway.listen", "witness.listen"] {
        let is_port = layers.text(key).parse::<SocketAddr>().is_ok();
        refuse_unless(is_port, layers, key, "ip:port, such as 127.0.0.1:7101")?;
    }
    let metrics = layers.text("metrics.listen");
    let is_port = metrics.is_empty() || metrics.parse::<SocketAddr>().is_ok();
    refuse_unless(is_port, layers, "metrics.listen", "ip:port, or empty")?;
    for key in ["node.address", "witness.address"] {
        let text = layers.text(key);
        refuse_unless(text.is_empty() || is_address(text), layers, key, "host:port, or empty")?;
    }
    for key in ["cluster.seeds", "gateway.data_nodes"] {
        let fits = layers.texts(key).iter().all(|text| is_address(text));
        refuse_unless(fits, layers, key, "a list of host:port")?;
    }
    let level = layers.text("logger.level");
    refuse_unless(LEVELS.contains(&level), layers, "logger.level", &format!("one of {}", LEVELS.join(", ")))?;
    match role {
        Role::Node => check_node(layers),
        Role::Gateway => check_gateway(layers),
    }
}

fn check_number(layers: &Layers, bound: &Bound) -> Result<(), SettingsError> {
    let fits = (bound.min..=bound.max).contains(&layers.number(bound.key));
    refuse_unless(fits, layers, bound.key, &bound.allowed())
}

/// What must hold between two numbers. The one that somebody set is blamed.
fn check_relations(layers: &Layers) -> Result<(), SettingsError> {
    let least = |key: &str, times: i64, of: &str| {
        let min = times * layers.number(of);
        let allowed = format!("at least {times} x {of}, which is {min}");
        let blamed = if layers.is_default(key) { of } else { key };
        refuse_unless(layers.number(key) >= min, layers, key, &allowed)
            .map_err(|error| error.standing(layers.origin(blamed)))
    };
    least("heartbeat.timeout_ms", 2, "heartbeat.interval_ms")?;
    least("election.victory_timeout_ms", 2, "election.answer_timeout_ms")?;
    least("gateway.request_timeout_ms", 1, "lock.timeout_ms")
}

fn check_node(layers: &Layers) -> Result<(), SettingsError> {
    refuse_unless(layers.number("node.id") > 0, layers, "node.id", "set: positive, and different on each data node")?;
    must_be_set(layers, "node.data_dir", "set: the directory in which the node keeps everything")?;
    let seeds = !layers.texts("cluster.seeds").is_empty();
    refuse_unless(seeds, layers, "cluster.seeds", "set: the peer addresses of the cluster's first data nodes")?;
    must_be_set(layers, "cluster.secret_file", "set: a file with the cluster's secret")
}

fn check_gateway(layers: &Layers) -> Result<(), SettingsError> {
    let name = layers.text("gateway.name");
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    refuse_unless(fits, layers, "gateway.name", "set: 1 to 40 of a-z, 0-9, _ and -, different on each gateway")?;
    let knows = !(layers.texts("gateway.data_nodes").is_empty() && layers.texts("cluster.seeds").is_empty());
    refuse_unless(knows, layers, "gateway.data_nodes", "set, or cluster.seeds: peer addresses of data nodes")?;
    must_be_set(layers, "cluster.secret_file", "set: a file with the cluster's secret")
}

fn must_be_set(layers: &Layers, key: &str, allowed: &str) -> Result<(), SettingsError> {
    refuse_unless(!layers.text(key).is_empty(), layers, key, allowed)
}

/// `host:port`, the port positive; whether it can be reached is found out by sending.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_fits = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'@');
    host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn refuse_unless(fits: bool, layers: &Layers, key: &str, allowed: &str) -> Result<(), SettingsError> {
    if fits {
        return Ok(());
    }
    let found = layers.get(key).map(|placed| shown(&placed.kind)).unwrap_or_default();
    Err(SettingsError::OutOfBounds { key: key.into(), origin: layers.origin(key), allowed: allowed.into(), found })
}

fn shown(kind: &config::ValueKind) -> String {
    match kind {
        config::ValueKind::String(text) => format!("{text:?}"),
        config::ValueKind::Array(parts) => {
            let parts = parts.iter().map(|part| shown(&part.kind)).collect::<Vec<_>>();
            format!("[{}]", parts.join(", "))
        }
        config::ValueKind::Nil
        | config::ValueKind::Boolean(_)
        | config::ValueKind::I64(_)
        | config::ValueKind::I128(_)
        | config::ValueKind::U64(_)
        | config::ValueKind::U128(_)
        | config::ValueKind::Float(_)
        | config::ValueKind::Table(_) => kind.to_string(),
    }
}

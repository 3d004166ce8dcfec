//! Every setting, as checked values: what `config/default.toml` describes, key by key.
//!
//! Three layers, each over the one before: the defaults that are compiled in, the file, `LOCKSTEP__SECTION__KEY` variables.
//! A key that the defaults do not have, another type, or a value out of bounds stops the start, with the key, where it
//! stands, and what is allowed.
//!
//! Not here: how layers are laid over each other (`layers.rs`), what each number may be (`bounds.rs`), and what a setting
//! does (the protocol, and whoever reads it).

mod bounds;
mod layers;

pub use bounds::{BOUNDS, Bound};

use lockstep_protocol::ids::{Address, NodeId, Voter, WitnessName};
use lockstep_protocol::machine::{Limits, Timing};
use serde::Deserialize;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The text of `config/default.toml`: every key, with its unit and reason.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// The fewest bytes that the cluster's secret may have.
pub const SECRET_BYTES_MIN: usize = 16;
/// The most bytes that the cluster's secret may have: it goes into a header of each letter.
pub const SECRET_BYTES_MAX: usize = 1_024;

/// Why the settings are none. Each says which key, where it stands, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read, or is no TOML.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A misspelt key, or a table where there is none.
    #[error("{origin}: there is no setting `{key}`; did you mean `{hint}`? (config/default.toml has all of them)")]
    UnknownKey {
        /// What was written.
        key: String,
        /// The file, or the variable.
        origin: String,
        /// The nearest key that there is.
        hint: String,
    },
    /// Text for a number, and the like.
    #[error("{origin}: {key} must be {expected}, not {found}")]
    WrongType {
        /// Which key.
        key: String,
        /// The file, or the variable.
        origin: String,
        /// What it must be, with its range.
        expected: String,
        /// What was written.
        found: String,
    },
    /// A value that would do harm.
    #[error("{origin}: {key} = {found} is out of bounds: it must be {allowed}")]
    OutOfBounds {
        /// Which key.
        key: String,
        /// The file, or the variable.
        origin: String,
        /// What is allowed, with its unit.
        allowed: String,
        /// What was written.
        found: String,
    },
}

impl SettingsError {
    /// The same, said of another place.
    fn standing(mut self, place: String) -> Self {
        match &mut self {
            Self::File { path: origin, .. }
            | Self::UnknownKey { origin, .. }
            | Self::WrongType { origin, .. }
            | Self::OutOfBounds { origin, .. } => *origin = place,
        }
        self
    }
}

/// What the process is: it decides which keys must be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `lockstep node`.
    Node,
    /// `lockstep gateway`.
    Gateway,
}

/// The `[node]` table: who this data node is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// Its id and rank; 0 when not set, which no data node is started with.
    pub id: u32,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// The peer port.
    pub listen: SocketAddr,
    /// How others reach it; empty: as in `listen`. [`Settings::node_address`] says which.
    pub address: String,
}

/// The `[cluster]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// The data nodes that a new cluster is made of, `host:port`.
    pub seeds: Vec<String>,
    /// The file with the cluster's secret.
    pub secret_file: PathBuf,
    /// How long a seed that did not answer is left alone. Milliseconds.
    pub seek_interval_ms: u64,
}

/// The `[heartbeat]` table. All processes of a cluster must agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatSettings {
    /// How often a node tells the primary that it lives. Milliseconds.
    pub interval_ms: u64,
    /// How long silence lasts before the silent one is suspected. Milliseconds, at least two intervals.
    pub timeout_ms: u64,
}

/// The `[replication]` table. All processes of a cluster must agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicationSettings {
    /// How long the primary waits for a vote. Milliseconds.
    pub vote_timeout_ms: u64,
    /// How often an unanswered letter is sent again. Milliseconds.
    pub resend_ms: u64,
    /// Voting attempts for one batch.
    pub attempts_max: u32,
    /// Fewer replicas than this: writes are refused.
    pub min_replicas: u32,
}

/// The `[slow_replica]` table. All processes of a cluster must agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowReplicaSettings {
    /// A vote that comes so long after all others' is late. Milliseconds.
    pub limit_ms: u64,
    /// How long a replica may be late on end. Seconds.
    pub window_s: u64,
}

/// The `[batch]` table. All processes of a cluster must agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSettings {
    /// The most writes in one batch.
    pub max_ops: usize,
    /// The most text in one batch. Bytes.
    pub max_bytes: usize,
}

/// The `[queue]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    /// The most writes, and the most reads, that may wait.
    pub max_ops: usize,
}

/// The `[lock]` table. All processes of a cluster must agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockSettings {
    /// How long a wait for locks lasts. Milliseconds.
    pub timeout_ms: u64,
}

/// The `[election]` table. All processes of a cluster must agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElectionSettings {
    /// How long a candidate waits for `Alive`. Milliseconds.
    pub answer_timeout_ms: u64,
    /// How long it then waits for `Victory`. Milliseconds, longer than the answer's.
    pub victory_timeout_ms: u64,
    /// The longest random wait before the next try. Milliseconds.
    pub retry_ms: u64,
    /// How often a takeover is asked for at most. Milliseconds.
    pub takeover_backoff_ms: u64,
    /// How long a candidate waits for slow voters. Milliseconds.
    pub gather_timeout_ms: u64,
}

/// The `[sync]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncSettings {
    /// How long the other side may be silent. Milliseconds.
    pub timeout_ms: u64,
    /// The size of one piece. Bytes.
    pub chunk_bytes: usize,
    /// Rounds of entries before the primary paces its writes.
    pub rounds_max: u32,
}

/// The `[idempotency]` table. All processes of a cluster must agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdempotencySettings {
    /// How long keys are kept. Hours.
    pub retention_hours: u64,
}

/// The `[log]` table: the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// How many applied entries are kept.
    pub retain_entries: u64,
    /// How many bytes of them.
    pub retain_bytes: u64,
}

/// The `[channels]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSettings {
    /// Of a gateway: whether posting to an unknown channel creates it.
    pub create_on_post: bool,
}

/// The `[gateway]` table: the web tier.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// Its name, and that of its witness.
    pub name: String,
    /// The client port.
    pub listen: SocketAddr,
    /// Data nodes to ask for the view; empty: the seeds. [`Settings::data_nodes`] says which.
    pub data_nodes: Vec<String>,
    /// How long a request is held and tried again. Milliseconds.
    pub request_timeout_ms: u64,
    /// How often the view is asked for in the background. Milliseconds.
    pub refresh_ms: u64,
    /// How long a client may take for a header. Milliseconds.
    pub header_timeout_ms: u64,
    /// How long a client may take for a body. Milliseconds.
    pub body_timeout_ms: u64,
    /// The largest header. Bytes.
    pub header_bytes_max: usize,
    /// The largest body. Bytes.
    pub body_bytes_max: usize,
    /// How many clients may be connected at once.
    pub connections_max: usize,
}

/// The `[witness]` table: a gateway's vote.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSettings {
    /// Where the vote is kept; empty: this gateway does not vote.
    pub data_dir: PathBuf,
    /// Its peer port.
    pub listen: SocketAddr,
    /// How others reach it; empty: as in `listen`. [`Settings::witness_address`] says which.
    pub address: String,
}

/// The `[metrics]` table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSettings {
    /// Where metrics are told; empty: nowhere, or of a gateway at its client port alone. [`Settings::metrics_listen`] parses it.
    pub listen: String,
}

/// The `[logger]` table: lines for people.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggerSettings {
    /// One of `off`, `error`, `warn`, `info`, `debug`, `trace`.
    pub level: String,
}

/// All settings, checked. One field for each table of `config/default.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each field is a table, documented at its type")]
pub struct Settings {
    pub node: NodeSettings,
    pub cluster: ClusterSettings,
    pub heartbeat: HeartbeatSettings,
    pub replication: ReplicationSettings,
    /// See [`SlowReplicaSettings`].
    pub slow_replica: SlowReplicaSettings,
    pub batch: BatchSettings,
    pub queue: QueueSettings,
    pub lock: LockSettings,
    pub election: ElectionSettings,
    pub sync: SyncSettings,
    pub idempotency: IdempotencySettings,
    pub log: LogSettings,
    pub channels: ChannelSettings,
    pub gateway: GatewaySettings,
    pub witness: WitnessSettings,
    pub metrics: MetricsSettings,
    pub logger: LoggerSettings,
}

impl Settings {
    /// Reads the file over the defaults, and the variables of this process's environment over both.
    ///
    /// # Errors
    /// The first thing that is wrong, with the key, where it stands, and what is allowed.
    pub fn load(file: Option<&Path>, role: Role) -> Result<Self, SettingsError> {
        Self::from_layers(file, role, std::env::vars_os().filter_map(layers::variable))
    }

    /// The same, with these variables instead of the environment's.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_layers(
        file: Option<&Path>,
        role: Role,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let layers = layers::Layers::read(file, variables)?;
        bounds::check(&layers, role)?;
        layers.into_settings()
    }

    /// The time limits of the protocol.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing {
            heartbeat_interval_ms: self.heartbeat.interval_ms,
            heartbeat_timeout_ms: self.heartbeat.timeout_ms,
            vote_timeout_ms: self.replication.vote_timeout_ms,
            slow_replica_limit_ms: self.slow_replica.limit_ms,
            slow_replica_window_ms: self.slow_replica.window_s * 1_000,
            resend_ms: self.replication.resend_ms,
            lock_timeout_ms: self.lock.timeout_ms,
            election_answer_timeout_ms: self.election.answer_timeout_ms,
            election_victory_timeout_ms: self.election.victory_timeout_ms,
            election_retry_ms: self.election.retry_ms,
            takeover_backoff_ms: self.election.takeover_backoff_ms,
            gather_timeout_ms: self.election.gather_timeout_ms,
            sync_timeout_ms: self.sync.timeout_ms,
            seek_interval_ms: self.cluster.seek_interval_ms,
        }
    }

    /// The other limits of the protocol.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            batch_ops_max: self.batch.max_ops,
            batch_bytes_max: self.batch.max_bytes,
            queue_ops_max: self.queue.max_ops,
            attempts_max: self.replication.attempts_max,
            replicas_min: self.replication.min_replicas,
            idempotency_retention_us: self.idempotency.retention_hours * 3_600 * 1_000_000,
            log_retain_entries: self.log.retain_entries,
            log_retain_bytes: self.log.retain_bytes,
            chunk_bytes: self.sync.chunk_bytes,
            sync_rounds_max: self.sync.rounds_max,
        }
    }

    /// The data node's place among the voters.
    #[must_use]
    pub fn node_voter(&self) -> Voter {
        Voter::Replica(NodeId(self.node.id))
    }

    /// How others reach the data node's peer port.
    #[must_use]
    pub fn node_address(&self) -> Address {
        address_or(&self.node.address, self.node.listen)
    }

    /// The witness's place among the voters; none when this gateway does not vote.
    #[must_use]
    pub fn witness_voter(&self) -> Option<Voter> {
        let votes = !self.witness.data_dir.as_os_str().is_empty();
        votes.then(|| Voter::Witness(WitnessName::new(&self.gateway.name)))
    }

    /// How others reach the witness's peer port.
    #[must_use]
    pub fn witness_address(&self) -> Address {
        address_or(&self.witness.address, self.witness.listen)
    }

    /// The seeds, sorted, each once: all nodes of a new cluster must have the same.
    #[must_use]
    pub fn seeds(&self) -> Vec<Address> {
        sorted(&self.cluster.seeds)
    }

    /// The data nodes that a gateway may ask, sorted: its own list, or the seeds.
    #[must_use]
    pub fn data_nodes(&self) -> Vec<Address> {
        let own = &self.gateway.data_nodes;
        if own.is_empty() { self.seeds() } else { sorted(own) }
    }

    /// The port at which metrics are told, if there is one.
    #[must_use]
    pub fn metrics_listen(&self) -> Option<SocketAddr> {
        self.metrics.listen.parse().ok() // What is neither empty nor a port did not pass the checks.
    }

    /// Reads the cluster's secret from its file.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no secret of 16 to 1024 visible ASCII characters.
    pub fn secret(&self) -> Result<Secret, SettingsError> {
        Secret::read(&self.cluster.secret_file)
    }
}

fn address_or(address: &str, listen: SocketAddr) -> Address {
    if address.is_empty() { Address::new(&listen.to_string()) } else { Address::new(address) }
}

fn sorted(addresses: &[String]) -> Vec<Address> {
    let mut all: Vec<Address> = addresses.iter().map(|text| Address::new(text)).collect();
    all.sort();
    all.dedup();
    all
}

/// The cluster's secret: what peers show each other. Never shown itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Reads the file, without the white space around the secret.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no secret of 16 to 1024 visible ASCII characters.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let wrong = |reason: String| SettingsError::File { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("the secret cannot be read: {e}")))?;
        let secret = text.trim();
        let fits = (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len());
        if fits && secret.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(secret.to_owned()));
        }
        Err(wrong(format!(
            "a secret is {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} visible ASCII characters without spaces"
        )))
    }

    /// The secret, for a header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

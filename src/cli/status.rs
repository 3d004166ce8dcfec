//! `lockstep status`: how the cluster is, on one screen. Exit code 0 healthy, 1 degraded, 2 not serving.

use super::Failure;
use super::api::{Call, Gateways, Target};
use super::people::{field, moment, print};
use clap::Args;
use serde_json::Value;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// Clears a terminal, and goes to its first place.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Show it again every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    watch: Option<u64>,
    #[command(flatten)]
    target: Target,
}

/// How a cluster is, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Every known node and witness takes part.
    Healthy,
    /// It serves, but somebody is missing.
    Degraded,
    /// Nobody leads.
    NotServing,
}

impl Health {
    /// Judges the answer of `GET /v1/cluster`. A witness that waits for a seat is not missing.
    pub fn of(cluster: &Value) -> Self {
        let states = |name: &str| -> Vec<String> {
            cluster[name].as_array().into_iter().flatten().map(|node| field(node, "state")).collect()
        };
        let (nodes, witnesses) = (states("nodes"), states("witnesses"));
        if !nodes.iter().any(|state| state == "primary") {
            return Self::NotServing;
        }
        let all_in = nodes.iter().all(|state| state == "primary" || state == "replica");
        let missing = !all_in || witnesses.iter().any(|state| state == "offline");
        if missing { Self::Degraded } else { Self::Healthy }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded: it serves, but somebody is missing",
            Self::NotServing => "NOT SERVING: nobody leads",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded => 1,
            Self::NotServing => 2,
        }
    }
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { watch, target } = arguments;
    let Some(seconds) = watch else { return once(&target, "").await };
    let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
    loop {
        let code = once(&target, clear).await?;
        tokio::select! {
            ended = tokio::signal::ctrl_c() => {
                ended.map_err(|error| Failure::new(format!("signals cannot be heard: {error}")))?;
                return Ok(code);
            }
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
    }
}

/// One screen, and its exit code.
async fn once(target: &Target, clear: &str) -> Result<ExitCode, Failure> {
    let answer = match Gateways::new(target).ask(&Call::get("/v1/cluster".to_owned())).await {
        Ok(answer) => answer,
        Err(failure) => {
            print!("{clear}");
            eprintln!("lockstep: {failure}");
            return Ok(ExitCode::from(Health::NotServing.code()));
        }
    };
    let health = Health::of(&answer);
    print!("{clear}");
    print(target.json, &answer, screen(&answer, health));
    Ok(ExitCode::from(health.code()))
}

/// The whole screen, line by line.
fn screen(cluster: &Value, health: Health) -> Vec<String> {
    let mut lines =
        vec![format!("Cluster {}: {}", or_none(&field(cluster, "cluster_id")), health.word()), String::new()];
    let view = &cluster["view"];
    let list = |name: &str| {
        let names: Vec<_> =
            view[name].as_array().into_iter().flatten().map(|one| one.to_string().replace('"', "")).collect();
        or_none(&names.join(", "))
    };
    let (replicas, witnesses) = (list("replicas"), list("witnesses"));
    let number = or_none(&field(view, "number"));
    lines.push(format!(
        "View {number}: primary {}, replicas {replicas}, witnesses {witnesses}",
        or_none(&field(view, "primary"))
    ));
    lines.extend(
        Some(field(&cluster["outlook"], "text")).filter(|text| !text.is_empty()).map(|text| format!("Next: {text}.")),
    );
    lines.extend([String::new(), row(["NODE", "ADDRESS", "STATE", "LOG END", "APPLIED", "LAG", "DISK"], "")]);
    let members = |name: &str| cluster[name].as_array().cloned().unwrap_or_default();
    for node in members("nodes") {
        let [id, address, state, log_end, applied, lag] =
            ["id", "address", "state", "log_end", "applied", "lag"].map(|name| or_none(&field(&node, name)));
        let disk = disk(&node["disk"]);
        lines.push(row([&id, &address, &state, &log_end, &applied, &lag, &disk], &field(&node, "detail")));
    }
    for witness in members("witnesses") {
        let cells = ["name", "address", "state"].map(|name| or_none(&field(&witness, name)));
        lines.push(row([&cells[0], &cells[1], &cells[2], "", "", "", ""], &field(&witness, "detail")));
    }
    lines.extend(sync(&cluster["sync"]));
    lines.extend(changes(&members("changes")));
    lines
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// What the data directory takes, and how much is left for it.
fn disk(disk: &Value) -> String {
    let part = |name: &str| disk[name].as_u64().map(bytes);
    match (part("used_bytes"), part("free_bytes")) {
        (Some(used), Some(free)) => format!("{used}, {free} free"),
        (_, _) => "-".to_owned(),
    }
}

/// As people read it: three digits or so.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = UNITS.len().min(1 + count.checked_ilog2().map_or(0, |power| power as usize / 10)) - 1;
    let amount = count as f64 / 1_024_f64.powi(i32::try_from(unit).unwrap_or_default());
    let digits = usize::from(unit > 0 && amount < 99.95);
    format!("{amount:.digits$} {}", UNITS[unit])
}

fn row(cells: [&str; 7], detail: &str) -> String {
    let [who, address, state, log_end, applied, lag, disk] = cells;
    let line = format!("{who:<12} {address:<22} {state:<9} {log_end:>9} {applied:>9} {lag:>6}  {disk:<24} {detail}");
    line.trim_end().to_owned()
}

fn sync(sync: &Value) -> Vec<String> {
    if sync.is_null() {
        return Vec::new();
    }
    let part = |name: &str| field(sync, name);
    let (node, phase, index) = (part("node"), part("phase"), part("index"));
    let percent = sync["percent"].as_u64().map(|percent| format!(" {percent} %")).unwrap_or_default();
    let (bytes, total) = (part("bytes"), part("bytes_total"));
    let line = format!("Node {node} joins: {phase}{percent}, {bytes} of {total} bytes, entry {index}");
    vec![String::new(), line]
}

fn changes(changes: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for change in changes.iter().rev().take(5) {
        let stall = change["stall_ms"].as_u64().map(|ms| format!(" (stood still for {ms} ms)")).unwrap_or_default();
        let at = moment(&field(change, "at"));
        lines.push(format!("  {at}  view {}: {}{stall}", field(change, "view"), field(change, "cause")));
    }
    if !lines.is_empty() {
        lines.splice(0..0, [String::new(), "Last changes, the latest first:".to_owned()]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cluster(nodes: &[&str], witnesses: &[&str]) -> Value {
        let node =
            |(n, state): (usize, &&str)| json!({"id": n + 1, "address": "127.0.0.1:1", "state": state, "lag": 0});
        let witness = |state: &&str| json!({"name": "gateway-1", "address": "127.0.0.1:2", "state": state});
        json!({
            "cluster_id": "abc",
            "view": {"number": 7, "primary": 1, "replicas": [1, 2], "witnesses": ["gateway-1"]},
            "nodes": nodes.iter().enumerate().map(node).collect::<Vec<_>>(),
            "witnesses": witnesses.iter().map(witness).collect::<Vec<_>>(),
            "sync": null,
            "changes": [{"view": 7, "at": "2023-11-14T22:13:20.000123Z", "cause": "node 2 is silent", "stall_ms": 140}],
        })
    }

    #[test]
    fn health_is_an_exit_code() {
        for (nodes, witnesses, code) in [
            (&["primary", "replica"][..], &["voting", "waiting"][..], 0),
            (&["primary", "syncing"], &["voting"], 1),
            (&["primary", "offline"], &[], 1),
            (&["primary", "replica"], &["offline"], 1),
            (&["replica", "replica"], &["voting"], 2),
            (&[], &[], 2),
        ] {
            assert_eq!(Health::of(&cluster(nodes, witnesses)).code(), code, "{nodes:?} {witnesses:?}");
        }
    }

    #[test]
    fn bytes_are_short() {
        let texts = [0, 1_023, 1_024, 5 << 20, (100 << 30) + 1, u64::MAX].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "100 GiB", "16777216 TiB"]);
        assert_eq!(disk(&json!({"used_bytes": 3_000, "free_bytes": 1_u64 << 40})), "2.9 KiB, 1.0 TiB free");
        assert_eq!(disk(&Value::Null), "-");
    }

    #[test]
    fn the_screen_says_who_leads_and_what_changed() {
        let cluster = cluster(&["primary", "offline"], &["voting"]);
        let screen = screen(&cluster, Health::of(&cluster)).join("\n");
        for part in [
            "Cluster abc: degraded",
            "View 7: primary 1, replicas 1, 2, witnesses gateway-1",
            "2            127.0.0.1:1            offline",
            "gateway-1    127.0.0.1:2            voting",
            "2023-11-14 22:13:20  view 7: node 2 is silent (stood still for 140 ms)",
        ] {
            assert!(screen.contains(part), "{part:?} is missing:\n{screen}");
        }
    }
}

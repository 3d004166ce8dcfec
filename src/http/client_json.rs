//! What answers look like: the JSON of messages, channels, pages and the cluster, as `docs/api.md` gives it.

use lockstep_actors::gateway::{ClusterReport, NodeAnswer, NodeReport};
use lockstep_protocol::ids::{Timestamp, Voter};
use lockstep_protocol::operation::{Channel, Message};
use lockstep_protocol::status::{Role, SyncStatus};
use lockstep_protocol::view::View;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// RFC 3339, always with microseconds, so that the texts sort as the instants do.
const INSTANT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// An instant in RFC 3339, UTC.
#[must_use]
pub fn instant(at: Timestamp) -> String {
    let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000);
    date.ok().and_then(|date| date.format(INSTANT).ok()).unwrap_or_else(|| at.to_string())
}

/// A message.
#[must_use]
pub fn message(message: &Message) -> Value {
    json!({
        "id": message.id.to_string(),
        "channel": message.channel.as_str(),
        "user": message.user.as_str(),
        "text": message.text.as_str(),
        "posted_at": instant(message.id),
        "starred_by": message.starred_by.iter().map(|user| user.as_str()).collect::<Vec<_>>(),
    })
}

/// A channel.
#[must_use]
pub fn channel(channel: &Channel) -> Value {
    json!({
        "name": channel.name.as_str(),
        "created_at": instant(channel.created_at),
        "created_by": channel.created_by.as_str(),
    })
}

/// `GET /v1/cluster`.
#[must_use]
pub fn cluster(report: &ClusterReport) -> Value {
    let view = report.view.as_deref();
    let primary = report.primary();
    let reports = || report.nodes.iter().filter_map(|node| node.report.as_ref().ok());
    let cluster_id = view.map(|view| view.cluster).or_else(|| reports().find_map(|node| node.cluster));
    // Without a primary, whoever knows most of the past tells it.
    let teller = primary.or_else(|| reports().max_by_key(|node| node.changes.last().map(|change| change.view)));
    let is_witness = |node: &&NodeAnswer| matches!(node.voter, Some(Voter::Witness(_)));
    json!({
        "cluster_id": cluster_id.map(|id| id.to_string()),
        "view": view.map(view_json),
        "nodes": report.nodes.iter().filter(|node| !is_witness(node)).map(|n| node(n, view, primary)).collect::<Vec<_>>(),
        "witnesses": report.nodes.iter().filter(is_witness).map(|node| witness(node, view)).collect::<Vec<_>>(),
        "sync": primary.and_then(|primary| primary.status.sync.as_ref()).map(sync),
        "changes": teller.map(changes).unwrap_or_default(),
    })
}

fn view_json(view: &View) -> Value {
    json!({
        "number": view.number.0,
        "primary": view.primary.0,
        "replicas": view.replicas.keys().map(|id| id.0).collect::<Vec<_>>(),
        "witnesses": view.witnesses.keys().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// A data node. What it last applied is set against what the primary did.
fn node(node: &NodeAnswer, view: Option<&View>, primary: Option<&NodeReport>) -> Value {
    let status = node.report.as_ref().ok().map(|report| &report.status);
    let lag = primary.zip(status).map(|(primary, status)| primary.status.applied.0.saturating_sub(status.applied.0));
    json!({
        "id": node.voter.as_ref().and_then(Voter::node).map(|id| id.0),
        "address": node.address.as_str(),
        "state": node_state(node, view),
        "log_end": status.map(|status| status.log_end.0),
        "applied": status.map(|status| status.applied.0),
        "lag": lag,
        "detail": detail(node),
    })
}

fn node_state(node: &NodeAnswer, view: Option<&View>) -> &'static str {
    let (Ok(report), Some(view)) = (&node.report, view) else { return "offline" };
    match report.status.role {
        Role::Primary if view.is_primary(&report.me) && report.status.serving == Some(view.number) => "primary",
        Role::Primary | Role::Replica if view.lists_replica(&report.me) => "replica",
        Role::Syncing => "syncing",
        Role::Primary | Role::Replica | Role::Waiting | Role::Witness => "offline",
    }
}

/// A witness: it votes, it waits for a seat, or it does not answer.
fn witness(node: &NodeAnswer, view: Option<&View>) -> Value {
    let name = match &node.voter {
        Some(Voter::Witness(name)) => Some(name.to_string()),
        Some(Voter::Replica(_)) | None => None,
    };
    let state = match &node.report {
        Ok(report) if view.is_some_and(|view| view.lists(&report.me)) => "voting",
        Ok(_) => "waiting",
        Err(_) => "offline",
    };
    json!({ "name": name, "address": node.address.as_str(), "state": state, "detail": detail(node) })
}

/// Why it does not answer, or what it waits for.
fn detail(node: &NodeAnswer) -> Option<&str> {
    match &node.report {
        Ok(report) => Some(report.status.waiting_for.as_str()).filter(|text| !text.is_empty()),
        Err(reason) => Some(reason),
    }
}

fn sync(sync: &SyncStatus) -> Value {
    json!({
        "session": format!("{:016x}", sync.session.0),
        "node": sync.node.0,
        "phase": sync.phase,
        "bytes": sync.bytes,
        "bytes_total": sync.bytes_total,
        "index": sync.index.0,
    })
}

fn changes(report: &NodeReport) -> Vec<Value> {
    let change = |change: &lockstep_actors::gateway::ViewChange| {
        json!({
            "view": change.view.0,
            "at": instant(change.at),
            "cause": change.cause,
            "stall_ms": change.stall_ms,
        })
    };
    report.changes.iter().map(change).collect()
}

//! What answers look like: the JSON of messages, channels, pages and the cluster, as `docs/api.md` gives it.
//!
//! Fields stand in the order in which people look for them; programs need no order.

use super::plain_json::{self, PlainStr};
use jiff::fmt::StdFmtWrite;
use jiff::fmt::temporal::DateTimePrinter;
use lockstep_actors::gateway::{ClusterReport, DiskReport, NodeAnswer, NodeReport};
use lockstep_protocol::change::Change;
use lockstep_protocol::ids::{Timestamp, Voter};
use lockstep_protocol::member::{Member, Members};
use lockstep_protocol::operation::{Channel, Message, UserName};
use lockstep_protocol::outlook::Outlook;
use lockstep_protocol::page::{MessageRef, Messages};
use lockstep_protocol::status::{NodeStatus, Role};
use lockstep_protocol::view::View;
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;

/// RFC 3339, always with microseconds, so that the texts sort as the instants do.
const INSTANT: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// An instant in RFC 3339, UTC.
#[must_use]
pub fn instant(at: Timestamp) -> String {
    Instant(at).to_string()
}

/// Likewise, written where it is wanted.
#[derive(Clone, Copy, Debug)]
struct Instant(Timestamp);

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(at) = self;
        let instant = i64::try_from(at.0).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
        match instant {
            Some(instant) => INSTANT.print_timestamp(&instant, StdFmtWrite(f)).map_err(|_| fmt::Error),
            None => at.fmt(f),
        }
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An id, as clients see it.
#[derive(Clone, Copy, Debug)]
struct Id(Timestamp);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A message.
#[derive(Debug, Serialize)]
pub struct MessageJson<'a> {
    id: Id,
    channel: PlainStr<'a>,
    user: PlainStr<'a>,
    text: PlainStr<'a>,
    posted_at: Instant,
    starred_by: &'a [UserName],
}

impl<'a> From<&'a Message> for MessageJson<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            id: Id(message.id),
            channel: PlainStr(message.channel.as_str()),
            user: PlainStr(message.user.as_str()),
            text: PlainStr(message.text.as_str()),
            posted_at: Instant(message.id),
            starred_by: &message.starred_by,
        }
    }
}

impl<'a> From<MessageRef<'a>> for MessageJson<'a> {
    fn from(message: MessageRef<'a>) -> Self {
        let MessageRef { id, channel, user, text, starred_by } = message;
        let (channel, user, text) = (PlainStr(channel.as_str()), PlainStr(user), PlainStr(text));
        Self { id: Id(id), channel, user, text, posted_at: Instant(id), starred_by }
    }
}

/// A page of them, written one after the other.
#[derive(Debug)]
pub struct MessagesJson<'a>(pub &'a Messages);

impl Serialize for MessagesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(MessageJson::from))
    }
}

/// A channel.
#[derive(Debug, Serialize)]
pub struct ChannelJson<'a> {
    name: &'a str,
    created_at: Instant,
    created_by: &'a str,
}

impl<'a> From<&'a Channel> for ChannelJson<'a> {
    fn from(channel: &'a Channel) -> Self {
        Self {
            name: channel.name.as_str(),
            created_at: Instant(channel.created_at),
            created_by: channel.created_by.as_str(),
        }
    }
}

/// What an answer about stored data holds; [`Body::json`] writes it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Body<'a> {
    /// One message.
    Message {
        /// The message.
        message: MessageJson<'a>,
    },
    /// One channel.
    Channel {
        /// The channel.
        channel: ChannelJson<'a>,
    },
    /// A page of messages.
    Messages {
        /// In the order asked for.
        messages: MessagesJson<'a>,
        /// The cursor of the next page.
        next: Option<String>,
        /// Whether there is one.
        has_more: bool,
    },
    /// A page of channels.
    Channels {
        /// By name.
        channels: Vec<ChannelJson<'a>>,
        /// The cursor of the next page.
        next: Option<String>,
        /// Whether there is one.
        has_more: bool,
    },
}

/// What most answers take at most. Bytes.
const BODY_BYTES: usize = 1_024;

/// What a message takes beside what it has on its page, as a rule. Bytes.
const MESSAGE_BYTES: usize = 256;

impl Body<'_> {
    /// Its JSON.
    ///
    /// # Errors
    /// When it has none.
    pub fn json(&self) -> serde_json::Result<Vec<u8>> {
        plain_json::write(self, self.room())
    }

    /// How large it will be, roughly: a page that grows as it is written is copied twice. Bytes.
    fn room(&self) -> usize {
        match self {
            Self::Messages { messages: MessagesJson(page), .. } => {
                BODY_BYTES + page.bytes() + page.len() * MESSAGE_BYTES
            }
            Self::Message { .. } | Self::Channel { .. } | Self::Channels { .. } => BODY_BYTES,
        }
    }
}

/// `GET /v1/cluster`.
#[derive(Debug, Serialize)]
pub struct ClusterJson<'a> {
    cluster_id: Option<String>,
    view: Option<ViewJson>,
    nodes: Vec<NodeJson<'a>>,
    witnesses: Vec<WitnessJson<'a>>,
    sync: Option<SyncJson<'a>>,
    outlook: Option<OutlookJson>,
    changes: Vec<ChangeJson>,
}

impl<'a> From<&'a ClusterReport> for ClusterJson<'a> {
    fn from(report: &'a ClusterReport) -> Self {
        let view = report.view.as_deref();
        let primary = report.primary();
        let reports = || report.nodes.iter().filter_map(|node| node.report.as_ref().ok());
        let cluster_id = view.map(|view| view.cluster).or_else(|| reports().find_map(|node| node.cluster));
        // Without a primary, whoever knows most of the past tells it.
        let teller = primary.or_else(|| reports().max_by_key(|node| node.changes.last().map(|change| change.view)));
        let members = Known::of(report);
        let is_witness = |node: &&NodeAnswer| matches!(node.voter, Some(Voter::Witness(_)));
        let there = || report.nodes.iter().filter(|node| !members.has_left(node, view));
        let nodes = there().filter(|node| !is_witness(node)).map(|node| NodeJson::new(node, view, primary));
        let mut nodes: Vec<_> = nodes.collect();
        members.add_missing(&mut nodes);
        Self {
            cluster_id: cluster_id.map(|id| id.to_string()),
            view: view.map(ViewJson::from),
            nodes,
            witnesses: there().filter(is_witness).map(|node| WitnessJson::new(node, view)).collect(),
            sync: primary.and_then(|primary| SyncJson::new(&primary.status)),
            outlook: view.map(|view| OutlookJson::new(report, view)),
            changes: teller.map(|teller| teller.changes.iter().map(ChangeJson::from).collect()).unwrap_or_default(),
        }
    }
}

/// Who is a member, as whoever has applied most knows it.
struct Known<'a>(Option<&'a Members>);

impl<'a> Known<'a> {
    fn of(report: &'a ClusterReport) -> Self {
        let statuses = report.nodes.iter().filter_map(|node| Some(&node.report.as_ref().ok()?.status));
        Self(statuses.max_by_key(|status| status.applied).map(|status| &status.members))
    }

    fn iter(&self) -> impl Iterator<Item = &'a Member> {
        self.0.into_iter().flat_map(Members::iter)
    }

    /// Whether it was removed: this very disk, or whoever was last at an address where nobody answers.
    fn has_left(&self, node: &NodeAnswer, view: Option<&View>) -> bool {
        match &node.report {
            Ok(report) => self.0.is_some_and(|members| members.is_removed(&report.me)),
            Err(_) if view.is_some_and(|view| view.voter_at(&node.address).is_some()) => false,
            Err(_) => {
                let mut here = self.iter().filter(|member| member.peer.address == node.address).peekable();
                here.peek().is_some() && here.all(|member| member.removed)
            }
        }
    }

    /// A member that the gateway never heard of is missed all the same, and one that does not answer has an id.
    fn add_missing(&self, nodes: &mut Vec<NodeJson<'a>>) {
        for member in self.iter().filter(|member| !member.removed) {
            let (Some(id), address) = (member.peer.voter.node(), member.peer.address.as_str()) else { continue };
            if nodes.iter().any(|node| node.id == Some(id.0)) {
                continue;
            }
            match nodes.iter_mut().find(|node| node.address == address && node.id.is_none()) {
                Some(node) => node.id = Some(id.0),
                None => nodes.push(NodeJson::missing(id.0, address)),
            }
        }
    }
}

/// What would happen next, as a sentence and in numbers.
#[derive(Debug, Serialize)]
struct OutlookJson {
    text: String,
    can_serve: bool,
    at_once: usize,
    one_by_one: usize,
    needed: Vec<String>,
    waits_for: Vec<Vec<String>>,
}

impl OutlookJson {
    fn new(report: &ClusterReport, view: &View) -> Self {
        let answers = report.nodes.iter().filter_map(|node| node.report.as_ref().ok());
        let answers = answers.filter(|report| view.lists(&report.me)).map(|report| report.me.voter.clone());
        let min = |node: &NodeAnswer| node.report.as_ref().ok().map(|report| report.status.replicas_min);
        let copies_min = report.nodes.iter().filter_map(min).max().unwrap_or(1);
        let outlook = Outlook::new(view, &answers.collect(), copies_min);
        let names = |voters: &BTreeSet<Voter>| voters.iter().map(voter_name).collect();
        Self {
            text: outlook.text(),
            can_serve: outlook.can_serve,
            at_once: outlook.at_once,
            one_by_one: outlook.one_by_one,
            needed: names(&outlook.needed),
            waits_for: outlook.waits_for.iter().map(names).collect(),
        }
    }
}

/// A data node's id, a witness's name.
fn voter_name(voter: &Voter) -> String {
    match voter {
        Voter::Replica(id) => id.to_string(),
        Voter::Witness(name) => name.to_string(),
    }
}

#[derive(Debug, Serialize)]
struct ViewJson {
    number: u64,
    primary: u32,
    replicas: Vec<u32>,
    witnesses: Vec<String>,
}

impl From<&View> for ViewJson {
    fn from(view: &View) -> Self {
        Self {
            number: view.number.0,
            primary: view.primary.0,
            replicas: view.replicas.keys().map(|id| id.0).collect(),
            witnesses: view.witnesses.keys().map(ToString::to_string).collect(),
        }
    }
}

/// A data node. What it last applied is set against what the primary did.
#[derive(Debug, Serialize)]
struct NodeJson<'a> {
    id: Option<u32>,
    address: &'a str,
    state: &'static str,
    log_end: Option<u64>,
    applied: Option<u64>,
    lag: Option<u64>,
    disk: Option<DiskReport>,
    detail: Option<&'a str>,
}

impl<'a> NodeJson<'a> {
    fn missing(id: u32, address: &'a str) -> Self {
        let (log_end, applied, lag, disk) = (None, None, None, None);
        Self { id: Some(id), address, state: "offline", log_end, applied, lag, disk, detail: Some("no answer") }
    }

    fn new(node: &'a NodeAnswer, view: Option<&View>, primary: Option<&NodeReport>) -> Self {
        let status = node.report.as_ref().ok().map(|report| &report.status);
        let behind = |(primary, status): (&NodeReport, &lockstep_protocol::status::NodeStatus)| {
            primary.status.applied.0.saturating_sub(status.applied.0)
        };
        Self {
            id: node.voter.as_ref().and_then(Voter::node).map(|id| id.0),
            address: node.address.as_str(),
            state: node_state(node, view),
            log_end: status.map(|status| status.log_end.0),
            applied: status.map(|status| status.applied.0),
            lag: primary.zip(status).map(behind),
            disk: node.report.as_ref().ok().and_then(|report| report.disk),
            detail: detail(node),
        }
    }
}

fn node_state(node: &NodeAnswer, view: Option<&View>) -> &'static str {
    let (Ok(report), Some(view)) = (&node.report, view) else { return "offline" };
    match report.status.role {
        Role::Primary if view.is_primary(&report.me) && report.status.serving == Some(view.number) => "primary",
        Role::Primary | Role::Replica if view.lists_replica(&report.me) => "replica",
        Role::Syncing => "syncing",
        Role::Drained => "drained",
        Role::Primary | Role::Replica | Role::Waiting | Role::Witness => "offline",
    }
}

#[derive(Debug, Serialize)]
struct WitnessJson<'a> {
    name: Option<String>,
    address: &'a str,
    state: &'static str,
    detail: Option<&'a str>,
}

impl<'a> WitnessJson<'a> {
    /// It votes, it waits for a seat, or it does not answer.
    fn new(node: &'a NodeAnswer, view: Option<&View>) -> Self {
        let name = match &node.voter {
            Some(Voter::Witness(name)) => Some(name.to_string()),
            Some(Voter::Replica(_)) | None => None,
        };
        let state = match &node.report {
            Ok(report) if view.is_some_and(|view| view.lists(&report.me)) => "voting",
            Ok(_) => "waiting",
            Err(_) => "offline",
        };
        Self { name, address: node.address.as_str(), state, detail: detail(node) }
    }
}

/// Why it does not answer, or what it waits for.
fn detail(node: &NodeAnswer) -> Option<&str> {
    match &node.report {
        Ok(report) => Some(report.status.waiting_for.as_str()).filter(|text| !text.is_empty()),
        Err(reason) => Some(reason),
    }
}

#[derive(Debug, Serialize)]
struct SyncJson<'a> {
    session: String,
    node: u32,
    phase: &'a str,
    bytes: u64,
    bytes_total: u64,
    index: u64,
    percent: Option<u64>,
}

impl<'a> SyncJson<'a> {
    /// As its giver sees it. How much of the snapshot was sent; then, how much of the log is there.
    fn new(giver: &'a NodeStatus) -> Option<Self> {
        let sync = giver.sync.as_ref()?;
        let (part, whole) = match sync.phase.as_str() {
            "snapshot" => (sync.bytes, sync.bytes_total),
            _ => (sync.index.0, giver.applied.0),
        };
        Some(Self {
            session: format!("{:016x}", sync.session.0),
            node: sync.node.0,
            phase: &sync.phase,
            bytes: sync.bytes,
            bytes_total: sync.bytes_total,
            index: sync.index.0,
            percent: (part.min(whole) * 100).checked_div(whole),
        })
    }
}

#[derive(Debug, Serialize)]
struct ChangeJson {
    view: u64,
    at: String,
    cause: String,
    stall_ms: Option<u64>,
}

impl From<&Change> for ChangeJson {
    fn from(change: &Change) -> Self {
        let (at, cause) = (instant(change.cause.at), change.cause.to_string());
        Self { view: change.view.0, at, cause, stall_ms: change.stall_ms() }
    }
}

//! What the metrics say is what happened, to the count: on a cluster where nothing but the test does anything.

use super::gate::eventually;
use super::harness::{Cluster, DEMO, Plan};
use super::http::Request;
use lockstep::http::metric_page::ALL;
use std::collections::{BTreeMap, BTreeSet};

/// Nobody is left out for being slow: only a process that is gone is.
const PATIENT: &str =
    "[heartbeat]\ntimeout_ms = 600000\n[replication]\nvote_timeout_ms = 600000\n[slow_replica]\nlimit_ms = 600000\n";

/// Of the same length each.
const TEXT_BYTES: f64 = 9.0;

/// A page's samples, by name and labels as they stand there.
struct Page {
    samples: BTreeMap<String, f64>,
    families: BTreeSet<String>,
}

impl Page {
    fn of(text: &str) -> Self {
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self { samples: lines.map(sample).collect(), families: families.map(str::to_owned).collect() }
    }

    /// One sample; 0 for what never was.
    fn at(&self, name: &str) -> f64 {
        self.samples.get(name).copied().unwrap_or(0.0)
    }

    /// All samples of a name, whatever their labels.
    fn sum(&self, name: &str) -> f64 {
        let is_of = |sample: &&String| sample.split('{').next() == Some(name);
        self.samples.iter().filter(|(sample, _)| is_of(sample)).map(|(_, value)| value).sum()
    }
}

fn node(cluster: &Cluster, id: u32) -> Page {
    Page::of(&cluster.node_metrics(id).expect("the node tells its metrics"))
}

fn gateway(cluster: &Cluster) -> Page {
    Page::of(&cluster.gateway_metrics(0).expect("the gateway tells its metrics"))
}

/// How much a sample, or all of a name, has grown.
fn grown(before: &Page, after: &Page, name: &str) -> f64 {
    if name.contains('{') { after.at(name) - before.at(name) } else { after.sum(name) - before.sum(name) }
}

/// Until nothing is written any more: the last view's course is told, and all have applied it.
fn settle(cluster: &mut Cluster) {
    eventually("the last view's course", || {
        let reply = cluster.client(0).get("/v1/cluster/changes?limit=1").ok()?;
        (reply.status == 200 && !reply.json["changes"][0]["phases"].is_null()).then_some(())
    });
    cluster.wait_for_all();
}

fn post(cluster: &Cluster, count: u32) {
    let mut client = cluster.client(0);
    for number in 0..count {
        let text = format!("text {number:04}");
        let reply = client.send(&Request::post("/v1/channels/metrics/messages", &text)).expect("an answer");
        assert_eq!(reply.status, 201);
    }
}

#[test]
fn the_figures_are_what_happened() {
    let mut cluster = Cluster::ready(Plan { settings: PATIENT, ..DEMO });
    cluster.wait_for_witnesses(2);
    settle(&mut cluster);
    let (_, primary) = cluster.primary();
    let nodes = |cluster: &Cluster| (1..=3).map(|id| node(cluster, id)).collect::<Vec<_>>();
    let (before, asked_before) = (nodes(&cluster), gateway(&cluster));

    post(&cluster, 20);
    let mut client = cluster.client(0);
    let mut get = |path: &str, status| assert_eq!(client.get(path).expect("an answer").status, status);
    (0..5).for_each(|_| get("/v1/channels/metrics/messages", 200));
    (0..3).for_each(|_| get("/v1/channels/nowhere/messages", 404));
    cluster.wait_for_all();

    let (after, asked) = (nodes(&cluster), gateway(&cluster));
    the_gateway_counted(&asked_before, &asked);
    for (id, (before, after)) in (1..).zip(before.iter().zip(&after)) {
        the_node_counted(before, after, id == primary);
        the_node_is(after, id == primary);
        assert_eq!(after.at("lockstep_view_primary_node"), f64::from(primary));
    }
    let leading = &after[primary as usize - 1];
    every_metric_is_told(leading, &asked);

    let lost = (1..=3).find(|id| *id != primary).expect("another");
    cluster.node(lost).kill();
    post(&cluster, 10);
    cluster.wait_for_members();
    settle(&mut cluster);
    assert_eq!(cluster.node_metrics(lost), None);
    let other = (1..=3).find(|id| *id != primary && *id != lost).expect("a third");
    the_loss_is_counted(leading, &node(&cluster, primary), other);
    let written = "lockstep_answers_total{kind=\"write\",answer=\"done\"}";
    assert_eq!(grown(&asked, &gateway(&cluster), written), 10.0);
}

/// 20 posts, 5 pages of history, and 3 of a channel that is not there.
fn the_gateway_counted(before: &Page, after: &Page) {
    for (sample, count) in [
        ("lockstep_request_seconds_count{call=\"post\",class=\"2xx\"}", 20.0),
        ("lockstep_request_seconds_count{call=\"history\",class=\"2xx\"}", 5.0),
        ("lockstep_request_seconds_count{call=\"history\",class=\"4xx\"}", 3.0),
        ("lockstep_answers_total{kind=\"write\",answer=\"done\"}", 20.0),
        ("lockstep_answers_total{kind=\"read\",answer=\"done\"}", 5.0),
        ("lockstep_answers_total{kind=\"read\",answer=\"channel_not_found\"}", 3.0),
        ("lockstep_answers_total", 28.0),
    ] {
        assert_eq!(grown(before, after, sample), count, "{sample}");
    }
    assert_eq!((after.at("lockstep_ready"), after.at("lockstep_role{role=\"witness\"}")), (1.0, 1.0));
    assert_eq!((after.at("lockstep_calls_under_way"), after.at("lockstep_calls_on_hold")), (0.0, 0.0));
}

/// 20 posts, one after the other: a batch, an attempt and three votes each at the primary, and one flush at every replica.
fn the_node_counted(before: &Page, after: &Page, is_primary: bool) {
    let once = if is_primary { 20.0 } else { 0.0 };
    for (sample, count) in [
        ("lockstep_commit_index", 20.0),
        ("lockstep_applied_index", 20.0),
        ("lockstep_flush_seconds_count", 20.0),
        ("lockstep_batches_total{outcome=\"committed\"}", once),
        ("lockstep_batches_total", once),
        ("lockstep_batch_operations_sum", once),
        ("lockstep_batch_operations_bucket{le=\"1\"}", once),
        ("lockstep_batch_bytes_sum", once * TEXT_BYTES),
        ("lockstep_voting_attempts_total", once),
        ("lockstep_entry_seconds_count", once),
        ("lockstep_votes_total{vote=\"yes\"}", 3.0 * once),
        ("lockstep_votes_total", 3.0 * once),
        ("lockstep_view_changes_total", 0.0),
    ] {
        assert_eq!(grown(before, after, sample), count, "{sample}, of the primary: {is_primary}");
    }
    assert!(after.sum("lockstep_letters_total") > before.sum("lockstep_letters_total"), "letters were sent");
}

fn the_node_is(now: &Page, is_primary: bool) {
    let role = if is_primary { "primary" } else { "replica" };
    assert_eq!(now.at(&format!("lockstep_role{{role=\"{role}\"}}")), 1.0);
    assert_eq!((now.sum("lockstep_role"), now.at("lockstep_serving")), (1.0, f64::from(u8::from(is_primary))));
    assert_eq!((now.at("lockstep_view_replicas"), now.at("lockstep_view_witnesses")), (3.0, 2.0));
    assert!(now.at("lockstep_connections{port=\"peers\"}") >= 1.0, "its peers reach it");
}

/// One replica is gone, `other` is left, and 10 posts went on.
fn the_loss_is_counted(before: &Page, after: &Page, other: u32) {
    assert_eq!(after.at("lockstep_view_replicas"), 2.0);
    let views = grown(before, after, "lockstep_view_number");
    assert_eq!(grown(before, after, "lockstep_view_changes_total"), views, "it slept through none");
    for (sample, count) in [
        ("lockstep_view_changes_total{cause=\"set_offline\"}", 1.0),
        ("lockstep_batches_total{outcome=\"committed\"}", 10.0),
        ("lockstep_batch_bytes_sum", 10.0 * TEXT_BYTES),
    ] {
        assert_eq!(grown(before, after, sample), count, "{sample}");
    }
    let replicas = after.samples.keys().filter(|name| name.starts_with("lockstep_replica_lag_entries"));
    assert_eq!(replicas.collect::<Vec<_>>(), [&format!("lockstep_replica_lag_entries{{node=\"{other}\"}}")]);
}

/// A primary and a gateway tell all that there is, and nothing that is not in the list.
fn every_metric_is_told(primary: &Page, gateway: &Page) {
    let told: BTreeSet<_> = primary.families.iter().chain(&gateway.families).map(String::as_str).collect();
    let listed: BTreeSet<_> = ALL.iter().map(|family| family.name).collect();
    assert_eq!(told, listed);
}

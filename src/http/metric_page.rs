//! A page of metrics in the Prometheus text format, version 0.0.4, and every metric that may stand on one.
//!
//! A family is added by its entry in this file and by nothing else, so that [`ALL`] is the list of names: for the
//! dashboard, the alerts and the documentation to be checked against.
//!
//! The crate `prometheus` writes the text: it is small, and writes the format that every Prometheus reads; `prometheus-client`
//! writes OpenMetrics alone, in which `promtool check metrics` finds errors.
//!
//! Names: `lockstep_`, and `process_` for what every program tells; base units (seconds, bytes); `_total` for what only grows.
//!
//! Not here: where the numbers come from (`metrics.rs`).

use lockstep_protocol::tally::Distribution;
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// The media type of a page.
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// One metric: a name, what kind it is, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name; of a distribution, without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    kind: MetricType,
    help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricType::GAUGE, help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricType::COUNTER, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricType::HISTOGRAM, help }
}

/// Defines the families, and the list of all of them.
macro_rules! families {
    ($($constant:ident = $kind:ident($name:literal, $help:literal);)+) => {
        $(#[doc = $help] pub const $constant: Family = $kind($name, $help);)+

        /// Every metric that a process of Lockstep may show.
        pub const ALL: &[Family] = &[$($constant),+];
    };
}

families! {
    BUILD = gauge("lockstep_build_info", "1; the labels say which version runs, and which peer protocol it speaks");
    RESIDENT = gauge("process_resident_memory_bytes", "Resident memory of the process");
    CPU = counter("process_cpu_seconds_total", "Processor time of the process, its own and the kernel's for it");
    FILES = gauge("process_open_fds", "Open files and sockets of the process");
    STARTED = gauge("process_start_time_seconds", "When the process began, in seconds since 1970");
    CONNECTIONS = gauge("lockstep_connections", "Open connections, by the port to which they lead");

    SERVING = gauge("lockstep_serving", "1 when this data node serves as primary, else 0");
    ROLE = gauge("lockstep_role", "1 for what the node is in its cluster now, 0 for all else");
    VIEW = gauge("lockstep_view_number", "The last decided view that the node knows; 0 when none");
    VIEW_PRIMARY = gauge("lockstep_view_primary_node", "The id of that view's primary; 0 when the node knows no view");
    VIEW_REPLICAS = gauge("lockstep_view_replicas", "Data nodes that are replicas in that view");
    VIEW_WITNESSES = gauge("lockstep_view_witnesses", "Witnesses that vote in that view");
    VIEW_CHANGES = counter("lockstep_view_changes_total", "Views that came into force at this node, by the first cause of each");
    LOG_END = gauge("lockstep_log_end_index", "The last entry in the node's log");
    COMMITTED = gauge("lockstep_commit_index", "The last entry that the node knows to be committed");
    APPLIED = gauge("lockstep_applied_index", "The last entry that the node's store shows");
    LAG = gauge("lockstep_replica_lag_entries", "Told by the primary: committed entries that a replica lacked at its last heartbeat");
    SILENCE = gauge("lockstep_replica_silence_seconds", "Told by the primary: time since it last heard a replica");
    SYNC_PHASE = gauge("lockstep_sync_phase", "1 for the phase of the transfer to a joining node, as giver or taker; all 0 when there is none");
    SYNC_BYTES = gauge("lockstep_sync_bytes", "Bytes of the snapshot that this transfer has moved");
    SYNC_EXPECTED = gauge("lockstep_sync_expected_bytes", "Roughly how many there are; 0 when not known");
    SYNC_INDEX = gauge("lockstep_sync_index", "The last entry that this transfer has moved");
    WRITES_WAITING = gauge("lockstep_writes_waiting", "Writes that wait or are in flight at the primary");
    READS_WAITING = gauge("lockstep_reads_waiting", "Reads that wait at the primary");
    LOCKS_HELD = gauge("lockstep_locks_held", "Locks that are held at this node");
    LOCKS_WAITING = gauge("lockstep_locks_waiting", "Requests for locks that wait at this node");
    BATCHES = counter("lockstep_batches_total", "Batches of clients' writes whose clients were told, by how they ended");
    BATCH_OPERATIONS = histogram("lockstep_batch_operations", "Writes in each committed batch");
    BATCH_BYTES = histogram("lockstep_batch_bytes", "Text in each committed batch");
    ENTRY_SECONDS = histogram("lockstep_entry_seconds", "From an entry's first sending until all replicas acknowledged its commit, to the millisecond");
    ATTEMPTS = counter("lockstep_voting_attempts_total", "Times that an entry was sent for votes under a new attempt");
    VOTES = counter("lockstep_votes_total", "Votes that counted at the primary: yes, or why not");
    FLUSHES = histogram("lockstep_flush_seconds", "How long each flush of the disk took, by the number of requests that it was for");
    GROUPS = histogram("lockstep_storage_group_requests", "Requests that the storage served together");
    DISK_SIZE = gauge("lockstep_disk_size_bytes", "The size of the disk on which the data directory lies");
    DISK_FREE = gauge("lockstep_disk_free_bytes", "What may still be written to that disk");
    LETTERS = counter("lockstep_letters_total", "Letters to other nodes, by lane, and whether their receiver took them");

    READY = gauge("lockstep_ready", "1 when this gateway knows a primary that serves, else 0");
    REQUESTS = histogram("lockstep_request_seconds", "Clients' requests, by call and class of the answer's status, and how long each took");
    UNDER_WAY = gauge("lockstep_calls_under_way", "Clients' reads and writes that wait for the cluster");
    ON_HOLD = gauge("lockstep_calls_on_hold", "Those of them that wait because no primary is known");
    HELD = counter("lockstep_calls_held_total", "Reads and writes that had to wait for a primary");
    RETRIES = counter("lockstep_call_retries_total", "Tries of reads and writes after the first of each");
    ANSWERS = counter("lockstep_answers_total", "Reads and writes, by what the cluster answered");
}

/// The labels of one sample: names and values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page(Vec<MetricFamily>);

impl Page {
    /// A metric with one value; none leaves it out.
    pub fn one(&mut self, family: Family, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.push(family, vec![sample(family, &[], value)]);
        }
    }

    /// A metric with a value for each of these labels.
    pub fn each<'a>(&mut self, family: Family, samples: impl IntoIterator<Item = (Vec<(&'static str, &'a str)>, f64)>) {
        let metrics = samples.into_iter().map(|(labels, value)| sample(family, &labels, value)).collect();
        self.push(family, metrics);
    }

    /// A metric with a distribution for each of these labels. So many of its values' units make one of the metric's.
    pub fn distributions<'a>(
        &mut self,
        family: Family,
        per_unit: f64,
        samples: impl IntoIterator<Item = (Vec<(&'static str, &'a str)>, Distribution)>,
    ) {
        let metric = |(labels, values): (Vec<(&'static str, &'a str)>, Distribution)| {
            let mut metric = labelled(&labels);
            metric.set_histogram(scaled(&values, per_unit));
            metric
        };
        let metrics = samples.into_iter().map(metric).collect();
        self.push(family, metrics);
    }

    /// A family without a sample is left out: the format knows no empty ones.
    fn push(&mut self, family: Family, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut all = MetricFamily::default();
        all.set_name(family.name.to_owned());
        all.set_help(family.help.to_owned());
        all.set_field_type(family.kind);
        all.set_metric(metrics);
        self.0.push(all);
    }

    /// The names on it, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(MetricFamily::name).collect()
    }

    /// The page as text.
    ///
    /// # Errors
    /// When it cannot be encoded, for people.
    pub fn text(&self) -> Result<String, String> {
        TextEncoder::new().encode_to_string(&self.0).map_err(|error| error.to_string())
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&'static str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

fn sample(family: Family, labels: Labels<'_>, value: f64) -> Metric {
    let mut metric = labelled(labels);
    if family.kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn scaled(values: &Distribution, per_unit: f64) -> Histogram {
    let bucket = |(bound, count): (u64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound as f64 / per_unit);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(values.up_to().map(bucket).collect());
    histogram.set_sample_count(values.count());
    histogram.set_sample_sum(values.sum() as f64 / per_unit);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_of_one_form() {
        let mut names: Vec<_> = ALL.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for family in ALL {
            let is_ours = ["lockstep_", "process_"].iter().any(|prefix| family.name.starts_with(prefix));
            assert!(is_ours && family.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == MetricType::COUNTER, "{}", family.name);
        }
    }

    #[test]
    fn a_page_is_the_text_format() {
        let mut page = Page::default();
        page.one(SERVING, 1.0);
        page.one(RESIDENT, None);
        page.each(LETTERS, [(vec![("lane", "a\"\\\nb")], 3.0)]);
        page.each(VOTES, []);
        let mut values = Distribution::new(&[1_000, 5_000]);
        [700, 5_000, 9_000].into_iter().for_each(|value| values.add(value));
        page.distributions(FLUSHES, 1e6, [(vec![("requests", "1")], values)]);
        let text = page.text().expect("encodes");
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        assert_eq!(
            samples,
            [
                "# TYPE lockstep_serving gauge",
                "lockstep_serving 1",
                "# TYPE lockstep_letters_total counter",
                "lockstep_letters_total{lane=\"a\\\"\\\\\\nb\"} 3",
                "# TYPE lockstep_flush_seconds histogram",
                "lockstep_flush_seconds_bucket{requests=\"1\",le=\"0.001\"} 1",
                "lockstep_flush_seconds_bucket{requests=\"1\",le=\"0.005\"} 2",
                "lockstep_flush_seconds_bucket{requests=\"1\",le=\"+Inf\"} 3",
                "lockstep_flush_seconds_sum{requests=\"1\"} 0.0147",
                "lockstep_flush_seconds_count{requests=\"1\"} 3",
            ]
        );
    }
}

//! Counts and times the requests at the client port, by call and by class of the answer's status.
//!
//! From when the request's header is read until the answer's header is ready: the time that a client waits for the cluster.
//! Two atomics a request.
//!
//! Not here: what a call is answered (`client.rs`), and calls inside the gateway (`lockstep_actors::gateway::figures`).

use actix_web::http::{Method, StatusCode};
use lockstep_actors::figures::SharedDistribution;
use lockstep_protocol::tally::Distribution;
use std::time::Instant;

/// The calls, as a metric's label names them; the last one is all that is none.
pub const CALLS: [&str; 15] = [
    "history",
    "stars",
    "post",
    "star",
    "unstar",
    "message",
    "create_channel",
    "channel",
    "channels",
    "cluster",
    "cluster_changes",
    "healthz",
    "readyz",
    "metrics",
    "other",
];

/// The classes of status.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// How long a request took at most. Microseconds.
const BOUNDS_US: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// How long requests took, by call and class.
#[derive(Debug)]
pub struct CallFigures([[SharedDistribution; CLASSES.len()]; CALLS.len()]);

impl Default for CallFigures {
    fn default() -> Self {
        Self(std::array::from_fn(|_| std::array::from_fn(|_| SharedDistribution::new(BOUNDS_US))))
    }
}

impl CallFigures {
    /// A request got this answer.
    pub(super) fn answered(&self, call: usize, status: StatusCode, begun: Instant) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2).min(CLASSES.len() - 1);
        self.0[call][class].add_duration(begun.elapsed());
    }

    /// Microseconds, by labels; those that never were are left out.
    pub fn read(&self) -> Vec<(Vec<(&'static str, &'static str)>, Distribution)> {
        let calls = CALLS.into_iter().zip(&self.0);
        let each = calls.flat_map(|(call, classes)| CLASSES.into_iter().zip(classes).map(move |at| (call, at)));
        let read = each.map(|(call, (class, times))| (vec![("call", call), ("class", class)], times.read()));
        read.filter(|(_, times)| times.count() > 0).collect()
    }
}

/// Which of [`CALLS`] a request is. Read from its path, for the framework's own way to the pattern is longer than all else here.
pub(super) fn place(method: &Method, path: &str) -> usize {
    let mut parts = path.trim_start_matches('/').split('/');
    let parts = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
    let [get, put, post, delete] = [&Method::GET, &Method::PUT, &Method::POST, &Method::DELETE].map(|m| m == method);
    let name = match parts {
        [Some("v1"), Some("channels"), None, ..] if get => "channels",
        [Some("v1"), Some("channels"), Some(_), None, _] if get => "channel",
        [Some("v1"), Some("channels"), Some(_), None, _] if put => "create_channel",
        [Some("v1"), Some("channels"), Some(_), Some("messages"), None] if get => "history",
        [Some("v1"), Some("channels"), Some(_), Some("messages"), None] if post => "post",
        [Some("v1"), Some("channels"), Some(_), Some("stars"), None] if get => "stars",
        [Some("v1"), Some("messages"), Some(_), None, _] if get => "message",
        [Some("v1"), Some("messages"), Some(_), Some("star"), None] if put => "star",
        [Some("v1"), Some("messages"), Some(_), Some("star"), None] if delete => "unstar",
        [Some("v1"), Some("cluster"), None, ..] if get => "cluster",
        [Some("v1"), Some("cluster"), Some("changes"), None, _] if get => "cluster_changes",
        [Some("healthz"), None, ..] if get => "healthz",
        [Some("readyz"), None, ..] if get => "readyz",
        [Some("metrics"), None, ..] if get => "metrics",
        _ => "other",
    };
    CALLS.iter().position(|call| *call == name).unwrap_or(CALLS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_name() {
        for (method, path, name) in [
            (Method::GET, "/v1/channels", "channels"),
            (Method::PUT, "/v1/channels/general", "create_channel"),
            (Method::POST, "/v1/channels/general/messages", "post"),
            (Method::POST, "/v1/channels/general", "other"),
            (Method::GET, "/v1/channels/general/messages/7", "other"),
            (Method::DELETE, "/v1/messages/1.2/star", "unstar"),
            (Method::GET, "/v1/cluster/changes", "cluster_changes"),
            (Method::GET, "/metrics", "metrics"),
            (Method::GET, "/", "other"),
        ] {
            assert_eq!(CALLS[place(&method, path)], name, "{method} {path}");
        }
    }

    #[test]
    fn every_status_has_a_class() {
        let figures = CallFigures::default();
        for status in [100, 200, 204, 302, 404, 503, 999] {
            figures.answered(0, StatusCode::from_u16(status).expect("a status"), Instant::now());
        }
        let classes: Vec<_> = figures.read().into_iter().map(|(labels, times)| (labels[1].1, times.count())).collect();
        assert_eq!(classes, [("2xx", 3), ("3xx", 1), ("4xx", 1), ("5xx", 2)]);
    }
}

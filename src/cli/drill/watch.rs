//! How the cluster says that it is: asked of the gateways again and again, and kept when it changed.
//!
//! Not here: what clients see (`client.rs`). Nothing that is said here is believed by the checker.

use serde_json::Value;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What was seen at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The view's number.
    pub view: u64,
    /// Who leads it.
    pub primary: u32,
    /// Its data nodes, by id.
    pub replicas: Vec<u32>,
    /// How many witnesses it has.
    pub witnesses: usize,
    /// Whether its primary serves.
    pub serves: bool,
    /// Up to where each data node that answered has applied the log.
    pub applied: Vec<u64>,
}

impl Seen {
    /// Reads `GET /v1/cluster`.
    fn read(cluster: &Value) -> Option<Self> {
        let view = cluster.get("view").filter(|view| !view.is_null())?;
        let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let mut replicas: Vec<_> = view["replicas"].as_array()?.iter().filter_map(id).collect();
        replicas.sort_unstable();
        let nodes = cluster["nodes"].as_array()?;
        let primary = id(&view["primary"])?;
        Some(Self {
            view: view["number"].as_u64()?,
            primary,
            replicas,
            witnesses: view["witnesses"].as_array()?.len(),
            serves: nodes.iter().any(|node| node["state"] == "primary" && id(&node["id"]) == Some(primary)),
            applied: nodes.iter().filter_map(|node| node["applied"].as_u64()).collect(),
        })
    }
}

/// Who asks.
pub struct Watch {
    client: awc::Client,
    urls: Vec<String>,
    /// Views, and when each was seen first.
    views: RefCell<Vec<(Instant, Seen)>>,
}

impl Watch {
    /// Asks these gateways in turn.
    pub fn new(urls: Vec<String>) -> Self {
        Self { client: awc::Client::builder().timeout(PATIENCE).finish(), urls, views: RefCell::default() }
    }

    /// The state that the first gateway tells which answers.
    pub async fn look(&self) -> Option<Seen> {
        for url in &self.urls {
            let cluster = self.get(&format!("{url}/v1/cluster")).await;
            if let Some(seen) = cluster.as_ref().and_then(Seen::read) {
                self.keep(&seen);
                return Some(seen);
            }
        }
        None
    }

    fn keep(&self, seen: &Seen) {
        let mut views = self.views.borrow_mut();
        if views.last().is_none_or(|(_, last)| last.view < seen.view) {
            views.push((Instant::now(), seen.clone()));
        }
    }

    /// The views that were seen, and when each was first.
    pub fn views(&self) -> Vec<(Instant, Seen)> {
        self.views.borrow().clone()
    }

    /// Waits until the state is so; how long that took, if it came.
    pub async fn wait_until(&self, limit: Duration, is_so: impl Fn(&Seen) -> bool) -> Option<Duration> {
        let begun = Instant::now();
        loop {
            if self.look().await.is_some_and(|seen| is_so(&seen)) {
                return Some(begun.elapsed());
            }
            if begun.elapsed() > limit {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks for ever, so that no view is missed.
    pub async fn run(self: Rc<Self>) {
        loop {
            self.look().await;
            tokio::time::sleep(LOOK * 2).await;
        }
    }

    /// Why views changed, as the cluster tells it: number and sentence.
    pub async fn changes(&self) -> Vec<(u64, String)> {
        for url in &self.urls {
            let Some(told) = self.get(&format!("{url}/v1/cluster/changes?limit=1000")).await else { continue };
            let changes = told["changes"].as_array().into_iter().flatten();
            let read = |change: &Value| Some((change["view"].as_u64()?, change["text"].as_str()?.to_owned()));
            return changes.filter_map(read).collect();
        }
        Vec::new()
    }

    /// Creates a channel; whether it is there now.
    pub async fn create_channel(&self, name: &str) -> bool {
        for url in &self.urls {
            let answer = self.client.put(format!("{url}/v1/channels/{name}")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return true;
            }
        }
        false
    }

    async fn get(&self, url: &str) -> Option<Value> {
        let mut answer = self.client.get(url).send().await.ok()?;
        let bytes = answer.body().limit(4 << 20).await.ok()?;
        serde_json::from_slice(&bytes).ok().filter(|_| answer.status().is_success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_and_serves_once_its_primary_says_so() {
        let mut cluster = serde_json::json!({
            "view": {"number": 7, "primary": 3, "replicas": [3, 1], "witnesses": ["gateway-1"]},
            "nodes": [{"id": 3, "state": "primary", "applied": 12}, {"id": 1, "state": "replica", "applied": 11},
                {"id": 2, "state": "offline", "applied": null}]});
        let expected =
            Seen { view: 7, primary: 3, replicas: vec![1, 3], witnesses: 1, serves: true, applied: vec![12, 11] };
        assert_eq!(Seen::read(&cluster), Some(expected));
        cluster["nodes"][0]["state"] = "replica".into();
        assert_eq!(Seen::read(&cluster).map(|seen| seen.serves), Some(false));
        assert_eq!(Seen::read(&serde_json::json!({"view": null, "nodes": []})), None);
    }
}

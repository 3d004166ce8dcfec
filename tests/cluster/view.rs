//! What `GET /v1/cluster` says of the view: who is in it, who serves, and whether all is at rest.

use serde_json::Value;
use std::collections::BTreeSet;

/// Whether the view lists exactly these data nodes, as they are now (a wiped one is another), and one of them serves.
pub fn is_view_of(status: &Value, ids: &BTreeSet<u32>) -> bool {
    let wanted: BTreeSet<_> = ids.iter().map(|id| u64::from(*id)).collect();
    let members = members(status);
    let all_in = members.iter().all(|node| node["state"] == "primary" || node["state"] == "replica");
    let serving = members.iter().any(|node| node["state"] == "primary");
    ids_in(&status["view"]["replicas"]) == wanted && members.len() == wanted.len() && all_in && serving
}

/// Whether all members of the view answer, and show one index.
pub fn is_at_rest(status: &Value) -> bool {
    let members = members(status);
    let ends: BTreeSet<_> =
        members.iter().flat_map(|node| [node["log_end"].as_u64(), node["applied"].as_u64()]).collect();
    members.len() == ids_in(&status["view"]["replicas"]).len() && ends.len() == 1 && !ends.contains(&None)
}

fn members(status: &Value) -> Vec<&Value> {
    let listed = ids_in(&status["view"]["replicas"]);
    let nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.filter(|node| node["id"].as_u64().is_some_and(|id| listed.contains(&id))).collect()
}

fn ids_in(list: &Value) -> BTreeSet<u64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

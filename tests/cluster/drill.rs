//! `lockstep drill`, as a person uses it: one that passes, one that is over its limit, and one that cannot be run.
//!
//! What its checker refuses is tested where it lies (`src/cli/drill/checker`), on records that were doctored.

use super::gate;
use super::process::BINARY;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Its exit code, its report if there is one, and what it said.
fn drill(dir: &Path, more: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = Command::new(BINARY);
    command.args(["drill", "--json", "--seed", "3", "--minutes", "10", "--dir"]).arg(dir).args(more);
    let output = command.stdin(Stdio::null()).env_remove("RUST_LOG").output().expect("the binary starts");
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), report, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_short_drill_passes_and_leaves_nothing_behind_but_its_report() {
    let _turn = gate::enter();
    let folder = TempDir::with_prefix("lockstep-drill-").expect("a folder");
    let faults = ["--faults", "kill,cut-one-way,kill-all,kill-gateway", "--rounds", "4", "--limit", "60"];
    let (code, report, said) = drill(folder.path(), &faults);
    assert_eq!(code, Some(0), "{report:#} {said}");
    let rounds = report["rounds"].as_array().expect("rounds");
    let mut kinds: Vec<_> = rounds.iter().filter_map(|round| round["fault"].as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["cut-one-way", "kill", "kill-all", "kill-gateway"], "each once");
    let posts = report["checked"]["post"].as_u64().expect("a count");
    assert!(posts > 0 && report["checked"]["history"].as_u64() > Some(0), "{report:#}");
    for shows in report["gateways"].as_array().expect("gateways") {
        assert!(shows["messages"].as_u64() >= Some(posts), "every acknowledged post was read: {report:#}");
    }
    let page = std::fs::read_to_string(folder.path().join("report.html")).expect("a page");
    assert!(page.contains("</svg>") && page.contains("cut-one-way"), "{page}");
    for member in ["node-1", "node-2", "node-3", "gateway-1", "gateway-2"] {
        let pid = std::fs::read_to_string(folder.path().join(member).join("pid")).unwrap_or_default();
        assert!(pid.is_empty() || !Path::new("/proc").join(pid.trim()).exists(), "{member} is left behind");
    }
}

#[test]
fn a_drill_that_serves_again_only_after_its_limit_fails() {
    let _turn = gate::enter();
    let folder = TempDir::with_prefix("lockstep-drill-").expect("a folder");
    let (code, report, said) = drill(folder.path(), &["--faults", "kill", "--rounds", "1", "--limit", "0"]);
    assert_eq!(code, Some(1), "{report:#} {said}");
    assert_eq!(report["violations"], 0, "it was late, and nothing else: {report:#}");
}

#[test]
fn a_drill_deletes_no_cluster_that_is_not_its_own() {
    let folder = TempDir::with_prefix("lockstep-drill-").expect("a folder");
    let kept = folder.path().join("node-1");
    std::fs::create_dir(&kept).expect("a folder");
    let (code, _, said) = drill(folder.path(), &["--faults", "kill", "--rounds", "1"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(kept.exists() && said.contains("holds a cluster that no drill has made"), "{said}");
}

//! The dashboard, the alerts and the documentation speak of metrics that there are.

use lockstep::http::metric_page::ALL;
use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| ["lockstep_", "process_"].iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// Whether a metric, or one of a distribution's parts, goes by this name.
fn is_told(name: &str) -> bool {
    let parts = ["", "_bucket", "_sum", "_count"];
    ALL.iter().any(|family| name.strip_prefix(family.name).is_some_and(|part| parts.contains(&part)))
}

#[test]
fn the_dashboard_and_the_alerts_use_only_metrics_that_are_told() {
    for (path, count_min) in [
        ("docker/watch/grafana/lockstep.json", 40),
        ("docker/watch/alerts.yaml", 8),
        ("docker/watch/alerts_test.yaml", 8),
        ("docs/operations.md", ALL.len()),
    ] {
        let text = read(path);
        let names = names(&text);
        assert!(names.len() >= count_min, "{path} names {} metrics: are they looked for rightly?", names.len());
        let unknown: Vec<_> = names.into_iter().filter(|name| !is_told(name)).collect();
        assert!(unknown.is_empty(), "{path} names metrics that nobody tells: {unknown:?}");
    }
}

#[test]
fn the_documentation_lists_every_metric() {
    let page = read("docs/operations.md");
    let missing: Vec<_> =
        ALL.iter().map(|family| family.name).filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/operations.md does not list {missing:?}");
}

#[test]
fn the_dashboard_is_json_and_every_alert_is_documented() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("docker/watch/grafana/lockstep.json")).expect("JSON");
    let rows: Vec<_> = dashboard["panels"].as_array().expect("panels").iter().filter(|p| p["type"] == "row").collect();
    assert_eq!(rows.len(), 7);
    let (alerts, tests, page) =
        (read("docker/watch/alerts.yaml"), read("docker/watch/alerts_test.yaml"), read("docs/operations.md"));
    let alerts: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 8);
    for alert in alerts {
        assert!(page.contains(&format!("`{alert}`")), "docs/operations.md does not say what `{alert}` means");
        assert!(tests.matches(alert).count() >= 2, "alerts_test.yaml raises `{alert}`, and does not");
    }
}

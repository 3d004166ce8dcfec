//! `lockstep why`: why views changed, one sentence each, the newest last.

use super::Failure;
use super::api::{Call, Gateways, Target};
use super::people::{field, print};
use clap::Args;
use serde_json::Value;
use std::process::ExitCode;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How many changes to show; the cluster keeps the last 1,000
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    #[command(flatten)]
    target: Target,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { limit, target } = arguments;
    let call = Call::get("/v1/cluster/changes".to_owned()).with("limit", Some(limit));
    let answer = Gateways::new(&target).ask(&call).await?;
    print(target.json, &answer, lines(&answer));
    Ok(ExitCode::SUCCESS)
}

fn lines(answer: &Value) -> Vec<String> {
    let changes = answer["changes"].as_array();
    let mut lines: Vec<_> = changes
        .into_iter()
        .flatten()
        .map(|change| format!("{} {}", instant(&field(change, "at")), field(change, "text")))
        .collect();
    lines.reverse();
    lines
}

/// `2023-11-14T22:13:20.000123Z` as `2023-11-14 22:13:20.000`.
fn instant(rfc_3339: &str) -> String {
    rfc_3339.chars().take(23).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_change_comes_last_with_its_millisecond() {
        let change = |at: &str, text: &str| json!({"at": at, "text": text});
        let answer = json!({"changes": [
            change("2026-11-23T14:03:07.120999Z", "node 3 died\u{1b}[2J"),
            change("2026-11-23T14:00:00.000001Z", "node 3 founded the cluster"),
        ]});
        assert_eq!(
            lines(&answer),
            ["2026-11-23 14:00:00.000 node 3 founded the cluster", "2026-11-23 14:03:07.120 node 3 died\\u{1b}[2J"]
        );
    }
}

//! What came of a drill: as a table for the terminal, as JSON, and the verdict.
//!
//! Not here: the page with the timeline (`page.rs`).

use super::finale::Shows;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// One fault and what came of it. Times from the drill's beginning, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Round {
    /// From 1.
    pub number: u32,
    /// What was done.
    pub fault: &'static str,
    /// To whom.
    pub target: String,
    /// When it began.
    pub began_ms: u64,
    /// When all that it did was undone.
    pub lifted_ms: u64,
    /// How long after that a new write was answered through every gateway; none: not at all.
    pub served_ms: Option<u64>,
    /// How long after that the view was whole again; none: not at all.
    pub whole_ms: Option<u64>,
    /// The longest time without an answered write, from the fault's beginning until it was whole.
    pub stall_ms: u64,
    /// What went wrong, if anything.
    pub trouble: Option<String>,
}

/// A view as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ViewSeen {
    /// When it was seen first. Milliseconds from the beginning.
    pub at_ms: u64,
    /// Its number.
    pub number: u64,
    /// Who leads.
    pub primary: u32,
    /// Its data nodes.
    pub replicas: Vec<u32>,
    /// Why it came, as the cluster tells it.
    pub text: Option<String>,
}

/// One second of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Writes that were answered.
    pub writes: u32,
    /// Reads that were answered.
    pub reads: u32,
    /// Tries that failed, were refused, or not answered.
    pub failed: u32,
}

/// All of a drill.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What chose the faults.
    pub seed: u64,
    /// Of what the cluster was made.
    pub cluster: String,
    /// How long it lasted.
    pub seconds: f64,
    /// After how long without service a round fails.
    pub limit_ms: u64,
    /// The faults.
    pub rounds: Vec<Round>,
    /// Faults that could not be done here, and why.
    pub skipped: Vec<String>,
    /// Answered calls that were checked, by kind.
    pub checked: BTreeMap<&'static str, u64>,
    /// Calls of which nobody knows what became of them.
    pub unknown: u64,
    /// Calls that were told to have no effect.
    pub refused: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Reads that could have seen more than one version of a star.
    pub choices: usize,
    /// How long the check took.
    pub check_ms: u64,
    /// How many violations there are.
    pub violations: usize,
    /// The first of them, with the calls that show each.
    pub told: Vec<String>,
    /// What each gateway shows in the end.
    pub gateways: Vec<Shows>,
    /// What is wrong beside that: what differs between gateways, or between nodes.
    pub troubles: Vec<String>,
    /// The views.
    pub views: Vec<ViewSeen>,
    /// The load.
    pub load: Vec<Second>,
}

impl Report {
    /// Why it is not passed; empty when it is.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if self.violations > 0 {
            failures.push(format!("{} violations", self.violations));
        }
        let wrong = |shows: &&Shows| shows.lost + shows.doubled + shows.reordered + shows.strange > 0;
        failures.extend(
            self.gateways.iter().filter(wrong).map(|shows| format!("{} shows what it must not", shows.gateway)),
        );
        let unread =
            self.gateways.iter().filter_map(|shows| Some(format!("{}: {}", shows.gateway, shows.failure.as_ref()?)));
        failures.extend(unread);
        for round in &self.rounds {
            let name = format!("round {} ({})", round.number, round.fault);
            match round.served_ms {
                Some(ms) if ms <= self.limit_ms => {}
                Some(ms) => failures.push(format!("{name} served again only after {ms} ms")),
                None => failures.push(format!("{name} did not serve again")),
            }
            if round.whole_ms.is_none() {
                failures.push(format!("{name} left the cluster without one of its members"));
            }
            failures.extend(round.trouble.as_ref().map(|trouble| format!("{name}: {trouble}")));
        }
        failures.extend(self.troubles.iter().cloned());
        if self.checked.get("post").is_none_or(|posts| *posts == 0) {
            failures.push("no post was acknowledged, so nothing was tested".to_owned());
        }
        failures
    }

    /// Answered calls of all kinds.
    pub fn checked_count(&self) -> u64 {
        self.checked.values().sum()
    }

    /// What was checked, in a line.
    pub fn summary(&self) -> String {
        let kinds: Vec<_> = self.checked.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!(
            "{} answered calls checked in {} ms ({}), {} in doubt, {} refused, {} tries again",
            self.checked_count(),
            self.check_ms,
            kinds.join(", "),
            self.unknown,
            self.refused,
            self.retries
        )
    }
}

/// A time that may not have come.
pub fn time(ms: Option<u64>) -> String {
    ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Drill of {}, seed {}, {:.0} s\n", self.cluster, self.seed, self.seconds)?;
        let head = ["#", "fault", "whom", "lasted", "no write for", "served after", "whole after"];
        let rows = self.rounds.iter().map(|round| {
            let lasted = round.lifted_ms.saturating_sub(round.began_ms);
            [
                round.number.to_string(),
                round.fault.to_owned(),
                round.target.clone(),
                format!("{lasted} ms"),
                format!("{} ms", round.stall_ms),
                time(round.served_ms),
                time(round.whole_ms),
            ]
        });
        table(f, &head, &rows.collect::<Vec<_>>())?;
        self.skipped.iter().try_for_each(|why| writeln!(f, "left out: {why}"))?;
        writeln!(f, "\n{}\n", self.summary())?;
        let rows = self.gateways.iter().map(|shows| {
            let numbers =
                [shows.messages, shows.lost, shows.doubled, shows.reordered, shows.strange].map(|n| n.to_string());
            let [messages, lost, doubled, reordered, strange] = numbers;
            [shows.gateway.clone(), messages, lost, doubled, reordered, strange]
        });
        table(f, &["gateway", "messages", "lost", "doubled", "reordered", "strange"], &rows.collect::<Vec<_>>())?;
        self.told.iter().try_for_each(|told| writeln!(f, "\n{told}"))?;
        let failures = self.failures();
        failures.iter().try_for_each(|failure| writeln!(f, "FAILED: {failure}"))?;
        if failures.is_empty() {
            writeln!(f, "\nPassed: one order of all calls explains every answer.")
        } else {
            Ok(())
        }
    }
}

/// Columns as wide as they must be; the first three to the left, numbers to the right.
fn table<const N: usize>(f: &mut fmt::Formatter<'_>, head: &[&str; N], rows: &[[String; N]]) -> fmt::Result {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let mut line = |cells: [&str; N]| {
        for (column, cell) in cells.into_iter().enumerate() {
            let width = width(column);
            let is_text = matches!(head[column], "fault" | "whom" | "gateway");
            if is_text { write!(f, "{cell:<width$}  ")? } else { write!(f, "{cell:>width$}  ")? }
        }
        writeln!(f)
    };
    line(*head)?;
    rows.iter().try_for_each(|row| line(std::array::from_fn(|column| row[column].as_str())))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A drill that passed.
    pub fn passed() -> Report {
        let round = |number, fault, began_ms| Round {
            number,
            fault,
            target: "node-3".to_owned(),
            began_ms,
            lifted_ms: began_ms + 4_000,
            served_ms: Some(700),
            whole_ms: Some(1_200),
            stall_ms: 300,
            trouble: None,
        };
        let shows = |gateway: &str| Shows { gateway: gateway.to_owned(), messages: 900, ..Shows::default() };
        Report {
            seed: 7,
            cluster: "3 data nodes and 2 gateways".to_owned(),
            seconds: 20.0,
            limit_ms: 10_000,
            rounds: vec![round(1, "kill", 3_000), round(2, "cut-one-way", 12_000)],
            checked: BTreeMap::from([("post", 900), ("history", 500)]),
            gateways: vec![shows("g-1"), shows("g-2")],
            views: vec![ViewSeen { at_ms: 3_100, number: 2, primary: 2, replicas: vec![1, 2], text: None }],
            load: (0..20).map(|at| Second { writes: 40 + at, reads: 30, failed: at % 3 }).collect(),
            ..Report::default()
        }
    }

    fn failures(change: impl FnOnce(&mut Report)) -> Vec<String> {
        let mut report = passed();
        change(&mut report);
        report.failures()
    }

    #[test]
    fn a_drill_is_passed_when_nothing_is_wrong() {
        assert_eq!(passed().failures(), [""; 0]);
        let text = passed().to_string();
        assert!(text.ends_with("Passed: one order of all calls explains every answer.\n"), "{text}");
        assert!(
            text.contains("  2  cut-one-way  node-3  4000 ms") || text.contains("2  cut-one-way  node-3"),
            "{text}"
        );
    }

    #[test]
    fn a_drill_fails_for_whatever_is_wrong() {
        assert_eq!(failures(|report| report.violations = 1), ["1 violations"]);
        assert_eq!(failures(|report| report.gateways[1].lost = 1), ["g-2 shows what it must not"]);
        assert_eq!(failures(|report| report.gateways[0].failure = Some("no answer".into())), ["g-1: no answer"]);
        let late = failures(|report| report.rounds[0].served_ms = Some(10_001));
        assert_eq!(late, ["round 1 (kill) served again only after 10001 ms"]);
        assert_eq!(failures(|report| report.rounds[1].served_ms = None), ["round 2 (cut-one-way) did not serve again"]);
        assert_eq!(failures(|report| report.rounds[1].whole_ms = None).len(), 1);
        assert_eq!(failures(|report| report.rounds[1].trouble = Some("x".into())), ["round 2 (cut-one-way): x"]);
        assert_eq!(failures(|report| report.troubles = vec!["they differ".into()]), ["they differ"]);
        assert_eq!(failures(|report| report.checked.clear()).len(), 1, "nothing was tested");
    }
}

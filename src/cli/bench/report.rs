//! What a run tells: for people, and as JSON.

use super::ledger::Counts;
use super::process::Cost;
use super::read_back::ReadBack;
use super::tally::{Done, Violations};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// One kind of operation, or all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Which.
    pub kind: &'static str,
    /// How many were done, and are in the latencies.
    pub operations: u64,
    /// How many a second were answered while the window was open.
    pub per_second: f64,
    /// Half were answered within this. Microseconds, as all of these.
    pub p50_us: u64,
    /// 90 of 100.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1,000.
    pub p99_9_us: u64,
    /// The slowest.
    pub max_us: u64,
}

impl Line {
    /// Of what was done in a window of so many seconds.
    pub fn new(kind: &'static str, done: &Done, seconds: f64) -> Self {
        let Done { latencies, in_window } = done;
        Self {
            kind,
            operations: latencies.len(),
            per_second: *in_window as f64 / seconds,
            p50_us: latencies.value_at_quantile(0.5),
            p90_us: latencies.value_at_quantile(0.9),
            p99_us: latencies.value_at_quantile(0.99),
            p99_9_us: latencies.value_at_quantile(0.999),
            max_us: latencies.max(),
        }
    }
}

/// What one process cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostLine {
    /// Which.
    pub process: String,
    /// Its id.
    pub pid: u32,
    /// Processor time while operations were counted. Seconds; none when it ended meanwhile.
    pub cpu_s: Option<f64>,
    /// The same for 1,000 operations.
    pub cpu_s_per_1000: Option<f64>,
    /// The most memory that was resident since it started. Bytes.
    pub peak_bytes: Option<u64>,
}

impl CostLine {
    /// Of a process that cost this while so many operations were done.
    pub fn new(process: String, pid: u32, cost: Option<Cost>, operations: u64) -> Self {
        let cpu_s = cost.map(|cost| cost.cpu_s);
        let each = |cpu_s: f64| cpu_s * 1_000.0 / operations as f64;
        let cpu_s_per_1000 = cpu_s.filter(|_| operations > 0).map(each);
        Self { process, pid, cpu_s, cpu_s_per_1000, peak_bytes: cost.map(|cost| cost.peak_bytes) }
    }
}

/// The open loop alone: whether the schedule was kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Schedule {
    /// Operations a second that were due.
    pub rate: f64,
    /// Operations that were due and never sent: the cluster could not keep up.
    pub unsent: u64,
    /// How much later than due 99 of 100 were sent, since all clients were busy, or this process was. Microseconds.
    pub late_p99_us: u64,
    /// The most. Microseconds.
    pub late_max_us: u64,
}

/// What was checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// What the clients were told.
    pub posts: Counts,
    /// What each gateway showed.
    pub read_back: Vec<ReadBack>,
    /// How many promises were broken.
    pub violations: u64,
    /// The first of them.
    pub told: Vec<String>,
}

impl Verified {
    /// Why the run has failed, if it has.
    pub fn failure(&self) -> Option<String> {
        if let (1.., Some(first)) = (self.violations, self.told.first()) {
            return Some(format!("{} promises were broken, the first: {first}", self.violations));
        }
        let unread = self.read_back.iter().find_map(|read| Some((&read.gateway, read.failure.as_ref()?)));
        unread.map(|(gateway, why)| format!("what was written cannot be read back through {gateway}: {why}"))
    }

    /// What was found.
    pub fn new(posts: Counts, read_back: Vec<ReadBack>, violations: Violations) -> Self {
        Self { posts, read_back, violations: violations.count, told: violations.told }
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was measured, in a sentence.
    pub setup: String,
    /// How long operations were counted. Seconds.
    pub seconds: f64,
    /// All operations, and if there are several kinds, each.
    pub lines: Vec<Line>,
    /// Operations that were not done, by status and code.
    pub errors: BTreeMap<String, u64>,
    /// How often a client had to connect again.
    pub reconnects: u64,
    /// Of an open loop.
    pub schedule: Option<Schedule>,
    /// The measured processes, and this one.
    pub processes: Vec<CostLine>,
    /// What was checked.
    pub verified: Verified,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.setup)?;
        writeln!(f, "{:<12}{:>10}{:>12}{}", "", "operations", "a second", head(["p50", "p90", "p99", "p99.9", "max"]))?;
        self.lines.iter().try_for_each(|line| write_line(f, line))?;
        self.write_errors(f)?;
        self.write_schedule(f)?;
        self.write_processes(f)?;
        self.write_verified(f)
    }
}

fn head(names: [&str; 5]) -> String {
    names.iter().map(|name| format!("{:>12}", format!("{name} ms"))).collect()
}

fn write_line(f: &mut Formatter<'_>, line: &Line) -> fmt::Result {
    write!(f, "{:<12}{:>10}{:>12.1}", line.kind, line.operations, line.per_second)?;
    for us in [line.p50_us, line.p90_us, line.p99_us, line.p99_9_us, line.max_us] {
        write!(f, "{:>12}", millis(us))?;
    }
    writeln!(f)
}

/// Microseconds as milliseconds, to the microsecond while that says something.
fn millis(us: u64) -> String {
    let digits = if us < 10_000 { 3 } else { 1 };
    format!("{:.digits$}", us as f64 / 1_000.0)
}

impl Report {
    fn write_errors(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let all: u64 = self.errors.values().sum();
        let of: Vec<_> = self.errors.iter().map(|(why, count)| format!("{count} times {why}")).collect();
        let of = if of.is_empty() { String::new() } else { format!(": {}", of.join(", ")) };
        writeln!(f, "\nerrors: {all}{of}\nreconnects: {}", self.reconnects)
    }

    fn write_schedule(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(Schedule { rate, unsent, late_p99_us, late_max_us }) = &self.schedule else { return Ok(()) };
        let (p99, max) = (millis(*late_p99_us), millis(*late_max_us));
        writeln!(
            f,
            "sent later than due, of {rate} a second: p99 {p99} ms, max {max} ms (it is part of the latencies)"
        )?;
        if *unsent > 0 {
            writeln!(
                f,
                "NOT SENT: {unsent} that were due. The cluster did not keep up; its latencies would be longer"
            )?;
        }
        Ok(())
    }

    fn write_processes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<12}{:>10}{:>22}{:>14}", "process", "CPU s", "CPU s per 1,000", "peak MiB")?;
        for CostLine { process, cpu_s, cpu_s_per_1000, peak_bytes, .. } in &self.processes {
            let (Some(cpu_s), Some(peak_bytes)) = (cpu_s, peak_bytes) else {
                writeln!(f, "{process:<12}  ended, or was started again, while it was measured")?;
                continue;
            };
            let each = cpu_s_per_1000.map_or("-".to_owned(), |each| format!("{each:.4}"));
            writeln!(f, "{process:<12}{cpu_s:>10.2}{each:>22}{:>14.1}", *peak_bytes as f64 / f64::from(1 << 20))?;
        }
        Ok(())
    }

    fn write_verified(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Verified { posts, read_back, violations, told } = &self.verified;
        let Counts { acknowledged, refused, doubtful } = posts;
        writeln!(f, "\nposts: {acknowledged} acknowledged, {refused} refused, {doubtful} in doubt")?;
        for ReadBack { gateway, messages, failure } in read_back {
            match failure {
                None => writeln!(f, "read back through {gateway}: {messages}")?,
                Some(why) => writeln!(f, "NOT READ BACK through {gateway}: {why}")?,
            }
        }
        if *violations == 0 {
            return self.write_kept(f);
        }
        writeln!(f, "PROMISES BROKEN: {violations}")?;
        told.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }

    fn write_kept(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.verified.read_back.iter().any(|read| read.failure.is_some()) {
            return writeln!(f, "no promise was seen broken, but not all was seen");
        }
        writeln!(f, "every acknowledged post is there once, in order and unchanged; every read showed what it must")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Tally;
    use super::super::violation::Violation;
    use super::super::work::Kind;
    use super::*;
    use std::time::{Duration, Instant};

    fn lines() -> Vec<Line> {
        let begin = Instant::now();
        let mut tally = Tally::new(begin..begin + Duration::from_secs(2));
        for ms in 1..=1_000 {
            tally.done(Kind::Post, begin, begin + Duration::from_millis(ms));
        }
        tally.done(Kind::History, begin, begin + Duration::from_micros(1_234));
        let of = |kind: Kind| Line::new(kind.name(), tally.of(kind), 2.0);
        vec![of(Kind::Post), of(Kind::History), Line::new("all", &tally.all(), 2.0)]
    }

    fn report() -> Report {
        let cost = Some(Cost { cpu_s: 1.25, peak_bytes: 42 << 20 });
        let posts = Counts { acknowledged: 1_000, refused: 2, doubtful: 1 };
        let back = |gateway: &str| ReadBack { gateway: gateway.into(), messages: 1_001, failure: None };
        Report {
            setup: "work: mixed".into(),
            seconds: 2.0,
            lines: lines(),
            errors: BTreeMap::from([("503 no_primary".into(), 2), ("connection lost".into(), 1)]),
            reconnects: 1,
            schedule: None,
            processes: vec![
                CostLine::new("node-1".into(), 7, cost, 1_001),
                CostLine::new("node-2".into(), 8, None, 1_001),
            ],
            verified: Verified::new(posts, vec![back("h:1"), back("h:2")], Violations::default()),
        }
    }

    #[test]
    fn a_report_for_people() {
        let expected = "\
work: mixed

            operations    a second      p50 ms      p90 ms      p99 ms    p99.9 ms      max ms
post              1000       500.0       500.2       900.1       990.2       999.4      1000.4
history              1         0.5       1.234       1.234       1.234       1.234       1.234
all               1001       500.5       500.2       900.1       990.2       999.4      1000.4

errors: 3: 2 times 503 no_primary, 1 times connection lost
reconnects: 1

process          CPU s       CPU s per 1,000      peak MiB
node-1            1.25                1.2488          42.0
node-2        ended, or was started again, while it was measured

posts: 1000 acknowledged, 2 refused, 1 in doubt
read back through h:1: 1001
read back through h:2: 1001
every acknowledged post is there once, in order and unchanged; every read showed what it must
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn an_open_loop_tells_whether_it_kept_its_schedule() {
        let schedule = Schedule { rate: 500.0, unsent: 0, late_p99_us: 120, late_max_us: 12_345 };
        let text = Report { schedule: Some(schedule.clone()), ..report() }.to_string();
        assert!(text.contains("sent later than due, of 500 a second: p99 0.120 ms, max 12.3 ms"), "{text}");
        assert!(!text.contains("NOT SENT"));
        let text = Report { schedule: Some(Schedule { unsent: 9, ..schedule }), ..report() }.to_string();
        assert!(text.contains("NOT SENT: 9 that were due"), "{text}");
    }

    #[test]
    fn a_broken_promise_fails_the_run_and_is_told() {
        let mut broken = report();
        assert_eq!(broken.verified.failure(), None);
        let mut violations = Violations::default();
        violations.add("h:1", &Violation::Unreadable("x".into()));
        (broken.verified.violations, broken.verified.told) = (violations.count, violations.told);
        assert!(broken.to_string().ends_with("PROMISES BROKEN: 1\n    h:1: an answer cannot be read: x\n"), "{broken}");
        let why = broken.verified.failure().expect("it has failed");
        assert_eq!(why, "1 promises were broken, the first: h:1: an answer cannot be read: x");
    }

    #[test]
    fn a_gateway_that_cannot_be_read_through_fails_the_run() {
        let mut unread = report();
        unread.verified.read_back[1].failure = Some("not connected".into());
        let text = unread.to_string();
        assert!(text.contains("NOT READ BACK through h:2: not connected\nno promise was seen broken, but"), "{text}");
        let why = "what was written cannot be read back through h:2: not connected";
        assert_eq!(unread.verified.failure(), Some(why.to_owned()));
    }

    #[test]
    fn a_report_for_programs_has_the_same_figures() {
        let json = serde_json::to_value(report()).expect("JSON");
        assert_eq!(json["lines"][1]["p50_us"], 1_234);
        assert_eq!(json["lines"][2]["operations"], 1_001);
        assert_eq!(json["errors"]["503 no_primary"], 2);
        assert_eq!(json["processes"][0]["peak_bytes"], 42 << 20);
        assert!(json["processes"][1]["cpu_s"].is_null());
        assert_eq!(json["verified"]["posts"]["acknowledged"], 1_000);
    }

    #[test]
    fn nothing_done_costs_nothing_for_each() {
        let cost = Some(Cost { cpu_s: 1.0, peak_bytes: 1 });
        assert_eq!(CostLine::new("x".into(), 1, cost, 0).cpu_s_per_1000, None);
    }
}

//! What a run tells: for people, and as JSON.

use super::ledger::Counts;
use super::process::Cost;
use super::read_back::ReadBack;
use super::tally::{Latencies, Violations};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Latencies of one kind of operation, or of all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Which.
    pub kind: &'static str,
    /// How many were done.
    pub operations: u64,
    /// So many a second.
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
    /// Of these latencies, gathered in so many seconds.
    pub fn new(kind: &'static str, latencies: &Latencies, seconds: f64) -> Self {
        Self {
            kind,
            operations: latencies.len(),
            per_second: latencies.len() as f64 / seconds,
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
        for ReadBack { gateway, messages } in read_back {
            writeln!(f, "read back through {gateway}: {messages}")?;
        }
        if *violations == 0 {
            return write!(
                f,
                "every acknowledged post is there once, in order and unchanged; every read showed what it must"
            );
        }
        writeln!(f, "PROMISES BROKEN: {violations}")?;
        told.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

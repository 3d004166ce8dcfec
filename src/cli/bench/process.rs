//! What the measured processes cost: processor time and memory, as the kernel counts them in `/proc`.
//!
//! Processor time is that of all threads, user and system, in ticks of 10 ms. Peak memory is the most that was ever resident
//! since the process started, and not only during the run.

use super::super::Failure;
use std::path::{Path, PathBuf};

/// How long one tick of the kernel's interface lasts, on every architecture. Seconds.
const TICK_S: f64 = 0.01;

/// A process that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name for people.
    pub name: String,
    /// Its id.
    pub pid: u32,
}

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// Processor time. Seconds.
    pub cpu_s: f64,
    /// The most memory that was resident. Bytes.
    pub peak_bytes: u64,
    /// When it started, in ticks: an id may be used again.
    started: u64,
}

/// What a process used in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Processor time. Seconds.
    pub cpu_s: f64,
    /// The most memory that was resident since it started. Bytes.
    pub peak_bytes: u64,
}

impl Process {
    /// This process itself.
    pub fn own() -> Self {
        Self { name: "bench".to_owned(), pid: std::process::id() }
    }

    /// What it has used; none when it is gone, or the system does not say.
    pub fn used(&self) -> Option<Used> {
        let read = |file| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).ok();
        parse(&read("stat")?, &read("status")?)
    }
}

/// What was used between two looks at one process; none when it ended meanwhile.
pub fn between(before: Option<Used>, after: Option<Used>) -> Option<Cost> {
    let (before, after) = (before?, after?);
    let is_same = before.started == after.started;
    is_same.then_some(Cost { cpu_s: after.cpu_s - before.cpu_s, peak_bytes: after.peak_bytes })
}

/// Reads `stat` and `status`, proc(5).
fn parse(stat: &str, status: &str) -> Option<Used> {
    // The name may hold spaces and parentheses: what follows the last one counts, and begins with field 3.
    let (_, rest) = stat.rsplit_once(')')?;
    let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
    let (user, system, started) = (field(14)?, field(15)?, field(22)?);
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Used { cpu_s: (user + system) as f64 * TICK_S, peak_bytes: kibibytes * 1_024, started })
}

/// The processes of a demo's directory: each has a folder with a file `pid`.
pub fn in_dir(dir: &Path) -> Result<Vec<Process>, Failure> {
    let wrong = |e: std::io::Error| Failure::new(format!("{} cannot be read: {e}", dir.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(wrong)? {
        let folder = entry.map_err(wrong)?.path();
        let file = folder.join("pid");
        if let (Some(name), true) = (folder.file_name(), file.exists()) {
            let name = name.to_string_lossy();
            found.extend(in_file(&file)?.into_iter().map(|pid| Process { name: name.clone().into_owned(), pid }));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if found.is_empty() {
        return Err(Failure::new(format!("{} holds no folder with a file `pid`", dir.display())));
    }
    running(found)
}

/// The processes of a list with commas: each part an id, or a file with ids.
pub fn listed(list: &str) -> Result<Vec<Process>, Failure> {
    let mut found = Vec::new();
    for part in list.split(',').map(str::trim) {
        let pids = match part.parse() {
            Ok(pid) => vec![pid],
            Err(_) => in_file(&PathBuf::from(part))?,
        };
        found.extend(pids.into_iter().map(|pid| Process { name: format!("pid {pid}"), pid }));
    }
    running(found)
}

fn in_file(file: &Path) -> Result<Vec<u32>, Failure> {
    let wrong = |reason: String| Failure::new(format!("{}: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| wrong(format!("it cannot be read: {e}")))?;
    let pids: Result<Vec<u32>, _> = text.split_whitespace().map(str::parse).collect();
    pids.ok().filter(|pids| !pids.is_empty()).ok_or_else(|| wrong("it does not hold process ids".to_owned()))
}

fn running(found: Vec<Process>) -> Result<Vec<Process>, Failure> {
    match found.iter().find(|process| process.used().is_none()) {
        Some(Process { name, pid }) => Err(Failure::new(format!("process {pid} ({name}) is not there"))),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nVmPeak:\t 9999 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 1000 kB\n";

    fn stat(name: &str) -> String {
        format!("4242 ({name}) S 1 4242 4242 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 9 0 777 1000 200 184467")
    }

    #[test]
    fn processor_time_and_peak_memory_are_read_whatever_the_name_is() {
        for name in ["lockstep", "a b", ") 1 2 (", ""] {
            let used = parse(&stat(name), STATUS).expect("it can be read");
            assert_eq!((used.peak_bytes, used.started), (1_234 * 1_024, 777), "{name:?}");
            assert!((used.cpu_s - 3.0).abs() < 1e-9, "{}", used.cpu_s);
        }
        assert_eq!(parse("", STATUS), None);
        assert_eq!(parse(&stat("x"), "VmRSS: 1 kB"), None, "a kernel thread has no memory of its own");
    }

    #[test]
    fn a_process_that_took_the_id_of_another_is_not_the_same() {
        let used = |cpu_s, started| Some(Used { cpu_s, peak_bytes: 1, started });
        assert_eq!(between(used(1.0, 7), used(3.0, 7)), Some(Cost { cpu_s: 2.0, peak_bytes: 1 }));
        assert_eq!(between(used(1.0, 7), used(3.0, 8)), None);
        assert_eq!((between(None, used(1.0, 1)), between(used(1.0, 1), None)), (None, None));
    }

    #[test]
    fn processes_are_found_by_id_by_file_and_by_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = std::process::id();
        std::fs::create_dir(dir.path().join("node-1")).expect("a folder");
        std::fs::create_dir(dir.path().join("config")).expect("a folder");
        let file = dir.path().join("node-1/pid");
        std::fs::write(&file, format!("{own}\n")).expect("written");
        assert_eq!(in_dir(dir.path()), Ok(vec![Process { name: "node-1".into(), pid: own }]));
        let found = listed(&format!("{own},{}", file.display())).expect("both");
        assert_eq!(found.iter().map(|process| process.pid).collect::<Vec<_>>(), [own, own]);
        for bad in ["", "0", "/nowhere", "1,,2"] {
            assert!(listed(bad).is_err(), "{bad:?} was taken for a list of processes");
        }
        std::fs::write(&file, "x").expect("written");
        assert!(in_dir(dir.path()).is_err() && in_dir(&dir.path().join("config")).is_err());
    }

    #[test]
    fn this_process_uses_something() {
        let used = Process::own().used().expect("on Linux");
        assert!(used.peak_bytes > 0);
    }
}

//! Crash points of the real storage: one process is recorded, change by change, on real files (`crash/shim.c`); for each change
//! the directory is rebuilt as it would be found had the process or the machine ended there (`crash/replay.rs`), and opened by
//! the real engine. It holds what was acknowledged, and nothing that was not decided (`crash/scenario.rs`). Likewise a process
//! whose n-th change fails, with an I/O error or for want of space: it ends with an error, or goes on rightly.
//!
//! Some, evenly spread, are checked with the other tests; all of them with
//! `cargo test -p lockstep-actors --test crash_points -- --ignored --nocapture every_`; with `CRASH_PART=2/8`, every eighth of
//! them, from the one with the number 2.

mod crash {
    pub mod replay;
    pub mod scenario;
}

use crash::replay::{Change, Disk, Way, read};
use crash::scenario::{Found, History};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use tempfile::TempDir;

/// Points that are checked with the other tests, of each way.
const SOME: usize = 40;
/// Failing changes, of each kind.
const SOME_FAILURES: usize = 8;
/// The fewest changes that are worth the name.
const CHANGES_MIN: usize = 500;
/// The fewest tables that are merged with others, and go.
const MERGED_MIN: usize = 20;
/// What the child ends with when the storage failed, and said so.
const FAILED: i32 = 3;
/// Where it works.
const BELOW: &str = "CRASH_BELOW";

/// The recorder, built once for each test; none without a C compiler, which is said.
fn shim(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/shim.c"), folder.join("shim.so"));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source).status();
    match built {
        Ok(status) => assert!(status.success(), "the recorder does not compile"),
        Err(_) => {
            // Not `println!`, which nobody sees of a test that passes.
            let _ = std::io::stderr().write_all(b"SKIPPED crash points: there is no C compiler `cc`\n");
            return None;
        }
    }
    Some(library)
}

/// Which of all points: those with this remainder, divided by that number.
fn part() -> (usize, usize) {
    let Ok(text) = std::env::var("CRASH_PART") else { return (0, 1) };
    let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    numbers.filter(|(part, of)| part < of).unwrap_or_else(|| panic!("CRASH_PART is {text:?}, and no part of a whole"))
}

/// Runs the scenario in a process of its own.
fn child(shim: &Path, below: &Path, variables: &[(&str, String)]) -> (ExitStatus, String) {
    std::fs::create_dir_all(below).expect("a folder");
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "the_recorded_process", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("LD_PRELOAD", shim).env(BELOW, below).envs(variables.iter().cloned());
    let output = command.output().expect("it runs");
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
#[ignore = "run by the others, with a recorder"]
fn the_recorded_process() {
    let Some(below) = std::env::var_os(BELOW).map(PathBuf::from) else { return };
    let elsewhere = TempDir::new().expect("a directory");
    let history = History::new(elsewhere.path());
    // What this writes itself may be what fails, too.
    let fail = |what: &str, error: &dyn std::error::Error| -> ! {
        eprintln!("{what} failed: {error}");
        std::process::exit(FAILED)
    };
    let mut acks = std::fs::File::create(below.join("acks")).unwrap_or_else(|error| fail("the test", &error));
    let acknowledge = || acks.write_all(b".").unwrap_or_else(|error| fail("the test", &error));
    if let Err(error) = history.run(&below.join("data"), acknowledge) {
        fail("the storage", &error);
    }
}

/// What was recorded of a run that nothing disturbs.
struct Recorded {
    history: History,
    changes: Vec<Change>,
    folder: TempDir,
}

fn record() -> Option<Recorded> {
    let folder = TempDir::new().expect("a directory");
    let shim = shim(folder.path())?;
    let (below, journal) = (folder.path().join("below"), folder.path().join("journal"));
    let (status, said) = child(&shim, &below, &[("CRASH_JOURNAL", journal.display().to_string())]);
    assert!(status.success(), "{status}: {said}");
    let history = History::new(&folder.path().join("reference"));
    let changes = read(&journal, &below);
    assert!(changes.len() > CHANGES_MIN, "only {} changes were recorded", changes.len());
    let mut disk = Disk::new();
    let mut merged = 0;
    for change in &changes {
        disk.apply(change);
        // From the snapshot on tables go with what it clears, too.
        let is_merged = || disk.contents("acks").len() < history.steps_before_install();
        merged += usize::from(change.removes_table() && is_merged());
    }
    assert!(merged > MERGED_MIN, "only {merged} tables were merged with others");
    assert_eq!(disk.contents("acks").len(), history.steps.len(), "the replay sees what the process did");
    Some(Recorded { history, changes, folder })
}

/// What became of all images.
#[derive(Debug, Default)]
struct Tally {
    images: usize,
    findings: Vec<String>,
    refusals: BTreeMap<String, usize>,
}

/// Checks the directory as each way would leave it, at every point that is wanted.
fn crash_at(recorded: &Recorded, wanted: impl Fn(usize) -> bool) -> Tally {
    let mut disk = Disk::new();
    let mut tally = Tally::default();
    for (at, change) in recorded.changes.iter().enumerate() {
        if wanted(at) && change.kind == b'w' {
            let mut torn = disk.clone();
            torn.apply_torn(change);
            look(recorded, &torn, Way::Tear, at, &mut tally);
        }
        disk.apply(change);
        if wanted(at) {
            look(recorded, &disk, Way::Stop, at, &mut tally);
            look(recorded, &disk, Way::Lose, at, &mut tally);
        }
    }
    tally
}

fn look(recorded: &Recorded, disk: &Disk, way: Way, at: usize, tally: &mut Tally) {
    let image = recorded.folder.path().join("image");
    disk.write_out("data", way, &image);
    let acknowledged = disk.contents("acks").len();
    tally.images += 1;
    // The engine may meet what it takes for impossible: that is loud, and a finding.
    match std::panic::catch_unwind(|| Found::read(&image)) {
        Ok(Ok(found)) => {
            let objection = recorded.history.objection(&found, acknowledged);
            tally.findings.extend(objection.map(|why| format!("{way:?} at change {at}: {why}")));
        }
        Ok(Err(refused)) => {
            *tally.refusals.entry(refused.to_string().replace(&image.display().to_string(), "")).or_default() += 1;
            tally.findings.push(format!("{way:?} at change {at}, after {acknowledged} steps: refused, {refused}"));
        }
        Err(_) => tally.findings.push(format!("{way:?} at change {at}: a panic")),
    }
    std::fs::remove_dir_all(&image).expect("removes");
}

fn judge(tally: &Tally, of: usize) {
    println!(
        "{} images of {of} changes, {} findings, refusals {:?}",
        tally.images,
        tally.findings.len(),
        tally.refusals
    );
    let some: Vec<_> = tally.findings.iter().take(20).map(String::as_str).collect();
    assert!(some.is_empty(), "{} findings:\n  {}", tally.findings.len(), some.join("\n  "));
}

#[test]
fn section_9_an_end_at_any_change_leaves_what_was_acknowledged() {
    let Some(recorded) = record() else { return };
    let count = recorded.changes.len();
    let step = (count / SOME).max(1);
    judge(&crash_at(&recorded, |at| at % step == step / 2), count);
}

#[test]
#[ignore = "every change in every way: minutes"]
fn every_change_may_be_the_last() {
    let Some(recorded) = record() else { return };
    let (part, of) = part();
    judge(&crash_at(&recorded, |at| at % of == part), recorded.changes.len());
}

/// Has the changes fail that are wanted, each in a process of its own, and looks at what is left.
fn fail_at(recorded: &Recorded, wanted: impl Fn(usize) -> bool) {
    let shim = recorded.folder.path().join("shim.so");
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for (name, number) in [("an I/O error", 5), ("no space", 28)] {
        for at in (0..recorded.changes.len()).filter(|at| wanted(*at)) {
            let below = recorded.folder.path().join("failing");
            let variables = [("CRASH_FAIL_AT", at.to_string()), ("CRASH_ERRNO", number.to_string())];
            let (status, said) = child(&shim, &below, &variables);
            *ends.entry(format!("{name}: {status}")).or_default() += 1;
            let is_told = status.success() || status.code() == Some(FAILED);
            let acknowledged = std::fs::read(below.join("acks")).map_or(0, |acks| acks.len());
            let left = below.join("data");
            let objection = match std::panic::catch_unwind(|| Found::read(&left)) {
                Ok(Ok(found)) => recorded.history.objection(&found, acknowledged),
                Ok(Err(refused)) => Some(format!("refused: {refused}")),
                Err(_) => Some("a panic".to_owned()),
            };
            findings.extend(objection.map(|why| format!("{name} at change {at} ({status}): {why}")));
            findings.extend((!is_told).then(|| format!("{name} at change {at}: {status}, and no error: {said}")));
            std::fs::remove_dir_all(&below).expect("removes");
        }
    }
    println!("{ends:#?}");
    assert!(findings.is_empty(), "{} findings:\n  {}", findings.len(), findings.join("\n  "));
}

#[test]
fn section_9_a_change_that_fails_is_an_error_and_loses_nothing() {
    let Some(recorded) = record() else { return };
    let step = (recorded.changes.len() / SOME_FAILURES).max(1);
    fail_at(&recorded, |at| at % step == step / 2);
}

#[test]
#[ignore = "every change in two ways, a process each: a quarter of an hour"]
fn every_change_may_fail() {
    let Some(recorded) = record() else { return };
    let (part, of) = part();
    fail_at(&recorded, |at| at % of == part);
}

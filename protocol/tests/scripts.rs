//! Golden scripts: stories of `tests/scripts/*.txt`, each of which shows one rule, or one counterexample of the design.
//!
//! A story is prose (`#`), commands and expectations, then `---`, then what every node did; a line that comes again
//! after the same command is only counted. The shipped machines play it through
//! the shipped `route.rs`, on the simulator's stage, where every promise (S1 to S5) is watched. `rNN-` in a story's name is the
//! rule that it shows, `dNN-` the counterexample that the rules' first draft allowed; `sN-` stands for a section without a number.
//!
//! `LOCKSTEP_SCRIPTS=write` writes what follows `---` anew. It writes nothing of a story whose expectations fail; who checks
//! it in has read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

mod scripts {
    pub mod expect;
    pub mod play;
    pub mod words;
}
use scripts::play::Play;

const RULES: usize = 26;
const COUNTEREXAMPLES: usize = 18;
const STORIES_MIN: usize = 50;
const FENCE: &str = "\n---\n";

fn stories() -> BTreeMap<String, PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scripts");
    let paths = fs::read_dir(folder).expect("the folder of stories").map(|entry| entry.expect("an entry").path());
    let stories = paths.filter(|path| path.extension().is_some_and(|ending| ending == "txt"));
    stories.map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path)).collect()
}

/// What every node did; or at which line the story fails, and why.
fn play(script: &str) -> Result<String, String> {
    let mut play = Play::new();
    let mut expectations = 0;
    for (number, line) in script.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        expectations += usize::from(line.starts_with("expect "));
        play.command(line).map_err(|why| {
            let last: Vec<&str> = play.lines.iter().rev().take(40).rev().map(String::as_str).collect();
            format!("line {}: {line}\n    {why}\n    the last lines:\n      {}", number + 1, last.join("\n      "))
        })?;
    }
    if expectations == 0 {
        return Err("it expects nothing".to_owned());
    }
    if !play.halted.is_empty() {
        return Err(format!("these nodes halted, and no line expects it: {:?}", play.halted));
    }
    Ok(folded(&play.lines))
}

/// What nodes did after each command, without what they did again word for word: letters are repeated until they are answered.
fn folded(lines: &[String]) -> String {
    let (mut told, mut known, mut again) = (Vec::new(), BTreeSet::new(), 0);
    for line in lines {
        if line.starts_with('>') {
            told.extend((again > 0).then(|| format!("(and {again} times more what is told above)")));
            (known, again) = (BTreeSet::new(), 0);
            told.push(line.clone());
        } else if known.insert(line) {
            told.push(line.clone());
        } else {
            again += 1;
        }
    }
    told.extend((again > 0).then(|| format!("(and {again} times more what is told above)")));
    told.join("\n")
}

fn check(path: &Path, writes: bool) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let (script, golden) = text.split_once(FENCE).unwrap_or((text.trim_end(), ""));
    let played = catch_unwind(AssertUnwindSafe(|| play(script)));
    let told = played.unwrap_or_else(|_| Err("a machine panicked".to_owned()))?;
    if writes {
        return fs::write(path, format!("{script}{FENCE}{told}\n")).map_err(|error| error.to_string());
    }
    let mut lines = golden.trim_end().lines().zip(told.lines()).enumerate();
    match lines.find(|(_, (wanted, got))| wanted != got) {
        Some((at, (wanted, got))) => Err(format!("told line {}\n    wanted: {wanted}\n    got:    {got}", at + 1)),
        None if golden.trim_end().lines().count() != told.lines().count() => {
            Err("more is told, or less, than is written".to_owned())
        }
        None => Ok(()),
    }
}

#[test]
fn every_story_goes_as_it_is_told() {
    let writes = std::env::var("LOCKSTEP_SCRIPTS").is_ok_and(|mode| mode == "write");
    let only = std::env::var("LOCKSTEP_SCRIPTS_ONLY").unwrap_or_default();
    let mut failed = Vec::new();
    for (name, path) in stories().into_iter().filter(|(name, _)| name.starts_with(&only)) {
        if let Err(why) = check(&path, writes) {
            failed.push(format!("{name}: {why}"));
        }
    }
    assert!(failed.is_empty(), "{} stories fail:\n  {}\n", failed.len(), failed.join("\n  "));
}

#[test]
fn every_rule_and_every_counterexample_has_a_story() {
    let stories = stories();
    let has = |prefix: String| stories.keys().any(|name| name.split('-').any(|part| *part == prefix));
    let rules = (1..=RULES).map(|rule| format!("r{rule:02}"));
    let counterexamples = (1..=COUNTEREXAMPLES).map(|number| format!("d{number:02}"));
    let missing: Vec<String> = rules.chain(counterexamples).filter(|prefix| !has(prefix.clone())).collect();
    assert!(missing.is_empty(), "no story is named for: {}", missing.join(" "));
    assert!(stories.len() >= STORIES_MIN, "{} stories", stories.len());
}

#[test]
fn a_story_that_expects_what_does_not_happen_fails() {
    let begin = "cluster 1 2\nwrite k \"a\" at 2\nstep\n";
    assert!(play(&format!("{begin}expect k: done")).is_ok());
    for wrong in ["expect k: aborted", "expect primary 1", "expect never Commit", "expect store of 1: \"b\"", "expect"]
    {
        assert!(play(&format!("{begin}{wrong}")).is_err(), "{wrong:?} passed");
    }
    assert!(play(begin).is_err(), "a story without an expectation passed");
}

//! The rules about the code itself: walls, openings, function length, words, and that every rule of the protocol has a test.
//!
//! Each check reads the sources as text, and says what to change where. A rule that nobody checks is deleted, and so is a
//! check whose rule is given up. What the compiler and clippy see already (lints in `Cargo.toml`, `clippy.toml`) is not here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

mod tidy {
    pub mod source;
}
use tidy::source::{Function, Source};

/// Lines from `fn` to the closing brace, both counted.
const FUNCTION_LINES_MAX: usize = 70;
/// Handlers in `src/http` hold no rule: parse, ask, answer.
const HANDLER_LINES_MAX: usize = 20;
/// The rules of `docs/protocol.md`: R-1 up to this one.
const RULES: usize = 26;

/// Functions above [`FUNCTION_LINES_MAX`], with their length: it may shrink, and nothing may be added.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// The machines: each a file (or a folder of that name) in `protocol/src`. None may know another.
const MACHINES: &[&str] =
    &["replica", "coordinator", "lock", "read", "heartbeat", "election", "campaign", "sync", "birth"];
/// Types that lie in a machine's file but are words of the protocol, free for all.
const VOCABULARY: &[&str] = &["lock::LockOwner", "lock::Mode", "lock::Resource"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below these folders with one of these endings; paths are relative to the root, sorted.
fn files(folders: &[&str], endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), endings, &mut found);
    }
    found.sort();
    found
}

fn collect(folder: &Path, endings: &[&str], found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            collect(&path, endings, found);
        } else if path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending)) {
            let relative = path.strip_prefix(root()).expect("it is below the root");
            found.push(relative.to_string_lossy().into_owned());
        }
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    files(folders, &["rs"]).into_iter().map(|path| Source::new(&path, &read(&path))).collect()
}

fn all_sources() -> Vec<Source> {
    let all = sources(&["protocol", "actors", "src", "tests", "benches", "fuzz"]);
    assert!(all.len() > 20, "the sources are found, or this file checks nothing");
    all
}

/// Fails with every finding on a line of its own.
fn nothing_found(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n  {}\n", findings.join("\n  "));
}

/// The names in a section of a manifest.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    let text = read(manifest);
    let lines = text.lines().skip_while(|line| *line != section).skip(1).take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).map(str::to_owned).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn every_file_opens_with_what_it_is() {
    let closed: Vec<_> = all_sources().into_iter().filter(|s| !s.text.starts_with("//! ")).map(|s| s.path).collect();
    nothing_found("These files do not open with `//!` and what they decide:", &closed);
}

#[test]
fn protocol_depends_on_nothing_that_does() {
    let allowed = set(&["blake3", "fastrand", "postcard", "serde", "simdutf8", "thiserror", "xxhash-rust"]);
    let found = dependencies("protocol/Cargo.toml", "[dependencies]");
    assert_eq!(found, allowed, "`protocol` decides; what does belongs into `actors` or `src`");
}

#[test]
fn protocol_reads_no_clock_and_touches_nothing() {
    // Ordered maps make it deterministic; time, randomness and durability are arguments and answers.
    let banned = [
        "HashMap",
        "HashSet",
        "Instant",
        "SystemTime",
        "thread",
        "std::fs",
        "std::net",
        "std::io",
        "std::env",
        "async",
        "actix",
        "tokio",
        "println",
        "eprintln",
    ];
    let mut findings = Vec::new();
    for source in sources(&["protocol/src"]) {
        for (number, line) in source.code.lines().enumerate() {
            for word in banned.iter().filter(|word| has_word(line, word)) {
                findings.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    nothing_found("`protocol` is pure; these are not:", &findings);
}

/// Whether the text holds this path or word, not as part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next()))
}

/// The machine whose file this is, if it is one's.
fn machine_of(path: &str) -> Option<&'static str> {
    let inside = path.strip_prefix("protocol/src/")?;
    MACHINES.iter().copied().find(|name| inside == format!("{name}.rs") || inside.starts_with(&format!("{name}/")))
}

#[test]
fn no_machine_knows_another() {
    let mut findings = Vec::new();
    for source in sources(&["protocol/src"]) {
        let Some(own) = machine_of(&source.path) else { continue };
        let foreign = |path: &String| {
            let module = path.split("::").next().unwrap_or_default();
            MACHINES.contains(&module) && module != own && !VOCABULARY.iter().any(|word| path.starts_with(word))
        };
        findings
            .extend(source.crate_paths().into_iter().filter(foreign).map(|p| format!("{}: crate::{p}", source.path)));
    }
    nothing_found("Machines speak through `route.rs`; these reach around it:", &findings);
}

#[test]
fn letters_import_no_machine() {
    let message = Source::new("protocol/src/message.rs", &read("protocol/src/message.rs"));
    let machines: Vec<_> =
        message.crate_paths().into_iter().filter(|path| MACHINES.iter().any(|m| path.starts_with(m))).collect();
    nothing_found("`message.rs` imports types, never machines:", &machines);
}

#[test]
fn actors_know_no_settings_and_no_http() {
    let banned = set(&["actix-web", "actix-http", "awc", "clap", "config", "toml", "serde_json", "url", "http"]);
    let found = dependencies("actors/Cargo.toml", "[dependencies]");
    let wrong: Vec<_> = found.intersection(&banned).cloned().collect();
    nothing_found("`actors` is handed plain values; these belong into `src`:", &wrong);
    let mut findings = Vec::new();
    for source in sources(&["actors/src"]) {
        for word in ["actix_web", "awc", "Settings", "settings", "HttpRequest", "HttpResponse", "StatusCode", "Url"] {
            if has_word(&source.code, word) {
                findings.push(format!("{}: {word}", source.path));
            }
        }
    }
    nothing_found("`actors` never sees settings, URLs or HTTP types:", &findings);
}

fn all_functions() -> Vec<(String, Function)> {
    let with_path = |s: Source| s.functions().into_iter().map(move |f| (s.path.clone(), f)).collect::<Vec<_>>();
    all_sources().into_iter().flat_map(with_path).collect()
}

#[test]
fn no_function_grows_too_long() {
    let mut known: BTreeMap<(&str, &str), usize> =
        LONG_FUNCTIONS.iter().map(|(path, name, lines)| ((*path, *name), *lines)).collect();
    let mut findings = Vec::new();
    let functions = all_functions();
    for (path, function) in functions.iter().filter(|(_, f)| f.lines > FUNCTION_LINES_MAX) {
        let allowed = known.remove(&(path.as_str(), function.name.as_str()));
        if allowed != Some(function.lines) {
            let place = format!("{path}:{} {}", function.line, function.name);
            findings.push(format!("{place}: {} lines; listed with {allowed:?}", function.lines));
        }
    }
    findings.extend(known.iter().map(|((path, name), _)| format!("{path} {name}: not too long any more, unlist it")));
    nothing_found("At most 70 lines a function; what is listed may only shrink, and its entry with it:", &findings);
}

#[test]
fn most_functions_are_small() {
    let mut lines: Vec<usize> = all_functions().into_iter().map(|(_, function)| function.lines).collect();
    lines.sort_unstable();
    let median = lines[lines.len() / 2];
    let p90 = lines[lines.len() * 9 / 10];
    assert!(median < 12 && p90 < 36, "of {} functions the median has {median} lines, p90 {p90}", lines.len());
}

#[test]
fn http_handlers_hold_no_rule() {
    let mut findings = Vec::new();
    for source in sources(&["src/http"]) {
        let handlers = source.functions().into_iter().filter(|f| f.is_handler && f.lines > HANDLER_LINES_MAX);
        findings.extend(handlers.map(|f| format!("{}:{} {}: {} lines", source.path, f.line, f.name, f.lines)));
    }
    nothing_found("A handler parses, asks, answers, in 20 lines:", &findings);
}

#[test]
fn nothing_is_left_to_do() {
    let mut findings = Vec::new();
    for source in all_sources() {
        for word in ["todo!", "unimplemented!", "dbg!"] {
            if source.code.contains(word) {
                findings.push(format!("{}: {word}", source.path));
            }
        }
    }
    nothing_found("Unfinished:", &findings);
}

/// One word, one meaning: these have another name here. Of a word that a dependency brings, the whole identifier is let pass.
const BANNED_WORDS: &[(&str, &str)] = &[
    ("slave", "replica"),
    ("master", "primary"),
    ("leader", "primary"),
    ("follower", "replica"),
    ("epoch", "view"),
    ("checkpoint", "snapshot"),
    ("persisted", "durable"),
    ("router", "gateway"),
];
const FOREIGN_IDENTIFIERS: &[&str] = &["UNIX_EPOCH"];

#[test]
fn one_word_has_one_meaning() {
    let mut findings = Vec::new();
    for source in all_sources().iter().filter(|source| source.path != "tests/tidy.rs") {
        for identifier in source.identifiers() {
            let words = words_of(&identifier);
            for (banned, instead) in BANNED_WORDS.iter().filter(|(banned, _)| words.iter().any(|w| w == banned)) {
                if !FOREIGN_IDENTIFIERS.contains(&identifier.as_str()) {
                    findings.push(format!("{}: `{identifier}` says {banned}, say {instead}", source.path));
                }
            }
        }
    }
    nothing_found("These words have another name here:", &findings);
}

/// `setOffline`, `SET_OFFLINE` and `set_offline` are `set`, `offline`; a plural is its singular.
fn words_of(identifier: &str) -> Vec<String> {
    let mut spaced = String::new();
    let mut was_lower = false;
    for c in identifier.chars() {
        if c.is_uppercase() && was_lower {
            spaced.push('_');
        }
        was_lower = c.is_lowercase();
        spaced.extend(c.to_lowercase());
    }
    spaced.split('_').map(|word| word.strip_suffix('s').unwrap_or(word).to_owned()).collect()
}

#[test]
fn the_project_speaks_of_itself_alone() {
    // Written in halves, so that this file does not find itself.
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("session", " issue"),
        concat!("issue", " text"),
        concat!("helper", " A"),
        concat!("integ", "rator"),
        concat!("work", "tree"),
    ];
    let folders = ["protocol", "actors", "src", "tests", "benches", "fuzz", "docs", "config", "docker", ".ci"];
    let mut paths = files(&folders, &["rs", "md", "toml", "sh", "yaml", "yml", "json", "html", "js", "css", "txt"]);
    paths.extend(["README.md", "CHANGELOG.md", "Cargo.toml", ".ci/run"].map(str::to_owned));
    let mut findings = Vec::new();
    for path in paths {
        for (number, line) in read(&path).lines().enumerate() {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{path}:{}: {word:?}", number + 1));
            }
        }
    }
    nothing_found("Of interest only where it was written:", &findings);
}

/// What tests say: their names and comments, in test modules and in files of tests.
fn test_text() -> String {
    let mut text = String::new();
    for source in sources(&["protocol", "tests"]).iter().filter(|source| !source.path.starts_with("tests/tidy")) {
        text.push_str(source.tests());
        text.push('\n');
    }
    for path in files(&["protocol/tests", "tests"], &["txt", "golden", "script"]) {
        text.push_str(&read(&path));
        text.push('\n');
    }
    text
}

#[test]
fn every_rule_of_the_protocol_has_a_test() {
    let text = test_text();
    let cites = |rule: usize| {
        let (name, comment) = (format!("r{rule}_"), format!("R-{rule}"));
        let part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let named = text.match_indices(&name).any(|(at, _)| !part(text[..at].chars().next_back()));
        let said = text
            .match_indices(&comment)
            .any(|(at, _)| !text[at + comment.len()..].starts_with(|c: char| c.is_ascii_digit()));
        named || said
    };
    let mut missing = String::new();
    for rule in (1..=RULES).filter(|rule| !cites(*rule)) {
        write!(missing, " R-{rule}").expect("a String takes all");
    }
    assert!(missing.is_empty(), "no test is named for these rules (`r9_...`), nor cites them in a comment:{missing}");
}

/// One wrong change of `tests/audit`.
fn wrong_changes() -> Vec<(String, String)> {
    let changes: Vec<_> =
        files(&["tests/audit"], &["patch"]).into_iter().map(|path| (path.clone(), read(&path))).collect();
    assert!(changes.len() > 45, "the wrong changes are found, or their checks look at nothing");
    changes
}

/// What each hunk of a patch expects to find, with the file's path.
fn hunks(patch: &str) -> Vec<(String, String)> {
    let (mut hunks, mut path) = (Vec::new(), String::new());
    for line in patch.lines() {
        if let Some(old) = line.strip_prefix("--- a/") {
            path = old.to_owned();
        } else if line.starts_with("@@ ") {
            hunks.push((path.clone(), String::new()));
        } else if let (Some((_, text)), Some(kept)) = (hunks.last_mut(), line.strip_prefix([' ', '-'])) {
            text.push_str(kept);
            text.push('\n');
        }
    }
    hunks
}

#[test]
fn every_wrong_change_of_the_audit_still_fits() {
    let mut findings = Vec::new();
    for (path, patch) in wrong_changes() {
        let hunks = hunks(&patch);
        let fits = |(source, text): &(String, String)| root().join(source).exists() && read(source).contains(text);
        if hunks.is_empty() || !hunks.iter().all(fits) {
            findings.push(path);
        }
    }
    nothing_found(
        "The sources have moved on below these: make the change anew (`tests/audit/run.sh --only NAME`):",
        &findings,
    );
}

#[test]
fn every_rule_has_a_wrong_change_that_breaks_it() {
    let changes = wrong_changes();
    let missing: Vec<_> = (1..=RULES)
        .filter(|rule| !changes.iter().any(|(path, _)| path.starts_with(&format!("tests/audit/r{rule:02}-"))))
        .map(|rule| format!("R-{rule}"))
        .collect();
    nothing_found("No patch in `tests/audit` is named for:", &missing);
    let unnamed = changes.iter().filter(|(_, patch)| !patch.starts_with("R-") && !patch.starts_with("Section "));
    nothing_found("The first line must name the rule:", &unnamed.map(|(path, _)| path.clone()).collect::<Vec<_>>());
}

#[test]
fn the_rules_are_all_written_down() {
    let page = read("docs/protocol.md");
    let missing: Vec<_> = (1..=RULES)
        .filter(|rule| !page.lines().any(|line| line.starts_with(&format!("R-{rule} "))))
        .map(|rule| format!("R-{rule}"))
        .collect();
    nothing_found("`docs/protocol.md` lacks a line that begins with:", &missing);
    let next = format!("\nR-{} ", RULES + 1);
    assert!(!page.contains(&next), "a new rule: raise RULES, and give it a test");
}

#[test]
fn code_cites_only_rules_that_exist() {
    let mut findings = Vec::new();
    for source in all_sources() {
        for (at, _) in source.text.match_indices("R-") {
            let digits: String = source.text[at + 2..].chars().take_while(char::is_ascii_digit).collect();
            if digits.parse::<usize>().is_ok_and(|rule| rule == 0 || rule > RULES) {
                findings.push(format!("{}: R-{digits}", source.path));
            }
        }
    }
    nothing_found("There are no such rules:", &findings);
}

#[test]
fn the_readme_and_ci_run_the_same_tests() {
    for path in ["README.md", ".ci/run"] {
        assert!(read(path).contains("cargo test --workspace"), "{path} names the test command");
    }
}

#[test]
fn the_image_is_built_with_the_rust_that_the_manifest_names() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("it names one");
    let builder = format!("\nARG BUILDER=rust:{}-", version.trim_matches('"'));
    assert!(read("docker/Dockerfile").contains(&builder), "docker/Dockerfile lacks the line {builder}");
}

#[test]
fn what_the_sources_point_to_is_there() {
    let mut findings = Vec::new();
    let texts = all_sources().into_iter().map(|source| (source.path, source.text));
    for (path, text) in texts.chain(["README.md", "docs/architecture.md"].map(|path| (path.to_owned(), read(path)))) {
        for (at, _) in text.match_indices("docs/") {
            let name: String =
                text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || "/-._".contains(*c)).collect();
            let name = name.trim_end_matches('.');
            if name.ends_with(".md") && !root().join(name).exists() {
                findings.push(format!("{path}: {name}"));
            }
        }
    }
    nothing_found("There are no such pages:", &findings);
}

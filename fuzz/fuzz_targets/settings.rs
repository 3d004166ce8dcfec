//! A settings file, and after its first zero byte variables of the environment, one a line. What is let through keeps every
//! bound and every relation, and is read again as the same; what is not names what is wrong.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep::settings::{BOUNDS, Role, Settings, SettingsError};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

fn place() -> PathBuf {
    FOLDER.with(|folder| folder.get_or_init(|| TempDir::new().expect("a folder")).path().join("settings.toml"))
}

fn variables(text: &str) -> Vec<(String, String)> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (format!("LOCKSTEP__{name}"), value.to_owned())).collect()
}

fn load(file: &Path, role: Role, variables: &[(String, String)]) -> Result<Settings, SettingsError> {
    Settings::from_layers(Some(file), role, variables.iter().cloned())
}

fn check(settings: &Settings, role: Role) {
    let timing = settings.timing();
    assert!(timing.heartbeat_timeout_ms >= 2 * timing.heartbeat_interval_ms);
    assert!(timing.election_victory_timeout_ms >= 2 * timing.election_answer_timeout_ms);
    assert!(settings.gateway.request_timeout_ms >= timing.lock_timeout_ms);
    let within = |key: &str, value: u64| {
        let bound = BOUNDS.iter().find(|bound| bound.key == key).expect("it has a bound");
        assert!(i64::try_from(value).is_ok_and(|value| (bound.min..=bound.max).contains(&value)), "{key} is {value}");
    };
    within("heartbeat.interval_ms", timing.heartbeat_interval_ms);
    within("replication.vote_timeout_ms", timing.vote_timeout_ms);
    within("batch.max_bytes", settings.limits().batch_bytes_max as u64);
    within("sync.chunk_bytes", settings.limits().chunk_bytes as u64);
    within("gateway.body_bytes_max", settings.gateway.body_bytes_max as u64);
    match role {
        Role::Node => assert!(settings.node.id > 0 && !settings.seeds().is_empty()),
        Role::Gateway => assert!(!settings.data_nodes().is_empty() && !settings.gateway.name.is_empty()),
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, rest) = text.split_once('\0').unwrap_or((text, ""));
    let (path, variables) = (place(), variables(rest));
    std::fs::write(&path, file).expect("a file");
    for role in [Role::Node, Role::Gateway] {
        match load(&path, role, &variables) {
            Ok(settings) => {
                check(&settings, role);
                assert_eq!(load(&path, role, &variables).as_ref(), Ok(&settings));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

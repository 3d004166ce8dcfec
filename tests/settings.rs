//! Settings: three layers, and what each mistake in them is told.

use lockstep::settings::{BOUNDS, DEFAULT_TOML, Role, Secret, Settings, SettingsError};
use lockstep_protocol::ids::{Address, NodeId, Voter};
use lockstep_protocol::machine::{Limits, Timing};
use std::path::{Path, PathBuf};

/// A file with a node's least settings, and this below them.
fn file(more: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("node.toml");
    let least =
        "cluster.seeds = [\"127.0.0.1:7101\"]\ncluster.secret_file = \"s\"\nnode.id = 1\nnode.data_dir = \"d\"\n";
    std::fs::write(&path, format!("{least}{more}\n")).expect("written");
    (dir, path)
}

fn load(more: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let (_dir, path) = file(more);
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::from_layers(Some(&path), Role::Node, variables)
}

/// What the start says of it, after the name of the file.
fn refusal(more: &str) -> String {
    let text = load(more, &[]).expect_err("this should not start").to_string();
    let (path, rest) = text.split_once(": ").expect("where it stands");
    assert!(path.ends_with("node.toml"), "{text}");
    rest.to_owned()
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let settings = load("", &[]).expect("loads");
    assert_eq!(settings.timing(), Timing::default());
    assert_eq!(settings.limits(), Limits::default());
    assert_eq!(settings.heartbeat.interval_ms, 1_000);
    assert_eq!(settings.gateway.listen.to_string(), "127.0.0.1:8080");
    assert!(settings.channels.create_on_post);
    assert_eq!(settings.metrics_listen(), None);
}

#[test]
fn every_number_has_bounds_and_every_bound_a_number() {
    let mut table = String::new();
    let mut numbers = Vec::new();
    for line in DEFAULT_TOML.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
        } else if let Some((name, value)) = line.split_once(" = ")
            && let Ok(number) = value.trim().parse::<i64>()
        {
            numbers.push((format!("{table}.{name}"), number));
        }
    }
    assert_eq!(numbers.len(), BOUNDS.len());
    for (key, number) in numbers {
        let bound = BOUNDS.iter().find(|bound| bound.key == key).unwrap_or_else(|| panic!("{key} has no bounds"));
        assert!((bound.min..=bound.max).contains(&number), "the default of {key} is out of its own bounds");
    }
}

#[test]
fn every_number_is_refused_beyond_its_bounds() {
    for bound in BOUNDS.iter().filter(|bound| bound.key != "node.id") {
        for number in [bound.min - 1, bound.max + 1] {
            let said = refusal(&format!("{} = {number}", bound.key));
            let expected = format!("{} = {number} is out of bounds: it must be {}", bound.key, bound.allowed());
            assert_eq!(said, expected);
        }
    }
}

#[test]
fn a_misspelt_key_names_the_right_one() {
    for (wrong, key, hint) in [
        ("heartbeat.intervall_ms = 5", "heartbeat.intervall_ms", "heartbeat.interval_ms"),
        ("heartbeat.interval = 5", "heartbeat.interval", "heartbeat.interval_ms"),
        ("hartbeat.interval_ms = 5", "hartbeat.interval_ms", "heartbeat.interval_ms"),
        ("interval_ms = 5", "interval_ms", "heartbeat.interval_ms"),
        ("node.adress = \"x\"", "node.adress", "node.address"),
        ("metrics.port = \"127.0.0.1:7201\"", "metrics.port", "metrics.listen"),
        ("[replicaton]", "replicaton", "replication"),
        ("node.id.x = 5", "node.id.x", "node.id"),
    ] {
        let said = load(wrong, &[]);
        // A table under a key that has a value already is an error of TOML itself.
        let Err(SettingsError::UnknownKey { key: named, hint: hinted, .. }) = &said else {
            assert!(wrong.contains("id.x") && matches!(said, Err(SettingsError::File { .. })), "{wrong}: {said:?}");
            continue;
        };
        assert_eq!(named, key);
        assert_eq!(hinted, hint, "{wrong}");
    }
}

#[test]
fn a_wrong_type_says_what_is_allowed() {
    let said = refusal("heartbeat.interval_ms = \"fast\"");
    let expected =
        "heartbeat.interval_ms must be a whole number from 10 to 60000 (milliseconds), not the text \"fast\"";
    assert_eq!(said, expected);
    assert_eq!(refusal("channels.create_on_post = 1"), "channels.create_on_post must be true or false, not 1");
    assert!(refusal("batch.max_ops = 1.5").ends_with("not 1.5"));
    assert!(refusal("batch.max_ops = [1]").ends_with("not a list"));
    assert!(refusal("gateway.data_nodes = \"127.0.0.1:1\"").contains("must be a list of texts"));
    assert_eq!(refusal("heartbeat = 5"), "heartbeat must be a table, not 5");
}

#[test]
fn what_must_hold_between_two_settings() {
    let said = refusal("heartbeat.interval_ms = 2000");
    assert!(said.contains("heartbeat.timeout_ms = 3000") && said.contains("2 x heartbeat.interval_ms"), "{said}");
    assert!(load("heartbeat.interval_ms = 1500", &[]).is_ok());
    let said = refusal("gateway.request_timeout_ms = 500");
    assert!(said.contains("at least 1 x lock.timeout_ms, which is 1000"), "{said}");
}

#[test]
fn texts_have_forms() {
    for (wrong, says) in [
        ("node.listen = \"localhost\"", "node.listen = \"localhost\" is out of bounds: it must be ip:port"),
        ("node.address = \"no port\"", "it must be host:port, or empty"),
        ("gateway.data_nodes = [\"127.0.0.1:1\", \"http://x\"]", "a list of host:port"),
        ("metrics.listen = \"7201\"", "it must be ip:port, or empty"),
        ("logger.level = \"loud\"", "one of off, error, warn, info, debug, trace"),
    ] {
        let said = refusal(wrong);
        assert!(said.contains(says), "{wrong}: {said}");
    }
}

#[test]
fn each_role_needs_its_own_keys() {
    let missing = |role| Settings::from_layers(None, role, []).expect_err("nothing is set").to_string();
    assert!(missing(Role::Node).contains("the built-in defaults: node.id = 0"), "{}", missing(Role::Node));
    assert!(missing(Role::Gateway).contains("gateway.name"), "{}", missing(Role::Gateway));
    let (_dir, path) = file("node.address = \"a:1\"");
    let error = Settings::from_layers(Some(&path), Role::Gateway, []).expect_err("no name");
    assert!(matches!(error, SettingsError::OutOfBounds { key, .. } if key == "gateway.name"));
}

#[test]
fn the_environment_goes_before_the_file() {
    let variables = [
        ("LOCKSTEP__HEARTBEAT__INTERVAL_MS", "250"),
        ("LOCKSTEP__CLUSTER__SEEDS", "b:2, a:1,b:2"),
        ("LOCKSTEP__CHANNELS__CREATE_ON_POST", "false"),
        ("LOCKSTEP__NODE__ADDRESS", "db-1:7101"),
    ];
    let settings = load("heartbeat.interval_ms = 500\nheartbeat.timeout_ms = 4000", &variables).expect("loads");
    assert_eq!((settings.heartbeat.interval_ms, settings.heartbeat.timeout_ms), (250, 4_000));
    assert_eq!(settings.seeds(), [Address::new("a:1"), Address::new("b:2")]);
    assert_eq!(settings.data_nodes(), settings.seeds());
    assert!(!settings.channels.create_on_post);
    assert_eq!(settings.node_address(), Address::new("db-1:7101"));
    assert_eq!(settings.node_voter(), Voter::Replica(NodeId(1)));
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let said = |name: &str, value: &str| load("", &[(name, value)]).expect_err("refused").to_string();
    let wrong = said("LOCKSTEP__HEARTBEAT__INTERVAL_MS", "fast");
    assert!(wrong.starts_with("variable LOCKSTEP__HEARTBEAT__INTERVAL_MS: heartbeat.interval_ms must be"), "{wrong}");
    let low = said("LOCKSTEP__HEARTBEAT__INTERVAL_MS", "5");
    assert!(low.starts_with("variable LOCKSTEP__HEARTBEAT__INTERVAL_MS") && low.contains("from 10 to 60000"), "{low}");
    let misspelt = said("LOCKSTEP__HEARTBEAT__INTERVAL", "5");
    assert!(misspelt.contains("did you mean `heartbeat.interval_ms`?"), "{misspelt}");
}

#[test]
fn a_file_that_is_none_says_so() {
    let error = Settings::from_layers(Some(Path::new("/nowhere/x.toml")), Role::Node, []).expect_err("no file");
    assert!(error.to_string().starts_with("/nowhere/x.toml: cannot be read"), "{error}");
    assert!(refusal("this is = = no toml").contains("is no TOML"));
    assert!(refusal("batch.max_ops = 5\nbatch.max_ops = 6").contains("is no TOML"));
}

#[test]
fn the_files_of_the_demo_load_and_agree() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut seeds = Vec::new();
    for n in 1..=3_u32 {
        let path = config.join(format!("node-{n}.toml"));
        let settings = Settings::from_layers(Some(&path), Role::Node, []).expect("loads");
        assert_eq!((settings.node.id, settings.node.listen.port()), (n, 7_100 + n as u16));
        assert_eq!(settings.metrics_listen().map(|port| port.port()), Some(7_200 + n as u16));
        seeds.push(settings.seeds());
    }
    for n in 1..=2_u16 {
        let path = config.join(format!("gateway-{n}.toml"));
        let settings = Settings::from_layers(Some(&path), Role::Gateway, []).expect("loads");
        assert_eq!((settings.gateway.listen.port(), settings.witness.listen.port()), (8_079 + n, 7_150 + n));
        assert!(settings.witness_voter().is_some_and(|voter| voter.to_string() == format!("witness gateway-{n}")));
        seeds.push(settings.seeds());
    }
    assert!(seeds.iter().all(|all| *all == seeds[0] && all.len() == 3));
}

#[test]
fn a_secret_is_long_enough_and_never_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secret");
    for (text, fits) in [("0123456789abcdef\n", true), ("short", false), ("0123456789 abcdef", false), ("", false)] {
        std::fs::write(&path, text).expect("written");
        let secret = Secret::read(&path);
        assert_eq!(secret.is_ok(), fits, "{text:?}");
        assert!(secret.is_err() || !format!("{secret:?}").contains("0123"));
    }
    assert!(Secret::read(&dir.path().join("none")).is_err());
}

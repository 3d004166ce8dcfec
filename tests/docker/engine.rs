//! The engine, by its command line: what a person would type. A command that fails ends the test with what it said.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What `docker` says to these arguments.
pub fn docker(arguments: &[&str]) -> String {
    said(Command::new("docker").args(arguments), arguments)
}

/// The same, whether it likes them or not.
pub fn try_docker(arguments: &[&str]) -> Output {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("docker cannot be run: {error}"))
}

/// Compose, as a plugin or as a program of its own, on the files of this folder.
pub fn compose(folder: &Path, variables: &[(String, String)], arguments: &[&str]) -> String {
    let has_plugin = try_docker(&["compose", "version"]).status.success();
    let mut command = Command::new(if has_plugin { "docker" } else { "docker-compose" });
    command.args(has_plugin.then_some("compose")).args(["-f", "compose.yaml", "-f", "test.yaml"]).args(arguments);
    said(command.current_dir(folder).envs(variables.iter().cloned()), arguments)
}

fn said(command: &mut Command, arguments: &[&str]) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} failed: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Which of these lists names: containers, volumes, of one project.
pub fn names(list: &[&str], project: &str) -> Vec<String> {
    let filter = format!("label=com.docker.compose.project={project}");
    let listed = docker(&[list, &["--filter", &filter]].concat());
    listed.lines().map(str::to_owned).collect()
}

/// A network with addresses that no other network has; its third number.
pub fn create_network(name: &str) -> u8 {
    let mut refused = String::new();
    for third in 1..=u8::MAX {
        let output = try_docker(&["network", "create", "--subnet", &format!("10.213.{third}.0/24"), name]);
        if output.status.success() {
            return third;
        }
        refused = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!refused.contains("already exists"), "{refused}");
    }
    panic!("no network {name}: {refused}")
}

/// A container's address there.
pub fn address_in(network: &str, container: &str) -> IpAddr {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    let text = docker(&["inspect", "--format", &format, container]);
    text.parse::<Ipv4Addr>().unwrap_or_else(|error| panic!("{container} in {network} has {text:?}: {error}")).into()
}

//! The binary's insides: sockets, files, settings and people. What is decided is in `lockstep-protocol`, who does it in
//! `lockstep-actors`; only here does anything know what a socket or a settings file is.
//!
//! Reading order: [`settings`], then what runs a process (`node`, `gateway`), then [`http`], then the commands in [`cli`].

pub mod cli;
pub mod http;
pub mod settings;

/// Stands in until the node is there.
pub mod node {
    /// Runs it.
    pub async fn run(_: &crate::settings::Settings) -> Result<(), String> {
        Err("not there yet".into())
    }
}
/// Stands in until the gateway is there.
pub mod gateway {
    /// Runs it.
    pub async fn run(_: &crate::settings::Settings) -> Result<(), String> {
        Err("not there yet".into())
    }
}

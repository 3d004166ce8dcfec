//! The binary's insides: sockets, files, settings and people. What is decided is in `lockstep-protocol`, who does it in
//! `lockstep-actors`; only here does anything know what a socket or a settings file is.
//!
//! Reading order: [`settings`], then what runs a process (`node`, `gateway`), then [`http`], then the commands in [`cli`]; [`system`] is for
//! metrics alone.

pub mod cli;
pub mod gateway;
pub mod http;
pub mod node;
pub mod settings;
pub mod system;

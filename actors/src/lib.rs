//! The actors of a Lockstep node: they step the machines of `lockstep-protocol` and carry out their effects.
//!
//! # Map
//!
//! | actor | machines | arbiter |
//! | --- | --- | --- |
//! | [`transaction_coordinator`] | replica, coordinator, reads | work |
//! | [`lock_manager`] | lock table | work |
//! | [`election`] | election, campaign, birth | vital |
//! | [`heartbeat`] | heartbeats | vital |
//! | [`sync`] | synchronisation | bulk |
//! | [`storage`] | log, store and vote, in the [`engine`] | a thread of its own, not an actor |
//!
//! All five are one [`shell::Shell`] around different machines; [`hands`] carries out their effects, [`mailboxes`] says who
//! hosts what. [`figures`] are counted for people. A gateway's witness is the same node without a log. [`gateway`] follows the cluster for the web tier.
//!
//! Not here: sockets, settings, HTTP. The binary gives plain values and an [`hands::Outbox`]; what decides is
//! `lockstep_protocol`.

pub mod election;
pub mod engine;
pub mod figures;
pub mod gateway;
pub mod hands;
pub mod heartbeat;
pub mod lock_manager;
pub mod mailboxes;
pub mod node;
pub mod observe;
pub mod shell;
pub mod storage;
pub mod sync;
#[cfg(test)]
mod testing;
pub mod transaction_coordinator;

pub use node::{Arbiters, Node, NodeConfig, Opened, open};

//! Every decision of Lockstep, as pure state machines: an input in, effects out.
//!
//! # The contract
//!
//! - A [`machine::Machine`] hears inputs, and answers with [`machine::Effects`], which are carried out in order.
//! - Nothing is durable by implication: a machine asks the storage to write, and hears later that it is flushed. What a
//!   vote or a promise rests on is durable before the letter that says so is sent.
//! - Letters may be lost, delayed, repeated and overtaken; every step is idempotent or refuses.
//! - No machine reads a clock or draws randomness; the same inputs give the same effects, for ever.
//!
//! What holds always (`docs/protocol.md`, section 1): (S1) what a client was told is done is never lost while one replica
//! of the last view keeps its disk; (S2) reads and writes are linearizable; (S3) an idempotency key takes effect at most
//! once; (S4) what was told `aborted` never takes effect; (S5) every two replicas applied the same entries in the same order.
//!
//! # Reading order
//!
//! The words: [`ids`], [`view`], [`member`], [`change`], [`log`], [`operation`], [`operator`], [`message`]. The frame: [`machine`], [`storage`], [`route`], [`node`].
//! A write: [`lock`], [`replica`], [`coordinator`], [`store`]. A read: [`read`]. A failure: [`heartbeat`], [`election`],
//! [`campaign`]. A node: [`birth`], [`sync`]. What people see: [`status`], [`outlook`], [`tally`], [`verify`]. How it is shown to work: `sim`.

pub mod birth;
pub mod campaign;
pub mod change;
pub mod coordinator;
pub mod election;
pub mod heartbeat;
pub mod ids;
pub mod invariant;
pub mod lock;
pub mod log;
pub mod machine;
pub mod member;
pub mod message;
pub mod node;
pub mod operation;
pub mod operator;
pub mod outlook;
pub mod page;
pub mod read;
pub mod replica;
pub mod route;
#[cfg(feature = "sim")]
pub mod sim;
pub mod status;
pub mod storage;
pub mod store;
pub mod sync;
pub mod tally;
#[cfg(test)]
mod testing;
pub mod verify;
pub mod view;

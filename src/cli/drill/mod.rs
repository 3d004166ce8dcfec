//! `lockstep drill`

mod answer;
mod checker;
mod client;
mod fault;
mod history;
pub mod links;

//! `lockstep drill`

mod checker;
mod history;
pub mod links;

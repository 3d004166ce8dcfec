//! `lockstep drill`
mod checker;
mod history;

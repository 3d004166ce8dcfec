//! tmp

pub mod engine;
pub mod storage;

//! The deterministic simulator.

pub mod disk;

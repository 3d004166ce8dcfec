//! Real processes: data nodes, gateways and witnesses of the built binary, under every fault that the README promises to
//! survive.
//!
//! Each test ends with the same check (`check.rs`): every acknowledged message is there once, in one order, on every replica,
//! and what was told `aborted` is nowhere. Limits are wide, and no test depends on speed: figures are printed, not asserted.
//! One cluster runs at a time, since two cores carry no more.
//!
//! `cargo test --release --test cluster bars -- --ignored --nocapture` measures instead: failover, hand-over, joins, size.

mod cluster {
    pub mod check;
    pub mod four;
    pub mod gate;
    pub mod harness;
    pub mod http;
    pub mod load;
    pub mod process;
    pub mod view;

    mod bars;
    mod bench;
    mod calls;
    mod crashes;
    mod demo;
    mod disks;
    mod drill;
    mod joins;
    mod leaving;
    mod metrics;
    mod partitions;
    mod verify;
    mod why;
}

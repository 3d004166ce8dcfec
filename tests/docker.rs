//! Containers: the cluster of `docker/compose.yaml`, each process with an address of its own, under the faults that an engine can
//! make: killed, paused, taken off the network, restarted, wiped.
//!
//! `docker/test.sh` builds the image and runs these; alone they are ignored, since they need an engine. The load and the checks
//! are those of `tests/cluster`: each test ends with every acknowledged message there once and in order, on every replica's
//! volume. Limits are wide, and figures are printed, not asserted.

#[allow(dead_code, reason = "the modules of tests/cluster serve two crates, and neither needs all of each")]
mod docker {
    #[path = "../cluster/check.rs"]
    pub mod check;
    #[path = "../cluster/four.rs"]
    pub mod four;
    #[path = "../cluster/gate.rs"]
    pub mod gate;
    #[path = "../cluster/http.rs"]
    pub mod http;
    #[path = "../cluster/load.rs"]
    pub mod load;
    #[path = "../cluster/view.rs"]
    pub mod view;

    pub mod engine;
    pub mod harness;
    pub mod strict;

    mod crashes;
    mod growth;
    mod partitions;
    mod restarts;
}

//! Every container is replaced, one after the other, and no client sees a failed request.

use super::check;
use super::gate::eventually;
use super::harness::{Cluster, node};
use super::strict::StrictLoad;
use std::time::Duration;

const CLIENTS: usize = 8;
/// What no request should wait longer for. Printed with the figure, not asserted: it says as much of the machine.
const BAR: Duration = Duration::from_millis(300);

#[test]
#[ignore = "needs an engine; docker/test.sh"]
fn a_rolling_restart_fails_no_request() {
    let cluster = Cluster::ready();
    let load = StrictLoad::start(&cluster.client_ports, "busy", CLIENTS);
    // Gateways first, the highest data node last: its return ends in a second handover, which waits for nobody then.
    let services: Vec<_> = ["gateway-1", "gateway-2"].map(str::to_owned).into_iter().chain((1..=3).map(node)).collect();
    for service in &services {
        cluster.restart(service);
        cluster.wait_for_gateways();
        cluster.wait_for_members();
        cluster.wait_for_witnesses();
    }
    eventually("the highest data node leads again", || (cluster.primary().1 == 3).then_some(()));
    let met = load.finish();
    let (stall, requests) = (met.told.longest_stall(), met.told.acked.len());
    println!(
        "rolling restart: {requests} requests of {CLIENTS} clients, {} failed, {} turned away, longest stall {stall:.0?} \
         (bar: {BAR:?})",
        met.failed.len(),
        met.turned_away
    );
    assert!(met.failed.is_empty(), "failed requests: {:#?}", met.failed);
    check::all_is_there_once_on_every_replica(cluster, "busy", &met.told);
}

//! Does what a fault says, and undoes it.
//!
//! It hits a cluster that is whole, so that what it takes away is never more than what is promised to survive. A wiped disk waits
//! for a view without it: what that view was told, the others hold.
//!
//! Not here: which fault is next (`fault.rs`), and what clients see of it.

use super::super::Failure;
use super::cluster::{Cluster, LOOK, WIDE, node_name};
use super::fault::{Fault, Kind, Who};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// How much later everything gets to a node whose link is slow.
const DELAY: Duration = Duration::from_millis(200);
/// How long a stuttering node stands still, and how long it then runs.
const STUTTER: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(100));

/// Begins a fault, waits as long as it lasts, and ends it. Says whom it hit, once that is known.
///
/// # Errors
/// When it could not be done, which says nothing of the cluster, or the cluster did not do its part.
pub async fn strike(cluster: &mut Cluster, fault: &Fault, target: &mut String) -> Result<(), Failure> {
    let names = names(cluster, fault).await?;
    *target = names.join(", ");
    match fault.kind {
        Kind::Kill | Kind::KillSeveral | Kind::KillAll | Kind::KillGateway => {
            cluster.kill(&names).await;
            tokio::time::sleep(fault.lasts).await;
        }
        Kind::Pause => {
            cluster.signal(&names, Signal::SIGSTOP);
            tokio::time::sleep(fault.lasts).await;
        }
        Kind::Stutter => stutter(cluster, &names, fault.lasts).await,
        Kind::Cut | Kind::CutOneWay => cut(cluster, fault, &names, target).await,
        Kind::Delay => {
            names.iter().for_each(|name| cluster.links.slow_down(name, DELAY));
            tokio::time::sleep(fault.lasts).await;
        }
        Kind::FailedFlush => failed_flush(cluster, &names, fault.lasts).await?,
        Kind::FullDisk => full_disk(cluster, &names, fault.lasts).await?,
        Kind::Join => join_and_leave(cluster, fault.lasts).await?,
        Kind::Wipe => wipe(cluster, &names, fault.lasts).await?,
        Kind::RollingRestart => rolling_restart(cluster, &names).await?,
    }
    cluster.restore()
}

/// Who is hit.
async fn names(cluster: &Cluster, fault: &Fault) -> Result<Vec<String>, Failure> {
    let nodes: Vec<_> = cluster.layout.nodes().map(|member| member.number).collect();
    let seen = cluster.watch.look().await.ok_or_else(|| Failure::new("no gateway tells how the cluster is"))?;
    let one = chosen(&nodes, seen.primary, fault.who);
    let gateways = || cluster.layout.gateways().map(|member| member.name.clone());
    let numbers: Vec<u32> = match fault.kind {
        Kind::Kill
        | Kind::Pause
        | Kind::Stutter
        | Kind::Cut
        | Kind::CutOneWay
        | Kind::Delay
        | Kind::FailedFlush
        | Kind::Wipe => vec![one],
        // All but the one: the primary survives, or it does not.
        Kind::KillSeveral => nodes.iter().copied().filter(|node| *node != one).collect(),
        Kind::KillAll => nodes,
        // The first data node has the small disk.
        Kind::FullDisk => nodes.into_iter().take(1).collect(),
        Kind::Join => vec![cluster.newcomer.number],
        Kind::KillGateway => {
            let mut gateways = gateways();
            let gateway = if fault.other_way { gateways.next() } else { gateways.last() };
            return Ok(gateway.into_iter().collect());
        }
        // Gateways first, and the data node that leads last.
        Kind::RollingRestart => return Ok(gateways().chain(nodes.into_iter().map(node_name)).collect()),
    };
    Ok(numbers.into_iter().map(node_name).collect())
}

fn chosen(nodes: &[u32], primary: u32, who: Who) -> u32 {
    let mut others = nodes.iter().copied().filter(|node| *node != primary);
    match who {
        Who::Primary => primary,
        Who::Replica { highest: true } => others.next_back().unwrap_or(primary),
        Who::Replica { highest: false } => others.next().unwrap_or(primary),
    }
}

async fn stutter(cluster: &Cluster, names: &[String], lasts: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        cluster.signal(names, Signal::SIGSTOP);
        tokio::time::sleep(STUTTER.0).await;
        cluster.signal(names, Signal::SIGCONT);
        tokio::time::sleep(STUTTER.1).await;
    }
}

async fn cut(cluster: &Cluster, fault: &Fault, names: &[String], target: &mut String) {
    let all = cluster.layout.members.iter().map(|member| member.name.clone());
    let others: Vec<_> = all.filter(|name| !names.contains(name)).collect();
    match (fault.kind, fault.other_way) {
        (Kind::CutOneWay, true) => {
            target.push_str(", which does not hear");
            cluster.links.cut_one_way(&others, names);
        }
        (Kind::CutOneWay, false) => {
            target.push_str(", which is not heard");
            cluster.links.cut_one_way(names, &others);
        }
        (_, _) => cluster.links.cut(names, &others),
    }
    tokio::time::sleep(fault.lasts).await;
}

async fn failed_flush(cluster: &mut Cluster, names: &[String], lasts: Duration) -> Result<(), Failure> {
    for name in names {
        let file = cluster.fail_flush_file(name);
        std::fs::write(&file, "").map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
    }
    ends_by_itself(cluster, names).await?;
    tokio::time::sleep(lasts).await;
    Ok(())
}

async fn ends_by_itself(cluster: &mut Cluster, names: &[String]) -> Result<(), Failure> {
    if cluster.wait_until_ended(names).await {
        return Ok(());
    }
    Err(Failure::new(format!("{} goes on with a disk that fails", names.join(", "))))
}

async fn full_disk(cluster: &mut Cluster, names: &[String], lasts: Duration) -> Result<(), Failure> {
    let no_disk = || Failure::new("there is no small disk");
    let wrong = |e: std::io::Error| Failure::new(format!("the small disk: {e}"));
    cluster.disk.as_ref().ok_or_else(no_disk)?.fill().map_err(wrong)?;
    ends_by_itself(cluster, names).await?;
    tokio::time::sleep(lasts).await;
    cluster.disk.as_ref().ok_or_else(no_disk)?.empty().map_err(wrong)
}

async fn join_and_leave(cluster: &mut Cluster, lasts: Duration) -> Result<(), Failure> {
    let number = cluster.newcomer.number;
    let name = node_name(number);
    cluster.start_one(&name)?;
    let joined = cluster.watch.wait_until(WIDE, |seen| seen.serves && seen.replicas.contains(&number)).await;
    joined.ok_or_else(|| Failure::new(format!("{name} has not joined after {} s", WIDE.as_secs())))?;
    tokio::time::sleep(lasts).await;
    cluster.run_command(&["remove", &number.to_string()]).await?;
    let names = [name];
    if !cluster.wait_until_ended(&names).await {
        return Err(Failure::new(format!("{} was removed and has not ended", names[0])));
    }
    cluster.wipe(&names[0]).map_err(|e| Failure::new(format!("{} cannot be wiped: {e}", names[0])))
}

async fn wipe(cluster: &mut Cluster, names: &[String], lasts: Duration) -> Result<(), Failure> {
    cluster.kill(names).await;
    let is_without =
        |seen: &super::watch::Seen| seen.serves && !seen.replicas.iter().any(|node| names.contains(&node_name(*node)));
    let gone = cluster.watch.wait_until(WIDE, is_without).await;
    gone.ok_or_else(|| Failure::new(format!("no view without {} serves", names.join(", "))))?;
    for name in names {
        cluster.wipe(name).map_err(|e| Failure::new(format!("{name} cannot be wiped: {e}")))?;
    }
    tokio::time::sleep(lasts).await;
    Ok(())
}

async fn rolling_restart(cluster: &mut Cluster, names: &[String]) -> Result<(), Failure> {
    for name in names {
        let one = [name.clone()];
        cluster.signal(&one, Signal::SIGTERM);
        if !cluster.wait_until_ended(&one).await {
            return Err(Failure::new(format!("{name} was asked to stop and has not ended")));
        }
        cluster.start_one(name)?;
        tokio::time::sleep(LOOK).await;
        let whole = cluster.wait_until_whole(WIDE).await;
        whole.ok_or_else(|| Failure::new(format!("{name} has not returned after {} s", WIDE.as_secs())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_one_data_node_whoever_leads() {
        let of = |primary, who| chosen(&[1, 2, 3], primary, who);
        for primary in 1..=3 {
            assert_eq!(of(primary, Who::Primary), primary);
            let (low, high) =
                (of(primary, Who::Replica { highest: false }), of(primary, Who::Replica { highest: true }));
            assert!(low < high && low != primary && high != primary);
        }
        assert_eq!(chosen(&[1], 1, Who::Replica { highest: true }), 1);
    }
}

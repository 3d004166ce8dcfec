//! Disks that fail: no space, and a flush that does not succeed. The node leaves the view, the others go on, nothing is lost.

use super::check;
use super::gate::WIDE;
use super::harness::{Cluster, DEMO};
use super::load::Load;
use std::io::Write;
use std::path::Path;
use std::process::Command;

const SOME: u64 = 50;

/// A cluster under load whose node `id` fails its flushes while `fail` exists.
fn busy_cluster() -> (Cluster, Load) {
    let mut cluster = Cluster::ready(DEMO);
    cluster.wait_for_witnesses(2);
    for id in 1..=3 {
        let file = cluster.path(&format!("fail-{id}"));
        cluster.node(id).kill();
        cluster.node(id).set_variable("LOCKSTEP_FAIL_FLUSH_WHILE", &file.to_string_lossy());
        cluster.node(id).start();
        cluster.wait_for_all();
    }
    let load = Load::start(&cluster.client_ports, "busy", 4);
    load.wait_for_more(SOME);
    (cluster, load)
}

/// The node's flushes fail: it ends by itself and says why, the others serve, and it returns once the disk is well again.
fn its_flush_fails(mut cluster: Cluster, load: Load, id: u32) {
    let file = cluster.path(&format!("fail-{id}"));
    std::fs::write(&file, "").expect("a file");
    let status = cluster.node(id).wait(WIDE);
    assert!(!status.success(), "a node whose flush failed must not go on: {status}");
    load.wait_for_more(SOME);
    std::fs::remove_file(&file).expect("it is there");
    cluster.node(id).start();
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn a_flush_that_fails_on_a_replica() {
    // Section 9: never retried in place. R-8: the primary goes on without it.
    let (mut cluster, load) = busy_cluster();
    let (_, primary) = cluster.primary();
    let replica = if primary == 1 { 2 } else { 1 };
    its_flush_fails(cluster, load, replica);
}

#[test]
fn a_flush_that_fails_on_the_primary() {
    // another takes over.
    let (mut cluster, load) = busy_cluster();
    let (_, primary) = cluster.primary();
    its_flush_fails(cluster, load, primary);
}

/// A small file system of its own in memory; unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// None without the right to mount.
    fn mount(at: &'a Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    /// Leaves no room for anything.
    fn fill(&self) {
        let written =
            std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(self.ballast()).expect("a file"));
        assert!(written.is_err(), "the disk is full");
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).output();
    }
}

#[test]
fn a_disk_that_is_full() {
    // its node is left out, the others go on; with room again, it returns.
    let folder = tempfile::TempDir::with_prefix("lockstep-disk-").expect("a folder");
    let Some(disk) = SmallDisk::mount(folder.path(), 256) else {
        // Not `println!`, which nobody sees of a test that passes.
        let _ = std::io::stderr().write_all(b"SKIPPED a_disk_that_is_full: mounting a tmpfs needs root\n");
        return;
    };
    let mut cluster = Cluster::start(DEMO);
    cluster.node(1).kill();
    let own = cluster.data_dir(1);
    let _ = std::fs::remove_dir_all(&own);
    std::os::unix::fs::symlink(disk.0.join("data"), &own).expect("a link");
    std::fs::create_dir(disk.0.join("data")).expect("a folder");
    cluster.node(1).start();
    cluster.wait_for_members();
    let load = Load::start(&cluster.client_ports, "busy", 4);
    load.wait_for_more(SOME);
    disk.fill();
    cluster.node(1).wait(WIDE);
    load.wait_for_more(SOME);
    std::fs::remove_file(disk.ballast()).expect("it is there");
    cluster.node(1).start();
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

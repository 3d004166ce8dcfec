//! CPU and memory of processes and all their children, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// Ticks a second in `/proc/*/stat`: the same on every Linux that a person meets.
const TICKS_PER_S: f64 = 100.0;

/// What `/proc/PID/stat` says.
struct Stat {
    parent: u32,
    /// Its own, and that of children that ended and were waited for.
    ticks: u64,
}

/// CPU seconds since they started. Children that ended are in their parent's.
///
/// # Errors
/// One of the processes is gone.
pub fn cpu_s(pids: &[u32]) -> Result<f64> {
    let all = stats();
    let tree = tree(&all, pids)?;
    Ok(tree.iter().map(|pid| all[pid].ticks).sum::<u64>() as f64 / TICKS_PER_S)
}

/// Memory in MiB; a page that several share is counted once.
///
/// # Errors
/// One of the processes is gone.
pub fn memory_mib(pids: &[u32]) -> Result<f64> {
    let tree = tree(&stats(), pids)?;
    Ok(tree.iter().filter_map(|pid| share_kib(*pid)).sum::<u64>() as f64 / 1024.0)
}

/// These and all below them.
fn tree(all: &BTreeMap<u32, Stat>, roots: &[u32]) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for root in roots {
        all.get(root).with_context(|| format!("server process {root} is gone"))?;
        found.push(*root);
    }
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    Ok(found)
}

fn stats() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| Some((pid, stat(pid)?))).collect()
}

/// None for a process that just ended.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect(); // From the third one on: proc(5).
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}

/// Its pages, each divided by how many processes have it.
fn share_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

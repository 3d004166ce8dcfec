//! What the system says of this process and of its disk, for metrics: memory, processor time, open files, room.
//!
//! Where the system does not tell (another kernel, a file that cannot be read), the figure is left out.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// How this process is now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Resident memory. Bytes.
    pub resident_bytes: Option<u64>,
    /// Time on processors, its own and the kernel's for it. Seconds.
    pub cpu_seconds: Option<f64>,
    /// Open files and sockets.
    pub open_files: Option<u64>,
}

/// Asks the system. Reads a few lines of `/proc`.
#[must_use]
pub fn process_figures() -> ProcessFigures {
    ProcessFigures { resident_bytes: resident_bytes(), cpu_seconds: cpu_seconds(), open_files: open_files() }
}

fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    let page_bytes = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    resident.checked_mul(page_bytes)
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(microseconds as f64 / 1e6)
}

fn open_files() -> Option<u64> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?;
    Some((files.count() as u64).saturating_sub(1)) // One is the folder that is read.
}

/// The room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFigures {
    /// All of it. Bytes.
    pub size_bytes: u64,
    /// What this user may still fill. Bytes.
    pub free_bytes: u64,
}

/// The disk on which a directory lies. Blocks as long as the disk does.
#[must_use]
pub fn disk_figures(directory: &Path) -> Option<DiskFigures> {
    let room = statvfs(directory).ok()?;
    let block_bytes = room.fragment_size();
    let bytes = |blocks: u64| blocks.saturating_mul(block_bytes);
    Some(DiskFigures { size_bytes: bytes(room.blocks()), free_bytes: bytes(room.blocks_available()) })
}

/// What the files of a directory take on its disk, those in folders below it too. Bytes; what vanishes meanwhile is not counted.
/// Blocks as long as the disk does.
#[must_use]
pub fn used_bytes(directory: &Path) -> u64 {
    let Ok(found) = std::fs::read_dir(directory) else { return 0 };
    let sizes = found.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?; // Of a link itself, not of what it leads to.
        Some(if metadata.is_dir() { used_bytes(&entry.path()) } else { metadata.blocks().saturating_mul(512) })
    });
    sizes.sum()
}

/// Seconds since 1970, by this machine's clock.
#[must_use]
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directory_takes_is_what_its_files_take() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(used_bytes(dir.path()), 0);
        std::fs::create_dir(dir.path().join("below")).expect("a folder");
        std::fs::write(dir.path().join("below/file"), vec![7; 100_000]).expect("a file");
        std::fs::File::create(dir.path().join("hole"))
            .and_then(|file| file.set_len(1 << 30))
            .expect("a file with a hole");
        let used = used_bytes(dir.path());
        assert!((100_000..1 << 20).contains(&used), "{used}");
        assert_eq!(used_bytes(Path::new("/nowhere")), 0);
    }

    #[test]
    fn the_system_tells_of_this_process_and_its_disk() {
        let before = process_figures();
        assert!(before.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{before:?}");
        assert!(before.cpu_seconds.is_some_and(|seconds| (0.0..1e6).contains(&seconds)), "{before:?}");
        let file = std::fs::File::open("Cargo.toml").expect("a file that is there");
        assert!(process_figures().open_files.is_some_and(|count| count >= 4), "three streams and this: {before:?}");
        drop(file);
        let disk = disk_figures(Path::new(".")).expect("there is a disk");
        assert!(disk.size_bytes > 0 && disk.free_bytes <= disk.size_bytes, "{disk:?}");
        assert_eq!(disk_figures(Path::new("/nowhere")), None);
    }
}

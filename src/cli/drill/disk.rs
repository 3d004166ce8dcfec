//! A disk that can be full: a file system in memory, mounted over a data node's directory, which takes as much as it holds, until it
//! is made no larger than that.
//!
//! Mounting needs root; without it there is no such fault.

use nix::sys::statvfs::statvfs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How large it may become: more than any drill writes. MiB.
const SIZE_MIB: u64 = 8 * 1_024;
/// How often it is made as small as what it holds, while that grows. Times.
const TRIES_MAX: u32 = 1_000;

/// The disk; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it over this directory, which is made. None without the right to.
    pub fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let mounted = mount(&format!("size={SIZE_MIB}m"), at);
        mounted.is_ok().then(|| Self(at.to_owned()))
    }

    /// Leaves no room for anything.
    ///
    /// # Errors
    /// When there is room left all the same.
    pub fn fill(&self) -> io::Result<()> {
        let mut last = io::Error::other("it was not tried");
        for _ in 0..TRIES_MAX {
            let disk = statvfs(&self.0)?;
            let used = disk.blocks().saturating_sub(disk.blocks_free()).saturating_mul(disk.fragment_size());
            match mount(&format!("remount,size={used}"), &self.0) {
                Ok(()) => return Ok(()),
                Err(error) => last = error, // More is written meanwhile.
            }
        }
        Err(last)
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When it cannot be made larger.
    pub fn empty(&self) -> io::Result<()> {
        mount(&format!("remount,size={SIZE_MIB}m"), &self.0)
    }
}

fn mount(options: &str, at: &Path) -> io::Result<()> {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).stdout(Stdio::null()).stderr(Stdio::null());
    match mount.status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("mount -o {options} {}: {status}", at.display()))),
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

//! A small disk that can be filled: a file system in memory, mounted over a data node's directory.
//!
//! Mounting needs root; without it there is no such fault.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How large it is: room for a drill's data, and quickly filled. MiB.
const SIZE_MIB: u32 = 256;

/// The disk; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it over this directory, which is made. None without the right to.
    pub fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let size = format!("size={SIZE_MIB}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).stdout(Stdio::null()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }

    /// Leaves no room for anything.
    ///
    /// # Errors
    /// When there is room left all the same.
    pub fn fill(&self) -> io::Result<()> {
        match io::copy(&mut io::repeat(1), &mut File::create(self.ballast())?) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("the disk has no end")),
        }
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When what fills it cannot be deleted.
    pub fn empty(&self) -> io::Result<()> {
        std::fs::remove_file(self.ballast())
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

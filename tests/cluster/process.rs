//! One process of the cluster: started, signalled by its id, and never left behind.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_lockstep");

/// A node or a gateway. Dropping it kills it.
pub struct Process {
    /// `node-1`, `gateway-2`.
    pub name: String,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Not started yet. Its lines go to `<folder>/<name>.log`.
    pub fn new(name: &str, folder: &Path, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let log = folder.join(format!("{name}.log"));
        Self { name: name.to_owned(), args, variables: Vec::new(), log, child: None }
    }

    /// From its next start on, with this variable.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it; it must not run.
    pub fn start(&mut self) {
        assert!(!self.is_running(), "{} runs already", self.name);
        let lines = || OpenOptions::new().create(true).append(true).open(&self.log).expect("a file for its lines");
        let mut command = Command::new(BINARY);
        command.args(&self.args).envs(self.variables.iter().cloned()).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(lines()).stderr(lines());
        self.child = Some(command.spawn().expect("the binary starts"));
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// Sends a signal to it, and to nobody else.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("a process id fits");
        kill(Pid::from_raw(id), signal).unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
    }

    /// Kill -9, and waits until the kernel has cleared it away.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        let child = self.child.as_mut().expect("it was started");
        loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < end, "{} still runs after {limit:?}", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that it has said so far.
    pub fn lines(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Resident memory. Bytes; 0 when it does not run.
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes =
            line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|text| text.trim().parse::<u64>().ok());
        kibibytes.unwrap_or(0) * 1_024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

//! The processes of a demo: started each in a group of its own, so that the terminal's Ctrl-C reaches only the demo, which
//! then stops them in order.

use super::super::Failure;
use super::LOOK;
use super::layout::{Kind, Layout, Member};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to stop before it is killed. Its data survive that.
const STOP: Duration = Duration::from_secs(10);

struct Running {
    name: String,
    kind: Kind,
    child: Child,
}

/// All that were started and have not ended, data nodes by id, then gateways.
#[derive(Default)]
pub struct Children(Vec<Running>);

impl Children {
    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Starts one, and says so.
    ///
    /// # Errors
    /// When its directory or log cannot be made, or the program not be started.
    pub fn start(&mut self, layout: &Layout, member: &Member) -> Result<(), Failure> {
        let pid = self.start_with(layout, member, &[])?;
        println!("    {:<10} pid {pid:<7} {}", member.name, member.config.display());
        Ok(())
    }

    /// Starts one with these variables; its process id.
    ///
    /// # Errors
    /// When its directory or log cannot be made, or the program not be started.
    pub fn start_with(
        &mut self,
        layout: &Layout,
        member: &Member,
        variables: &[(&str, &Path)],
    ) -> Result<u32, Failure> {
        let wrong = |e: std::io::Error| Failure::new(format!("{} cannot be started: {e}", member.name));
        std::fs::create_dir_all(layout.dir.join(&member.name)).map_err(wrong)?;
        let log = File::options().create(true).append(true).open(layout.log(&member.name)).map_err(wrong)?;
        let mut command = Command::new(std::env::current_exe().map_err(wrong)?);
        command.args([member.command(), "--config"]).arg(&member.config);
        command.arg("--pid-file").arg(layout.pid(&member.name));
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(wrong)?).stderr(log).process_group(0);
        command.envs(variables.iter().copied());
        let child = command.spawn().map_err(wrong)?;
        let pid = child.id();
        self.0.push(Running { name: member.name.clone(), kind: member.kind, child });
        Ok(pid)
    }

    /// Whether this one was started and has not ended, as of the last look.
    pub fn is_running(&self, name: &str) -> bool {
        self.0.iter().any(|running| running.name == name)
    }

    /// Those that have ended since the last look, and how.
    pub fn reap(&mut self) -> Vec<(String, String)> {
        let mut ended = Vec::new();
        self.0.retain_mut(|running| match running.child.try_wait() {
            Ok(Some(status)) => {
                ended.push((running.name.clone(), ending(status)));
                false
            }
            Ok(None) | Err(_) => true,
        });
        ended
    }

    /// Stops the data nodes one after the other, the lowest first, and then all gateways.
    pub async fn stop(&mut self) {
        let nodes: Vec<_> = self.names(Kind::Node);
        for name in nodes {
            self.stop_these(&[name]).await;
        }
        let gateways = self.names(Kind::Gateway);
        self.stop_these(&gateways).await;
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        self.0.iter().filter(|running| running.kind == kind).map(|running| running.name.clone()).collect()
    }

    /// Asks these to stop, waits, and kills what does not.
    async fn stop_these(&mut self, names: &[String]) {
        self.signal(names, Signal::SIGTERM);
        let (begun, mut killed) = (Instant::now(), false);
        while self.0.iter().any(|running| names.contains(&running.name)) {
            for (name, how) in self.reap() {
                println!("    {name:<10} {how}");
            }
            if begun.elapsed() > STOP && !std::mem::replace(&mut killed, true) {
                println!("    {} did not stop within {} s and is killed", names.join(", "), STOP.as_secs());
                self.signal(names, Signal::SIGKILL);
            }
            tokio::time::sleep(LOOK / 4).await;
        }
    }

    /// Ends all at once. Nothing acknowledged is lost by it.
    pub fn kill(&mut self) {
        let names: Vec<_> = self.0.iter().map(|running| running.name.clone()).collect();
        self.signal(&names, Signal::SIGKILL);
        for running in &mut self.0 {
            let _ = running.child.wait();
        }
        self.0.clear();
    }

    /// Sends a signal to these.
    pub fn signal(&self, names: &[String], signal: Signal) {
        for running in self.0.iter().filter(|running| names.contains(&running.name)) {
            if let Ok(pid) = i32::try_from(running.child.id()) {
                // It may have ended by itself in this moment: the next look sees that.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }
}

fn ending(status: ExitStatus) -> String {
    if status.success() { "stopped".to_owned() } else { format!("ended with {status}") }
}

//! `lockstep demo`, as a person uses it: started, tried, robbed of a process, stopped, started again, begun afresh.

use super::gate::{self, WIDE, eventually};
use super::http::{Client, Request};
use super::process::Process;
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use tempfile::TempDir;

/// Every port of the demo when nothing is added: data nodes, witnesses, data nodes' metrics, gateways.
const PORTS: [u16; 10] = [7_101, 7_102, 7_103, 7_151, 7_152, 7_201, 7_202, 7_203, 8_080, 8_081];

/// An offset with which all ports of a demo are free.
fn free_offset() -> u16 {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut offsets = (3_000..20_000).step_by(101);
    offsets.find(|offset| PORTS.iter().all(|port| is_free(port + offset))).expect("free ports")
}

struct Demo {
    process: Process,
    folder: TempDir,
    offset: u16,
}

impl Demo {
    fn new() -> Self {
        let (folder, offset) = (TempDir::with_prefix("lockstep-demo-").expect("a folder"), free_offset());
        let process = Process::new("demo", folder.path(), &[]);
        Self { process, folder, offset }
    }

    /// Runs it until it says that it serves with all of its data nodes.
    fn start(&mut self, more: &[&str]) {
        let (dir, offset) = (self.folder.path().join("data"), self.offset.to_string());
        let dir = dir.to_string_lossy();
        let args = [&["demo", "--dir", &dir, "--port-offset", &offset], more].concat();
        self.process = Process::new("demo", self.folder.path(), &args);
        let before = self.times_served();
        self.process.start();
        eventually("the demo serves", || {
            assert!(self.process.is_running(), "it ended: {}", self.process.lines());
            (self.times_served() > before).then_some(())
        });
    }

    fn times_served(&self) -> usize {
        self.process.lines().matches("Lockstep serves, with 3 of 3 data nodes in its view.").count()
    }

    /// Ctrl-C; it and all of its processes end.
    fn stop(&mut self) {
        let pids: Vec<_> = self.members().iter().filter_map(|name| self.pid(name)).collect();
        self.process.signal(Signal::SIGINT);
        assert!(self.process.wait(WIDE).success(), "{}", self.process.lines());
        assert!(self.process.lines().trim_end().ends_with("data."), "{}", self.process.lines());
        for pid in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left behind");
        }
    }

    fn members(&self) -> [&'static str; 5] {
        ["node-1", "node-2", "node-3", "gateway-1", "gateway-2"]
    }

    fn pid(&self, name: &str) -> Option<i32> {
        let text = std::fs::read_to_string(self.folder.path().join("data").join(name).join("pid")).ok()?;
        text.trim().parse().ok()
    }

    fn client(&self, gateway: u16) -> Client {
        Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 8_080 + gateway + self.offset)))
    }

    fn texts(&self, gateway: u16) -> Vec<String> {
        let reply = self.client(gateway).get("/v1/channels/general/messages?order=asc").expect("an answer");
        let messages = reply.json["messages"].as_array().into_iter().flatten();
        messages.map(|message| message["text"].as_str().expect("a text").to_owned()).collect()
    }
}

#[test]
fn the_demo_serves_survives_stops_and_remembers() {
    let _turn = gate::enter();
    let mut demo = Demo::new();
    demo.start(&[]);
    let post = |demo: &Demo, gateway, text| {
        let reply = demo.client(gateway).send(&Request::post("/v1/channels/general/messages", text));
        assert_eq!(reply.expect("an answer").status, 201);
    };
    post(&demo, 0, "one");
    let primary = demo.pid("node-3").expect("its process id");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(primary), Signal::SIGKILL).expect("it runs");
    post(&demo, 1, "two");
    assert_eq!(demo.texts(0), ["one", "two"]);
    eventually("it says what died", || demo.process.lines().contains("Start it again:").then_some(()));
    demo.stop();
    demo.start(&[]);
    assert_eq!(demo.texts(1), ["one", "two"], "a restart forgets nothing");
    demo.stop();
    demo.start(&["--fresh"]);
    assert_eq!(demo.texts(1), [""; 0], "--fresh begins with nothing");
    demo.stop();
}

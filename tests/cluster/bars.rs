//! Figures, printed and not asserted: failover, hand-over, the join of a large store, a channel of a million messages.
//!
//! `cargo test --release --test cluster bars -- --ignored --nocapture --test-threads=1`. Takes a quarter of an hour, and about 8 GiB of
//! disk.

use super::gate::WIDE;
use super::harness::{Cluster, DEMO, Plan, node_name};
use super::http::{Client, Request};
use super::load::Load;
use lockstep::system::used_bytes;
use lockstep_actors::engine::{Engine, FaultPlan};
use lockstep_protocol::storage::kv::{Direction, KeyRange, ReadKv, TABLES};
use nix::sys::signal::Signal;
use std::fs::File;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;

/// Median and extremes.
fn show(what: &str, mut figures: Vec<Duration>) {
    figures.sort();
    let (first, last) = (figures.first().expect("measured"), figures.last().expect("measured"));
    println!("{what}: median {:.2?} of {} ({first:.2?} to {last:.2?})", figures[figures.len() / 2], figures.len());
}

/// Lets 8 writers post while something happens to the primary; the longest wait of any of them, for each round.
fn stalls(what: &str, signal: Signal) {
    let mut cluster = Cluster::ready(DEMO);
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        cluster.wait_for_all();
        cluster.wait_for_witnesses(2);
        let load = Load::start(&cluster.client_ports, "bars", 8);
        load.wait_for_more(400);
        let (_, primary) = cluster.primary();
        cluster.node(primary).signal(signal);
        cluster.node(primary).wait(WIDE);
        load.wait_for_more(400);
        figures.push(load.finish().longest_stall());
        cluster.node(primary).start();
    }
    show(what, figures);
}

#[test]
#[ignore = "measures; run by name"]
fn bar_kill_9_of_the_primary() {
    stalls("longest stall of 8 writers, kill -9 of the primary", Signal::SIGKILL);
}

#[test]
#[ignore = "measures; run by name"]
fn bar_sigterm_of_the_primary() {
    stalls("longest stall of 8 writers, SIGTERM of the primary", Signal::SIGTERM);
}

/// The time within which 99 of 100 posts that began in this span were acknowledged.
fn p99(waits: &[(Instant, Duration)], from: Instant, to: Instant) -> Duration {
    let began = waits.iter().filter(|(at, _)| (from..to).contains(at));
    let mut took: Vec<_> = began.map(|(_, took)| *took).collect();
    took.sort();
    took[(took.len() * 99 / 100).min(took.len() - 1)]
}

#[test]
#[ignore = "measures; run by name"]
fn bar_a_replica_that_becomes_slow() {
    const SLOW: Duration = Duration::from_millis(200);
    let second = |n| Duration::from_secs(n);
    let mut cluster = Cluster::ready(Plan { relayed: true, ..DEMO });
    cluster.wait_for_witnesses(2);
    let (_, primary) = cluster.primary();
    let replica = (1..=3).find(|id| *id != primary).expect("another");
    let load = Load::start(&cluster.client_ports, "bars", 8);
    std::thread::sleep(second(10));
    cluster.links.slow_down(&node_name(replica), SLOW);
    let slow_at = Instant::now();
    std::thread::sleep(second(15));
    let waits = load.finish().waits;
    let before = p99(&waits, slow_at - second(8), slow_at);
    let (during, after) =
        (p99(&waits, slow_at, slow_at + second(3)), p99(&waits, slow_at + second(5), slow_at + second(15)));
    println!(
        "p99 of 8 writers {before:.2?}; a replica gets everything {SLOW:?} later: {during:.2?}; 5 s on: {after:.2?}"
    );
}

/// Posts so many texts of so many bytes into one channel, with 64 at once.
fn fill(gateways: &[SocketAddr], channel: &str, messages: usize, bytes: usize) {
    let (text, threads) = ("x".repeat(bytes), 64);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (address, text) = (gateways[number % gateways.len()], text.as_str());
            scope.spawn(move || {
                let path = format!("/v1/channels/{channel}/messages");
                let request = Request::post(&path, text);
                let mut client = Client::new(address);
                for _ in 0..messages / threads {
                    let reply = client.send(&request).expect("an answer");
                    assert_eq!(reply.status, 201, "{}", reply.json);
                }
            });
        }
    });
}

/// The longest time that one reader of a channel waits for its newest messages, until `stop` is set.
fn longest_read(address: SocketAddr, channel: &str, stop: &AtomicBool) -> Duration {
    let path = format!("/v1/channels/{channel}/messages?limit=10");
    let (mut client, mut longest) = (Client::new(address), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let reply = client.get(&path).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.json);
        longest = longest.max(begin.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    longest
}

/// The join of a fourth node under 8 writers and 2 readers, and the same time without a join before it.
#[test]
#[ignore = "measures; run by name"]
fn bar_join_with_one_gibibyte() {
    let mut cluster = Cluster::ready(DEMO);
    fill(&cluster.client_ports, "large", (1 << 30) / 32_768, 32_768);
    under_load("30 s without a join", &mut cluster, |_| std::thread::sleep(Duration::from_secs(30)));
    under_load("join of 1 GiB", &mut cluster, |cluster| {
        cluster.add_node(4);
        cluster.wait_for_members();
    });
    let (_, primary) = cluster.primary();
    let lines = cluster.node(primary).lines();
    println!("{}", lines.lines().rev().find(|line| line.contains("node 4 has joined")).expect("it says so"));
}

/// Prints how long writers, readers and the bare disk waited at most meanwhile: no store that flushes waits less than that.
fn under_load(what: &str, cluster: &mut Cluster, act: impl FnOnce(&mut Cluster)) {
    let load = Load::start(&cluster.client_ports, "bars", 8);
    load.wait_for_more(400);
    let (stop, ports, file) = (AtomicBool::new(false), cluster.client_ports.clone(), cluster.path("bare"));
    let begin = Instant::now();
    let (reads, flushes) = std::thread::scope(|scope| {
        let stop = &stop;
        let readers: Vec<_> = ports.iter().map(|port| scope.spawn(move || longest_read(*port, "bars", stop))).collect();
        let flusher = scope.spawn(move || longest_flush(&file, stop));
        act(cluster);
        stop.store(true, Ordering::Relaxed);
        let reads = readers.into_iter().map(|reader| reader.join().expect("reads")).max();
        (reads.unwrap_or_default(), flusher.join().expect("flushes"))
    });
    let (took, writes) = (begin.elapsed(), load.finish().longest_stall());
    println!("{what}, {took:.2?}; the longest wait of 8 writers {writes:.2?}, of 2 readers {reads:.2?},");
    println!("    and of one thread that writes and flushes 2 kB to the same disk {flushes:.2?}");
}

/// The longest time that the bare disk takes to write and flush a little, into a file that has its place already.
fn longest_flush(path: &Path, stop: &AtomicBool) -> Duration {
    const WINDOW: u64 = 1 << 24;
    let file = File::create(path).expect("a file");
    file.write_all_at(&vec![1; 1 << 24], 0).expect("written");
    file.sync_all().expect("flushed");
    let (mut longest, mut place) = (Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        file.write_all_at(&[2; 2_000], place).expect("written");
        file.sync_data().expect("flushed");
        longest = longest.max(begin.elapsed());
        place = (place + 2_000) % (WINDOW - 2_000);
        std::thread::sleep(Duration::from_millis(5));
    }
    longest
}

#[test]
#[ignore = "measures; run by name"]
fn bar_one_million_messages_in_a_channel() {
    let mut cluster = Cluster::ready(Plan { nodes: 1, gateways: 1, witnesses: 0, ..DEMO });
    let begin = Instant::now();
    fill(&cluster.client_ports, "million", 1_000_000, 280);
    println!("1,000,000 posts of 280 bytes, one node, 64 writers: {:.2?}", begin.elapsed());
    show("newest 100 of them", newest(&cluster, "million"));
    println!("memory of the node: {} MiB", cluster.node(1).memory_bytes() >> 20);
    cluster.node(1).kill();
    let begin = Instant::now();
    cluster.node(1).start();
    cluster.primary();
    println!("from a start after kill -9 until it serves: {:.2?}", begin.elapsed());
    show("newest 100 of them after the restart", newest(&cluster, "million"));
    println!("memory of the node: {} MiB", cluster.node(1).memory_bytes() >> 20);
}

fn newest(cluster: &Cluster, channel: &str) -> Vec<Duration> {
    let (mut client, path) = (cluster.client(0), format!("/v1/channels/{channel}/messages?limit=100"));
    let ask = |_| {
        let begin = Instant::now();
        let reply = client.get(&path).expect("an answer");
        assert_eq!(reply.json["messages"].as_array().map(Vec::len), Some(100));
        begin.elapsed()
    };
    (0..1_000).map(ask).collect()
}

/// Small posts, a million at a time: how fast they are, what a node takes.
#[test]
#[ignore = "measures; run by name"]
fn bar_ten_million_small_posts() {
    const MILLION: usize = 1_000_000;
    // Less than a tenth of what ten million posts put into the log: ten times, all of it is let go.
    let mut cluster = Cluster::ready(Plan { settings: "[log]\nretain_bytes = 67108864\n", ..DEMO });
    fill(&cluster.client_ports, "many", 100_000, 16);
    show("newest 100 of 100,000", newest(&cluster, "many"));
    for round in 1..=10 {
        let begin = Instant::now();
        fill(&cluster.client_ports, "many", MILLION, 16);
        let rate = MILLION as f64 / begin.elapsed().as_secs_f64();
        let memory = (1..=3).map(|id| cluster.node(id).memory_bytes() >> 20).max().expect("three");
        let disk = (1..=3).map(|id| used_bytes(&cluster.data_dir(id)) >> 20).max().expect("three");
        println!(
            "million {round}: {rate:.0} posts a second; a node has up to {memory} MiB of memory and {disk} MiB of disk"
        );
    }
    show("newest 100 of 10,100,000", newest(&cluster, "many"));
    (1..=3).for_each(|id| cluster.node(id).kill());
    let (begin, used) = (Instant::now(), used_bytes(&cluster.data_dir(1)));
    (1..=3).for_each(|id| cluster.node(id).start());
    cluster.primary();
    println!("from a start of all after kill -9 until one serves: {:.2?}", begin.elapsed());
    (1..=3).for_each(|id| cluster.node(id).kill());
    let live = live_bytes(&cluster.data_dir(1));
    println!("on disk: {} MiB, {:.2} times the {} MiB of live data", used >> 20, used as f64 / live as f64, live >> 20);
}

/// Every key and value that a read of this directory finds.
fn live_bytes(directory: &Path) -> u64 {
    let engine = Engine::open(directory, FaultPlan::default()).expect("it is whole");
    let mut bytes = 0;
    for table in TABLES {
        let mut add = |key: &[u8], value: &[u8]| {
            bytes += (key.len() + value.len()) as u64;
            Ok(ControlFlow::Continue(()))
        };
        engine.scan(table, &KeyRange::all(), Direction::Forward, &mut add).expect("it can be read");
    }
    bytes
}

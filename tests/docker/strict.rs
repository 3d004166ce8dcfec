//! Clients that let no request fail: what a rolling restart is measured by.
//!
//! A client knows both gateways and keeps one connection open. What it may do without a word: go to the other gateway when a
//! connection cannot be made, since nothing was sent then; and replace a kept connection that was closed before it sent
//! anything. Whatever else is not a 2xx answer, an error status or a connection that ends in the middle, is a failed request.
//! (It is sent again with its key, so that the checks know what became of it.)

use super::http::{Client, Request};
use super::load::Told;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// How long a gateway may take to take a connection: one that is gone does not refuse it.
const CONNECT_PATIENCE: Duration = Duration::from_millis(50);
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(5);

/// What one client, or all of them, met.
#[derive(Debug, Default)]
pub struct Met {
    /// What the checks compare with the disks.
    pub told: Told,
    /// Each failed request, and how.
    pub failed: Vec<String>,
    /// Connections that could not be made.
    pub turned_away: u64,
}

/// The clients at work.
pub struct StrictLoad {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Met>>,
}

impl StrictLoad {
    /// Starts so many clients on one channel, each beginning at another gateway.
    pub fn start(gateways: &[SocketAddr], channel: &str, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begin = |number: usize| {
            let (mut gateways, stop) = (gateways.to_vec(), stop.clone());
            let first = number % gateways.len();
            gateways.rotate_left(first);
            let (channel, name) = (channel.to_owned(), format!("{channel}-w{number}"));
            spawn(move || run(&gateways, &channel, &name, &stop))
        };
        let clients = (0..clients).map(begin).collect();
        Self { stop, clients }
    }

    /// Lets each client finish its request, and tells what all of them met.
    pub fn finish(self) -> Met {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Met::default();
        for client in self.clients {
            let met = client.join().expect("a client meets nothing that it does not know");
            all.told.acked.extend(met.told.acked);
            all.told.waits.extend(met.told.waits);
            all.failed.extend(met.failed);
            all.turned_away += met.turned_away;
        }
        all.told.retries = all.turned_away;
        all
    }
}

fn run(gateways: &[SocketAddr], channel: &str, name: &str, stop: &AtomicBool) -> Met {
    let mut met = Met::default();
    let mut clients: Vec<_> = gateways.iter().map(|address| Client::new(*address)).collect();
    let path = format!("/v1/channels/{channel}/messages");
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let text = format!("{name}-{number:06}");
        let request = Request::post(&path, &text).with("Idempotency-Key", &text);
        let begin = Instant::now();
        let id = insist(&mut clients, &request, &text, &mut met);
        met.told.waits.push((begin, begin.elapsed()));
        met.told.acked.push((text, id));
        sleep(PAUSE);
    }
    met
}

fn insist(clients: &mut [Client], request: &Request<'_>, text: &str, met: &mut Met) -> String {
    loop {
        if clients[0].reach(CONNECT_PATIENCE).is_err() {
            met.turned_away += 1;
            clients.rotate_left(1);
            continue;
        }
        match clients[0].send(request) {
            Ok(reply) if reply.status == 201 => {
                return reply.json["message"]["id"].as_str().expect("an id").to_owned();
            }
            Ok(reply) => met.failed.push(format!("{text}: {} {}", reply.status, reply.json)),
            Err(error) => met.failed.push(format!("{text}: {error}")),
        }
        clients.rotate_left(1);
    }
}

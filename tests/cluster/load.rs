//! Writers: threads that post uniquely numbered texts, each with a key of its own, and never give one up.
//!
//! A writer repeats a post with its key, through the gateways in turn, until it is told what became of it. So in the end every
//! text is either acknowledged, told `aborted`, or still unknown because the writer had to stop.

use super::gate::WIDE;
use super::http::{Client, Reply, Request};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// What the writers were told.
#[derive(Debug, Default)]
pub struct Told {
    /// Text and id of what was acknowledged, in order for each writer.
    pub acked: Vec<(String, String)>,
    /// What never takes effect.
    pub aborted: Vec<String>,
    /// What may be there or not.
    pub unknown: Vec<String>,
    /// Answers that told to ask again, and broken connections.
    pub retries: u64,
    /// When each acknowledged post was first tried, and how long it then took.
    pub waits: Vec<(Instant, Duration)>,
}

impl Told {
    /// The longest that any post took.
    pub fn longest_stall(&self) -> Duration {
        self.waits.iter().map(|(_, took)| *took).max().unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.acked.extend(other.acked);
        self.aborted.extend(other.aborted);
        self.unknown.extend(other.unknown);
        self.retries += other.retries;
        self.waits.extend(other.waits);
    }
}

/// The writers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Told>>,
}

/// Where a writer posts.
#[derive(Clone)]
struct Writer {
    name: String,
    path: String,
    gateways: Vec<SocketAddr>,
    pause: Duration,
}

impl Load {
    /// Starts so many writers on one channel, each beginning at another gateway.
    pub fn start(gateways: &[SocketAddr], channel: &str, writers: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begin = |number: usize| {
            let mut gateways = gateways.to_vec();
            let first = number % gateways.len();
            gateways.rotate_left(first);
            let name = format!("{channel}-w{number}");
            let path = format!("/v1/channels/{channel}/messages");
            let writer = Writer { name, path, gateways, pause: Duration::from_millis(5) };
            let (stop, done) = (stop.clone(), done.clone());
            spawn(move || writer.run(&stop, &done))
        };
        let writers = (0..writers).map(begin).collect();
        Self { stop, done, writers }
    }

    /// How many posts were acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more posts were acknowledged: the cluster serves.
    pub fn wait_for_more(&self, posts: u64) {
        let (end, begin) = (self.acked() + posts, Instant::now());
        while self.acked() < end {
            assert!(begin.elapsed() < WIDE, "{} of {posts} more posts in {WIDE:?}", posts - (end - self.acked()));
            sleep(Duration::from_millis(5));
        }
    }

    /// Lets the writers finish the post that each is at, and tells what they were told.
    pub fn finish(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut told = Told::default();
        for writer in self.writers {
            told.add(writer.join().expect("a writer meets no answer that it does not know"));
        }
        assert!(!told.acked.is_empty(), "nothing was acknowledged, so nothing was tested");
        told
    }
}

/// What one answer means for the text.
enum Verdict {
    Acked(String),
    Aborted,
    Again,
}

impl Writer {
    fn run(&self, stop: &AtomicBool, done: &AtomicU64) -> Told {
        let mut told = Told::default();
        let mut clients: Vec<_> = self.gateways.iter().map(|address| Client::new(*address)).collect();
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let text = format!("{}-{number:06}", self.name);
            let begin = Instant::now();
            match self.insist(&mut clients, &text, stop, &mut told.retries) {
                Verdict::Acked(id) => {
                    told.acked.push((text, id));
                    told.waits.push((begin, begin.elapsed()));
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Verdict::Aborted => told.aborted.push(text),
                Verdict::Again => told.unknown.push(text),
            }
            sleep(self.pause);
        }
        told
    }

    /// Posts one text until it is known what became of it; a writer that should stop gives up after a while.
    fn insist(&self, clients: &mut [Client], text: &str, stop: &AtomicBool, retries: &mut u64) -> Verdict {
        let request = Request::post(&self.path, text).with("Idempotency-Key", text);
        let mut stopped_at = None;
        loop {
            let reply = clients[0].send(&request);
            let verdict = reply.map_or(Verdict::Again, |reply| judge(&reply));
            if !matches!(verdict, Verdict::Again) {
                return verdict;
            }
            *retries += 1;
            clients.rotate_left(1);
            if stop.load(Ordering::Relaxed) && stopped_at.get_or_insert_with(Instant::now).elapsed() > WIDE {
                return Verdict::Again;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// Anything but these answers is a bug, and fails the test.
fn judge(reply: &Reply) -> Verdict {
    match reply.status {
        201 => Verdict::Acked(reply.json["message"]["id"].as_str().expect("an id").to_owned()),
        409 if reply.code() == "aborted" => Verdict::Aborted,
        429 | 503 | 504 => Verdict::Again,
        status => panic!("a post was answered with {status}: {}", reply.json),
    }
}

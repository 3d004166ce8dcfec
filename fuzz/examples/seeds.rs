//! Writes what coverage alone is slow to come to into `seeds`: one letter of each kind that a cluster says while it writes, reads, loses
//! its primary and lets a node join; records of a log; settings, bodies, queries and cursors. `cargo run --example seeds`, here.
//!
//! The seeds of targets whose bytes are choices (`node`, `cluster`, `disk`, ...) come from a corpus: `run.sh --keep`.

use lockstep_fuzz::letters::node;
use lockstep_fuzz::{client, store};
use lockstep_protocol::ids::{Attempt, ViewNumber};
use lockstep_protocol::log::LogRecord;
use lockstep_protocol::machine::{Limits, Timing};
use lockstep_protocol::message::{Envelope, PeerMessage};
use lockstep_protocol::sim::stage::Stage;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn put(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(name), bytes).expect("a file");
}

/// The variant's name.
fn kind(message: &PeerMessage) -> String {
    let text = format!("{message:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase()
}

struct Play {
    stage: Stage,
    heard: BTreeMap<String, Envelope>,
}

impl Play {
    /// Deadlines and letters in their order.
    fn go_on(&mut self, us: u64) {
        let end = self.stage.now() + us;
        loop {
            loop {
                let letters = self.stage.take_letters();
                if letters.is_empty() {
                    break;
                }
                for letter in letters {
                    self.heard.entry(kind(&letter.envelope.message)).or_insert_with(|| letter.envelope.clone());
                    self.stage.deliver(letter).expect("no promise is broken");
                }
            }
            let Some((at, place)) = self.stage.next_deadline().filter(|(at, _)| *at <= end) else { return };
            self.stage.advance(at);
            self.stage.tick(place).expect("no promise is broken");
        }
    }
}

fn letters() -> BTreeMap<String, Envelope> {
    let limits = Limits { log_retain_entries: 2, chunk_bytes: 200, ..Limits::default() };
    let stage = Stage::new((1..=4).map(node).collect(), 4, Timing::default(), limits);
    let mut play = Play { stage, heard: BTreeMap::new() };
    (0..4).for_each(|place| play.stage.start(place).expect("starts"));
    play.go_on(20_000_000);
    for key in ["a", "b", "c"] {
        play.stage.write(3, store::post(key)).expect("no promise is broken");
        play.go_on(500_000);
    }
    play.stage.kill(3);
    play.stage.end_watches(3).expect("no promise is broken");
    play.go_on(10_000_000);
    play.stage.write(2, store::post("d")).expect("no promise is broken");
    play.stage.start(3).expect("starts");
    play.go_on(60_000_000);
    play.heard
}

fn main() {
    for (name, letter) in letters() {
        put("peer_letters", &name, &postcard::to_stdvec(&vec![letter]).expect("it encodes"));
    }
    for entry in store::entries() {
        let index = entry.index;
        let record = LogRecord { entry, view: ViewNumber(1), attempt: Attempt(2), commit_index: index.before() };
        put("log_record", &format!("entry-{index}"), &postcard::to_stdvec(&record).expect("it encodes"));
    }
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for name in ["node-1.toml", "gateway-1.toml"] {
        put("settings", name, &fs::read(config.join(name)).expect("the demo's settings"));
    }
    put(
        "settings",
        "variables",
        b"node.id = 7\n[node]\ndata_dir = \"d\"\n\0NODE__ID=3\nCLUSTER__SEEDS=a:1,b:2\nBATCH__MAX_OPS=5",
    );
    for (name, body) in [
        ("text", &br#"0{"text": "hello"}"#[..]),
        ("twice", br#"0{"text": "a", "x": [1, null, {"y": -2.5e3}], "text": "b"}"#),
        ("escaped", br#"1{"text": "\u00e9\ud83d\ude00\n"}"#),
        ("no-object", br#"0["text"]"#),
    ] {
        put("client_body", name, body);
    }
    for (name, query) in [
        ("page", "0limit=5&before=1700000000.000001&order=asc"),
        ("after", "1after=1700000000.000001&user=ada"),
        ("channels", "2limit=1000"),
        ("changes", "3limit=1"),
    ] {
        put("client_query", name, query.as_bytes());
    }
    for (name, path) in [
        ("history", "/v1/channels/general/messages?order=asc"),
        ("stars", "/v1/channels/general/stars?user=ada"),
        ("channels", "/v1/channels"),
    ] {
        let reply = client::call(actix_web::test::TestRequest::get().uri(path));
        let next = reply.body["next"].as_str().expect("there is more").to_owned();
        let bytes = (0..next.len() / 2).map(|at| u8::from_str_radix(&next[2 * at..2 * at + 2], 16).expect("digits"));
        put("cursor", name, &bytes.collect::<Vec<u8>>());
        put(
            "client_query",
            &format!("cursor-{name}"),
            format!("{}cursor={next}", if name == "channels" { 2 } else { 0 }).as_bytes(),
        );
    }
}

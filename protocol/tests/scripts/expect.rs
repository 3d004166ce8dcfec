//! What a story expects, in its own words:
//!
//! - `expect KEY: TEXT`: the last answer under this label; `waiting` for none yet
//! - `expect primary NODE` or `expect primary none`: who serves, and nobody else does
//! - `expect view of NODE: 3 (2 leads 1 2 w1)`: the last one on its disk
//! - `expect seen TEXT`, `expect never TEXT`: a line since the last `mark` holds the text; `..` stands for anything in between
//! - `expect TEXT before TEXT`: both were seen, the first line of the first text earlier than that of the second
//! - `expect count N TEXT`: so many lines hold the text
//! - `expect store of NODE: "TEXT" ...`, or `nothing`: the messages that its store shows
//! - `expect same NODE...`: their stores and their logs' ends are equal
//! - `expect alive NODE`, `expect dead NODE`, `expect halted NODE`
//!
//! Not here: how any of it comes about (`play.rs`).

use super::play::{Play, Told, split};
use super::words;
use lockstep_protocol::ids::RequestId;
use lockstep_protocol::operation::{ChannelName, Found, Page, Query};
use lockstep_protocol::storage::{StorageEvent, StorageRequest};

fn demand(holds: bool, what: impl FnOnce() -> String) -> Told {
    if holds { Ok(()) } else { Err(what()) }
}

/// Whether the line holds the parts between `..`, in order.
fn holds(line: &str, text: &str) -> bool {
    let mut rest = line;
    text.split("..").map(str::trim).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

impl Play {
    /// One expectation, without the word `expect`.
    pub fn expect(&mut self, text: &str) -> Told {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["primary", name] => self.serves(name),
            ["view", "of", name, view @ ..] => self.knows(name.trim_end_matches(':'), &view.join(" ")),
            ["seen", ..] => {
                let wanted = text.trim_start_matches("seen ").trim();
                demand(self.first(wanted).is_some(), || format!("nothing seen like: {wanted}"))
            }
            ["never", ..] => {
                let unwanted = text.trim_start_matches("never ").trim();
                let found = self.first(unwanted).map(|at| self.lines[at].clone());
                demand(found.is_none(), || format!("seen, and should not be: {found:?}"))
            }
            ["count", number, wanted @ ..] => self.counts(number, &wanted.join(" ")),
            ["store", "of", name, rest @ ..] => self.shows(name.trim_end_matches(':'), &rest.join(" ")),
            ["same", names @ ..] => self.are_same(names),
            ["alive", name] => self.is_alive(name, true),
            ["dead", name] => self.is_alive(name, false),
            ["halted", name] => {
                demand(self.halted.remove(*name), || format!("{name} did not halt"))?;
                self.is_alive(name, false)
            }
            _ => self.compares(text),
        }
    }

    fn compares(&self, text: &str) -> Told {
        if let Some((first, second)) = text.split_once(" before ") {
            let (one, two) = (self.first(first), self.first(second));
            return demand(one.is_some() && two.is_some() && one < two, || {
                format!("in lines {one:?} and {two:?}, not one before the other")
            });
        }
        let (label, wanted) = text.split_once(": ").ok_or("no such expectation")?;
        let answer = self.answers.get(label).and_then(|answers| answers.last());
        let answer = answer.map_or("waiting", String::as_str);
        demand(answer == wanted, || format!("{label} has the answer: {answer}"))
    }

    fn first(&self, text: &str) -> Option<usize> {
        let lines = self.lines.iter().enumerate().skip(self.mark);
        lines.filter(|(_, line)| !line.starts_with('>')).find(|(_, line)| holds(line, text)).map(|(at, _)| at)
    }

    fn counts(&self, number: &str, text: &str) -> Told {
        let lines = self.lines.iter().skip(self.mark).filter(|line| !line.starts_with('>'));
        let count = lines.filter(|line| holds(line, text)).count();
        demand(number.parse() == Ok(count), || format!("seen {count} times: {text}"))
    }

    /// Whether this node serves, and no other does.
    pub fn serves(&self, name: &str) -> Told {
        let serving = self.stage.nodes().iter().zip(&self.names).filter(|(node, _)| node.serving().is_some());
        let serving: Vec<&str> = serving.map(|(_, name)| name.as_str()).collect();
        let wanted: Vec<&str> = if name == "none" { Vec::new() } else { vec![name] };
        demand(serving == wanted, || format!("these serve: {serving:?}"))
    }

    fn knows(&self, name: &str, wanted: &str) -> Told {
        let node = &self.stage.nodes()[self.place(name)?];
        let known = node.mirror.vote.as_ref().map_or("none".to_owned(), |vote| words::view(&vote.view));
        demand(known.trim_start_matches("view ") == wanted, || format!("{name} knows {known}"))
    }

    fn shows(&mut self, name: &str, wanted: &str) -> Told {
        let place = self.place(name)?;
        let channel = ChannelName::new("general").map_err(|error| error.to_string())?;
        let page = Page { limit: 100, before: None, after: None, ascending: true };
        let query = Query::History { channel, page };
        let events = self.stage.ask_disk(place, vec![StorageRequest::Query { request: RequestId(0), query }])?;
        let texts: Vec<String> = match events.into_iter().next() {
            Some(StorageEvent::Queried { found: Ok(Found::Messages { messages, .. }), .. }) => {
                messages.iter().map(|message| message.text.to_owned()).collect()
            }
            _ => Vec::new(), // No such channel yet.
        };
        let wanted = if wanted == "nothing" { Vec::new() } else { split(wanted) };
        demand(texts == wanted, || format!("the store of {name} shows {texts:?}"))
    }

    fn are_same(&self, names: &[&str]) -> Told {
        let state = |name: &&str| {
            let place = self.place(name)?;
            let node = &self.stage.nodes()[place];
            let process = node.process.as_ref().ok_or(format!("{name} is dead"))?;
            let digest = process.storage.digest().map_err(|error| error.to_string())?;
            Ok::<_, String>((digest, process.storage.applied(), process.storage.log_span().1))
        };
        let states = names.iter().map(state).collect::<Result<Vec<_>, _>>()?;
        demand(names.len() > 1 && states.windows(2).all(|two| two[0] == two[1]), || format!("they differ: {states:?}"))
    }

    fn is_alive(&self, name: &str, wanted: bool) -> Told {
        let is_alive = self.stage.nodes()[self.place(name)?].process.is_some();
        demand(is_alive == wanted, || format!("{name} is {}", if is_alive { "alive" } else { "dead" }))
    }
}

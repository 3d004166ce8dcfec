//! Plays one story: a cluster on the simulator's stage, whose letters, timers and disks the story commands.
//!
//! Letters take no time: `run` delivers what is on its way in the order of sending, and lets timers come when nothing is. A rule
//! of the story (`lose`, `hold`, `cut`) decides over a letter when it is sent. What the disks served is told when it was.
//!
//! Commands, one a line; `NODE` is `2` or `w1` (`2b`: another node with the id 2), `WHICH` is a letter's kind, or `any`, and then, each if wanted, `FROM->TO` with
//! either end left out, `slot N`, `attempt N`:
//!
//! - `setting NAME NUMBER`; `cluster NODE...`: it was born and serves; `empty NODE...`: all are seeds, and none has started;
//!   `newcomer NODE`: before either of them, a node with an empty disk that has not started
//! - `start NODE...`, `crash NODE` (its connections are reset), `power off NODE` (nobody hears of it), `wipe NODE`, `stop NODE`
//! - `reset FROM TO`: the first hears that its connection to the other was reset
//! - `run 500ms`, `step` (letters only)
//! - `lose WHICH`, `hold WHICH`, `release WHICH` (a rule, or `all`), `deliver WHICH` (what is held, nothing else),
//!   `repeat WHICH` (the last such letter arrives once more), `garble WHICH` (of what is held), `unchain WHICH` (likewise: it follows another entry), `forget WHICH` (what is held
//!   is lost), `cut FROM TO` (both ways), `heal`
//! - `write KEY "TEXT" at NODE [without creating]`, `read NAME at NODE`, `star KEY of KEY at NODE`
//! - `remove NODE at NODE`, `drain NODE`, `end drain NODE`
//! - `lock NODE`, `unlock NODE`: somebody holds the channel's lock there; `hold disk NODE`, `release disk NODE`, `break disk NODE`
//! - `clock NODE +1h`: its wall clock is so far ahead, `-` for behind
//! - `mark`: `seen` and `never` look back to here; `expect ...`, see `expect.rs`
//!
//! Not here: what is expected (`expect.rs`), and how it is said (`words.rs`).

use super::words;
use lockstep_protocol::ids::{Address, Incarnation, NodeId, Peer, RequestId, Timestamp, Voter, WitnessName};
use lockstep_protocol::invariant::Violation;
use lockstep_protocol::log::Entry;
use lockstep_protocol::machine::{Limits, Timing};
use lockstep_protocol::message::PeerMessage;
use lockstep_protocol::operation::{Action, Answer, ChannelName, KeyOwner, Operation, Outcome, Page, Query, Text};
use lockstep_protocol::operator::OperatorCall;
use lockstep_protocol::sim::stage::{Happening, Letter, Stage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Nothing, or why the story fails.
pub type Told = Result<(), String>;

/// Which letters a command is about.
#[derive(Clone, Debug, PartialEq)]
struct Which {
    text: String,
    kind: String,
    from: Option<usize>,
    to: Option<usize>,
    slot: Option<u64>,
    attempt: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    Lose,
    Hold,
}

/// A story that is being played.
pub struct Play {
    pub stage: Stage,
    pub names: Vec<String>,
    /// What everybody did, line by line, with the commands.
    pub lines: Vec<String>,
    /// Where `seen` and `never` begin to look.
    pub mark: usize,
    /// What was answered under each label, the last one last.
    pub answers: BTreeMap<String, Vec<String>>,
    /// Whose process ended by itself.
    pub halted: BTreeSet<String>,
    newcomers: Vec<String>,
    timing: Timing,
    limits: Limits,
    mail: VecDeque<Letter>,
    held: Vec<Letter>,
    sent: Vec<Letter>,
    rules: Vec<(Verb, Which)>,
    cuts: Vec<(usize, usize)>,
    /// Whose death nobody hears of.
    silent: BTreeSet<usize>,
    labels: BTreeMap<RequestId, String>,
    ids: BTreeMap<String, Timestamp>,
}

/// More deliveries or timers than any story needs.
const STEPS_MAX: u32 = 200_000;
/// How long a cluster has served when a story begins. Milliseconds.
const BEFORE_MS: u64 = 6_000;

fn broken(violation: Violation) -> String {
    format!("a promise is broken: {violation}")
}

fn peer(name: &str, place: usize) -> Result<Peer, String> {
    let voter = match name.strip_prefix('w') {
        Some(_) => Voter::Witness(WitnessName::new(name)),
        None => {
            let digits = name.trim_end_matches(|c: char| c.is_ascii_lowercase());
            Voter::Replica(NodeId(digits.parse().map_err(|_| format!("{name} is no node"))?))
        }
    };
    Ok(Peer { voter, incarnation: Incarnation(place as u64 + 1), address: Address::new(&format!("{name}@{place}")) })
}

fn general() -> Result<ChannelName, String> {
    ChannelName::new("general").map_err(|error| error.to_string())
}

/// The words of a line; what stands in quotes is one, without them.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (place, part) in line.split('"').enumerate() {
        match place % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

impl Play {
    /// An empty stage.
    pub fn new() -> Self {
        Self {
            stage: Stage::new(Vec::new(), 0, Timing::default(), Limits::default()),
            names: Vec::new(),
            lines: Vec::new(),
            mark: 0,
            answers: BTreeMap::new(),
            halted: BTreeSet::new(),
            newcomers: Vec::new(),
            timing: Timing::default(),
            limits: Limits::default(),
            mail: VecDeque::new(),
            held: Vec::new(),
            sent: Vec::new(),
            rules: Vec::new(),
            cuts: Vec::new(),
            silent: BTreeSet::new(),
            labels: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }

    /// Carries out one line of a story. What it is no command for is an error.
    pub fn command(&mut self, line: &str) -> Told {
        let words = split(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words.first() != Some(&"expect") {
            self.lines.push(format!("> {line}"));
        }
        match words.as_slice() {
            ["expect", ..] => self.expect(line.trim_start_matches("expect").trim()),
            ["mark"] => {
                self.mark = self.lines.len();
                Ok(())
            }
            ["step"] => self.settle(),
            ["run", span] => self.run(milliseconds(span)?),
            ["setting", name, number] => self.set(name, number),
            ["newcomer", name] => {
                self.newcomers.push((*name).to_owned());
                Ok(())
            }
            ["cluster", names @ ..] => self.cluster(names),
            ["empty", names @ ..] => self.set_up(names, names.len()),
            _ => self.fault(&words),
        }
    }

    fn fault(&mut self, words: &[&str]) -> Told {
        match words {
            ["start", names @ ..] => names.iter().try_for_each(|name| self.start(name)),
            ["crash", name] => self.crash(name),
            ["power", "off", name] => self.power_off(name),
            ["wipe", name] => {
                let node = self.place(name)?;
                self.stage.wipe(node);
                Ok(())
            }
            ["stop", name] => {
                let node = self.place(name)?;
                self.acts(|stage| stage.stop(node))
            }
            ["reset", from, to] => {
                let (from, to) = (self.place(from)?, self.place(to)?);
                self.acts(|stage| stage.refuse(from, to))
            }
            ["clock", name, by] => {
                let node = self.place(name)?;
                let ahead = milliseconds(by.trim_start_matches(['+', '-']))? as i64 * 1_000;
                self.stage.set_clock(node, if by.starts_with('-') { -ahead } else { ahead });
                Ok(())
            }
            [verb @ ("lock" | "unlock"), name] => {
                let (node, channel) = (self.place(name)?, general()?);
                self.acts(|stage| stage.lock(node, channel, *verb == "lock"))
            }
            [verb @ ("hold" | "release" | "break"), "disk", name] => self.disk(verb, name),
            _ => self.post(words),
        }
    }

    fn disk(&mut self, verb: &str, name: &str) -> Told {
        let node = self.place(name)?;
        if verb == "break" {
            self.stage.break_disk(node);
            return Ok(());
        }
        self.acts(|stage| stage.hold_disk(node, verb == "hold"))
    }

    fn post(&mut self, words: &[&str]) -> Told {
        match words {
            ["lose", which @ ..] => self.rule(Verb::Lose, which),
            ["hold", which @ ..] => self.rule(Verb::Hold, which),
            ["release", "all"] => {
                self.rules.clear();
                self.mail.extend(self.held.drain(..));
                Ok(())
            }
            ["release", which @ ..] => self.release(which),
            ["deliver", which @ ..] => {
                let letters = self.take_held(which)?;
                letters.into_iter().try_for_each(|letter| self.deliver(letter))
            }
            ["forget", which @ ..] => self.take_held(which).map(drop),
            ["garble", which @ ..] => self.garble(which),
            ["unchain", which @ ..] => self.unchain(which),
            ["repeat", which @ ..] => {
                let which = self.which(which)?;
                let letter = self.sent.iter().rev().find(|letter| which.fits(letter)).cloned();
                self.deliver(letter.ok_or(format!("no letter was sent that is {}", which.text))?)
            }
            ["cut", from, to] => {
                let (from, to) = (self.place(from)?, self.place(to)?);
                self.cuts.extend([(from, to), (to, from)]);
                Ok(())
            }
            ["heal"] => {
                self.cuts.clear();
                Ok(())
            }
            _ => self.ask(words),
        }
    }

    fn ask(&mut self, words: &[&str]) -> Told {
        match words {
            ["write", key, text, "at", name, rest @ ..] => {
                let text = Text::new(text).map_err(|error| error.to_string())?;
                let action = Action::Post { channel: general()?, text, create_channel: rest.is_empty() };
                self.write(key, action, name)
            }
            ["star", key, "of", first, "at", name] => {
                let id = *self.ids.get(*first).ok_or(format!("{first} has no answer yet"))?;
                self.write(key, Action::Star { id }, name)
            }
            ["read", label, "at", name] => {
                let page = Page { limit: 100, before: None, after: None, ascending: true };
                let (node, query) = (self.place(name)?, Query::History { channel: general()?, page });
                self.asks(label, |stage| stage.read(node, query))
            }
            ["remove", gone, "at", name] => {
                let (node, gone) = (self.place(name)?, self.place(gone)?);
                let voter = self.stage.nodes()[gone].me.voter.clone();
                self.asks("removal", |stage| stage.operate(node, OperatorCall::Remove { voter }))
            }
            ["drain", name] => {
                let node = self.place(name)?;
                self.asks("drain", |stage| stage.operate(node, OperatorCall::Drain { on: true }))
            }
            ["end", "drain", name] => {
                let node = self.place(name)?;
                self.asks("drain", |stage| stage.operate(node, OperatorCall::Drain { on: false }))
            }
            _ => Err("no such command".to_owned()),
        }
    }

    fn write(&mut self, key: &str, action: Action, name: &str) -> Told {
        let node = self.place(name)?;
        let owner = KeyOwner::new("ada", key).map_err(|error| error.to_string())?;
        self.asks(key, |stage| stage.write(node, Operation { owner, action }))
    }

    fn asks(&mut self, label: &str, ask: impl FnOnce(&mut Stage) -> Result<RequestId, Violation>) -> Told {
        let id = self.stage.next_request();
        self.labels.insert(id, label.to_owned());
        self.acts(|stage| ask(stage).map(drop))
    }

    /// The place of a node on the stage.
    pub fn place(&self, name: &str) -> Result<usize, String> {
        self.names.iter().position(|known| known == name).ok_or(format!("there is no node {name}"))
    }

    fn set(&mut self, name: &str, number: &str) -> Told {
        let number: u32 = number.parse().map_err(|_| format!("{number} is no number"))?;
        match name {
            "replicas_min" => self.limits.replicas_min = number,
            "batch_ops_max" => self.limits.batch_ops_max = number as usize,
            "chunk_bytes" => self.limits.chunk_bytes = number as usize,
            "log_retain_entries" => self.limits.log_retain_entries = u64::from(number),
            "idempotency_retention_s" => self.limits.idempotency_retention_us = u64::from(number) * 1_000_000,
            "takeover_backoff_ms" => self.timing.takeover_backoff_ms = u64::from(number),
            _ => return Err(format!("there is no setting {name}")),
        }
        Ok(())
    }

    /// Newcomers stand in front when they are before a member by name, so that places are in order of names.
    fn set_up(&mut self, members: &[&str], seeds: usize) -> Told {
        self.names = members.iter().map(|name| (*name).to_owned()).chain(self.newcomers.drain(..)).collect();
        let peers = self.names.iter().enumerate().map(|(place, name)| peer(name, place));
        let peers = peers.collect::<Result<Vec<_>, _>>()?;
        self.stage = Stage::new(peers, seeds, self.timing.clone(), self.limits.clone());
        Ok(())
    }

    fn cluster(&mut self, members: &[&str]) -> Told {
        let data = members.iter().filter(|name| !name.starts_with('w')).count();
        self.set_up(members, data)?;
        let primary = self.stage.found(members.len()).ok_or("no data node")?;
        members.iter().try_for_each(|name| self.start(name))?;
        self.run(BEFORE_MS)?;
        self.serves(&primary.to_string())?;
        self.lines.clear();
        Ok(())
    }

    fn start(&mut self, name: &str) -> Told {
        let node = self.place(name)?;
        self.silent.remove(&node);
        self.acts(|stage| stage.start(node))
    }

    fn crash(&mut self, name: &str) -> Told {
        let node = self.place(name)?;
        self.stage.kill(node);
        self.acts(|stage| stage.end_watches(node))
    }

    fn power_off(&mut self, name: &str) -> Told {
        let node = self.place(name)?;
        self.stage.kill(node);
        self.silent.insert(node);
        Ok(())
    }

    /// Has something done, and tells what came of it.
    fn acts(&mut self, act: impl FnOnce(&mut Stage) -> Result<(), Violation>) -> Told {
        let done = act(&mut self.stage);
        for (node, happening) in self.stage.take_happened() {
            self.tell(node, happening);
        }
        self.stage.take_letters();
        done.map_err(broken)
    }

    fn tell(&mut self, node: usize, happening: Happening) {
        let name = self.names[node].clone();
        let line = match happening {
            Happening::Sent(letter) => return self.sort(letter),
            Happening::Refused(why) => format!("refuses a letter: {why}"),
            Happening::Served(request) => match words::served(&request) {
                Some(line) => line,
                None => return,
            },
            Happening::Acts(view) => format!("acts in {}", words::view(&view)),
            Happening::Serves(view) => format!("serves in view {view}"),
            Happening::Stops(view) => format!("is no primary of view {view}"),
            Happening::Answered(id, answer) => return self.answered(&name, id, &answer),
            Happening::Ended(_) => "ends".to_owned(),
            Happening::Halted(_) => {
                self.halted.insert(name.clone());
                "halts".to_owned()
            }
        };
        self.lines.push(format!("{name} {line}"));
    }

    fn answered(&mut self, name: &str, id: RequestId, answer: &Answer) {
        let label = self.labels.get(&id).cloned().unwrap_or_default();
        if let Answer::Written(Outcome::Message(message), _) = answer {
            self.ids.insert(label.clone(), message.id);
        }
        let text = words::answer(answer);
        self.lines.push(format!("{name} answers {label}: {text}"));
        self.answers.entry(label).or_default().push(text);
    }

    /// What becomes of a letter that is sent now.
    fn sort(&mut self, letter: Letter) {
        let rule = self.rules.iter().rev().find(|(_, which)| which.fits(&letter)).map(|(verb, _)| *verb);
        let is_cut = self.cuts.contains(&(letter.from, letter.to));
        let fate = if is_cut { Some(Verb::Lose) } else { rule };
        let (from, to) = (&self.names[letter.from], &self.names[letter.to]);
        let beats = matches!(kind(&letter.envelope.message).as_str(), "Heartbeat" | "HeartbeatAnswer");
        if !beats {
            let after = fate.map_or("", |verb| if verb == Verb::Lose { " (lost)" } else { " (held)" });
            self.lines.push(format!("{from} -> {to}: {}{after}", words::letter(&letter.envelope.message)));
        }
        self.sent.push(letter.clone());
        match fate {
            Some(Verb::Lose) => {}
            Some(Verb::Hold) => self.held.push(letter),
            None => self.mail.push_back(letter),
        }
    }

    fn deliver(&mut self, letter: Letter) -> Told {
        let (from, life, to) = (letter.from, letter.life, letter.to);
        let nodes = self.stage.nodes();
        let sender_lives = nodes[from].process.is_some() && nodes[from].life == life;
        match nodes[to].process.is_some() {
            true => self.acts(|stage| stage.deliver(letter)),
            false if sender_lives && !self.silent.contains(&to) => self.acts(|stage| stage.refuse(from, to)),
            false => Ok(()),
        }
    }

    /// Delivers all that is on its way, and what follows from it.
    fn settle(&mut self) -> Told {
        for _ in 0..STEPS_MAX {
            let Some(letter) = self.mail.pop_front() else { return Ok(()) };
            self.deliver(letter)?;
        }
        Err("letters go round in circles".to_owned())
    }

    fn run(&mut self, ms: u64) -> Told {
        let end = self.stage.now() + ms * 1_000;
        for _ in 0..STEPS_MAX {
            self.settle()?;
            match self.stage.next_deadline().filter(|(at, _)| *at <= end) {
                Some((at, node)) => {
                    self.stage.advance(at);
                    self.acts(|stage| stage.tick(node))?;
                }
                None => {
                    self.stage.advance(end);
                    return Ok(());
                }
            }
        }
        Err("timers go round in circles".to_owned())
    }

    fn rule(&mut self, verb: Verb, words: &[&str]) -> Told {
        let which = self.which(words)?;
        self.rules.push((verb, which));
        Ok(())
    }

    fn release(&mut self, words: &[&str]) -> Told {
        let which = self.which(words)?;
        let before = self.rules.len();
        self.rules.retain(|(_, rule)| *rule != which);
        if self.rules.len() == before {
            return Err(format!("there is no rule about {}", which.text));
        }
        let (free, held) = self.held.drain(..).partition(|letter| which.fits(letter));
        self.held = held;
        let free: Vec<Letter> = free;
        self.mail.extend(free);
        Ok(())
    }

    fn take_held(&mut self, words: &[&str]) -> Result<Vec<Letter>, String> {
        let which = self.which(words)?;
        let (taken, held): (Vec<Letter>, Vec<Letter>) = self.held.drain(..).partition(|letter| which.fits(letter));
        self.held = held;
        if taken.is_empty() { Err(format!("no letter is held that is {}", which.text)) } else { Ok(taken) }
    }

    fn garble(&mut self, words: &[&str]) -> Told {
        self.alter(words, |message| match message {
            PeerMessage::Prepare { entry, .. } => {
                let mut hash = entry.hash;
                hash.0[0] ^= 1;
                *entry = Arc::new(Entry { hash, ..Entry::clone(entry) });
                Ok(())
            }
            PeerMessage::HeartbeatAnswer { serving: Some((_, hash)), .. } => {
                hash.0[0] ^= 1;
                Ok(())
            }
            other => Err(format!("nothing to garble in {}", words::letter(other))),
        })
    }

    fn unchain(&mut self, words: &[&str]) -> Told {
        self.alter(words, |message| match message {
            PeerMessage::Prepare { entry, .. } => {
                let mut prev_hash = entry.prev_hash;
                prev_hash.0[0] ^= 1;
                *entry = Arc::new(Entry::new(entry.index, prev_hash, entry.batch.clone()));
                Ok(())
            }
            other => Err(format!("{} follows nothing", words::letter(other))),
        })
    }

    /// Changes what is held.
    fn alter(&mut self, words: &[&str], change: impl Fn(&mut PeerMessage) -> Told) -> Told {
        let mut taken = self.take_held(words)?;
        taken.iter_mut().try_for_each(|letter| change(&mut letter.envelope.message))?;
        self.held.extend(taken);
        Ok(())
    }

    fn which(&self, words: &[&str]) -> Result<Which, String> {
        let [kind, rest @ ..] = words else { return Err("which letters?".to_owned()) };
        let mut which =
            Which { text: words.join(" "), kind: (*kind).to_owned(), from: None, to: None, slot: None, attempt: None };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            let number = |word: Option<&&str>| word.and_then(|word| word.parse().ok());
            match (*word, word.split_once("->")) {
                ("slot", _) => which.slot = Some(number(rest.next()).ok_or("which slot?")?),
                ("attempt", _) => which.attempt = Some(number(rest.next()).ok_or("which attempt?")?),
                (_, Some((from, to))) => {
                    let end = |name: &str| if name.is_empty() { Ok(None) } else { self.place(name).map(Some) };
                    (which.from, which.to) = (end(from)?, end(to)?);
                }
                (other, None) => return Err(format!("{other} says nothing about a letter")),
            }
        }
        Ok(which)
    }
}

impl Which {
    fn fits(&self, letter: &Letter) -> bool {
        let message = &letter.envelope.message;
        let (slot, attempt) = place_in_log(message);
        (self.kind == "any" || kind(message) == self.kind)
            && self.from.is_none_or(|from| from == letter.from)
            && self.to.is_none_or(|to| to == letter.to)
            && (self.slot.is_none() || self.slot == slot)
            && (self.attempt.is_none() || self.attempt == attempt)
    }
}

/// The name of its variant.
fn kind(message: &PeerMessage) -> String {
    words::letter(message).chars().take_while(|c| c.is_ascii_alphabetic()).collect()
}

fn place_in_log(message: &PeerMessage) -> (Option<u64>, Option<u64>) {
    match message {
        PeerMessage::Prepare { attempt, entry, .. } => (Some(entry.index.0), Some(attempt.0)),
        PeerMessage::Vote { attempt, index, .. }
        | PeerMessage::Commit { attempt, index, .. }
        | PeerMessage::Committed { attempt, index, .. } => (Some(index.0), Some(attempt.0)),
        _ => (None, None), // No other letter is about one slot.
    }
}

fn milliseconds(span: &str) -> Result<u64, String> {
    let unit = span.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = span[..span.len() - unit.len()].parse().map_err(|_| format!("{span} is no span of time"))?;
    match unit {
        "ms" => Ok(number),
        "s" => Ok(number * 1_000),
        "h" => Ok(number * 3_600_000),
        _ => Err(format!("{span} is no span of time")),
    }
}

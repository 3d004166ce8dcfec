//! The machines of a whole cluster, three data nodes, a witness and one that joins, on the simulator's stage: bytes say which letter
//! arrives, is lost or repeated, whose deadline comes, who dies, starts, stops, hangs, is asked, removed or drained. Every promise
//! that the simulator watches holds after each step (`invariant.rs`); and in some runs, once all is well again, a write is done.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use lockstep_fuzz::letters::node;
use lockstep_fuzz::store;
use lockstep_protocol::ids::{Address, Incarnation, Peer, Voter, WitnessName};
use lockstep_protocol::invariant::{Checked, Rule};
use lockstep_protocol::machine::{Limits, Timing};
use lockstep_protocol::operation::{Answer, ChannelName, Page, Query};
use lockstep_protocol::operator::OperatorCall;
use lockstep_protocol::route::MachineName;
use lockstep_protocol::sim::stage::{Happening, Letter, Stage};

const NODES: usize = 5;
const EVENTS_MAX: usize = 200;
/// A cluster that nobody disturbs any more serves within this. Microseconds.
const CALM_US: u64 = 60_000_000;

struct Run {
    stage: Stage,
    letters: Vec<Letter>,
    writes: u64,
    /// Somebody was removed, drained, or stopped: not all are to serve.
    is_reduced: bool,
}

impl Run {
    fn new() -> Self {
        let voter = Voter::Witness(WitnessName::new("w"));
        let witness = Peer { voter, incarnation: Incarnation(9), address: Address::new("9") };
        let peers = vec![node(1), node(2), node(3), witness, node(4)];
        let limits = Limits { log_retain_entries: 2, chunk_bytes: 200, ..Limits::default() };
        let mut stage = Stage::new(peers, 3, Timing::default(), limits);
        stage.found(4);
        let mut run = Self { stage, letters: Vec::new(), writes: 0, is_reduced: false };
        (0..4).for_each(|place| must(run.stage.start(place)));
        run.calm(4_000_000);
        run
    }

    /// Whoever lives stays: what a node takes for impossible, nobody here made it do.
    fn gather(&mut self) {
        self.letters.extend(self.stage.take_letters());
        for (place, happening) in self.stage.take_happened() {
            if let Happening::Halted(why) = happening {
                panic!("node {place} halts: {why}");
            }
        }
    }

    fn deliver(&mut self, letter: Letter) {
        let (from, to) = (letter.from, letter.to);
        let lives = self.stage.nodes()[to].process.is_some();
        must(if lives { self.stage.deliver(letter) } else { self.stage.refuse(from, to) });
        self.gather();
    }

    /// Everything arrives at once, and deadlines come in their order, for so long.
    fn calm(&mut self, us: u64) {
        let end = self.stage.now() + us;
        loop {
            self.gather();
            while !self.letters.is_empty() {
                let letter = self.letters.remove(0);
                self.deliver(letter);
            }
            let Some((at, place)) = self.stage.next_deadline().filter(|(at, _)| *at <= end) else { return };
            self.stage.advance(at);
            must(self.stage.tick(place));
        }
    }

    fn event(&mut self, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let place = bytes.int_in_range(0..=NODES - 1)?;
        match bytes.int_in_range(0..=31)? {
            0..=11 if !self.letters.is_empty() => {
                let at = bytes.choose_index(self.letters.len().min(8))?;
                let letter = self.letters.remove(at);
                self.deliver(letter);
            }
            12 if !self.letters.is_empty() => {
                let at = bytes.choose_index(self.letters.len())?;
                self.letters.remove(at);
            }
            13 if !self.letters.is_empty() => {
                let at = bytes.choose_index(self.letters.len())?;
                self.letters.push(self.letters[at].clone());
            }
            14..=17 => {
                if let Some((at, place)) = self.stage.next_deadline() {
                    self.stage.advance(at);
                    must(self.stage.tick(place));
                }
            }
            18 => {
                must(self.stage.fire(place, *bytes.choose(&MachineName::ALL)?).map(drop));
            }
            19 => {
                self.stage.kill(place);
                must(self.stage.end_watches(place));
            }
            20 | 21 => self.start(place),
            22..=24 => self.write(place, bytes.ratio(1, 4)?),
            25 => must(self.stage.read(place, history()).map(drop)),
            26 => must(self.stage.hold_disk(place, bytes.arbitrary()?)),
            27 => must(self.stage.refuse(place, bytes.int_in_range(0..=NODES - 1)?)),
            28 => self.stage.break_disk(place),
            29 => self.stage.set_clock(place, bytes.int_in_range(-100..=100)? * 1_000_000),
            30 => self.operate(place, bytes)?,
            _ => self.calm(*bytes.choose(&[100_000, 1_000_000, 5_000_000])?),
        }
        self.gather();
        Ok(())
    }

    /// A disk that was to fail may do that while it is opened.
    fn start(&mut self, place: usize) {
        match self.stage.start(place) {
            Err(violation) if violation.rule == Rule::Stopped && violation.what.contains("simulated fault") => {
                self.stage.nodes()[place].disk.crash_keeping(0);
            }
            started => must(started),
        }
    }

    /// A new write, or the last one again.
    fn write(&mut self, place: usize, again: bool) {
        self.writes += u64::from(!again);
        must(self.stage.write(place, store::post(&format!("k{}", self.writes))).map(drop));
    }

    fn operate(&mut self, place: usize, bytes: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        self.is_reduced = true;
        let voter = node(bytes.int_in_range(1..=4)?).voter;
        match bytes.int_in_range(0..=2)? {
            0 => must(self.stage.stop(place)),
            1 => must(self.stage.operate(place, OperatorCall::Remove { voter }).map(drop)),
            _ => must(self.stage.operate(place, OperatorCall::Drain { on: bytes.arbitrary()? }).map(drop)),
        }
        Ok(())
    }

    /// All start and hang no more: after a while somebody serves, and a write is done.
    fn end_well(&mut self) {
        // Disks that were to fail fail now, and their nodes start again.
        for us in [CALM_US / 4, CALM_US / 4, CALM_US] {
            for place in 0..NODES {
                must(self.stage.hold_disk(place, false));
                self.start(place);
            }
            self.calm(us);
        }
        let is_done = (0..NODES).any(|place| {
            self.writes += 1;
            let request = self.stage.write(place, store::post(&format!("k{}", self.writes)));
            let request = request.unwrap_or_else(|violation| panic!("{violation}"));
            let mut is_done = false;
            for _ in 0..8 {
                for (_, happening) in self.stage.take_happened() {
                    is_done |= matches!(happening, Happening::Answered(id, Answer::Written(..)) if id == request);
                }
                let letters: Vec<_> = self.letters.drain(..).chain(self.stage.take_letters()).collect();
                letters.into_iter().for_each(|letter| must(self.stage.deliver(letter)));
            }
            is_done
        });
        assert!(is_done, "nobody serves");
    }
}

fn must(checked: Checked) {
    checked.unwrap_or_else(|violation| panic!("{violation}"));
}

fn history() -> Query {
    let page = Page { limit: 10, before: None, after: None, ascending: false };
    Query::History { channel: ChannelName::new("general").expect("a name"), page }
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Unstructured::new(data);
    let ends = bytes.ratio(1, 8).unwrap_or(false);
    let mut run = Run::new();
    for _ in 0..EVENTS_MAX {
        if bytes.is_empty() || run.event(&mut bytes).is_err() {
            break;
        }
    }
    if ends && !run.is_reduced {
        run.end_well();
    }
});

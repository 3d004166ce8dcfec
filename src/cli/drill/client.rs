//! One client: wishes, asks until it knows what became of it, writes it down, and wishes again.
//!
//! A write is repeated with its key, through the gateways in turn: its tries are one call. Impatient clients give a write up whose
//! outcome they do not know, as one does whose process died; they never touch that star again.
//!
//! Not here: what an answer may show (`checker`).

use super::super::bench::connection::{Connection, Gateway, Trouble};
use super::super::bench::request::Encoder;
use super::answer::{self, Names};
use super::history::{Answer, Call, Channel, Client as Number, End, Id, Page, Post, Receipt, Recorder, Wish};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a client thinks between two calls, at least and at most. Milliseconds.
const THINKS_MS: std::ops::Range<u64> = 10..50;
/// How long it waits between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a client that should end still asks what became of its last write.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// Every such client is impatient.
const IMPATIENT_ONE_IN: u32 = 4;
/// Messages that are read and starred by all: the newest of those that were seen.
const KNOWN_MAX: usize = 400;
/// Of so many stars of its own one is taken back, now and then.
const OWN_STARS: usize = 8;
/// How many messages a page is asked for while the load is on.
const PAGE: usize = 20;

/// What all clients of a drill share; one thread runs them all.
pub struct Shared {
    /// The names.
    pub names: Names,
    /// Where to ask.
    pub gateways: Vec<Gateway>,
    /// What was asked and answered.
    pub record: RefCell<Recorder>,
    /// Messages that were seen.
    known: RefCell<VecDeque<Id>>,
    /// How many posts were begun.
    posts: Cell<Post>,
    /// Channels below this one exist; those from the second on are where the posts go.
    channels: Cell<(Channel, Channel)>,
    /// When the clients should end.
    stops: Cell<Option<Instant>>,
}

impl Shared {
    /// Before the first call.
    pub fn new(names: Names, gateways: Vec<Gateway>, begun: Instant) -> Self {
        Self {
            names,
            gateways,
            record: RefCell::new(Recorder::new(begun)),
            known: RefCell::default(),
            posts: Cell::new(0),
            channels: Cell::new((0, 0)),
            stops: Cell::new(None),
        }
    }

    /// How many channels there are.
    pub fn channel_count(&self) -> Channel {
        self.channels.get().0
    }

    /// These channels exist now, and posts go there.
    pub fn open_channels(&self, count: Channel) {
        let (before, _) = self.channels.get();
        self.channels.set((before + count, before));
    }

    /// From now on no client begins a call.
    pub fn stop(&self) {
        self.stops.set(Some(Instant::now()));
    }

    fn is_over(&self) -> bool {
        self.stops.get().is_some()
    }

    /// Whether not even the last call is worth another try.
    fn is_long_over(&self) -> bool {
        self.stops.get().is_some_and(|at| at.elapsed() > LAST_PATIENCE)
    }

    fn remember(&self, call: &Call) {
        if let (Wish::Post { .. }, [shown]) = (&call.wish, call.shown()) {
            let mut known = self.known.borrow_mut();
            known.push_back(shown.id);
            if known.len() > KNOWN_MAX {
                known.pop_front();
            }
        }
    }
}

/// What one try says.
enum Told {
    Answered(Answer, Option<Receipt>),
    /// This try had no effect, and will have none.
    Refused,
    /// Its key stands for "never", whatever other tries were told.
    Aborted,
    Unknown,
}

/// A client.
pub struct Client {
    shared: Rc<Shared>,
    number: Number,
    random: fastrand::Rng,
    connections: Vec<Connection>,
    encoder: Encoder,
    calls: u64,
    /// Stars of its own: whether each is given. None: it does not know.
    stars: BTreeMap<Id, Option<bool>>,
}

impl Client {
    /// The client with this number, which prefers the gateway of that place.
    pub fn new(shared: Rc<Shared>, number: Number, seed: u64) -> Self {
        let connections = shared.gateways.iter().map(|gateway| Connection::new(Rc::from([gateway.clone()]), 0));
        let (connections, encoder) = (connections.collect(), Encoder::new(&Names::user(number)));
        let random = fastrand::Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(u64::from(number)));
        Self { shared, number, random, connections, encoder, calls: 0, stars: BTreeMap::new() }
    }

    /// Works until it is told to stop.
    pub async fn run(mut self) {
        while !self.shared.is_over() {
            if let Some(wish) = self.wish() {
                self.call(wish).await;
            }
            tokio::time::sleep(Duration::from_millis(self.random.u64(THINKS_MS))).await;
        }
    }

    fn home(&self) -> usize {
        self.number as usize % self.connections.len()
    }

    fn is_impatient(&self) -> bool {
        self.number % IMPATIENT_ONE_IN == IMPATIENT_ONE_IN - 1
    }

    /// One call with all its tries, first through its own gateway; how it ended.
    pub async fn call(&mut self, wish: Wish) -> End {
        let called = self.shared.record.borrow_mut().now();
        self.calls += 1;
        let key = format!("{}-{}-{}", self.shared.names.run, self.number, self.calls);
        let (mut gateway, mut tries, mut in_doubt) = (self.home(), 0, false);
        let outcome = loop {
            tries += 1;
            let told = self.ask(gateway, &wish, &key).await;
            in_doubt |= wish.is_write() && matches!(told, Told::Unknown);
            match told {
                Told::Answered(answer, receipt) => break Some((answer, receipt)),
                Told::Aborted => {
                    in_doubt = false;
                    break None;
                }
                Told::Refused | Told::Unknown if self.gives_up(&wish) => break None,
                Told::Refused | Told::Unknown => gateway = (gateway + 1) % self.connections.len(),
            }
            tokio::time::sleep(PAUSE).await;
        };
        let at = self.shared.record.borrow_mut().now();
        let end = match outcome {
            Some((answer, receipt)) => End::Answered { at, answer, receipt },
            None if in_doubt => End::Unknown { at },
            None => End::Refused { at },
        };
        self.note(Call { client: self.number, wish, called, end: end.clone(), tries, gateway });
        end
    }

    /// Whether it does not ask again: a read is not worth it, and some clients do not wait for what became of a write.
    fn gives_up(&self, wish: &Wish) -> bool {
        !wish.is_write() || self.is_impatient() || self.shared.is_long_over()
    }

    fn note(&mut self, call: Call) {
        if let Wish::Star { message, on } = call.wish {
            let known = match call.end {
                End::Answered { .. } => Some(on),
                End::Refused { .. } => self.stars.get(&message).copied().unwrap_or(Some(false)),
                End::Unknown { .. } => None,
            };
            self.stars.insert(message, known);
        }
        self.shared.remember(&call);
        self.shared.record.borrow_mut().add(call);
    }

    async fn ask(&mut self, gateway: usize, wish: &Wish, key: &str) -> Told {
        let Self { shared, connections, encoder, .. } = self;
        let host = &shared.gateways[gateway].name;
        let request = answer::encode(&shared.names, encoder, host, wish, key);
        match connections[gateway].ask(request).await {
            Ok(answer) => judge(&shared.names, answer.status, answer.receipt, answer.body),
            Err(Trouble::NotSent) => Told::Refused,
            Err(Trouble::Lost | Trouble::Late | Trouble::Malformed(_)) => Told::Unknown,
        }
    }

    fn wish(&mut self) -> Option<Wish> {
        let (count, newest) = self.shared.channels.get();
        let recent = self.random.u32(newest..count);
        let any = if self.random.u8(..5) == 0 { self.random.u32(..count) } else { recent };
        Some(match self.random.u8(..100) {
            0..40 => {
                let post = self.shared.posts.get();
                self.shared.posts.set(post + 1);
                Wish::Post { channel: recent, post }
            }
            40..60 => return self.star(),
            60..75 => Wish::History(Page { channel: any, after: None, ascending: false, limit: PAGE }),
            75..80 => Wish::History(Page { channel: any, after: self.known(), ascending: true, limit: PAGE }),
            80..90 => {
                let of = self.random.bool().then(|| self.random.u32(..=self.number));
                Wish::Stars { channel: any, of, limit: PAGE }
            }
            _ => Wish::Message { message: self.known()? },
        })
    }

    fn known(&mut self) -> Option<Id> {
        let known = self.shared.known.borrow();
        (!known.is_empty()).then(|| known[self.random.usize(..known.len())])
    }

    /// A star on any message, or one taken back, of its latest ones.
    fn star(&mut self) -> Option<Wish> {
        let given = self.stars.iter().rev().filter(|(_, known)| **known == Some(true));
        let own: Vec<_> = given.take(OWN_STARS).map(|(message, _)| *message).collect();
        let message = match self.random.choice(own) {
            Some(message) if self.random.u8(..3) == 0 => message,
            Some(_) | None => self.known()?,
        };
        let on = !self.stars.get(&message).copied().unwrap_or(Some(false))?;
        Some(Wish::Star { message, on })
    }
}

/// What a status says about this try.
fn judge(names: &Names, status: u16, (view, index): (Option<u64>, Option<u64>), body: &[u8]) -> Told {
    match status {
        200 | 201 => {
            let receipt = view.zip(index).map(|(view, index)| Receipt { view, index });
            Told::Answered(answer::decode(names, body), receipt)
        }
        404 => Told::Answered(Answer::NotFound, None),
        409 => Told::Aborted,
        503 => Told::Refused,
        500.. => Told::Unknown,
        _ => Told::Answered(Answer::Unreadable, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16) -> &'static str {
        let names = Names { run: String::new() };
        match judge(&names, status, (Some(1), Some(2)), b"") {
            Told::Answered(Answer::NotFound, None) => "not found",
            Told::Answered(Answer::Unreadable, _) => "unreadable",
            Told::Answered(..) => "answered",
            Told::Refused => "refused",
            Told::Aborted => "aborted",
            Told::Unknown => "unknown",
        }
    }

    #[test]
    fn a_status_says_whether_a_try_may_have_had_an_effect() {
        assert_eq!(
            [200, 400, 404, 409, 422].map(told),
            ["unreadable", "unreadable", "not found", "aborted", "unreadable"]
        );
        assert_eq!([500, 503, 504].map(told), ["unknown", "refused", "unknown"]);
    }

    /// A client of a gateway that plays this script: one answer a connection, and silence at its end.
    async fn ended(script: &[&str], number: Number, wish: Wish) -> Call {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let answers: Vec<_> = script.iter().map(|line| (*line).to_owned()).collect();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                let _ = stream.read(&mut [0; 1_024]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let gateway = Gateway { name: address.to_string(), address };
        let shared = Rc::new(Shared::new(Names { run: "r".to_owned() }, vec![gateway], Instant::now()));
        Client::new(shared.clone(), number, 1).call(wish).await;
        let record = shared.record.borrow();
        record.calls()[0].clone()
    }

    const REFUSED: &str = "HTTP/1.1 503 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const ABORTED: &str = "HTTP/1.1 409 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const MISSING: &str = "HTTP/1.1 404 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const LOST: &str = "";
    const PATIENT: Number = 0;
    const IMPATIENT: Number = 3;

    #[actix_rt::test]
    async fn a_write_is_in_doubt_from_the_first_try_that_may_have_had_an_effect() {
        let post = Wish::Post { channel: 0, post: 1 };
        let kind = |call: &Call| match call.end {
            End::Answered { .. } => "answered",
            End::Refused { .. } => "refused",
            End::Unknown { .. } => "unknown",
        };
        assert_eq!(kind(&ended(&[REFUSED], IMPATIENT, post).await), "refused");
        assert_eq!(kind(&ended(&[LOST], IMPATIENT, post).await), "unknown");
        let patient = ended(&[LOST, REFUSED, MISSING], PATIENT, post).await;
        assert_eq!((kind(&patient), patient.tries), ("answered", 3));
        let aborted = ended(&[LOST, ABORTED], PATIENT, post).await;
        assert_eq!((kind(&aborted), aborted.tries), ("refused", 2), "its key stands for it");
        assert_eq!(
            kind(&ended(&[LOST], PATIENT, Wish::Message { message: Id(1) }).await),
            "refused",
            "a read has none"
        );
    }
}

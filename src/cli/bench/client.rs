//! One client: asks, holds the answer against the ledger, writes down what it was told, and asks again.
//!
//! It never sends an operation twice. What was refused with 409 or 503 never took effect, what was not answered is in doubt, and
//! both are errors.

use super::answer::{self, Expected};
use super::connection::{Answer, Connection, Gateway, Trouble};
use super::ledger::{Known, Ledger, Place};
use super::pace::Pace;
use super::request::Encoder;
use super::tally::Tally;
use super::text::PostName;
use super::violation::Violation;
use super::work::{Kind, Mix};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a client pauses after an error that does not say how long.
const PAUSE: Duration = Duration::from_millis(100);

/// What all clients of a run share; one thread runs them all.
pub struct Shared {
    /// The run's name: keys begin with it.
    pub run: String,
    /// Where to ask.
    pub gateways: Rc<[Gateway]>,
    /// What answers are compared with.
    pub expected: Expected,
    /// What was told.
    pub ledger: RefCell<Ledger>,
    /// What is counted.
    pub tally: RefCell<Tally>,
}

/// One operation that a client wishes for.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Post(PostName),
    History { channel: usize, known: Known },
    Message(Place),
    Star { place: Place, star: bool },
}

/// What became of it.
enum Told {
    Done,
    /// It never took effect.
    Refused {
        why: String,
        pause: Duration,
    },
    /// It may have taken effect.
    Doubtful {
        why: String,
        pause: Duration,
    },
    Violation(Violation),
}

/// A client.
pub struct Client {
    shared: Rc<Shared>,
    number: u32,
    random: fastrand::Rng,
    connection: Connection,
    encoder: Encoder,
    text: Vec<u8>,
    writes: u64,
    /// Keys of one client differ between the stages of a run.
    stage: char,
}

impl Client {
    /// The client with this number: it is a writer of the ledger, and begins with the gateway of that place.
    pub fn new(shared: Rc<Shared>, number: u32, stage: char) -> Self {
        let connection = Connection::new(shared.gateways.clone(), number as usize);
        let encoder = Encoder::new(&shared.expected.user_of(number));
        let random = fastrand::Rng::with_seed(u64::from(number));
        Self { shared, number, random, connection, encoder, text: Vec::new(), writes: 0, stage }
    }

    /// Works until the pace says that it is over.
    pub async fn run(mut self, pace: Rc<Pace>, mix: Mix) {
        while let Some(due) = pace.next().await {
            let kind = mix.draw(&mut self.random);
            let pause = self.once(kind, due).await;
            pace.rest(pause).await;
        }
        self.shared.tally.borrow_mut().reconnects += self.connection.reconnects();
    }

    /// One operation; after an error, how long to pause.
    async fn once(&mut self, kind: Kind, due: Instant) -> Option<Duration> {
        let Some(wish) = self.wish(kind) else {
            self.shared.tally.borrow_mut().failed(due, "nothing to read yet".to_owned());
            return Some(PAUSE);
        };
        self.writes += 1;
        let Self { shared, number, connection, encoder, text, writes, stage, .. } = self;
        let key = format_args!("{}-{number}-{stage}{writes}", shared.run).to_string();
        let gateway = connection.gateway().name.clone();
        let request = encode(shared, encoder, text, &gateway, &wish, &key);
        shared.tally.borrow_mut().sent(due, Instant::now());
        let answered = connection.ask(request).await;
        let done = Instant::now();
        let told = judge(shared, *number, &wish, answered);
        note(shared, *number, &wish, &told);
        let mut tally = shared.tally.borrow_mut();
        match told {
            Told::Done => {
                tally.done(kind, due, done);
                None
            }
            Told::Refused { why, pause } | Told::Doubtful { why, pause } => {
                tally.failed(due, why);
                Some(pause)
            }
            Told::Violation(violation) => {
                tally.failed(due, "wrong answer".to_owned());
                tally.violations.add(&gateway, &violation);
                Some(PAUSE)
            }
        }
    }

    fn wish(&mut self, kind: Kind) -> Option<Wish> {
        let mut ledger = self.shared.ledger.borrow_mut();
        match kind {
            Kind::Post => Some(Wish::Post(ledger.begin_post(self.number))),
            Kind::History => {
                let channel = self.random.usize(..ledger.channels());
                Some(Wish::History { channel, known: ledger.known(channel) })
            }
            Kind::Message => ledger.pick(&mut self.random).map(Wish::Message),
            Kind::Star => match ledger.starred(self.number) {
                Some(place) => Some(Wish::Star { place, star: false }),
                None => ledger.pick(&mut self.random).map(|place| Wish::Star { place, star: true }),
            },
        }
    }
}

fn encode<'a>(
    shared: &Shared,
    encoder: &'a mut Encoder,
    text: &mut Vec<u8>,
    host: &str,
    wish: &Wish,
    key: &str,
) -> &'a [u8] {
    let expected = &shared.expected;
    match wish {
        Wish::Post(post) => {
            let channel = &expected.channels[shared.ledger.borrow().channel_of(*post)];
            text.clear();
            expected.texts.write(*post, text);
            encoder.post(host, format_args!("/v1/channels/{channel}/messages"), key, text)
        }
        Wish::History { channel, .. } => {
            let (channel, limit) = (&expected.channels[*channel], answer::HISTORY_LIMIT);
            encoder.get(host, format_args!("/v1/channels/{channel}/messages?limit={limit}"))
        }
        Wish::Message(place) => encoder.get(host, format_args!("/v1/messages/{}", place.id)),
        Wish::Star { place, star } => {
            let method = if *star { "PUT" } else { "DELETE" };
            encoder.write(method, host, format_args!("/v1/messages/{}/star", place.id), key)
        }
    }
}

/// What an answer means.
fn judge(shared: &Shared, client: u32, wish: &Wish, answered: Result<Answer<'_>, Trouble>) -> Told {
    let doubtful = |why: &str| Told::Doubtful { why: why.to_owned(), pause: PAUSE };
    let answer = match answered {
        Ok(answer) => answer,
        Err(Trouble::NotSent) => return Told::Refused { why: "not connected".to_owned(), pause: PAUSE },
        Err(Trouble::Lost) => return doubtful("connection lost"),
        Err(Trouble::Late) => return doubtful("no answer in time"),
        Err(Trouble::Malformed(malformed)) => return doubtful(&format!("malformed answer: {malformed}")),
    };
    if answer.status == expected_status(wish) {
        return read(shared, client, wish, answer.body).map_or_else(Told::Violation, |()| Told::Done);
    }
    refused(wish, &answer)
}

fn expected_status(wish: &Wish) -> u16 {
    match wish {
        Wish::Post(_) => 201,
        Wish::History { .. } | Wish::Message(_) | Wish::Star { .. } => 200,
    }
}

/// An answer that is an error.
fn refused(wish: &Wish, answer: &Answer<'_>) -> Told {
    let code = answer::code(answer.body);
    let why = format!("{} {code}", answer.status).trim_end().to_owned();
    let pause = answer.retry_after_s.map_or(PAUSE, Duration::from_secs);
    match (answer.status, wish) {
        // What is asked for here was acknowledged before.
        (404, Wish::Message(place) | Wish::Star { place, .. }) => {
            Told::Violation(Violation::NotFound { id: place.id, code: code.to_owned() })
        }
        (404, Wish::History { known, .. }) => {
            Told::Violation(Violation::NotFound { id: known.newest, code: code.to_owned() })
        }
        (400..=499 | 503, _) => Told::Refused { why, pause },
        _ => Told::Doubtful { why, pause },
    }
}

/// Reads an answer that says that it is done; a post is acknowledged with it.
fn read(shared: &Shared, client: u32, wish: &Wish, body: &[u8]) -> Result<(), Violation> {
    let mut ledger = shared.ledger.borrow_mut();
    let expected = &shared.expected;
    match wish {
        Wish::Post(post) => {
            let id = expected.posted(&ledger, *post, body)?;
            ledger.acknowledge(*post, id)
        }
        Wish::History { channel, known } => expected.history(&ledger, *channel, *known, body),
        Wish::Message(place) => expected.message(&ledger, *place, body),
        Wish::Star { place, star } => expected.starred(&ledger, *place, client, *star, body),
    }
}

/// Writes down what was told.
fn note(shared: &Shared, client: u32, wish: &Wish, told: &Told) {
    let mut ledger = shared.ledger.borrow_mut();
    match (wish, told) {
        (Wish::Post(post), Told::Refused { .. }) => ledger.refuse(*post),
        (Wish::Star { place, star }, Told::Done) => ledger.star(client, *place, *star),
        (Wish::Star { place, .. }, Told::Doubtful { .. } | Told::Violation(_)) => ledger.doubt_star(client, *place),
        // A post that is done was acknowledged when its id was read; until then it is in doubt.
        (Wish::Post(_), Told::Done | Told::Doubtful { .. } | Told::Violation(_))
        | (Wish::Star { .. }, Told::Refused { .. })
        | (Wish::History { .. } | Wish::Message(_), _) => {}
    }
}

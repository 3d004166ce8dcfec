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
/// The longest pause that an answer may ask for. Seconds.
const PAUSE_S_MAX: u64 = 60;

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

/// What they leave behind.
pub struct Finished {
    /// Where they asked.
    pub gateways: Rc<[Gateway]>,
    /// What answers are compared with.
    pub expected: Expected,
    /// What was told.
    pub ledger: Ledger,
    /// What was counted.
    pub tally: Tally,
}

impl Shared {
    /// Once all clients have ended.
    pub fn finish(self) -> Finished {
        let Self { gateways, expected, ledger, tally, .. } = self;
        Finished { gateways, expected, ledger: ledger.into_inner(), tally: tally.into_inner() }
    }
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
            self.shared.tally.borrow_mut().failed(due, Instant::now(), "nothing to read yet".to_owned());
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
                tally.failed(due, done, why);
                Some(pause)
            }
            Told::Violation(violation) => {
                tally.failed(due, done, "wrong answer".to_owned());
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
    let answer = match answered {
        Ok(answer) => answer,
        Err(trouble @ Trouble::NotSent) => return Told::Refused { why: trouble.to_string(), pause: PAUSE },
        Err(trouble @ (Trouble::Lost | Trouble::Late | Trouble::Malformed(_))) => {
            return Told::Doubtful { why: trouble.to_string(), pause: PAUSE };
        }
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
    let pause = answer.retry_after_s.map_or(PAUSE, |seconds| Duration::from_secs(seconds.min(PAUSE_S_MAX)));
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

#[cfg(test)]
mod tests {
    use super::super::ledger::Fate;
    use super::super::text::Texts;
    use super::*;
    use lockstep_protocol::ids::Timestamp;

    fn shared() -> Shared {
        let now = Instant::now();
        let mut ledger = Ledger::new(1, 1);
        let post = ledger.begin_post(0);
        ledger.acknowledge(post, Timestamp(5)).expect("the first");
        let texts = Texts::new("0123456789ab", 64);
        Shared {
            run: "0123456789ab".into(),
            gateways: Rc::from([]),
            expected: Expected { texts, channels: vec!["c".into()], user: "u".into() },
            ledger: RefCell::new(ledger),
            tally: RefCell::new(Tally::new(now..now)),
        }
    }

    const PLACE: Place = Place { post: PostName { writer: 0, number: 0 }, id: Timestamp(5) };

    fn wishes(shared: &Shared) -> [Wish; 4] {
        let mut ledger = shared.ledger.borrow_mut();
        [
            Wish::Post(ledger.begin_post(0)),
            Wish::History { channel: 0, known: ledger.known(0) },
            Wish::Message(PLACE),
            Wish::Star { place: PLACE, star: true },
        ]
    }

    fn answer(status: u16, code: &str) -> (u16, String) {
        (status, format!(r#"{{"code": "{code}"}}"#))
    }

    #[test]
    fn an_error_is_never_taken_for_something_done() {
        let shared = shared();
        for wish in wishes(&shared) {
            for status in [200, 201, 204, 301, 400, 404, 408, 409, 422, 429, 500, 503, 504] {
                let (status, body) = answer(status, "x");
                let answered = Answer { status, retry_after_s: None, receipt: (None, None), body: body.as_bytes() };
                let told = judge(&shared, 0, &wish, Ok(answered));
                assert!(!matches!(told, Told::Done), "{wish:?} and {status}");
            }
            for trouble in [Trouble::NotSent, Trouble::Lost, Trouble::Late] {
                assert!(!matches!(judge(&shared, 0, &wish, Err(trouble)), Told::Done), "{wish:?} and {trouble}");
            }
        }
    }

    /// What the ledger says of a post that was answered so.
    fn fate_after(answered: Result<(u16, String), Trouble>) -> Option<Fate> {
        let shared = shared();
        let [wish, ..] = wishes(&shared);
        let answered = match &answered {
            Ok((status, body)) => {
                Ok(Answer { status: *status, retry_after_s: None, receipt: (None, None), body: body.as_bytes() })
            }
            Err(trouble) => Err(*trouble),
        };
        let told = judge(&shared, 0, &wish, answered);
        note(&shared, 0, &wish, &told);
        shared.ledger.borrow().fate(PostName { writer: 0, number: 1 })
    }

    #[test]
    fn a_post_without_a_clear_answer_is_in_doubt_and_a_refused_one_is_not() {
        for doubtful in [answer(500, "internal"), answer(504, "outcome_unknown"), answer(200, "x"), answer(201, "x")] {
            assert_eq!(fate_after(Ok(doubtful.clone())), Some(Fate::Doubtful), "{doubtful:?}");
        }
        for refused in [answer(503, "no_primary"), answer(409, "aborted"), answer(422, "idempotency_key_reused")] {
            assert_eq!(fate_after(Ok(refused.clone())), Some(Fate::Refused), "{refused:?}");
        }
        assert_eq!(fate_after(Err(Trouble::NotSent)), Some(Fate::Refused));
        assert_eq!(
            (fate_after(Err(Trouble::Lost)), fate_after(Err(Trouble::Late))),
            (Some(Fate::Doubtful), Some(Fate::Doubtful))
        );
    }

    #[test]
    fn what_was_acknowledged_and_is_not_found_is_a_broken_promise() {
        let shared = shared();
        let [_, history, message, star] = wishes(&shared);
        for wish in [history, message, star] {
            let (status, body) = answer(404, "message_not_found");
            let answered = Answer { status, retry_after_s: None, receipt: (None, None), body: body.as_bytes() };
            let Told::Violation(violation) = judge(&shared, 0, &wish, Ok(answered)) else { panic!("{wish:?}") };
            assert_eq!(violation, Violation::NotFound { id: Timestamp(5), code: "message_not_found".into() });
        }
    }

    #[test]
    fn an_error_says_how_long_to_pause() {
        let shared = shared();
        let [post, ..] = wishes(&shared);
        let (_, body) = answer(503, "no_primary");
        for (retry_after_s, expected) in [(Some(3), Duration::from_secs(3)), (None, PAUSE)] {
            let answered = Answer { status: 503, retry_after_s, receipt: (None, None), body: body.as_bytes() };
            let Told::Refused { why, pause } = judge(&shared, 0, &post, Ok(answered)) else { panic!("refused") };
            assert_eq!((why.as_str(), pause), ("503 no_primary", expected));
        }
    }
}

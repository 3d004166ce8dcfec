//! What was asked and what was answered, in one order of time: the record that a drill makes and the checker judges.
//!
//! A call is one client's wish over all of its tries: a write is repeated with its idempotency key until it is known what became of
//! it, so its tries are one call. Every moment of a record differs from every other, so "returned before the other was called"
//! is never a matter of a clock's step.
//!
//! Not here: how an answer is read from the wire (`answer.rs`), and what it may not be (`checker`).

use std::time::Instant;

/// Microseconds since the record began; no two events of a record share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// The end of a call of which nobody knows when it takes effect, if ever.
pub const NEVER: Moment = Moment(u64::MAX);

/// A message's id. Microseconds, as in its text form without the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

/// A client, which is a user of its own.
pub type Client = u32;
/// A channel of the drill; all exist before the first call.
pub type Channel = u32;
/// A post of the drill. Its text names it, so no two have the same text.
pub type Post = u32;

/// A page of a channel that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of which channel.
    pub channel: Channel,
    /// Only messages after this one.
    pub after: Option<Id>,
    /// Whether the oldest come first.
    pub ascending: bool,
    /// How many at most.
    pub limit: usize,
}

/// What a client wishes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A post.
    Post { channel: Channel, post: Post },
    /// The caller's star on a message is given (`on`) or taken back.
    Star { message: Id, on: bool },
    /// A page of a channel's history.
    History(Page),
    /// The newest starred messages of a channel, of one user's stars or of anyone's.
    Stars { channel: Channel, of: Option<Client>, limit: usize },
    /// One message.
    Message { message: Id },
}

impl Wish {
    /// Whether it changes anything.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Post { .. } | Self::Star { .. })
    }

    /// Its kind, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Post { .. } => "post",
            Self::Star { on: true, .. } => "star",
            Self::Star { on: false, .. } => "unstar",
            Self::History(_) => "history",
            Self::Stars { .. } => "stars",
            Self::Message { .. } => "message",
        }
    }
}

/// A message as an answer showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its id.
    pub id: Id,
    /// Which post it is, by its text; none when no post has that text.
    pub post: Option<Post>,
    /// Its channel; none for one that the drill does not know.
    pub channel: Option<Channel>,
    /// Who posted it; none for a stranger.
    pub by: Option<Client>,
    /// Who starred it. A stranger is [`STRANGER`].
    pub stars: Box<[Client]>,
}

/// A user that is no client of the drill.
pub const STRANGER: Client = Client::MAX;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One message.
    Message(Shown),
    /// A page of messages, in the order of the answer.
    Page(Vec<Shown>),
    /// There is no such message, or channel.
    NotFound,
    /// It is no answer to what was asked.
    Unreadable,
}

/// Which state an answer is about, as the cluster says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The view in which it was answered.
    pub view: u64,
    /// Up to where the log was applied.
    pub index: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was answered.
    Answered { at: Moment, answer: Answer, receipt: Option<Receipt> },
    /// It was told to have had no effect, and to have none ever.
    Refused { at: Moment },
    /// Nobody knows whether it had an effect, or will have one.
    Unknown { at: Moment },
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who.
    pub client: Client,
    /// What.
    pub wish: Wish,
    /// When its first try was sent.
    pub called: Moment,
    /// How it ended.
    pub end: End,
    /// How often it was sent.
    pub tries: u32,
    /// The gateway that answered last, by its place.
    pub gateway: usize,
}

impl Call {
    /// When it took effect at the latest: an unknown one, never.
    pub fn returned(&self) -> Moment {
        match self.end {
            End::Answered { at, .. } | End::Refused { at } => at,
            End::Unknown { .. } => NEVER,
        }
    }

    /// When the client gave it up or had its answer.
    pub fn ended(&self) -> Moment {
        match self.end {
            End::Answered { at, .. } | End::Refused { at } | End::Unknown { at } => at,
        }
    }

    /// What it was answered.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.end {
            End::Answered { answer, .. } => Some(answer),
            End::Refused { .. } | End::Unknown { .. } => None,
        }
    }

    /// The messages that it was shown.
    pub fn shown(&self) -> &[Shown] {
        match self.answer() {
            Some(Answer::Message(shown)) => std::slice::from_ref(shown),
            Some(Answer::Page(shown)) => shown,
            Some(Answer::NotFound | Answer::Unreadable) | None => &[],
        }
    }
}

/// The record while it is made, by one thread.
#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    last: Moment,
    calls: Vec<Call>,
}

impl Recorder {
    /// Begins now.
    pub fn new(begun: Instant) -> Self {
        Self { begun, last: Moment(0), calls: Vec::new() }
    }

    /// The next moment: after all others.
    pub fn now(&mut self) -> Moment {
        let elapsed = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.last = Moment(elapsed.max(self.last.0 + 1));
        self.last
    }

    /// Writes a call down that has ended.
    pub fn add(&mut self, call: Call) {
        self.calls.push(call);
    }

    /// All calls that ended so far, in the order in which they did.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }
}

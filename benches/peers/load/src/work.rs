//! The work that all are given: texts of 256 bytes, and what a client of any server can do.

use anyhow::Result;

use crate::args::Work;

/// Bytes of a message's text.
pub const TEXT_BYTES: usize = 256;
/// How many messages a page of the newest has.
pub const PAGE: usize = 100;
/// Texts that a client has ready, so that making them costs nothing while it is measured.
const TEXTS: usize = 64;

/// One client: it asks, waits for the answer, checks it, and may then ask again.
pub trait Client: Send + 'static {
    /// Does the work once.
    ///
    /// # Errors
    /// Any answer but the one expected.
    fn call(&mut self, work: Work) -> impl Future<Output = Result<()>> + Send;
}

/// Random texts, taken in turn: no server gains by storing the same one twice.
pub struct Texts {
    texts: Vec<String>,
    next: usize,
}

impl Texts {
    /// Letters and digits only, so that no encoding makes them longer.
    pub fn new() -> Self {
        let text = || (0..TEXT_BYTES).map(|_| fastrand::alphanumeric()).collect();
        Self { texts: (0..TEXTS).map(|_| text()).collect(), next: 0 }
    }

    /// The next one.
    pub fn take(&mut self) -> &str {
        self.next = (self.next + 1) % TEXTS;
        &self.texts[self.next]
    }
}

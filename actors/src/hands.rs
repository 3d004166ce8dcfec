//! Carries out what machines want done; shared by all shells of one node.
//!
//! Effects are carried out in the order in which a step returned them, with one exception: what this node knows of its view is
//! brought up to date before anything of that step goes out, so that no letter and no refusal speaks for an older one.
//!
//! Not here: sockets (the [`Outbox`] that the binary gives), and the disk (`storage.rs`).

use crate::mailboxes::{ActorName, Mailboxes};
use crate::observe::Observer;
use lockstep_protocol::ids::{Address, Millis, Now, Peer, RequestId, Timestamp};
use lockstep_protocol::machine::{Effect, Effects, Note};
use lockstep_protocol::message::{Envelope, PROTOCOL_VERSION, PeerMessage};
use lockstep_protocol::operation::Answer;
use lockstep_protocol::route::{self, Delivery, Known, LetterRefused};
use lockstep_protocol::storage::StorageRequest;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Takes letters to other nodes. Neither call ever blocks; a letter may be lost.
pub trait Outbox: Send + Sync {
    /// Sends a letter. Letters of one lane to one address stay in order.
    fn send(&self, to: &Address, letter: Envelope);

    /// Keeps one request open at this address instead of any other; none closes it.
    fn watch(&self, address: Option<Address>);
}

/// Asks the storage.
pub type AskStorage = Box<dyn Fn(StorageRequest) + Send + Sync>;

/// Why a node ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// It must, before it does harm. Nothing is done after this call.
    Halted(&'a str),
    /// It was removed from its cluster for good, and is not in its view any more: there is no hurry. Told again and again.
    Removed(&'a str),
}

/// Called when the node is to end.
pub type OnEnd = Arc<dyn Fn(End<'_>) + Send + Sync>;

/// What the shells of one node share.
pub struct Hands {
    me: Peer,
    born: Instant,
    known: Mutex<Known>,
    mailboxes: OnceLock<Mailboxes>,
    ask_storage: AskStorage,
    outbox: Arc<dyn Outbox>,
    /// Who waits for an answer.
    pub pending: Pending,
    /// What others may look at.
    pub observer: Observer,
    on_end: OnEnd,
    /// It has handed over and is about to stop: it says nothing more, above all it does not ask to join again.
    is_silent: AtomicBool,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Hands {
    /// Hands of a node that has just started.
    pub fn new(
        me: Peer,
        known: Known,
        observer: Observer,
        ask_storage: AskStorage,
        outbox: Arc<dyn Outbox>,
        on_end: OnEnd,
    ) -> Self {
        Self {
            me,
            born: Instant::now(),
            known: Mutex::new(known),
            mailboxes: OnceLock::new(),
            ask_storage,
            outbox,
            pending: Pending::default(),
            observer,
            on_end,
            is_silent: AtomicBool::new(false),
        }
    }

    /// Who this node is.
    #[must_use]
    pub fn me(&self) -> &Peer {
        &self.me
    }

    /// From now on no letter leaves the node, as in a crash.
    pub fn fall_silent(&self) {
        self.is_silent.store(true, Ordering::Relaxed);
    }

    /// Gives them the mailboxes, once, before any shell begins.
    pub fn connect(&self, mailboxes: Mailboxes) {
        let is_first = self.mailboxes.set(mailboxes).is_ok();
        debug_assert!(is_first, "a node's actors are started once");
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let elapsed = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        Now { elapsed: Millis(elapsed), wall: Timestamp(wall) }
    }

    /// Its cluster and view.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers what may not be lost.
    pub fn deliver_surely(&self, deliveries: Vec<Delivery>) {
        match self.mailboxes.get() {
            Some(mailboxes) => mailboxes.deliver_surely(deliveries),
            None => log::error!("inputs came before there were actors"),
        }
    }

    /// Delivers what may be lost, and says whether all of it went in.
    pub fn deliver_if_room(&self, deliveries: Vec<Delivery>) -> bool {
        self.mailboxes.get().is_some_and(|mailboxes| mailboxes.deliver_if_room(deliveries).is_ok())
    }

    /// What a letter would set off here.
    ///
    /// # Errors
    /// When it is refused unread.
    pub fn open(&self, letter: Envelope) -> Result<Vec<Delivery>, LetterRefused> {
        route::letter(&self.known(), letter)
    }

    /// Carries out effects, in order.
    pub fn perform(&self, effects: Effects) {
        effects.views().for_each(|view| self.known().learn(view));
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(&to, message),
                Effect::Tell(note) => self.tell(note),
                Effect::Storage(request) => (self.ask_storage)(request),
                Effect::Answer { request, answer } => self.pending.answer(request, answer),
                Effect::Watch(address) => self.outbox.watch(address),
                Effect::Announce(text) => log::info!("{text}"),
                Effect::Retire(why) => {
                    log::error!("{why}");
                    (self.on_end)(End::Removed(&why));
                }
                Effect::Halt(why) => {
                    // What follows rests on what cannot be: none of it is done.
                    self.halt(&why);
                    return;
                }
            }
        }
    }

    /// Ends the node.
    pub fn halt(&self, why: &str) {
        log::error!("this cannot be, the node stops: {why}");
        (self.on_end)(End::Halted(why));
    }

    /// Tells the node's machines.
    pub fn tell(&self, note: Note) {
        self.observer.hear(&note);
        let is_state = note.is_state();
        let deliveries = route::note(note);
        match self.mailboxes.get() {
            Some(mailboxes) if is_state => mailboxes.deliver_with_next(deliveries),
            Some(mailboxes) => mailboxes.deliver_surely(deliveries),
            None => log::error!("a note came before there were actors"),
        }
    }

    /// Puts the states that wait for this actor into its mailbox; false when there were none.
    pub fn deliver_states(&self, actor: ActorName) -> bool {
        self.mailboxes.get().is_some_and(|mailboxes| mailboxes.deliver_states(actor))
    }

    fn send(&self, to: &Address, message: PeerMessage) {
        let Known { cluster, view } = *self.known();
        let letter = Envelope { version: PROTOCOL_VERSION, cluster, from: self.me.clone(), view, message };
        if *to != self.me.address {
            if !self.is_silent.load(Ordering::Relaxed) {
                self.outbox.send(to, letter);
            }
            return;
        }
        match self.open(letter) {
            Ok(deliveries) => self.deliver_surely(deliveries),
            Err(refused) => log::error!("this node refused its own letter: {refused}"),
        }
    }
}

/// Clients' requests that wait for their answer.
#[derive(Debug, Default)]
pub struct Pending {
    last: AtomicU64,
    waiting: Mutex<HashMap<RequestId, oneshot::Sender<Answer>>>,
}

impl Pending {
    fn waiting(&self) -> MutexGuard<'_, HashMap<RequestId, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new request.
    pub fn open(&self) -> (RequestId, oneshot::Receiver<Answer>) {
        let request = RequestId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(request, sender);
        (request, receiver)
    }

    /// Answers it; once, and only if somebody still waits.
    pub fn answer(&self, request: RequestId, answer: Answer) {
        let sender = self.waiting().remove(&request);
        if let Some(sender) = sender {
            let _ = sender.send(answer); // Whoever asked may have gone.
        }
    }

    /// Nobody waits for it any more.
    pub fn forget(&self, request: RequestId) {
        self.waiting().remove(&request);
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting().len()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lockstep_protocol::ids::{ClusterId, Incarnation, NodeId, ViewNumber, Voter};
    use lockstep_protocol::operation::OperationError;

    /// What the world was asked to do, in order.
    #[derive(Clone, Default)]
    pub(crate) struct Probe {
        pub(crate) done: Arc<Mutex<Vec<String>>>,
        pub(crate) letters: Arc<Mutex<Vec<Envelope>>>,
    }

    impl Probe {
        fn note(&self, text: String) {
            self.done.lock().expect("no panic").push(text);
        }
    }

    impl Outbox for Probe {
        fn send(&self, to: &Address, letter: Envelope) {
            self.note(format!("send {to}"));
            self.letters.lock().expect("no panic").push(letter);
        }

        fn watch(&self, address: Option<Address>) {
            self.note(format!("watch {}", address.map_or_else(String::new, |address| address.to_string())));
        }
    }

    pub(crate) fn peer(id: u32) -> Peer {
        let address = Address::new(&format!("127.0.0.1:{id}"));
        Peer { voter: Voter::Replica(NodeId(id)), incarnation: Incarnation(u64::from(id)), address }
    }

    pub(crate) fn hands(probe: &Probe) -> Arc<Hands> {
        let known = Known { cluster: Some(ClusterId(9)), view: ViewNumber(1) };
        let (storage, halt) = (probe.clone(), probe.clone());
        Arc::new(Hands::new(
            peer(1),
            known,
            Observer::new(None),
            Box::new(move |_| storage.note("storage".into())),
            Arc::new(probe.clone()),
            Arc::new(move |end| {
                let (End::Halted(why) | End::Removed(why)) = end;
                halt.note(format!("halt {why}"));
            }),
        ))
    }

    #[test]
    fn section_11_no_letter_speaks_for_an_older_view() {
        let probe = Probe::default();
        let hands = hands(&probe);
        let view = crate::observe::tests::view(5, 3);
        let mut effects = Effects::none();
        effects.send(&Address::new("127.0.0.1:2"), PeerMessage::AskView);
        effects.tell(Note::ViewChanged { view });
        hands.perform(effects);
        let letters = probe.letters.lock().expect("no panic");
        assert_eq!((letters[0].view, letters[0].cluster), (ViewNumber(5), Some(ClusterId(9))));
    }

    #[test]
    fn nothing_is_done_after_a_halt() {
        let probe = Probe::default();
        let hands = hands(&probe);
        let mut effects = Effects::none();
        effects.storage(StorageRequest::DropTail);
        effects.halt("two views");
        effects.send(&Address::new("127.0.0.1:2"), PeerMessage::AskView);
        hands.perform(effects);
        assert_eq!(*probe.done.lock().expect("no panic"), ["storage", "halt two views"]);
    }

    #[test]
    fn a_letter_to_oneself_does_not_leave_the_node() {
        let probe = Probe::default();
        let hands = hands(&probe);
        let mut effects = Effects::none();
        effects.send(&hands.me().address, PeerMessage::AskView);
        hands.perform(effects);
        assert!(probe.letters.lock().expect("no panic").is_empty());
    }

    #[test]
    fn a_request_is_answered_once() {
        let pending = Pending::default();
        let (request, mut receiver) = pending.open();
        let answer = Answer::Failed(OperationError::Aborted);
        pending.answer(request, answer.clone());
        pending.answer(request, Answer::Failed(OperationError::Overloaded));
        assert_eq!(receiver.try_recv(), Ok(answer));
        let (forgotten, _) = pending.open();
        assert_ne!(request, forgotten);
        pending.forget(forgotten);
        assert_eq!(pending.count(), 0);
    }
}

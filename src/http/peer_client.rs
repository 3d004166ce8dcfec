//! Takes letters to other nodes: the [`Outbox`] of a data node or a witness.
//!
//! - One task for each address and lane, so that a snapshot never delays a heartbeat, and letters of one lane stay in order.
//!   It sends all that waits together: the bundle grows with the load, and a lone letter goes at once.
//! - The first bundle is a request of its own, whose answer says whether the peer takes letters at all, and if not, why. Those
//!   that follow are frames of a stream, which nobody answers. When it ends, it begins anew in the same way.
//! - A refused or reset connection loses letters and is told to the node (`unreachable`). A connection that was idle may
//!   have been closed by the other end's restart: the request is sent once more on a new one first. Letters may be repeated.
//!   When a stream ends soon after something was sent, the peer is asked at once whether it is there.
//! - A bundle that is not taken in time is lost, and nothing else. Nobody answers the frames of a stream, and a network that
//!   loses them all says nothing for a quarter of an hour: so the stream is asked, too, and given up when it does not answer.
//!
//! Not here: what a loss means. The machines send again what matters.

use super::metrics::LetterFigures;
use super::peer::STREAM_BEAT;
use super::peer_http::{self, PostFailed, Refusals};
use actix_codec::Framed;
use actix_rt::ArbiterHandle;
use actix_rt::time::{interval, sleep, timeout};
use awc::BoxedSocket;
use awc::ws::{self, Codec};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use lockstep_actors::hands::Outbox;
use lockstep_actors::{Arbiters, Node};
use lockstep_protocol::ids::Address;
use lockstep_protocol::message::{Envelope, Lane};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

/// How many letters may wait in one lane; more are lost.
const LANE_LETTERS_MAX: usize = 4_096;

/// A request takes no more letters once it is this large. Bytes.
const REQUEST_BYTES: usize = 4 << 20;

/// How long a peer may take to take letters.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long for snapshots.
const BULK_PATIENCE: Duration = Duration::from_secs(20);

/// How long a watch may show nothing before it is opened anew: two of its bytes were lost. That it shows nothing is no
/// sign that the process ended.
const WATCH_PATIENCE: Duration = Duration::from_secs(12);

/// The wait before a peer that refuses connections is tried again.
const REFUSED_PAUSE: Duration = Duration::from_millis(25);

/// One in so many lost letters is logged.
const LOSSES_PER_LINE: u64 = 1_000;

/// Hears what the network reports.
pub trait HearsNetwork: Send + Sync {
    /// A connection to this address was refused or reset.
    fn unreachable(&self, address: &Address);

    /// The request kept open at this address ended.
    fn watch_ended(&self, address: &Address);
}

/// A node that may not run yet: there is nobody to tell then.
impl HearsNetwork for OnceLock<Node> {
    fn unreachable(&self, address: &Address) {
        if let Some(node) = self.get() {
            node.unreachable(address);
        }
    }

    fn watch_ended(&self, address: &Address) {
        if let Some(node) = self.get() {
            node.watch_ended(address);
        }
    }
}

/// The outbox.
pub struct PeerClient {
    context: Arc<LaneContext>,
    arbiters: Arbiters,
    lanes: Mutex<BTreeMap<(Address, Lane), mpsc::Sender<Envelope>>>,
    losses: AtomicU64,
    watched: watch::Sender<Option<Address>>,
}

/// What each lane's task holds.
struct LaneContext {
    secret: String,
    own_name: String,
    hears: Arc<dyn HearsNetwork>,
    refusals: Refusals,
    letters: Arc<LetterFigures>,
}

impl PeerClient {
    /// Tells `hears` what the network reports. Its tasks run on these arbiters.
    #[must_use]
    pub fn new(secret: &str, own_name: &str, hears: Arc<dyn HearsNetwork>, arbiters: Arbiters) -> Arc<Self> {
        let (secret, own_name) = (secret.to_owned(), own_name.to_owned());
        let context =
            Arc::new(LaneContext { secret, own_name, hears, refusals: Refusals::default(), letters: Arc::default() });
        let (watched, watching) = watch::channel(None);
        let keeper = context.clone();
        arbiters.vital.spawn_fn(move || {
            actix_rt::spawn(keep_watch(keeper, watching));
        });
        Arc::new(Self { context, arbiters, lanes: Mutex::default(), losses: AtomicU64::new(0), watched })
    }

    /// Counts its letters.
    #[must_use]
    pub fn letters(&self) -> Arc<LetterFigures> {
        self.context.letters.clone()
    }

    /// Where a lane's task runs: with the actor that sends most of its letters.
    fn arbiter(&self, lane: Lane) -> &ArbiterHandle {
        match lane {
            Lane::Vital => &self.arbiters.vital,
            Lane::Work => &self.arbiters.work,
            Lane::Bulk => &self.arbiters.bulk,
        }
    }

    fn lane(&self, to: &Address, lane: Lane) -> mpsc::Sender<Envelope> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = lanes.get(&(to.clone(), lane)) {
            return sender.clone();
        }
        let (sender, letters) = mpsc::channel(LANE_LETTERS_MAX);
        lanes.insert((to.clone(), lane), sender.clone());
        let (context, to) = (self.context.clone(), to.clone());
        self.arbiter(lane).spawn_fn(move || {
            actix_rt::spawn(run_lane(context, to, lane, letters));
        });
        sender
    }
}

impl Outbox for PeerClient {
    fn send(&self, to: &Address, letter: Envelope) {
        let lane = letter.message.lane();
        if self.lane(to, lane).try_send(letter).is_err() {
            self.context.letters.add(lane, false, 1);
            let count = self.losses.fetch_add(1, Ordering::Relaxed);
            if count.is_multiple_of(LOSSES_PER_LINE) {
                log::warn!("{to} does not take letters as fast as they come ({lane:?}): {} lost", count + 1);
            }
        }
    }

    fn watch(&self, address: Option<Address>) {
        // Told even if it is the same: after its end it is opened anew.
        self.watched.send_replace(address);
    }
}

/// Letters as one request's body: how many, and each.
#[derive(Debug, Default)]
struct Bundle {
    letters_count: usize,
    encoded: Vec<u8>,
}

impl Bundle {
    /// Takes a letter; one that is too large for any request is lost, loudly.
    fn push(&mut self, letter: &Envelope) {
        let start = self.encoded.len();
        let encoded = postcard::to_extend(letter, std::mem::take(&mut self.encoded));
        match encoded {
            Ok(encoded) if encoded.len() - start < super::peer::BODY_BYTES_MAX => {
                self.encoded = encoded;
                self.letters_count += 1;
            }
            Ok(mut encoded) => {
                log::error!("a letter of {} bytes cannot be sent", encoded.len() - start);
                encoded.truncate(start);
                self.encoded = encoded;
            }
            Err(error) => log::error!("a letter cannot be encoded: {error}"),
        }
    }

    fn body(self) -> Bytes {
        // Postcard writes a list as its length and then its elements.
        let mut body = postcard::to_stdvec(&self.letters_count).unwrap_or_default();
        body.extend_from_slice(&self.encoded);
        body.into()
    }
}

/// One lane to one address.
struct LaneTask {
    context: Arc<LaneContext>,
    to: Address,
    lane: Lane,
    client: awc::Client,
    again: awc::Client,
    letters: mpsc::Receiver<Envelope>,
}

type Stream = Framed<BoxedSocket, Codec>;

async fn run_lane(context: Arc<LaneContext>, to: Address, lane: Lane, letters: mpsc::Receiver<Envelope>) {
    let client = peer_http::client(&context.secret, &context.own_name, 1);
    let again = peer_http::reconnecting_client(&context.secret, &context.own_name);
    let mut task = LaneTask { context, to, lane, client, again, letters };
    while let Some(first) = task.letters.recv().await {
        let bundle = task.bundle(&first);
        if !task.request(bundle).await {
            continue;
        }
        let Some(stream) = task.open().await else { continue };
        let asks = task.stream(stream).await;
        if asks {
            task.request(Bundle::default()).await;
        }
    }
}

impl LaneTask {
    /// This letter, and all that wait behind it.
    fn bundle(&mut self, first: &Envelope) -> Bundle {
        let mut bundle = Bundle::default();
        bundle.push(first);
        while bundle.encoded.len() < REQUEST_BYTES
            && let Ok(next) = self.letters.try_recv()
        {
            bundle.push(&next);
        }
        bundle
    }

    fn patience(&self) -> Duration {
        if self.lane == Lane::Bulk { BULK_PATIENCE } else { PATIENCE }
    }

    /// Whether the peer took them.
    async fn request(&self, bundle: Bundle) -> bool {
        let (url, count) = (peer_http::url(&self.to, "letters"), bundle.letters_count as u64);
        let posted = post_twice([&self.client, &self.again], &url, bundle.body(), self.patience()).await;
        self.context.letters.add(self.lane, posted.is_ok(), count);
        match posted {
            Ok(_) => return true,
            Err(PostFailed::Refused | PostFailed::Broken) => {
                self.context.hears.unreachable(&self.to);
                sleep(REFUSED_PAUSE).await;
            }
            Err(PostFailed::Silent | PostFailed::NotReady) => {
                log::debug!("{} did not take them; letters are lost ({:?})", self.to, self.lane);
            }
            Err(PostFailed::Denied(reason)) => self.context.refusals.log(&self.to, &reason),
        }
        false
    }

    async fn open(&self) -> Option<Stream> {
        let opening = self.client.ws(peer_http::url(&self.to, "stream")).connect();
        match timeout(PATIENCE, opening).await {
            Ok(Ok((_, stream))) => Some(stream),
            Ok(Err(error)) => {
                log::debug!("{} takes no stream of letters: {error}", self.to);
                None
            }
            Err(_) => None,
        }
    }

    /// Sends what comes until the stream ends. Whether letters may be lost with it whose answer somebody waits for.
    async fn stream(&mut self, mut stream: Stream) -> bool {
        let mut sent_at: Option<Instant> = None;
        let (mut beat, mut asked_at) = (interval(STREAM_BEAT), None);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                biased;
                said = stream.next() => match said {
                    Some(Ok(ws::Frame::Pong(_))) => {
                        asked_at = None;
                        continue;
                    }
                    Some(Ok(ws::Frame::Ping(_))) => continue,
                    // What else the other end says, it says by ending it.
                    Some(_) | None => return sent_at.is_some_and(|at| at.elapsed() < PATIENCE),
                },
                _ = beat.tick() => {
                    let asked: Instant = *asked_at.get_or_insert_with(Instant::now);
                    let ask = stream.send(ws::Message::Ping(Bytes::new()));
                    let is_asked = matches!(timeout(self.patience(), ask).await, Ok(Ok(())));
                    if !is_asked || asked.elapsed() >= self.patience() {
                        log::debug!("a stream to {} does not answer ({:?})", self.to, self.lane);
                        return false;
                    }
                    continue;
                }
                next = self.letters.recv() => next,
            };
            let Some(first) = next else { return false };
            let bundle = self.bundle(&first);
            let count = bundle.letters_count as u64;
            sent_at = Some(Instant::now());
            let sent = timeout(self.patience(), stream.send(ws::Message::Binary(bundle.body()))).await;
            let is_sent = matches!(sent, Ok(Ok(())));
            self.context.letters.add(self.lane, is_sent, count);
            if !is_sent {
                return true;
            }
        }
    }
}

async fn post_twice(
    [client, again]: [&awc::Client; 2],
    url: &str,
    body: Bytes,
    patience: Duration,
) -> Result<Bytes, PostFailed> {
    match peer_http::post(client, url, body.clone(), patience).await {
        // That it broke stays true when the second try is not answered either.
        Err(PostFailed::Broken) => match peer_http::post(again, url, body, patience).await {
            Err(PostFailed::Silent) => Err(PostFailed::Broken),
            other => other,
        },
        other => other,
    }
}

/// Keeps one request open where it is told, and tells its end.
async fn keep_watch(context: Arc<LaneContext>, mut watched: watch::Receiver<Option<Address>>) {
    let client = peer_http::client(&context.secret, &context.own_name, 1);
    loop {
        let address = watched.borrow_and_update().clone();
        if let Some(address) = &address {
            let ended = hold_open(&context, &client, address);
            tokio::select! {
                () = ended => {
                    context.hears.watch_ended(address);
                    sleep(REFUSED_PAUSE).await; // Told to open it again at once, it would spin.
                }
                is_told = told_another(&mut watched, address) => if is_told { continue } else { return },
            }
        }
        if watched.changed().await.is_err() {
            return;
        }
    }
}

/// Another address, or none; false when there is nobody left to tell.
async fn told_another(watched: &mut watch::Receiver<Option<Address>>, address: &Address) -> bool {
    watched.wait_for(|now| now.as_ref() != Some(address)).await.is_ok()
}

/// Returns when the other process ended, or cannot be reached.
async fn hold_open(context: &LaneContext, client: &awc::Client, address: &Address) {
    while falls_silent(context, client, address).await {
        log::debug!("the watch at {address} shows nothing: it is opened anew");
    }
}

/// Opens a watch. Whether it showed nothing for too long; else it ended, or could not be opened.
async fn falls_silent(context: &LaneContext, client: &awc::Client, address: &Address) -> bool {
    match client.get(peer_http::url(address, "watch")).send().await {
        Ok(mut response) if response.status().is_success() => loop {
            match timeout(WATCH_PATIENCE, response.next()).await {
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_)) | None) => return false,
                Err(_) => return true,
            }
        },
        Ok(mut response) => {
            let body = response.body().await.unwrap_or_default();
            if let PostFailed::Denied(reason) = peer_http::denied(response.status(), &body) {
                context.refusals.log(address, &reason);
            }
        }
        Err(error) => log::debug!("no watch at {address}: {error}"),
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::dev::ServerHandle;
    use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
    use lockstep_protocol::ids::{Incarnation, NodeId, Peer, ViewNumber, Voter};
    use lockstep_protocol::message::{PROTOCOL_VERSION, PeerMessage};
    use std::net::TcpListener;

    const SECRET: &str = "a secret of the cluster";

    /// What was heard, and what a peer got.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Heard {
        fn all(&self) -> Vec<String> {
            self.0.lock().expect("no panic").clone()
        }
    }

    impl HearsNetwork for Heard {
        fn unreachable(&self, address: &Address) {
            self.0.lock().expect("no panic").push(format!("unreachable {address}"));
        }

        fn watch_ended(&self, address: &Address) {
            self.0.lock().expect("no panic").push(format!("watch ended {address}"));
        }
    }

    fn outbox(heard: &Arc<Heard>) -> Arc<PeerClient> {
        let here = actix_rt::Arbiter::current();
        let arbiters = Arbiters { work: here.clone(), vital: here.clone(), bulk: here };
        PeerClient::new(SECRET, "test", heard.clone(), arbiters)
    }

    /// A peer that keeps each bundle's letters, and takes its time for the first.
    #[derive(Default)]
    struct Bundles {
        letters: Vec<Vec<Envelope>>,
        requests: usize,
    }
    type Got = Arc<Mutex<Bundles>>;

    async fn take(got: web::Data<Got>, body: Bytes) -> HttpResponse {
        let letters = postcard::from_bytes(&body).expect("letters");
        let is_first = {
            let mut got = got.lock().expect("no panic");
            got.letters.push(letters);
            got.requests += 1;
            got.letters.len() == 1
        };
        if is_first {
            sleep(Duration::from_millis(30)).await;
        }
        HttpResponse::NoContent().finish()
    }

    async fn take_frames(got: web::Data<Got>, request: HttpRequest, body: web::Payload) -> HttpResponse {
        let (response, session, mut frames) = actix_ws::handle(&request, body).expect("a web socket");
        actix_rt::spawn(async move {
            let _open = session;
            while let Some(Ok(frame)) = frames.next().await {
                if let actix_ws::Message::Binary(body) = frame {
                    got.lock().expect("no panic").letters.push(postcard::from_bytes(&body).expect("letters"));
                }
            }
        });
        response
    }

    async fn watched() -> HttpResponse {
        let first = futures_util::stream::once(async { Ok::<_, actix_web::Error>(Bytes::from_static(b".")) });
        HttpResponse::Ok().streaming(first.chain(futures_util::stream::pending()))
    }

    fn peer() -> (Address, Got, ServerHandle) {
        let (listener, got) = (TcpListener::bind("127.0.0.1:0").expect("a port"), Got::default());
        let address = Address::new(&listener.local_addr().expect("bound").to_string());
        let kept = got.clone();
        let server = HttpServer::new(move || {
            let app = App::new().app_data(web::Data::new(kept.clone()));
            app.route("/peer/v1/letters", web::post().to(take))
                .route("/peer/v1/stream", web::get().to(take_frames))
                .route("/peer/v1/watch", web::get().to(watched))
        });
        let server = server.workers(1).disable_signals().listen(listener).expect("listens").run();
        let handle = server.handle();
        actix_rt::spawn(server);
        (address, got, handle)
    }

    /// Waits for what comes from other threads; a test that waits in vain fails by its assertion.
    async fn until(is_so: impl Fn() -> bool) {
        for _ in 0..500 {
            if is_so() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[actix_rt::test]
    async fn letters_of_a_lane_stay_in_order_and_travel_together() {
        let (to, got, server) = peer();
        let heard = Arc::<Heard>::default();
        let outbox = outbox(&heard);
        let letters: Vec<Envelope> = (0..500).map(letter).collect();
        outbox.send(&to, letters[0].clone());
        until(|| !got.lock().expect("no panic").letters.is_empty()).await;
        letters[1..].iter().for_each(|letter| outbox.send(&to, letter.clone()));
        until(|| got.lock().expect("no panic").letters.concat().len() == letters.len()).await;
        let got = got.lock().expect("no panic").letters.clone();
        assert_eq!(got.concat(), letters);
        assert_eq!(got.len(), 2, "what waited went with one request");
        assert_eq!(heard.all(), Vec::<String>::new());
        server.stop(false).await;
    }

    #[actix_rt::test]
    async fn r11_a_refused_connection_is_told_at_once() {
        let (to, _, server) = peer();
        server.stop(false).await;
        let heard = Arc::<Heard>::default();
        outbox(&heard).send(&to, letter(1));
        until(|| !heard.all().is_empty()).await;
        assert_eq!(heard.all(), [format!("unreachable {to}")]);
    }

    #[actix_rt::test]
    async fn r11_a_process_that_dies_with_letters_on_their_way_is_told_at_once() {
        let (to, got, server) = peer();
        let heard = Arc::<Heard>::default();
        let outbox = outbox(&heard);
        for count in 1..=2 {
            outbox.send(&to, letter(count as u64));
            until(|| got.lock().expect("no panic").letters.concat().len() == count).await;
        }
        assert_eq!(heard.all(), Vec::<String>::new());
        // The second was a frame of the stream, which nobody answered: it may have been lost.
        server.stop(false).await;
        until(|| !heard.all().is_empty()).await;
        assert_eq!(heard.all(), [format!("unreachable {to}")]);
    }

    #[actix_rt::test]
    async fn a_stream_that_leads_nowhere_is_given_up() {
        // The test's peer takes frames and answers no question: a network that loses all looks the same from here.
        let (to, got, server) = peer();
        let heard = Arc::<Heard>::default();
        let outbox = outbox(&heard);
        let requests = || got.lock().expect("no panic").requests;
        for count in 1..=500 {
            outbox.send(&to, letter(count));
            sleep(Duration::from_millis(20)).await;
            if requests() > 1 {
                break;
            }
        }
        assert_eq!(requests(), 2, "the peer is asked anew");
        assert_eq!(heard.all(), Vec::<String>::new(), "silence is no sign of a death");
        server.stop(false).await;
    }

    #[actix_rt::test]
    async fn a_restarted_peer_is_not_told_as_unreachable() {
        let (to, got, server) = peer();
        let heard = Arc::<Heard>::default();
        let outbox = outbox(&heard);
        outbox.send(&to, letter(1));
        until(|| got.lock().expect("no panic").letters.len() == 1).await;
        sleep(Duration::from_millis(50)).await; // Until its answer is there, and the connection idle.
        server.stop(false).await;
        let listener = TcpListener::bind(to.as_str()).expect("the port again");
        let again = got.clone();
        let server = HttpServer::new(move || {
            App::new().app_data(web::Data::new(again.clone())).route("/peer/v1/letters", web::post().to(take))
        });
        let server = server.workers(1).disable_signals().listen(listener).expect("listens").run();
        let handle = server.handle();
        actix_rt::spawn(server);
        outbox.send(&to, letter(2));
        until(|| got.lock().expect("no panic").letters.len() == 2).await;
        assert_eq!((got.lock().expect("no panic").letters.len(), heard.all()), (2, vec![]));
        handle.stop(false).await;
    }

    #[actix_rt::test]
    async fn r11_the_end_of_a_watch_is_told_and_it_can_be_opened_again() {
        let (to, _, server) = peer();
        let heard = Arc::<Heard>::default();
        let outbox = outbox(&heard);
        outbox.watch(Some(to.clone()));
        sleep(Duration::from_millis(100)).await;
        assert_eq!(heard.all(), Vec::<String>::new(), "it is open");
        server.stop(false).await;
        until(|| !heard.all().is_empty()).await;
        assert_eq!(heard.all(), [format!("watch ended {to}")]);
        outbox.watch(Some(to.clone()));
        until(|| heard.all().len() == 2).await;
        assert_eq!(heard.all().len(), 2, "nobody is there, which is told again");
        outbox.watch(None);
        sleep(Duration::from_millis(100)).await;
        assert_eq!(heard.all().len(), 2);
    }

    fn letter(round: u64) -> Envelope {
        let address = Address::new("127.0.0.1:1");
        let from = Peer { voter: Voter::Replica(NodeId(1)), incarnation: Incarnation(1), address };
        let message = PeerMessage::Confirm { view: ViewNumber(1), round };
        Envelope { version: PROTOCOL_VERSION, cluster: None, from, view: ViewNumber(1), message }
    }

    #[test]
    fn a_bundle_is_a_list_of_letters_in_order() {
        let letters: Vec<Envelope> = (0..200).map(letter).collect();
        let mut bundle = Bundle::default();
        letters.iter().for_each(|letter| bundle.push(letter));
        let read: Vec<Envelope> = postcard::from_bytes(&bundle.body()).expect("a list");
        assert_eq!(read, letters);
    }
}

//! Whole runs against a gateway that keeps its messages in memory, and lies about them.
//!
//! The HTTP is that of the gateways, so a run that is let pass reads what they really answer; and each lie must fail it.

use super::connection::Gateway;
use super::measure;
use super::plan::Plan;
use super::report::Report;
use super::work::{Mix, Work};
use crate::http::client::ClientApi;
use crate::http::client_server::serve;
use crate::settings::{Role, Settings};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use lockstep_actors::gateway::{ClientCall, ClusterReport, GatewayHandle};
use lockstep_protocol::change::Change;
use lockstep_protocol::ids::{Index, Timestamp, ViewNumber};
use lockstep_protocol::operation::{
    Action, Answer, Channel, ChannelName, Found, Message, Operation, OperationError, Outcome, Page, Query, Receipt,
    Text, UserName,
};
use lockstep_protocol::page::Messages;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What is done to every tenth message, after it was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    /// It is gone.
    Lose,
    /// It is there twice.
    Double,
    /// It has changed places, and ids, with the one before.
    Swap,
    /// Its last character is another.
    Change,
    /// It was answered with 503, and is there.
    Refuse,
    /// Its star is gone, or is there though it was taken back.
    Star,
    /// It is not yet shown to readers of the newest messages.
    Stale,
}

const RECEIPT: Receipt = Receipt { view: ViewNumber(1), index: Index(1), copies: 1 };

#[derive(Default)]
struct Held {
    posted: u64,
    messages: Vec<Message>,
}

#[derive(Clone)]
struct Liar {
    lie: Lie,
    /// How long each answer takes.
    delay: Duration,
    held: Arc<Mutex<Held>>,
}

impl Liar {
    fn write(&self, Operation { owner, action }: Operation) -> Answer {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Held { posted, messages } = &mut *held;
        let outcome = match action {
            Action::Post { channel, text, .. } => {
                *posted += 1;
                let id = Timestamp(*posted * 2);
                let message = Message { id, channel, user: owner.user, text, starred_by: Vec::new() };
                messages.push(message.clone());
                let is_lied_about = posted.is_multiple_of(10);
                if is_lied_about && self.lie == Lie::Refuse {
                    return Answer::Failed(OperationError::Overloaded);
                }
                if is_lied_about {
                    lie(self.lie, messages);
                }
                Outcome::Message(message)
            }
            Action::Star { id } => Outcome::Message(star(messages, id, &owner.user, true)),
            Action::Unstar { id } => Outcome::Message(star(messages, id, &owner.user, self.lie == Lie::Star)),
            Action::CreateChannel { channel } => Outcome::Channel { channel: created(channel), created: true },
        };
        Answer::Written(outcome, RECEIPT)
    }

    fn read(&self, query: Query) -> Answer {
        let messages = &self.held.lock().unwrap_or_else(PoisonError::into_inner).messages;
        let found = match query {
            Query::History { channel, page } => history(messages, &channel, page, self.lie == Lie::Stale),
            Query::Message { id } => match messages.iter().find(|message| message.id == id) {
                Some(message) => Found::Message(message.clone()),
                None => return Answer::Failed(OperationError::MessageNotFound { id }),
            },
            Query::Channel { channel } => Found::Channel(created(channel)),
            Query::Stars { .. } | Query::Channels { .. } => Found::Channels { channels: Vec::new(), has_more: false },
        };
        Answer::Read(found, RECEIPT)
    }
}

fn created(name: ChannelName) -> Channel {
    Channel { name, created_at: Timestamp(1), created_by: UserName::new("x").expect("a name") }
}

fn lie(lie: Lie, messages: &mut Vec<Message>) {
    let last = messages.len() - 1;
    match lie {
        Lie::Lose => drop(messages.pop()),
        Lie::Double => {
            let mut again = messages[last].clone();
            again.id = Timestamp(again.id.0 + 1);
            messages.push(again);
        }
        Lie::Swap => {
            messages.swap(last - 1, last);
            let (one, other) = (messages[last - 1].id, messages[last].id);
            (messages[last - 1].id, messages[last].id) = (other, one);
        }
        Lie::Change => {
            let mut text = messages[last].text.as_str().to_owned();
            let end = text.pop();
            text.push(if end == Some('x') { 'y' } else { 'x' });
            messages[last].text = Text::new(&text).expect("a text");
        }
        Lie::None | Lie::Refuse | Lie::Star | Lie::Stale => {}
    }
}

/// The message with the star, or without it.
fn star(messages: &mut [Message], id: Timestamp, user: &UserName, star: bool) -> Message {
    let message = messages.iter_mut().find(|message| message.id == id).expect("only what is there is starred here");
    message.starred_by.retain(|by| by != user);
    message.starred_by.extend(star.then(|| user.clone()));
    message.clone()
}

fn history(messages: &[Message], channel: &ChannelName, page: Page, is_stale: bool) -> Found {
    let shown = |message: &&Message| {
        message.channel == *channel
            && page.after.is_none_or(|after| message.id > after)
            && page.before.is_none_or(|before| message.id < before)
    };
    let mut found: Vec<_> = messages.iter().filter(shown).cloned().collect();
    if !page.ascending {
        found.reverse();
        found.drain(..usize::from(is_stale && !found.is_empty()));
    }
    let has_more = found.len() > page.limit as usize;
    found.truncate(page.limit as usize);
    Found::Messages { messages: Messages::of(channel.clone(), &found), has_more }
}

impl GatewayHandle for Liar {
    fn call(&self, call: ClientCall) -> BoxFuture<'static, Answer> {
        let answer = match call {
            ClientCall::Write(operation) => self.write(operation),
            ClientCall::Read(query) => self.read(query),
            ClientCall::Operator(_) => unreachable!("no bench asks for that"),
        };
        let delay = self.delay;
        async move {
            tokio::time::sleep(delay).await;
            answer
        }
        .boxed()
    }

    fn cluster(&self) -> BoxFuture<'static, ClusterReport> {
        ready(ClusterReport::default()).boxed()
    }

    fn view_changes(&self, _: usize) -> BoxFuture<'static, Option<Vec<Change>>> {
        ready(None).boxed()
    }

    fn ready(&self) -> BoxFuture<'static, bool> {
        ready(true).boxed()
    }
}

fn gateway(liar: Liar) -> Gateway {
    let variables = [("GATEWAY__NAME", "test"), ("CLUSTER__SEEDS", "127.0.0.1:1"), ("CLUSTER__SECRET_FILE", "none")];
    let variables = variables.map(|(name, value)| (format!("LOCKSTEP__{name}"), value.to_owned()));
    let settings = Settings::from_layers(None, Role::Gateway, variables).expect("settings");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(serve(listener, ClientApi::new(Arc::new(liar), &settings), || {}).expect("it serves"));
    Gateway { name: address.to_string(), address }
}

/// A load on two gateways over one liar: 300 operations are due, however fast it is.
fn plan(liar: Liar, mix: &str) -> Plan {
    Plan {
        work: Work::Mixed,
        mix: Mix::parse(mix).expect("a mix"),
        clients: 3,
        rate: Some(1_000.0),
        lasts: Duration::from_millis(300),
        warm_up: Duration::ZERO,
        size: 64,
        channels: 2,
        preload: 9,
        gateways: vec![gateway(liar.clone()), gateway(liar)],
        user: "bench".to_owned(),
        processes: Vec::new(),
    }
}

async fn run(lie: Lie, mix: &str) -> Report {
    let liar = Liar { lie, delay: Duration::ZERO, held: Arc::default() };
    measure(&plan(liar, mix)).await.expect("it runs to its end")
}

const EVERYTHING: &str = "post=3,history=1,message=1,star=1";

#[actix_rt::test]
async fn an_honest_cluster_is_let_pass_and_all_is_counted() {
    let report = run(Lie::None, EVERYTHING).await;
    assert_eq!((report.verified.failure(), report.verified.violations), (None, 0), "{report}");
    assert_eq!((report.errors.len(), report.reconnects), (0, 0), "{report}");
    let line = |kind: &str| report.lines.iter().find(|line| line.kind == kind).expect("a line").operations;
    let unsent = report.schedule.as_ref().map_or(0, |schedule| schedule.unsent);
    assert_eq!(line("all") + unsent, 300, "{report}");
    assert_eq!(line("post") + line("history") + line("message") + line("star"), line("all"));
    let posts = line("post") + 9;
    assert_eq!(report.verified.posts.acknowledged, posts);
    for read in &report.verified.read_back {
        assert_eq!(read.messages as u64, posts, "{report}");
    }
}

/// What a run says of this lie must hold each of these.
async fn is_found(lie: Lie, mix: &str, said: &[&str]) {
    let report = run(lie, mix).await;
    let told = report.verified.told.join("\n");
    assert!(report.verified.failure().is_some(), "{lie:?} was let pass: {report}");
    for text in said {
        assert!(told.contains(text), "{lie:?}: {text:?} is not in\n{told}");
    }
}

#[actix_rt::test]
async fn s1_a_cluster_that_loses_posts_fails_the_run() {
    is_found(Lie::Lose, "post=1", &["and is not there"]).await;
}

#[actix_rt::test]
async fn s3_a_cluster_that_doubles_posts_fails_the_run() {
    is_found(Lie::Double, "post=1", &["is there twice"]).await;
}

#[actix_rt::test]
async fn s2_a_cluster_that_reorders_posts_fails_the_run() {
    is_found(Lie::Swap, "post=1", &["and is there as"]).await;
}

#[actix_rt::test]
async fn a_cluster_that_changes_texts_fails_the_run() {
    is_found(Lie::Change, "post=1", &["has not the text of"]).await;
}

#[actix_rt::test]
async fn s4_a_cluster_that_does_what_it_refused_fails_the_run() {
    is_found(Lie::Refuse, "post=1", &["was refused and is there"]).await;
}

#[actix_rt::test]
async fn a_cluster_that_keeps_stars_that_were_taken_back_fails_the_run() {
    is_found(Lie::Star, "star=1", &["who gave none or took it back"]).await;
}

#[actix_rt::test]
async fn s2_a_cluster_that_hides_its_newest_message_fails_the_run() {
    is_found(Lie::Stale, "history=1", &["were acknowledged"]).await;
}

#[actix_rt::test]
async fn what_waits_for_a_slow_cluster_waits_in_the_latencies() {
    let liar = Liar { lie: Lie::None, delay: Duration::from_millis(20), held: Arc::default() };
    let open = Plan { clients: 1, rate: Some(200.0), ..plan(liar.clone(), "message=1") };
    let report = measure(&open).await.expect("it runs to its end");
    // 60 are due in 0.3 s, and take 1.2 s one after the other: the last one waited for most of that.
    assert!(report.lines[0].max_us > 600_000, "{report}");
    let closed = Plan { rate: None, ..open };
    let report = measure(&closed).await.expect("it runs to its end");
    assert!(report.lines[0].p50_us >= 20_000 && report.schedule.is_none(), "{report}");
}

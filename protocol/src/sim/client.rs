//! The clients and their gateway: calls begin, are sent to some node, follow hints, are tried again with the same key, and
//! are given up.
//!
//! Copies of one request reach nodes late and twice, so that S3 and S4 are tried; many go to a node that does not lead, so
//! that a deposed primary is asked too (S2).
//!
//! Not here: whether an answer is right (`checker.rs`).

use super::checker::Asked;
use super::network::happens;
use super::node::{Request, WALL_AT_START};
use super::plan::{MS, Plan};
use super::story::Weight;
use super::world::{Event, World};
use crate::ids::{RequestId, Timestamp, ViewNumber, Voter};
use crate::invariant::{Checked, Rule, Violation};
use crate::machine::Limits;
use crate::operation::{
    Action, Answer, ChannelName, KeyOwner, Operation, OperationError, Outcome, PAGE_MAX, Page, Query, Text, UserName,
};
use crate::operator::OperatorCall;
use crate::route;
use fastrand::Rng;

/// What a client wants.
#[derive(Clone, Debug, PartialEq)]
enum Want {
    Write { operation: Operation, is_reuse: bool },
    Read(Query),
}

/// One call, from its beginning till its answer or its end.
#[derive(Clone, Debug)]
struct Call {
    want: Want,
    /// Which sending of it is the last one.
    attempt: u32,
    is_done: bool,
    /// When it began, if it is one of those by which the calm is measured.
    pulse: Option<u64>,
    /// Whom to ask next.
    target: usize,
    /// The gateway that asks, where it matters which.
    gateway: Option<Gateway>,
}

/// A gateway beside one of the core's nodes: its requests take that node's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gateway {
    host: usize,
    /// Whether the last node that it asked has answered, so that the next one to ask is known.
    has_heard: bool,
    /// Of which view it was last told who leads: who says so of no later one is not followed again.
    hinted: ViewNumber,
}

/// All clients of a run.
#[derive(Debug)]
pub(super) struct Clients {
    calls: Vec<Option<Call>>,
    channels: Vec<ChannelName>,
    users: Vec<UserName>,
    data: usize,
    writes_permille: u32,
    /// Whether no key expires in this run: only then is a key that is used again refused for certain.
    keys_last: bool,
    /// Ids of messages that somebody was told of.
    known: Vec<Timestamp>,
    /// Calls whose key has an answer.
    answered: Vec<usize>,
    requests: u64,
    /// Who led, as far as the last answer told.
    believed: usize,
}

/// How often one call is sent.
const ATTEMPTS_MAX: u32 = 8;

/// After how long a gateway whose question was not answered asks another node too. Microseconds.
const GATEWAY_PATIENCE_US: u64 = 400 * MS;

impl Clients {
    pub(super) fn new(plan: &Plan) -> Self {
        let names = |prefix: &str, count: u32| (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
        Self {
            calls: vec![None; plan.calls.len()],
            channels: names("c", plan.channels + 1).iter().filter_map(|name| ChannelName::new(name).ok()).collect(),
            users: names("u", 3).iter().filter_map(|name| UserName::new(name).ok()).collect(),
            data: plan.data as usize,
            writes_permille: plan.writes_permille,
            keys_last: plan.limits.idempotency_retention_us >= Limits::default().idempotency_retention_us,
            known: Vec::new(),
            answered: Vec::new(),
            requests: 0,
            believed: 0,
        }
    }

    /// The name of a channel that calls touch.
    pub(super) fn channel(&self, number: u32) -> Option<ChannelName> {
        self.channels.get(number as usize).cloned()
    }

    /// How many calls wait for an answer, or for their next try.
    pub(super) fn open_calls(&self) -> usize {
        self.calls.iter().flatten().filter(|call| !call.is_done).count()
    }

    /// A write that measures the calm, or what the core does.
    fn pulse(&mut self, now: u64, host: Option<usize>) -> Option<usize> {
        let call = self.calls.len();
        let action =
            Action::Post { channel: self.channel(0)?, text: Text::new("are you there?").ok()?, create_channel: true };
        let operation = Operation { owner: KeyOwner::new("pulse", &format!("p{call}")).ok()?, action };
        let want = Want::Write { operation, is_reuse: false };
        let gateway = host.map(|host| Gateway { host, has_heard: true, hinted: ViewNumber(0) });
        let target = self.believed;
        self.calls.push(Some(Call { want, attempt: 0, is_done: false, pulse: Some(now), target, gateway }));
        Some(call)
    }

    /// Draws what a call wants.
    fn draw(&self, call: usize, dice: u64) -> Option<Want> {
        let mut rng = Rng::with_seed(dice);
        if rng.u32(0..1_000) >= self.writes_permille {
            return self.draw_query(&mut rng).map(Want::Read);
        }
        let user = self.users.get(rng.usize(0..self.users.len()))?;
        let action = self.draw_action(&mut rng)?;
        if self.keys_last
            && rng.u8(0..40) == 0
            && let Some(first) = self.answered.get(rng.usize(0..self.answered.len().max(1)))
            && let Some(Some(Call { want: Want::Write { operation, .. }, .. })) = self.calls.get(*first)
            && operation.action != action
        {
            return Some(Want::Write {
                operation: Operation { owner: operation.owner.clone(), action },
                is_reuse: true,
            });
        }
        let owner = KeyOwner::new(user.as_str(), &format!("k{call}")).ok()?;
        Some(Want::Write { operation: Operation { owner, action }, is_reuse: false })
    }

    fn draw_action(&self, rng: &mut Rng) -> Option<Action> {
        let channel = self.channels.get(rng.usize(0..self.channels.len() - 1))?.clone();
        Some(match rng.u8(0..10) {
            0..=5 => {
                let text = Text::new(&format!("text {}", rng.u32(..))).ok()?;
                Action::Post { channel, text, create_channel: rng.u8(0..8) > 0 }
            }
            6 | 7 => Action::Star { id: self.draw_id(rng) },
            8 => Action::Unstar { id: self.draw_id(rng) },
            _ => Action::CreateChannel { channel },
        })
    }

    /// Mostly a message that is there, of late more often.
    fn draw_id(&self, rng: &mut Rng) -> Timestamp {
        let recent = self.known.len().saturating_sub(5);
        let from = if rng.bool() { recent } else { 0 };
        let known = (!self.known.is_empty()).then(|| self.known[rng.usize(from..self.known.len())]);
        known.filter(|_| rng.u8(0..10) > 0).unwrap_or(Timestamp(WALL_AT_START + rng.u64(0..1_000_000)))
    }

    fn draw_query(&self, rng: &mut Rng) -> Option<Query> {
        let channel = self.channels.get(rng.usize(0..self.channels.len()))?.clone();
        let user = rng.bool().then(|| self.users[rng.usize(0..self.users.len())].clone());
        let page = Page {
            limit: if rng.bool() { PAGE_MAX } else { rng.u32(1..5) },
            before: (rng.u8(0..4) == 0).then(|| self.draw_id(rng)),
            after: (rng.u8(0..4) == 0).then(|| self.draw_id(rng)),
            ascending: rng.bool(),
        };
        Some(match rng.u8(0..10) {
            0..=4 => Query::History { channel, page },
            5 | 6 => Query::Stars { channel, user, page },
            7 => Query::Message { id: self.draw_id(rng) },
            8 => Query::Channels { limit: rng.u32(1..5), after: rng.bool().then_some(channel) },
            _ => Query::Channel { channel },
        })
    }
}

impl World {
    /// A call begins.
    pub(super) fn call(&mut self, call: usize) {
        let dice = self.plan.calls[call].dice;
        let Some(want) = self.clients.draw(call, dice) else { return };
        let target = self.draw_target();
        self.clients.calls[call] = Some(Call { want, attempt: 0, is_done: false, pulse: None, target, gateway: None });
        self.try_call(call);
    }

    /// A write begins by which the calm is measured.
    pub(super) fn pulse(&mut self) {
        if let Some(call) = self.clients.pulse(self.now, None) {
            self.try_call(call);
        }
    }

    /// A write begins at the gateway beside a node.
    pub(super) fn pulse_at(&mut self, host: usize) {
        if let Some(call) = self.clients.pulse(self.now, Some(host)) {
            self.try_call(call);
        }
    }

    /// How long what a gateway asks is on its way; none when it gets lost. Without a gateway nothing is cut.
    fn way_us(&mut self, gateway: Option<Gateway>, node: usize, is_answer: bool) -> Option<u64> {
        let wait = 50 + self.rng.u64(0..=self.weather.delay_us);
        let Some(Gateway { host, .. }) = gateway else { return Some(wait) };
        let (from, to) = if is_answer { (node, host) } else { (host, node) };
        self.network.is_open(from, to).then(|| wait * self.network.slowness(from, to))
    }

    fn draw_target(&mut self) -> usize {
        if self.rng.u8(0..3) == 0 { self.rng.usize(0..self.clients.data) } else { self.clients.believed }
    }

    /// Sends a call, once more.
    fn try_call(&mut self, call: usize) {
        let Some(open) = self.clients.calls[call].as_mut() else { return };
        open.attempt += 1;
        let (attempt, node, gateway) = (open.attempt, open.target, open.gateway);
        open.gateway = gateway.map(|gateway| Gateway { has_heard: false, ..gateway });
        if self.trace.is_on() {
            let text = format!("call {call}, attempt {attempt}, asks {}: {:?}", self.nodes[node].me.voter, open.want);
            self.trace.say(self.now, Weight::Call, || text);
        }
        let is_lost = happens(&mut self.rng, self.weather.loss_ppm);
        if let Some(wait) = self.way_us(gateway, node, false).filter(|_| !is_lost) {
            self.after(wait, Event::Ask { call, attempt, node });
        }
        if happens(&mut self.rng, self.weather.repeat_ppm) {
            let (wait, node) = (self.rng.u64(0..=2 * self.weather.late_us), self.draw_target());
            self.after(wait, Event::Ask { call, attempt, node });
        }
        let patience = match gateway {
            Some(_) => self.rng.u64(GATEWAY_PATIENCE_US / 2..=GATEWAY_PATIENCE_US),
            None => self.plan.beat_us() / 2 + self.rng.u64(0..self.plan.beat_us()),
        };
        self.after(patience, Event::Again { call, attempt });
    }

    /// An operator's call reaches a node. Nobody waits for its answer, but it must be true.
    pub(super) fn operate(&mut self, node: usize, life: u32, call: OperatorCall) {
        if !self.lives(node, life) {
            return;
        }
        self.clients.requests += 1;
        let id = RequestId(self.clients.requests);
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.requests.insert(id, Request { call: None, asked: Asked::Operator(call.clone()) });
        }
        self.deliver(node, life, |_| vec![route::operator(id, call)]);
    }

    /// A copy of a request reaches a node.
    pub(super) fn ask(&mut self, call: usize, attempt: u32, node: usize) {
        let Some(open) = self.clients.calls[call].as_ref() else { return };
        let want = open.want.clone();
        let life = self.nodes[node].life;
        if self.nodes[node].process.is_none() {
            self.after(200, Event::Told { call, attempt, answer: None });
            return;
        }
        self.clients.requests += 1;
        let id = RequestId(self.clients.requests);
        let (asked, delivery) = match want {
            Want::Write { operation, is_reuse } => {
                (self.checker.write_came(&operation, is_reuse), route::submit(id, operation))
            }
            Want::Read(query) => (self.checker.read_came(&query), route::query(id, query)),
        };
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.requests.insert(id, Request { call: Some((call, attempt)), asked });
        }
        self.deliver(node, life, |_| vec![delivery]);
    }

    /// A node answers a request.
    pub(super) fn answer(&mut self, node: usize, id: RequestId, answer: Answer) -> Checked {
        let known = &mut self.nodes[node];
        let request = known.process.as_mut().and_then(|process| process.requests.remove(&id));
        let Some(request) = request else {
            let what = format!("{} answers request {id}, which waits for nothing: {answer:?}", known.me.voter);
            return Err(Violation::new(Rule::Unasked, what));
        };
        let voter = &known.me.voter;
        self.trace.say(self.now, Weight::Call, || format!("{voter} answers call {:?}: {answer:?}", request.call));
        self.checker.answered(&request.asked, &answer)?;
        if let Some((call, attempt)) = request.call
            && !happens(&mut self.rng, self.weather.loss_ppm)
            && let gateway = self.clients.calls[call].as_ref().and_then(|open| open.gateway)
            && let Some(wait) = self.way_us(gateway, node, true)
        {
            self.after(wait, Event::Told { call, attempt, answer: Some(Box::new(answer)) });
        }
        Ok(())
    }

    /// An answer, or the end of a connection, reaches the client.
    pub(super) fn told(&mut self, call: usize, attempt: u32, answer: Option<Answer>) {
        let is_open = self.clients.calls[call].as_ref().is_some_and(|open| !open.is_done);
        if !is_open {
            return;
        }
        match answer {
            Some(Answer::Failed(OperationError::NotPrimary { primary, view })) => {
                let hint =
                    primary.and_then(|id| self.nodes.iter().position(|node| node.me.voter == Voter::Replica(id)));
                self.clients.believed = hint.unwrap_or(self.clients.believed);
                self.soon(call, attempt, hint.map(|target| (view, target)));
            }
            Some(Answer::Failed(error)) if error.is_retryable() => self.soon(call, attempt, None),
            Some(answer) => self.done(call, &answer),
            None => self.soon(call, attempt, None),
        }
    }

    /// The same call again, in a little while.
    fn soon(&mut self, call: usize, attempt: u32, hint: Option<(ViewNumber, usize)>) {
        let wait = self.rng.u64(100..=1_000 + self.plan.beat_us() / 8);
        let data = self.clients.data;
        let Some(open) = self.clients.calls[call].as_mut() else { return };
        if let Some(gateway) = open.gateway.as_mut().filter(|_| open.attempt == attempt) {
            gateway.has_heard = true;
            let news = hint.filter(|(view, _)| *view > gateway.hinted);
            gateway.hinted = news.map_or(gateway.hinted, |(view, _)| view);
            open.target = news.map_or((open.target + 1) % data, |(_, target)| target);
        } else if let Some((_, target)) = hint {
            open.target = target;
        }
        self.after(wait, Event::Again { call, attempt });
    }

    fn done(&mut self, call: usize, answer: &Answer) {
        if let Answer::Written(outcome, _) = answer {
            if let Outcome::Message(message) = outcome {
                self.clients.known.push(message.id);
            }
            self.clients.answered.push(call);
            if let Some(began) = self.clients.calls[call].as_ref().and_then(|open| open.pulse) {
                self.calm.written(began);
            }
        }
        let Some(open) = self.clients.calls[call].as_mut() else { return };
        open.is_done = true;
        if let (Some(Gateway { host, .. }), began) = (open.gateway, open.pulse) {
            let is_done = matches!(answer, Answer::Written(Outcome::Message(_), _));
            self.told_gateway(host, began, is_done);
            return;
        }
        // A client that lost the answer asks again, much later, and anywhere.
        if matches!(open.want, Want::Write { .. }) && self.weather.repeat_ppm > 0 && self.rng.u8(0..12) == 0 {
            let attempt = open.attempt;
            let (wait, node) = (self.rng.u64(0..=3 * self.plan.beat_us()), self.draw_target());
            self.after(wait, Event::Ask { call, attempt, node });
        }
    }

    /// The client has waited long enough: it tries again, elsewhere, or gives up.
    pub(super) fn again(&mut self, call: usize, attempt: u32) {
        let Some(open) = self.clients.calls[call].as_ref() else { return };
        if open.is_done || open.attempt != attempt {
            return;
        }
        let gives_up = match open.gateway {
            Some(_) => false,
            None => attempt >= ATTEMPTS_MAX || (open.pulse.is_none() && self.rng.u8(0..20) == 0),
        };
        let hinted = open.target;
        let target = match open.gateway {
            Some(Gateway { has_heard: true, .. }) => hinted,
            Some(_) => (hinted + 1) % self.clients.data,
            None if self.rng.bool() => hinted,
            None => self.draw_target(),
        };
        if let Some(open) = self.clients.calls[call].as_mut() {
            open.is_done = gives_up;
            open.target = target;
        }
        if !gives_up {
            self.try_call(call);
        }
    }
}

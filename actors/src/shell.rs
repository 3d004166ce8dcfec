//! The only code that steps a machine: hands, no head.
//!
//! A [`Shell`] is an actix actor around the machines that one actor hosts. It takes inputs from its mailbox in order, steps
//! the machine that each is for, and has the effects carried out (`hands.rs`) before it takes the next. One timer serves all
//! its machines: it is set to the earliest deadline after each step.
//!
//! Handlers are plain and synchronous, on purpose: while an async handler waits, actix runs the next one on the same state.
//!
//! Not here: any decision. An `if` about the protocol in this file is a bug.

use crate::hands::Hands;
use crate::mailboxes::{ActorName, Deliver, MAILBOX_MESSAGES_MAX};
use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult, SpawnHandle};
use lockstep_protocol::ids::{Millis, Now};
use lockstep_protocol::machine::Effects;
use lockstep_protocol::route::Delivery;
use lockstep_protocol::status::NodeStatus;
use std::sync::Arc;
use std::time::Duration;

/// The machines of one actor, as one.
pub trait Hosted: Unpin + 'static {
    /// Whose they are.
    const NAME: ActorName;

    /// Hands the input to the machine that it is for.
    fn step(&mut self, now: Now, delivery: Delivery) -> Effects;

    /// The earliest deadline.
    fn deadline(&self) -> Option<Millis>;

    /// Gives their tick to those whose deadline has come.
    fn tick(&mut self, now: Now) -> Effects;

    /// Writes their part of what the node says of itself.
    fn observe(&self, status: &mut NodeStatus);
}

/// Defines the machines of one actor: a struct with a field for each, and its [`Hosted`].
macro_rules! hosted {
    ($(#[$doc:meta])* $name:ident as $actor:ident { $($field:ident: $machine:ty, hears $delivery:ident;)+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            $(pub(crate) $field: $machine,)+
        }

        impl $crate::shell::Hosted for $name {
            const NAME: $crate::mailboxes::ActorName = $crate::mailboxes::ActorName::$actor;

            fn step(
                &mut self,
                now: lockstep_protocol::ids::Now,
                delivery: lockstep_protocol::route::Delivery,
            ) -> lockstep_protocol::machine::Effects {
                use lockstep_protocol::machine::Machine;
                match delivery {
                    $(lockstep_protocol::route::Delivery::$delivery(input) => self.$field.step(now, input),)+
                    other => $crate::shell::misrouted(Self::NAME, &other),
                }
            }

            fn deadline(&self) -> Option<lockstep_protocol::ids::Millis> {
                use lockstep_protocol::machine::Machine;
                [$(self.$field.deadline(),)+].into_iter().flatten().min()
            }

            fn tick(&mut self, now: lockstep_protocol::ids::Now) -> lockstep_protocol::machine::Effects {
                use lockstep_protocol::machine::Machine;
                let mut effects = lockstep_protocol::machine::Effects::none();
                $(if self.$field.deadline().is_some_and(|at| at <= now.elapsed) {
                    effects.append(self.$field.tick(now));
                })+
                effects
            }

            fn observe(&self, status: &mut lockstep_protocol::status::NodeStatus) {
                $(self.$field.observe(status);)+
            }
        }
    };
}
pub(crate) use hosted;

/// `ActorName::hosting` and the actors' fields disagree: the program is wrong, and stops before it loses more inputs.
pub(crate) fn misrouted(actor: ActorName, delivery: &Delivery) -> Effects {
    let mut effects = Effects::none();
    effects.halt(format!("{actor:?} does not host {:?}", delivery.machine()));
    effects
}

/// The first message to every shell: all others exist now.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct Begin;

/// A deadline has come, or may have.
#[derive(Message, Debug)]
#[rtype(result = "()")]
struct Tick;

/// Adds this actor's part to what the node says of itself.
#[derive(Message, Debug)]
#[rtype(result = "NodeStatus")]
pub struct Observe(pub NodeStatus);

/// When the timer will fire; without a handle it is a [`Tick`] in the mailbox already.
#[derive(Debug)]
struct Armed {
    at: Millis,
    timer: Option<SpawnHandle>,
}

/// An actor around machines.
#[derive(Debug)]
pub struct Shell<H> {
    hosted: H,
    hands: Arc<Hands>,
    has_begun: bool,
    armed: Option<Armed>,
}

impl<H: Hosted> Shell<H> {
    /// Not begun yet.
    pub fn new(hosted: H, hands: Arc<Hands>) -> Self {
        Self { hosted, hands, has_begun: false, armed: None }
    }

    /// The first tick, before any input: a note of a shell that began earlier may overtake `Begin`.
    fn begin(&mut self) {
        if !self.has_begun {
            self.has_begun = true;
            self.tick();
        }
    }

    fn tick(&mut self) {
        let now = self.hands.now();
        let effects = self.hosted.tick(now);
        self.hands.perform(effects);
    }

    /// Sets the timer to the earliest deadline. One that is set for earlier stays: it finds nothing due and sets itself anew,
    /// which is cheaper than a new timer with each step.
    fn arm(&mut self, ctx: &mut Context<Self>, wait_min_ms: u64) {
        let Some(at) = self.hosted.deadline() else { return };
        if self.armed.as_ref().is_some_and(|armed| armed.at <= at) {
            return;
        }
        if let Some(Armed { timer: Some(timer), .. }) = self.armed.take() {
            ctx.cancel_future(timer);
        }
        let wait_ms = at.since(self.hands.now().elapsed).max(wait_min_ms);
        let timer = if wait_ms == 0 {
            ctx.notify(Tick);
            None
        } else {
            Some(ctx.notify_later(Tick, Duration::from_millis(wait_ms)))
        };
        self.armed = Some(Armed { at, timer });
    }
}

impl<H: Hosted> Actor for Shell<H> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES_MAX);
    }
}

impl<H: Hosted> Handler<Begin> for Shell<H> {
    type Result = ();

    fn handle(&mut self, Begin: Begin, ctx: &mut Self::Context) {
        self.begin();
        self.arm(ctx, 0);
    }
}

impl<H: Hosted> Handler<Deliver> for Shell<H> {
    type Result = ();

    fn handle(&mut self, Deliver(deliveries): Deliver, ctx: &mut Self::Context) {
        self.begin();
        for delivery in deliveries {
            let now = self.hands.now();
            let effects = self.hosted.step(now, delivery);
            self.hands.perform(effects);
        }
        self.arm(ctx, 0);
    }
}

impl<H: Hosted> Handler<Tick> for Shell<H> {
    type Result = ();

    fn handle(&mut self, Tick: Tick, ctx: &mut Self::Context) {
        if self.hands.deliver_states(H::NAME) {
            // They are in the mailbox now, and the mailbox goes first.
            ctx.notify(Tick);
            return;
        }
        // One that was replaced by an earlier one after it fired comes too; it finds nothing due.
        self.armed = None;
        self.tick();
        // A machine whose deadline stays in the past gets its ticks with a pause, and the mailbox its turn.
        self.arm(ctx, 1);
    }
}

impl<H: Hosted> Handler<Observe> for Shell<H> {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, Observe(mut status): Observe, _: &mut Self::Context) -> Self::Result {
        self.hosted.observe(&mut status);
        MessageResult(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hands::tests::{Probe, hands};
    use lockstep_protocol::ids::{Address, ViewNumber};
    use lockstep_protocol::machine::{Effect, Note};
    use lockstep_protocol::read;
    use std::sync::Mutex;
    use std::sync::mpsc;

    /// What a scripted machine was asked.
    #[derive(Debug, PartialEq)]
    enum Asked {
        Tick,
        Step(Box<Delivery>),
    }

    /// Ticks `ticks_ms` from its start on; does what it is told with each step.
    struct Script {
        asked: mpsc::Sender<Asked>,
        ticks_ms: Vec<u64>,
        on_step: Vec<Effect>,
    }

    impl Hosted for Script {
        const NAME: ActorName = ActorName::TransactionCoordinator;

        fn step(&mut self, _: Now, delivery: Delivery) -> Effects {
            self.asked.send(Asked::Step(Box::new(delivery))).expect("the test listens");
            let mut effects = Effects::none();
            self.on_step.drain(..).for_each(|effect| effects.push(effect));
            effects
        }

        fn deadline(&self) -> Option<Millis> {
            self.ticks_ms.first().map(|ms| Millis(*ms))
        }

        fn tick(&mut self, now: Now) -> Effects {
            while self.ticks_ms.first().is_some_and(|ms| *ms <= now.elapsed.0) {
                self.ticks_ms.remove(0);
                self.asked.send(Asked::Tick).expect("the test listens");
            }
            Effects::none()
        }

        fn observe(&self, status: &mut NodeStatus) {
            status.locks_held = 7;
        }
    }

    fn serving(n: u64) -> Delivery {
        Delivery::Reads(read::Input::Serving { view: ViewNumber(n) })
    }

    fn script(ticks_ms: &[u64], on_step: Vec<Effect>) -> (Script, mpsc::Receiver<Asked>) {
        let (asked, heard) = mpsc::channel();
        (Script { asked, ticks_ms: ticks_ms.to_vec(), on_step }, heard)
    }

    #[actix_rt::test]
    async fn the_first_tick_comes_before_any_input() {
        let (script, heard) = script(&[0], vec![]);
        let shell = Shell::new(script, hands(&Probe::default())).start();
        shell.send(Deliver(vec![serving(1), serving(2)])).await.expect("alive");
        shell.send(Begin).await.expect("alive");
        let all: Vec<_> = heard.try_iter().collect();
        assert_eq!(all, [Asked::Tick, Asked::Step(Box::new(serving(1))), Asked::Step(Box::new(serving(2)))]);
    }

    #[actix_rt::test]
    async fn one_timer_serves_every_deadline() {
        let (script, heard) = script(&[0, 20, 40], vec![]);
        let shell = Shell::new(script, hands(&Probe::default())).start();
        shell.send(Begin).await.expect("alive");
        actix_rt::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(heard.try_iter().count(), 3);
        let status = shell.send(Observe(NodeStatus::default())).await.expect("alive");
        assert_eq!(status.locks_held, 7);
    }

    #[actix_rt::test]
    async fn effects_are_carried_out_in_their_order() {
        let probe = Probe::default();
        let storage = lockstep_protocol::storage::StorageRequest::DropTail;
        let view = ViewNumber(3);
        let effects = vec![
            Effect::Storage(storage.clone()),
            Effect::Tell(Note::Serving { view }),
            Effect::Storage(storage),
            Effect::Watch(Some(Address::new("127.0.0.1:1"))),
            Effect::Tell(Note::NotServing { view, can_lead: true }),
        ];
        let (script, _heard) = script(&[], effects);
        let shell = Shell::new(script, hands(&probe)).start();
        shell.send(Deliver(vec![serving(1)])).await.expect("alive");
        let done = Mutex::lock(&probe.done).expect("no panic").clone();
        assert_eq!(done, ["storage", "storage", "watch 127.0.0.1:1"]);
    }
}

//! The course of a drill: a cluster that is whole, a load, faults one after the other, the last reads, and the check.
//!
//! Not here: what a fault does (`nemesis.rs`), and what must be true (`checker`).

use super::super::Failure;
use super::super::api::random_hex;
use super::answer::Names;
use super::checker::{self, Verdict};
use super::client::{Client, Shared};
use super::cluster::{Cluster, LOOK, WIDE};
use super::disk::SmallDisk;
use super::fault::{Deck, Fault, Kind};
use super::finale::{self, Kept, Shows};
use super::history::{Answer, Call, Channel, End, Moment, Page, Wish};
use super::report::{Report, Round, Second, ViewSeen};
use super::{Plan, nemesis};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// So many channels are opened for each round: one stays small enough for every read to be about something new.
const CHANNELS: Channel = 4;
/// How long the load runs undisturbed before each fault.
const CALM: Duration = Duration::from_millis(1_500);
/// How many messages each of the last reads asks for.
const LAST_PAGE: usize = 1_000;
/// Where a drill's files get their names from. Bytes of randomness.
const RUN_BYTES: usize = 3;

/// What a drill is about.
struct Drill<'a> {
    plan: &'a Plan,
    shared: Rc<Shared>,
    begun: Instant,
    rounds: Vec<Round>,
    skipped: Vec<String>,
}

/// Runs all of it.
///
/// # Errors
/// When it cannot be run. What the cluster does wrong stands in the report.
pub async fn run(cluster: &mut Cluster, plan: &Plan) -> Result<Report, Failure> {
    let (kinds, skipped) = possible(cluster, &plan.kinds);
    say(plan, &format!("Seed {}. Starting {} in {} ...", plan.seed, name(cluster), cluster.layout.dir.display()));
    cluster.start().await?;
    let begun = Instant::now();
    let shared = Rc::new(Shared::new(Names { run: random_hex(RUN_BYTES)? }, cluster.gateways(), begun));
    let mut drill = Drill { plan, shared, begun, rounds: Vec::new(), skipped };
    drill.open_channels(cluster).await?;
    let clients = (0..plan.clients).map(|number| Client::new(drill.shared.clone(), number, plan.seed));
    let clients: Vec<_> = clients.map(|client| actix_rt::spawn(client.run())).collect();
    let watching = actix_rt::spawn(cluster.watch.clone().run());
    drill.faults(cluster, Deck::new(plan.seed, &kinds)).await;
    tokio::time::sleep(CALM).await;
    drill.shared.stop();
    for client in clients {
        client.await.map_err(|e| Failure::new(format!("a client ended: {e}")))?;
    }
    say(plan, "Reading everything back ...");
    let (gateways, troubles) = drill.last_reads(cluster).await;
    watching.abort();
    let changes = cluster.watch.changes().await;
    let views = views(cluster, begun, &changes);
    cluster.end();
    say(plan, "Checking ...");
    drill.report(name(cluster), gateways, troubles, views)
}

fn say(plan: &Plan, what: &str) {
    if !plan.quiet {
        println!("{what}");
    }
}

fn name(cluster: &Cluster) -> String {
    let (nodes, gateways) = (cluster.layout.node_count(), cluster.layout.gateways().count());
    format!("{nodes} data nodes and {gateways} gateways")
}

/// Which of these faults can be done here.
fn possible(cluster: &mut Cluster, kinds: &[Kind]) -> (Vec<Kind>, Vec<String>) {
    let mut skipped = Vec::new();
    let mut kinds = kinds.to_vec();
    if kinds.contains(&Kind::FullDisk) {
        let first = cluster.layout.nodes().next().map(|member| cluster.layout.data_dir(&member.name));
        cluster.disk = first.and_then(|dir| SmallDisk::mount(&dir));
        if cluster.disk.is_none() {
            kinds.retain(|kind| *kind != Kind::FullDisk);
            skipped.push(format!("{}: mounting a small disk needs root", Kind::FullDisk.name()));
        }
    }
    (kinds, skipped)
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Drill<'_> {
    async fn open_channels(&self, cluster: &Cluster) -> Result<(), Failure> {
        let first = self.shared.channel_count();
        for channel in first..first + CHANNELS {
            let (name, begun) = (self.shared.names.channel(channel), Instant::now());
            while !cluster.watch.create_channel(&name).await {
                if begun.elapsed() > WIDE {
                    return Err(Failure::new(format!("channel {name} cannot be created")));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        self.shared.open_channels(CHANNELS);
        Ok(())
    }

    /// One fault after the other, until the time is over, or the cluster does not come back.
    async fn faults(&mut self, cluster: &mut Cluster, deck: Deck) {
        for fault in deck {
            let is_over = self.begun.elapsed() >= self.plan.lasts || self.rounds.len() >= self.plan.rounds as usize;
            let is_broken = self.rounds.last().is_some_and(|round| round.whole_ms.is_none() || round.trouble.is_some());
            if is_over || is_broken {
                return;
            }
            tokio::time::sleep(CALM).await;
            let round = self.round(cluster, &fault).await;
            say(self.plan, &line(&round));
            self.rounds.push(round);
        }
    }

    async fn round(&self, cluster: &mut Cluster, fault: &Fault) -> Round {
        let number = u32::try_from(self.rounds.len() + 1).unwrap_or(u32::MAX);
        let mut round = Round { number, fault: fault.kind.name(), ..Round::default() };
        let opened = self.open_channels(cluster).await;
        let first = self.shared.record.borrow().calls().len();
        round.began_ms = ms(self.begun.elapsed());
        let struck = match opened {
            Ok(()) => nemesis::strike(cluster, fault, &mut round.target).await,
            Err(failure) => Err(failure),
        };
        round.trouble = struck.err().map(|failure| failure.to_string());
        if round.trouble.is_some()
            && let Err(failure) = cluster.restore()
        {
            round.trouble = Some(failure.to_string());
        }
        let (lifted, since) = (Instant::now(), self.shared.record.borrow_mut().now());
        round.lifted_ms = ms(lifted - self.begun);
        let (served, whole) =
            tokio::join!(self.wait_until_served(cluster, first, since), cluster.wait_until_whole(WIDE));
        round.served_ms = served.map(|at| at.0.saturating_sub(since.0).div_ceil(1_000));
        round.whole_ms = whole.map(ms);
        round.stall_ms = stall(&self.shared.record.borrow().calls()[first..], round.began_ms, ms(self.begun.elapsed()));
        round
    }

    /// Waits until a write that was called since then was answered through every gateway; when the last of them was.
    async fn wait_until_served(&self, cluster: &Cluster, first: usize, since: Moment) -> Option<Moment> {
        let (begun, gateways) = (Instant::now(), cluster.layout.gateways().count());
        loop {
            let served = served(&self.shared.record.borrow().calls()[first..], since, gateways);
            if served.is_some() || begun.elapsed() > WIDE {
                return served;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// All channels through every gateway, as calls of clients of their own; and what differs.
    async fn last_reads(&self, cluster: &Cluster) -> (Vec<Shows>, Vec<String>) {
        let mut all = Vec::new();
        let gateways = u32::try_from(self.shared.gateways.len()).unwrap_or(0);
        for gateway in 0..gateways {
            // One whose own gateway is this one.
            let number = (self.plan.clients.div_ceil(gateways) + 1) * gateways + gateway;
            let mut client = Client::new(self.shared.clone(), number, self.plan.seed);
            all.push(read_all(&mut client, self.shared.channel_count()).await);
        }
        let mut troubles = Vec::new();
        if !all.windows(2).all(|pair| pair[0] == pair[1]) {
            troubles.push("two gateways show different messages or stars".to_owned());
        }
        let nodes = cluster.layout.node_count();
        let is_equal = |seen: &super::watch::Seen| {
            seen.applied.len() == nodes && seen.applied.windows(2).all(|pair| pair[0] == pair[1])
        };
        if cluster.watch.wait_until(WIDE, is_equal).await.is_none() {
            troubles.push("without a load, the data nodes have not all applied the same".to_owned());
        }
        let record = self.shared.record.borrow();
        let count = |(gateway, kept): (&super::super::bench::connection::Gateway, Result<Kept, String>)| match kept {
            Ok(kept) => finale::count(&gateway.name, record.calls(), &kept),
            Err(why) => Shows { gateway: gateway.name.clone(), failure: Some(why), ..Shows::default() },
        };
        (self.shared.gateways.iter().zip(all).map(count).collect(), troubles)
    }

    fn report(
        self,
        cluster: String,
        gateways: Vec<Shows>,
        troubles: Vec<String>,
        views: Vec<ViewSeen>,
    ) -> Result<Report, Failure> {
        let record = self.shared.record.borrow();
        let (calls, begun) = (record.calls(), Instant::now());
        let verdict = checker::check(calls).map_err(|malformed| Failure::new(malformed.to_string()))?;
        let check_ms = ms(begun.elapsed());
        let Verdict { violations, found, judged, unknown, refused, choices } = verdict;
        Ok(Report {
            seed: self.plan.seed,
            cluster,
            seconds: calls.iter().map(|call| call.ended().0).max().unwrap_or(0) as f64 / 1e6,
            limit_ms: ms(self.plan.limit),
            rounds: self.rounds,
            skipped: self.skipped,
            checked: judged,
            unknown,
            refused,
            retries: calls.iter().map(|call| u64::from(call.tries) - 1).sum(),
            choices,
            check_ms,
            violations: found,
            told: violations.iter().map(|violation| violation.story(calls)).collect(),
            gateways,
            troubles,
            views,
            load: load(calls),
        })
    }
}

fn line(round: &Round) -> String {
    let Round { number, fault, target, stall_ms, .. } = round;
    let (served, whole) = (super::report::time(round.served_ms), super::report::time(round.whole_ms));
    let trouble = round.trouble.as_ref().map_or_else(String::new, |trouble| format!("; {trouble}"));
    format!(
        "{number:>4} {fault} of {target}: no write for {stall_ms} ms, served after {served}, whole after {whole}{trouble}"
    )
}

/// When the last gateway answered its first write of those that were called since then.
fn served(calls: &[Call], since: Moment, gateways: usize) -> Option<Moment> {
    let first = |gateway: usize| {
        let answered = calls.iter().filter(|call| {
            call.gateway == gateway
                && call.called > since
                && call.wish.is_write()
                && matches!(call.end, End::Answered { .. })
        });
        answered.map(Call::ended).min()
    };
    (0..gateways).map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The longest time without an answered write between these moments. Milliseconds.
fn stall(calls: &[Call], from_ms: u64, to_ms: u64) -> u64 {
    let answered = calls.iter().filter(|call| call.wish.is_write() && matches!(call.end, End::Answered { .. }));
    let mut moments: Vec<_> = answered.map(|call| call.ended().0 / 1_000).filter(|at| *at <= to_ms).collect();
    moments.extend([from_ms, to_ms]);
    moments.sort_unstable();
    moments.windows(2).map(|pair| pair[1] - pair[0].max(from_ms).min(pair[1])).max().unwrap_or(0)
}

/// What there was, second by second.
fn load(calls: &[Call]) -> Vec<Second> {
    let at = |call: &Call| usize::try_from(call.ended().0 / 1_000_000).unwrap_or(0);
    let mut load = vec![Second::default(); calls.iter().map(at).max().map_or(0, |last| last + 1)];
    for call in calls {
        let second = &mut load[at(call)];
        second.failed += call.tries - 1;
        match (&call.end, call.wish.is_write()) {
            (End::Answered { .. }, true) => second.writes += 1,
            (End::Answered { .. }, false) => second.reads += 1,
            (End::Refused { .. } | End::Unknown { .. }, _) => second.failed += 1,
        }
    }
    load
}

/// All channels, page by page, through the client's own gateway.
async fn read_all(client: &mut Client, channels: Channel) -> Result<Kept, String> {
    let mut kept = Kept::new();
    for channel in 0..channels {
        let mut after = None;
        loop {
            let page = Page { channel, after, ascending: true, limit: LAST_PAGE };
            let shown = read_page(client, page).await?;
            after = shown.last().map(|message| message.id).or(after);
            let is_last = shown.len() < LAST_PAGE;
            kept.extend(shown.into_iter().map(|message| (message.id, message.post, message.stars)));
            if is_last {
                break;
            }
        }
    }
    Ok(kept)
}

async fn read_page(client: &mut Client, page: Page) -> Result<Vec<super::history::Shown>, String> {
    let begun = Instant::now();
    loop {
        match client.call(Wish::History(page)).await {
            End::Answered { answer: Answer::Page(shown), .. } => return Ok(shown),
            End::Answered { .. } => return Err(format!("channel {} cannot be read", page.channel)),
            End::Refused { .. } | End::Unknown { .. } if begun.elapsed() > WIDE => {
                return Err(format!("channel {} was not answered in {} s", page.channel, WIDE.as_secs()));
            }
            End::Refused { .. } | End::Unknown { .. } => tokio::time::sleep(LOOK).await,
        }
    }
}

fn views(cluster: &Cluster, begun: Instant, changes: &[(u64, String)]) -> Vec<ViewSeen> {
    let view = |(at, seen): (Instant, super::watch::Seen)| ViewSeen {
        at_ms: ms(at.saturating_duration_since(begun)),
        number: seen.view,
        primary: seen.primary,
        replicas: seen.replicas,
        text: changes.iter().find(|(number, _)| *number == seen.view).map(|(_, text)| text.clone()),
    };
    let all: Vec<_> = cluster.watch.views().into_iter().map(view).collect();
    // Of those before the load, the last is where it began.
    let first = all.iter().rposition(|view| view.at_ms == 0).unwrap_or(0);
    all[first..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A post through a gateway that was called and answered then. Milliseconds.
    fn post(gateway: usize, called: u64, at: u64) -> Call {
        let end = End::Answered { at: Moment(at * 1_000), answer: Answer::NotFound, receipt: None };
        let called = Moment(called * 1_000);
        Call { client: 0, wish: Wish::Post { channel: 0, post: 0 }, called, end, tries: 1, gateway }
    }

    #[test]
    fn it_serves_once_every_gateway_answered_a_write_that_was_called_since() {
        let since = Moment(50_000);
        let calls = [post(0, 40, 60), post(0, 55, 70), post(1, 51, 80), post(1, 81, 90)];
        assert_eq!(served(&calls, since, 2), Some(Moment(80_000)));
        assert_eq!(served(&calls[..2], since, 2), None);
        assert_eq!(served(&calls[..1], since, 1), None, "it was called before");
    }

    #[test]
    fn the_longest_stall_counts_from_the_fault_to_its_end() {
        let calls = [post(0, 5, 8), post(0, 11, 12), post(0, 13, 40), post(1, 41, 45), post(1, 46, 200)];
        assert_eq!(stall(&calls, 10, 50), 28);
        assert_eq!(stall(&[], 10, 50), 40);
        assert_eq!(stall(&calls[..2], 10, 50), 38, "the end counts");
    }

    #[test]
    fn a_second_counts_what_ended_in_it() {
        let mut refused = post(0, 900, 1_100);
        (refused.end, refused.tries) = (End::Refused { at: Moment(1_100_000) }, 3);
        let load = load(&[post(0, 1, 2), post(0, 3, 4), refused]);
        assert_eq!(load, [Second { writes: 2, ..Second::default() }, Second { failed: 3, ..Second::default() }]);
    }
}

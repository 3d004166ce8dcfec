//! Small random records, judged twice: by the checker, and by a search through all orders (Wing and Gong, 1993; Lowe, 2017; the
//! crate `todc-utils`) that is told nothing but what the store does.
//!
//! A record is made by a store that is honest, and then doctored, or not: moments, ids, stars, whole answers. Neither judge knows.

use super::super::super::history::{Answer, Call, Channel, Client, End, Id, Moment, Page, Post, Shown, Wish};
use super::super::check;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use todc_utils::{Action, History, Specification, WGLChecker};

/// Records that are judged. One of them, with seed 1553, is refused only after several choices were tried in vain.
const RECORDS: u64 = 2_000;
/// Of which at least so many must be found good, and as many bad.
const EACH: usize = 500;
const CLIENTS: u32 = 4;
const CHANNELS: u32 = 2;

/// The store, as plain as can be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Store {
    messages: Vec<(Id, Post, Channel, Client)>,
    stars: BTreeSet<(Id, Client)>,
}

impl Store {
    fn shown(&self, (id, post, channel, by): (Id, Post, Channel, Client)) -> Shown {
        let stars = self.stars.iter().filter(|(message, _)| *message == id).map(|(_, user)| *user).collect();
        Shown { id, post: Some(post), channel: Some(channel), by: Some(by), stars }
    }

    fn find(&self, id: Id) -> Answer {
        let found = self.messages.iter().find(|message| message.0 == id);
        found.map_or(Answer::NotFound, |message| Answer::Message(self.shown(*message)))
    }

    fn page(&self, channel: Channel, ascending: bool, limit: usize, wanted: impl Fn(&Shown) -> bool) -> Answer {
        let all = self.messages.iter().filter(|message| message.2 == channel).map(|message| self.shown(*message));
        let mut all: Vec<_> = all.filter(|shown| wanted(shown)).collect();
        if !ascending {
            all.reverse();
        }
        all.truncate(limit);
        Answer::Page(all)
    }

    /// Does it, and answers. A post is given the id that it is said to have.
    fn take(&mut self, client: Client, wish: &Wish, id: Id) -> Answer {
        match *wish {
            Wish::Post { channel, post } => {
                self.messages.push((id, post, channel, client));
                self.find(id)
            }
            Wish::Star { message, on } => {
                let is_there = self.messages.iter().any(|known| known.0 == message);
                if is_there && on {
                    self.stars.insert((message, client));
                } else if is_there {
                    self.stars.remove(&(message, client));
                }
                self.find(message)
            }
            Wish::History(Page { channel, after, ascending, limit }) => {
                self.page(channel, ascending, limit, |shown| after.is_none_or(|after| shown.id > after))
            }
            Wish::Stars { channel, of, limit } => self.page(channel, false, limit, |shown| {
                of.map_or(!shown.stars.is_empty(), |user| shown.stars.contains(&user))
            }),
            Wish::Message { message } => self.find(message),
        }
    }
}

/// What the search is told of a call: what it wished, what it was answered, and of a post the id that anyone saw.
#[derive(Clone, Debug)]
struct Step {
    client: Client,
    wish: Wish,
    answer: Option<Answer>,
    id: Option<Id>,
}

struct Messaging;

impl Specification for Messaging {
    type State = Store;
    type Operation = Step;

    fn init() -> Store {
        Store::default()
    }

    fn apply(step: &Step, state: &Store) -> (bool, Store) {
        let mut next = state.clone();
        // A post that nobody saw may as well be the last one.
        let newest = state.messages.last().map_or(Id(0), |message| message.0);
        let id = step.id.unwrap_or(Id(newest.0 + 1));
        let is_new = !matches!(step.wish, Wish::Post { .. }) || id > newest;
        let mut answer = next.take(step.client, &step.wish, id);
        let mut told = step.answer.clone();
        [Some(&mut answer), told.as_mut()].into_iter().flatten().for_each(sort_stars);
        (is_new && told.is_none_or(|told| told == answer), next)
    }
}

/// Who starred first is no part of an answer.
fn sort_stars(answer: &mut Answer) {
    let sort = |shown: &mut Shown| shown.stars.sort_unstable();
    match answer {
        Answer::Message(shown) => sort(shown),
        Answer::Page(all) => all.iter_mut().for_each(sort),
        Answer::NotFound | Answer::Unreadable => {}
    }
}

/// What the search says. A call without an outcome ends after all others; one that nobody saw is left out.
fn search(calls: &[Call]) -> bool {
    let mut seen: BTreeMap<Post, Id> = BTreeMap::new();
    for shown in calls.iter().flat_map(Call::shown) {
        if let Some(post) = shown.post {
            seen.entry(post).or_insert(shown.id);
        }
    }
    let mut events = Vec::new();
    for (place, call) in calls.iter().enumerate() {
        let id = if let Wish::Post { post, .. } = call.wish { seen.get(&post).copied() } else { None };
        let is_unseen = matches!(call.wish, Wish::Post { .. }) && id.is_none();
        let is_in_doubt = matches!(call.end, End::Unknown { .. });
        if matches!(call.end, End::Refused { .. }) || is_in_doubt && (is_unseen || !call.wish.is_write()) {
            continue;
        }
        let step = Step { client: call.client, wish: call.wish, answer: call.answer().cloned(), id };
        events.push((call.called, place, Action::Call(step.clone())));
        events.push((call.returned(), place, Action::Response(step)));
    }
    events.sort_by_key(|(at, place, _)| (*at, *place));
    let actions = events.into_iter().map(|(_, place, action)| (place, action)).collect();
    WGLChecker::<Messaging>::is_linearizable(History::from_actions(actions))
}

/// What a client is at.
enum Doing {
    Nothing,
    Asked(Wish, Moment),
    Done(Wish, Moment, Answer),
}

/// Clients that ask an honest store: each call takes effect somewhere between its beginning and its end.
struct Maker {
    random: Rng,
    store: Store,
    now: u64,
    posts: Post,
    calls: Vec<Call>,
    /// Stars of which their clients know no outcome.
    given_up: BTreeSet<(Client, Id)>,
    /// Whether half of the clients write stars, quickly, and half read them, slowly: that leaves much to choose.
    is_starry: bool,
}

impl Maker {
    fn make(seed: u64) -> Vec<Call> {
        let random = Rng::with_seed(seed);
        let mut maker = Self {
            random,
            store: Store::default(),
            now: 0,
            posts: 0,
            calls: Vec::new(),
            given_up: BTreeSet::new(),
            is_starry: !seed.is_multiple_of(2),
        };
        let wanted = maker.random.usize(if maker.is_starry { 8..20 } else { 6..16 });
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Doing::Nothing).collect();
        while maker.calls.len() < wanted {
            let client = maker.random.usize(..clients.len());
            let number = u32::try_from(client).expect("few");
            clients[client] = maker.step(number, std::mem::replace(&mut clients[client], Doing::Nothing));
        }
        maker.calls
    }

    fn step(&mut self, client: Client, doing: Doing) -> Doing {
        self.now += 1;
        let now = Moment(self.now);
        if self.is_starry && client >= CLIENTS / 2 && self.random.u8(..4) > 0 {
            return doing;
        }
        match doing {
            Doing::Nothing => self.wish(client).map_or(Doing::Nothing, |wish| Doing::Asked(wish, now)),
            Doing::Asked(wish, called) if self.random.u8(..12) == 0 => {
                let end = if self.random.bool() { End::Unknown { at: now } } else { End::Refused { at: now } };
                self.end(client, wish, called, end);
                Doing::Nothing
            }
            Doing::Asked(wish, called) => {
                let id = Id(self.store.messages.last().map_or(0, |message| message.0.0) + self.random.u64(1..3));
                let answer = self.store.take(client, &wish, id);
                Doing::Done(wish, called, answer)
            }
            Doing::Done(wish, called, answer) => {
                let is_lost = self.random.u8(..8) == 0;
                let answered = End::Answered { at: now, answer, receipt: None };
                self.end(client, wish, called, if is_lost { End::Unknown { at: now } } else { answered });
                Doing::Nothing
            }
        }
    }

    fn end(&mut self, client: Client, wish: Wish, called: Moment, end: End) {
        if let (Wish::Star { message, .. }, End::Unknown { .. }) = (&wish, &end) {
            self.given_up.insert((client, *message));
        }
        self.calls.push(Call { client, wish, called, end, tries: 1, gateway: 0 });
    }

    fn wish(&mut self, client: Client) -> Option<Wish> {
        let channel = self.random.u32(..CHANNELS);
        let known: Vec<_> = self.store.messages.iter().map(|message| message.0).collect();
        let message = self.random.choice(known).unwrap_or(Id(1));
        let any = if !self.is_starry || self.posts == 0 {
            0..8
        } else if client < CLIENTS / 2 {
            3..5
        } else {
            6..7
        };
        Some(match self.random.u8(any) {
            0..3 => {
                self.posts += 1;
                Wish::Post { channel, post: self.posts }
            }
            3..5 if self.given_up.contains(&(client, message)) => return None,
            3..5 => Wish::Star { message, on: self.random.u8(..3) > 0 },
            5 => Wish::Stars { channel, of: self.random.bool().then(|| self.random.u32(..CLIENTS)), limit: 2 },
            6 => Wish::Message { message },
            _ => {
                let after = self.random.bool().then_some(message);
                Wish::History(Page { channel, after, ascending: self.random.bool(), limit: self.random.usize(1..4) })
            }
        })
    }
}

/// One lie, as a broken store might tell it.
fn doctor(calls: &mut [Call], random: &mut Rng) {
    let place = random.usize(..calls.len());
    match random.u8(..6) {
        0 => later(calls, place, random),
        1 => sooner(calls, place, random),
        2 => in_page(&mut calls[place], |page| drop(page.pop())),
        3 => in_page(&mut calls[place], |page| drop((!page.is_empty()).then(|| page.remove(0)))),
        4 => {
            let user = random.u32(..CLIENTS);
            each_shown(&mut calls[place], |shown| {
                let mut stars: BTreeSet<_> = shown.stars.iter().copied().collect();
                let _ = stars.remove(&user) || stars.insert(user);
                shown.stars = stars.into_iter().collect();
            });
        }
        _ => {
            let (one, other) = (Id(random.u64(1..6)), Id(random.u64(1..6)));
            let swap = |id: &mut Id| {
                *id = if *id == one {
                    other
                } else if *id == other {
                    one
                } else {
                    *id
                }
            };
            calls.iter_mut().for_each(|call| each_shown(call, |shown| swap(&mut shown.id)));
        }
    }
}

/// The call began only shortly before it ended.
fn later(calls: &mut [Call], place: usize, random: &mut Rng) {
    let (called, ended) = (calls[place].called.0, calls[place].ended().0);
    spread(calls);
    calls[place].called = Moment(random.u64(called..ended) * 100 + 50);
}

/// The call ended soon after it began.
fn sooner(calls: &mut [Call], place: usize, random: &mut Rng) {
    let (called, ended) = (calls[place].called.0, calls[place].ended().0);
    spread(calls);
    let sooner = Moment(random.u64(called..ended) * 100 + 50);
    match &mut calls[place].end {
        End::Answered { at, .. } | End::Refused { at } | End::Unknown { at } => *at = sooner,
    }
}

/// Makes room between the moments.
fn spread(calls: &mut [Call]) {
    for call in calls {
        call.called.0 *= 100;
        match &mut call.end {
            End::Answered { at, .. } | End::Refused { at } | End::Unknown { at } => at.0 *= 100,
        }
    }
}

fn in_page(call: &mut Call, change: impl FnOnce(&mut Vec<Shown>)) {
    if let End::Answered { answer: Answer::Page(page), .. } = &mut call.end {
        change(page);
    }
}

fn each_shown(call: &mut Call, mut change: impl FnMut(&mut Shown)) {
    match &mut call.end {
        End::Answered { answer: Answer::Message(shown), .. } => change(shown),
        End::Answered { answer: Answer::Page(page), .. } => page.iter_mut().for_each(change),
        End::Answered { .. } | End::Refused { .. } | End::Unknown { .. } => {}
    }
}

#[test]
fn the_checker_and_a_search_through_all_orders_agree() {
    let (mut good, mut bad, mut choices, mut skipped) = (0, 0, 0, 0);
    let mut seed = 0;
    while good + bad < usize::try_from(RECORDS).expect("few") {
        seed += 1;
        let mut random = Rng::with_seed(seed ^ 0x5eed);
        let mut calls = Maker::make(seed);
        for _ in 0..random.usize(..5) {
            doctor(&mut calls, &mut random);
        }
        let Ok(verdict) = check(&calls) else {
            skipped += 1;
            continue;
        };
        let is_good = search(&calls);
        assert_eq!(verdict.found == 0, is_good, "seed {seed}: {:#?}\nof {calls:#?}", verdict.violations);
        choices += verdict.choices;
        if is_good { good += 1 } else { bad += 1 }
    }
    assert!(good >= EACH && bad >= EACH, "{good} good ones and {bad} bad ones tell little");
    assert!(choices > 0, "none of them had a choice to make");
    println!("{good} good, {bad} bad, {choices} choices, {skipped} not by the rules");
}

//! What each answer says about the order of all calls.
//!
//! A page lies after the newest post that it shows, and before the next post that it would have shown. A star lies after the version
//! that an answer shows, and before the next one. Which version that is can be open, when a read lasted longer than a star: then
//! what time and the other calls leave of it is tried.
//!
//! Not here: whether an answer is wrong by itself (`contents.rs`), and whether the edges agree with time (`graph.rs`).

use super::super::history::{Answer, Call, Client, End, Id, Page, Shown, Wish};
use super::contents::Posts;
use super::explain;
use super::graph::{Bounds, Conflict, Graph, Reason};
use super::stars::{Register, Registers};
use super::violation::{Broken, Violation, id_text, post_name};

type Checked = Result<(), Box<Violation>>;

/// A star of which an answer may have seen several versions.
#[derive(Clone, Debug)]
struct Open {
    read: usize,
    message: Id,
    user: Client,
    versions: Vec<usize>,
}

struct Order<'a> {
    calls: &'a [Call],
    posts: &'a Posts,
    stars: &'a Registers,
    graph: Graph<'a>,
    open: Vec<Open>,
}

/// Finds an order that explains all answers; says how many choices there were.
///
/// # Errors
/// When there is none.
pub fn check(calls: &[Call], posts: &Posts, stars: &Registers) -> Result<usize, Box<Violation>> {
    let mut order = Order { calls, posts, stars, graph: Graph::new(calls), open: Vec::new() };
    for pair in posts.all.windows(2) {
        order.graph.add(pair[0].call, pair[1].call, Reason::LowerId);
    }
    for (place, call) in calls.iter().enumerate() {
        order.call(place, call)?;
    }
    let Order { mut graph, open, .. } = order;
    let choices = open.len();
    solve(stars, &mut graph, open).map_err(|conflict| Box::new(explain::conflict(calls, &conflict)))?;
    Ok(choices)
}

impl Order<'_> {
    fn call(&mut self, place: usize, call: &Call) -> Checked {
        match call.wish {
            Wish::Star { message, .. } if !matches!(call.end, End::Refused { .. }) => {
                self.about_one(place, message, call, true)
            }
            Wish::Message { message } => self.about_one(place, message, call, false),
            Wish::History(page) => match call.answer() {
                Some(Answer::Page(shown)) => self.history(place, page, shown),
                Some(Answer::Message(_) | Answer::NotFound | Answer::Unreadable) | None => Ok(()),
            },
            Wish::Stars { channel, of, limit } => match call.answer() {
                Some(Answer::Page(shown)) => self.starred(place, (channel, of, limit), shown),
                Some(Answer::Message(_) | Answer::NotFound | Answer::Unreadable) | None => Ok(()),
            },
            Wish::Post { .. } | Wish::Star { .. } => Ok(()),
        }
    }

    /// A call that names a message: it finds it, and what stars it has, or not.
    fn about_one(&mut self, place: usize, message: Id, call: &Call, is_star: bool) -> Checked {
        let post = self.posts.place(message).map(|post| self.posts.all[post].call);
        match (call.answer(), post) {
            (Some(Answer::NotFound), Some(post)) => self.graph.add(place, post, Reason::Misses(message)),
            (Some(Answer::Message(shown)), Some(post)) => {
                let reason = if is_star { Reason::NeedsPost(message) } else { Reason::Shows(message) };
                self.graph.add(post, place, reason);
                self.stars_on(place, shown, is_star.then_some(call.client))?;
            }
            (None, Some(post)) if is_star => self.graph.add(post, place, Reason::NeedsPost(message)),
            (Some(Answer::NotFound | Answer::Message(_) | Answer::Page(_) | Answer::Unreadable) | None, _) => {}
        }
        Ok(())
    }

    fn history(&mut self, place: usize, page: Page, shown: &[Shown]) -> Checked {
        in_order(place, page.ascending, page.limit, shown)?;
        let all = self.posts.channel(page.channel);
        let id_at = |at: usize| self.posts.all[all[at]].id;
        let first = page.after.map_or(0, |after| all.partition_point(|post| self.posts.all[*post].id <= after));
        let (oldest, newest) = bounds(page.ascending, shown);
        self.of_this_channel(place, page.channel, shown)?;
        if let (Some(oldest), Some(after)) = (oldest, page.after)
            && oldest <= after
        {
            return broken(
                Broken::Page,
                format!("a page after {} shows {}", id_text(after), id_text(oldest)),
                &[place],
            );
        }
        // So many posts of the channel must have been there.
        let there = newest.map_or(0, |newest| all.partition_point(|post| self.posts.all[*post].id <= newest));
        let expected = if shown.is_empty() {
            0..0
        } else if page.ascending {
            first..there
        } else {
            first.max(there.saturating_sub(page.limit))..there
        };
        let mut ids: Vec<_> = shown.iter().map(|message| message.id).collect();
        ids.sort_unstable();
        if let Some(missed) = expected.clone().map(id_at).find(|id| ids.binary_search(id).is_err()) {
            return Err(Box::new(self.gap(place, missed, shown)));
        }
        if let Some(newest) = there.checked_sub(1).filter(|_| !shown.is_empty()) {
            self.graph.add(self.posts.all[all[newest]].call, place, Reason::Shows(id_at(newest)));
        }
        let is_full = page.ascending && shown.len() == page.limit;
        let next = if shown.is_empty() { first } else { there };
        if next < all.len() && !is_full {
            self.graph.add(place, self.posts.all[all[next]].call, Reason::Misses(id_at(next)));
        }
        shown.iter().try_for_each(|message| self.stars_on(place, message, None))
    }

    /// The newest starred messages: what it leaves out has no such star.
    fn starred(&mut self, place: usize, asked: (u32, Option<Client>, usize), shown: &[Shown]) -> Checked {
        let (channel, of, limit) = asked;
        in_order(place, false, limit, shown)?;
        self.of_this_channel(place, channel, shown)?;
        for message in shown {
            let is_starred = of.map_or(!message.stars.is_empty(), |user| message.stars.contains(&user));
            if !is_starred {
                let text = format!("{} is shown as starred and has no such star", id_text(message.id));
                return broken(Broken::Page, text, &[place]);
            }
            if let Some(post) = self.posts.place(message.id) {
                self.graph.add(self.posts.all[post].call, place, Reason::Shows(message.id));
            }
            self.stars_on(place, message, None)?;
        }
        let all = self.posts.channel(channel);
        let oldest = shown.last().filter(|_| shown.len() == limit).map(|message| message.id);
        let first = oldest.map_or(0, |oldest| all.partition_point(|post| self.posts.all[*post].id <= oldest));
        let ids: std::collections::BTreeSet<_> = shown.iter().map(|message| message.id).collect();
        let left_out: Vec<_> = all[first..].iter().map(|post| self.posts.all[*post].id).collect();
        for message in left_out.into_iter().filter(|id| !ids.contains(id)) {
            let users: Vec<_> = self.stars.of(message).map(|(user, _)| user).collect();
            for user in users.into_iter().filter(|user| of.is_none_or(|of| of == *user)) {
                self.star(place, message, user, false)?;
            }
        }
        Ok(())
    }

    fn of_this_channel(&self, place: usize, channel: u32, shown: &[Shown]) -> Checked {
        match shown.iter().find(|message| message.channel != Some(channel)) {
            Some(other) => {
                let text =
                    format!("{} of channel {:?} is shown in channel {channel}", id_text(other.id), other.channel);
                broken(Broken::OtherChannel, text, &[place])
            }
            None => Ok(()),
        }
    }

    fn gap(&self, place: usize, missed: Id, shown: &[Shown]) -> Violation {
        let post = self.posts.place(missed).map(|post| self.posts.all[post]);
        let name = post.map_or_else(String::new, |post| post_name(post.post));
        let newest = shown.iter().map(|message| message.id).max().unwrap_or_default();
        let newest_call = self.posts.place(newest).map(|post| self.posts.all[post].call);
        let calls: Vec<_> = post.map(|post| post.call).into_iter().chain(newest_call).chain([place]).collect();
        let is_lost = !explain::is_shown_later(self.calls, missed, self.calls[place].called);
        let what = if is_lost { ", and no later answer shows it" } else { "" };
        let text = format!("{name} ({}) is left out before {}{what}", id_text(missed), id_text(newest));
        Violation::new(if is_lost { Broken::Lost } else { Broken::Gap }, text, &calls)
    }

    /// All stars of a message that is shown; those of `but` are the answer's own.
    fn stars_on(&mut self, place: usize, shown: &Shown, but: Option<Client>) -> Checked {
        let stars = self.stars;
        if let Some(user) = shown.stars.iter().find(|user| stars.get(shown.id, **user).is_none()) {
            let text = format!("{} has a star of client {user}, who gave none", id_text(shown.id));
            return broken(Broken::StarStrange, text, &[place]);
        }
        for (user, _) in stars.of(shown.id).filter(|(user, _)| Some(*user) != but) {
            self.star(place, shown.id, user, shown.stars.contains(&user))?;
        }
        Ok(())
    }

    /// An answer shows this star, or shows that it is not there.
    fn star(&mut self, read: usize, message: Id, user: Client, on: bool) -> Checked {
        let Some(register) = self.stars.get(message, user) else { return Ok(()) };
        let (called, returned) = (self.calls[read].called, self.calls[read].returned());
        let versions = register.candidates(self.calls, on, called, returned);
        match versions[..] {
            [] => Err(Box::new(explain::no_version(self.calls, register, (read, message, user), on))),
            [version] => {
                see(&mut self.graph, register, (read, message), version);
                Ok(())
            }
            [..] => {
                self.open.push(Open { read, message, user, versions });
                Ok(())
            }
        }
    }
}

fn broken(broken: Broken, text: String, calls: &[usize]) -> Checked {
    Err(Box::new(Violation::new(broken, text, calls)))
}

fn in_order(place: usize, ascending: bool, limit: usize, shown: &[Shown]) -> Checked {
    let wrong = |pair: &&[Shown]| (pair[0].id >= pair[1].id) == ascending || pair[0].id == pair[1].id;
    if let Some(pair) = shown.windows(2).find(wrong) {
        let text = format!("{} is shown after {}", id_text(pair[1].id), id_text(pair[0].id));
        return broken(Broken::Page, text, &[place]);
    }
    if shown.len() > limit {
        return broken(Broken::Page, format!("{} messages were asked for, {} shown", limit, shown.len()), &[place]);
    }
    Ok(())
}

/// The oldest and the newest message of a page.
fn bounds(ascending: bool, shown: &[Shown]) -> (Option<Id>, Option<Id>) {
    let (first, last) = (shown.first().map(|message| message.id), shown.last().map(|message| message.id));
    if ascending { (first, last) } else { (last, first) }
}

/// This answer saw this version of a star.
fn see(graph: &mut Graph<'_>, register: &Register, (read, message): (usize, Id), version: usize) {
    if let Some((written, _)) = version.checked_sub(1).map(|place| register.writes[place]) {
        graph.add(written, read, Reason::SawStar(message));
    }
    if let Some((next, _)) = register.writes.get(version) {
        graph.add(read, *next, Reason::BeforeStar(message));
    }
}

/// Chooses versions for what is open, so that there is an order.
fn solve(stars: &Registers, graph: &mut Graph<'_>, open: Vec<Open>) -> Result<(), Conflict> {
    let open = narrow_all(stars, graph, open)?;
    let Some((first, rest)) = open.split_first() else { return Ok(()) };
    let mark = graph.len();
    // Mostly any choice will do.
    for Open { read, message, user, versions } in &open {
        let Some(register) = stars.get(*message, *user) else { continue };
        see(graph, register, (*read, *message), versions[0]);
    }
    if graph.schedule().is_ok() {
        return Ok(());
    }
    let mut why = None;
    for version in &first.versions {
        graph.truncate(mark);
        let Some(register) = stars.get(first.message, first.user) else { continue };
        see(graph, register, (first.read, first.message), *version);
        match solve(stars, graph, rest.to_vec()) {
            Ok(()) => return Ok(()),
            Err(conflict) => why = why.or(Some(conflict)),
        }
    }
    Err(why.unwrap_or(Conflict::NoVersion { read: first.read, message: first.message, user: first.user }))
}

/// Leaves out versions that time and the edges forbid, until nothing changes; what has only one left becomes edges.
fn narrow_all(stars: &Registers, graph: &mut Graph<'_>, mut open: Vec<Open>) -> Result<Vec<Open>, Conflict> {
    loop {
        let bounds = graph.schedule()?;
        let before = open.len();
        let mut still = Vec::new();
        for mut one in open {
            let Some(register) = stars.get(one.message, one.user) else { continue };
            one.versions.retain(|version| fits(&bounds, register, one.read, *version));
            match one.versions[..] {
                [] => return Err(Conflict::NoVersion { read: one.read, message: one.message, user: one.user }),
                [version] => see(graph, register, (one.read, one.message), version),
                [..] => still.push(one),
            }
        }
        open = still;
        if open.len() == before {
            return Ok(open);
        }
    }
}

fn fits(bounds: &Bounds, register: &Register, read: usize, version: usize) -> bool {
    let written = version.checked_sub(1).map(|place| register.writes[place].0);
    let next = register.writes.get(version).map(|(call, _)| *call);
    written.is_none_or(|written| bounds.earliest[written] < bounds.latest[read])
        && next.is_none_or(|next| bounds.earliest[read] < bounds.latest[next])
}

//! Why there is no order, in the fewest calls that show it.
//!
//! Not here: finding out (`order.rs`, `graph.rs`).

use super::super::history::{Call, Client, Id, Moment, Wish};
use super::graph::{Conflict, Edge, Reason};
use super::stars::Register;
use super::violation::{Broken, Violation, id_text, star_name};
use std::fmt::Write as _;

/// Whether an answer that was asked for later shows this message.
pub fn is_shown_later(calls: &[Call], message: Id, than: Moment) -> bool {
    let shows = |call: &&Call| call.shown().iter().any(|shown| shown.id == message);
    calls.iter().filter(|call| call.called > than && !matches!(call.wish, Wish::Post { .. })).any(|call| shows(&call))
}

/// A conflict, as a violation.
pub fn conflict(calls: &[Call], conflict: &Conflict) -> Violation {
    match conflict {
        Conflict::Circle(path) => {
            let text = format!("each must come before the next, and the last before the first: {}", reasons(path));
            Violation::new(Broken::Contradiction, text, &places(path))
        }
        Conflict::TooLate(path) => {
            let (Some(first), Some(last)) = (path.first(), path.last()) else {
                return Violation::new(Broken::Contradiction, "a call cannot stand anywhere", &[]);
            };
            let (late, early) = (first.from, last.to);
            let text = format!(
                "#{early} had ended before #{late} was called, and yet #{late} must come before it: {}",
                reasons(path)
            );
            Violation::new(kind(calls, path), text, &places(path))
        }
        Conflict::NoVersion { read, message, user } => {
            let text = format!("at no time at which this can stand was {} as it is shown", star_name(*message, *user));
            Violation::new(Broken::StarStale, text, &[*read])
        }
    }
}

fn kind(calls: &[Call], path: &[Edge]) -> Broken {
    let missed = path.iter().find_map(|edge| match edge.reason {
        Reason::Misses(message) => Some((edge.from, message)),
        Reason::LowerId | Reason::Shows(_) | Reason::SawStar(_) | Reason::BeforeStar(_) | Reason::NeedsPost(_) => None,
    });
    if let Some((read, message)) = missed {
        let is_later = is_shown_later(calls, message, calls[read].called);
        return if is_later { Broken::Stale } else { Broken::Lost };
    }
    let has = |wanted: fn(&Reason) -> bool| path.iter().any(|edge| wanted(&edge.reason));
    if has(|reason| matches!(reason, Reason::BeforeStar(_) | Reason::SawStar(_))) {
        Broken::StarStale
    } else if has(|reason| matches!(reason, Reason::NeedsPost(_))) {
        Broken::StarBeforePost
    } else if has(|reason| matches!(reason, Reason::Shows(_))) {
        Broken::FromTheFuture
    } else {
        Broken::Reordered
    }
}

/// The calls on a path; of posts that only follow by their ids, the first and the last.
fn places(path: &[Edge]) -> Vec<usize> {
    let mut places = Vec::new();
    for edge in shortened(path) {
        for place in [edge.from, edge.to] {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places
}

/// Ids grow along a row of posts: one step does for all of it.
fn shortened(path: &[Edge]) -> Vec<Edge> {
    let mut short: Vec<Edge> = Vec::new();
    for edge in path {
        match short.last_mut() {
            Some(last) if last.reason == Reason::LowerId && edge.reason == Reason::LowerId => last.to = edge.to,
            Some(_) | None => short.push(*edge),
        }
    }
    short
}

fn reasons(path: &[Edge]) -> String {
    let mut text = String::new();
    for Edge { from, to, reason } in shortened(path) {
        let separator = if text.is_empty() { "" } else { "; " };
        let why = match reason {
            Reason::LowerId => format!("#{from} has a lower id than #{to}"),
            Reason::Shows(id) => format!("#{to} shows {}, which #{from} posted", id_text(id)),
            Reason::Misses(id) => format!("#{from} does not show {}, which #{to} posted", id_text(id)),
            Reason::SawStar(id) => format!("#{to} shows what #{from} did to its star on {}", id_text(id)),
            Reason::BeforeStar(id) => format!("#{from} does not show what #{to} did to its star on {}", id_text(id)),
            Reason::NeedsPost(id) => format!("#{to} found {}, which #{from} posted", id_text(id)),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{why}");
    }
    text
}

/// A star that an answer shows as it was at no time between its call and its return.
pub fn no_version(calls: &[Call], register: &Register, seen: (usize, Id, Client), on: bool) -> Violation {
    let (read, message, user) = seen;
    let name = star_name(message, user);
    let before = register.writes.iter().rev().find(|(call, _)| calls[*call].returned() < calls[read].called);
    let after = register.writes.iter().find(|(call, _)| calls[*call].called > calls[read].returned());
    let shown: Vec<_> = before.into_iter().chain(after).map(|(call, _)| *call).chain([read]).collect();
    let (broken, text) = match (on, before) {
        (false, _) => (Broken::StarLost, format!("{name} was given before, not taken back, and is not shown")),
        (true, Some(_)) => (Broken::StarStale, format!("{name} was taken back before, and is shown")),
        (true, None) => (Broken::StarStale, format!("{name} was given only later, and is shown")),
    };
    Violation::new(broken, text, &shown)
}

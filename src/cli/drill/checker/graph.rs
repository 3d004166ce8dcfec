//! What must come before what, and whether time allows it.
//!
//! Each call must be given a point after it was called and before it returned, in the order that the edges demand. That can be
//! done exactly when there is no circle, and nothing must come before a call that returned before it was called.
//!
//! Not here: why one must come before another (`order.rs`), and how that is told (`explain.rs`).

use super::super::history::{Call, Id, Moment};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why one call comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A post with a lower id than another.
    LowerId,
    /// A post that an answer shows.
    Shows(Id),
    /// A read that does not show a post, which it would.
    Misses(Id),
    /// A version of a star that an answer shows.
    SawStar(Id),
    /// An answer that shows the version that a star's next one overwrote.
    BeforeStar(Id),
    /// A post and a star on it.
    NeedsPost(Id),
}

/// `from` comes before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// A call's place.
    pub from: usize,
    /// A call's place.
    pub to: usize,
    /// Why.
    pub reason: Reason,
}

/// Why there is no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Each comes before the next, and the last before the first.
    Circle(Vec<Edge>),
    /// The path's end returned before its beginning was called.
    TooLate(Vec<Edge>),
    /// A read saw a star in a state that it had at no time at which the read can stand.
    NoVersion { read: usize, message: Id, user: u32 },
}

/// Between which moments each call's point lies.
#[derive(Debug)]
pub struct Bounds {
    /// Not before.
    pub earliest: Vec<Moment>,
    /// Not after.
    pub latest: Vec<Moment>,
}

/// The calls and their edges.
#[derive(Debug)]
pub struct Graph<'a> {
    calls: &'a [Call],
    edges: Vec<Edge>,
}

impl<'a> Graph<'a> {
    /// Without edges.
    pub fn new(calls: &'a [Call]) -> Self {
        Self { calls, edges: Vec::new() }
    }

    /// One more edge. What time demands anyway needs none.
    pub fn add(&mut self, from: usize, to: usize, reason: Reason) {
        if self.calls[from].returned() >= self.calls[to].called {
            self.edges.push(Edge { from, to, reason });
        }
    }

    /// How many edges there are.
    pub fn len(&self) -> usize {
        self.edges.len()
    }

    /// Forgets those that were added since there were so many.
    pub fn truncate(&mut self, len: usize) {
        self.edges.truncate(len);
    }

    /// Finds the bounds of all calls.
    ///
    /// # Errors
    /// When no order is possible.
    pub fn schedule(&self) -> Result<Bounds, Conflict> {
        let out = self.out();
        let sorted = self.sort(&out)?;
        let mut earliest: Vec<_> = self.calls.iter().map(|call| call.called).collect();
        let mut latest: Vec<_> = self.calls.iter().map(Call::returned).collect();
        let mut after: Vec<Option<usize>> = vec![None; self.calls.len()];
        for place in &sorted {
            if earliest[*place] > self.calls[*place].returned() {
                return Err(self.too_late(*place, &after));
            }
            for edge in out.of(*place) {
                let Edge { from, to, .. } = self.edges[edge];
                if earliest[from] > earliest[to] {
                    (earliest[to], after[to]) = (earliest[from], Some(edge));
                }
            }
        }
        for place in sorted.iter().rev() {
            for edge in out.of(*place) {
                latest[*place] = latest[*place].min(latest[self.edges[edge].to]);
            }
        }
        Ok(Bounds { earliest, latest })
    }

    fn out(&self) -> Out {
        let mut starts = vec![0; self.calls.len() + 1];
        self.edges.iter().for_each(|edge| starts[edge.from + 1] += 1);
        (1..starts.len()).for_each(|place| starts[place] += starts[place - 1]);
        let (mut edges, mut free) = (vec![0; self.edges.len()], starts.clone());
        for (number, edge) in self.edges.iter().enumerate() {
            edges[free[edge.from]] = number;
            free[edge.from] += 1;
        }
        Out { starts, edges }
    }

    /// All calls, none before one that comes before it (Kahn, 1962).
    fn sort(&self, out: &Out) -> Result<Vec<usize>, Conflict> {
        let mut waits_for = vec![0_usize; self.calls.len()];
        self.edges.iter().for_each(|edge| waits_for[edge.to] += 1);
        let mut sorted: Vec<_> = (0..self.calls.len()).filter(|place| waits_for[*place] == 0).collect();
        let mut next = 0;
        while next < sorted.len() {
            for edge in out.of(sorted[next]) {
                let to = self.edges[edge].to;
                waits_for[to] -= 1;
                if waits_for[to] == 0 {
                    sorted.push(to);
                }
            }
            next += 1;
        }
        if sorted.len() == self.calls.len() {
            return Ok(sorted);
        }
        let left: BTreeSet<_> = (0..self.calls.len()).filter(|place| waits_for[*place] > 0).collect();
        Err(Conflict::Circle(self.circle(out, &left)))
    }

    /// A circle among these, of which each waits for another: going back long enough meets one, and the shortest through
    /// any call of that is told.
    fn circle(&self, out: &Out, left: &BTreeSet<usize>) -> Vec<Edge> {
        let into: BTreeMap<usize, usize> = self
            .edges
            .iter()
            .filter(|e| left.contains(&e.from) && left.contains(&e.to))
            .map(|e| (e.to, e.from))
            .collect();
        let (mut met, mut place) = (BTreeSet::new(), left.first().copied().unwrap_or_default());
        while met.insert(place) {
            place = into.get(&place).copied().unwrap_or(place);
        }
        let mut on_it = vec![place];
        while let Some(before) = on_it.last().and_then(|last| into.get(last)).filter(|before| **before != place) {
            on_it.push(*before);
        }
        let shortest = |place: &usize| self.path(out, *place, *place);
        on_it.iter().take(SHORTENED_MAX).filter_map(shortest).min_by_key(|path| steps(path)).unwrap_or_default()
    }

    /// A shortest path of at least one edge.
    fn path(&self, out: &Out, from: usize, to: usize) -> Option<Vec<Edge>> {
        let mut reached: BTreeMap<usize, usize> = BTreeMap::new();
        let mut waiting = VecDeque::from([from]);
        while let Some(place) = waiting.pop_front() {
            for number in out.of(place) {
                let next = self.edges[number].to;
                if reached.contains_key(&next) {
                    continue;
                }
                reached.insert(next, number);
                if next == to {
                    return Some(self.trace(from, to, &reached));
                }
                waiting.push_back(next);
            }
        }
        None
    }

    fn trace(&self, from: usize, to: usize, reached: &BTreeMap<usize, usize>) -> Vec<Edge> {
        let mut path = Vec::new();
        let mut place = to;
        while let Some(edge) = reached.get(&place).map(|number| self.edges[*number]) {
            path.push(edge);
            place = edge.from;
            if place == from {
                break;
            }
        }
        path.reverse();
        path
    }

    /// From the call that came so late to this one, which had to wait for it.
    fn too_late(&self, place: usize, after: &[Option<usize>]) -> Conflict {
        let mut path = Vec::new();
        let mut first = place;
        while let Some(edge) = after[first].map(|number| self.edges[number]) {
            path.push(edge);
            first = edge.from;
        }
        path.reverse();
        Conflict::TooLate(path)
    }
}

/// From how many calls of a circle a shorter one is looked for.
const SHORTENED_MAX: usize = 50;

/// How long a path is to a reader: posts in the order of their ids are one step, however many there are.
fn steps(path: &[Edge]) -> usize {
    let is_step = |place: &usize| {
        *place == 0 || path[*place].reason != Reason::LowerId || path[*place - 1].reason != Reason::LowerId
    };
    (0..path.len()).filter(is_step).count()
}

/// The edges out of each call, by their numbers.
struct Out {
    starts: Vec<usize>,
    edges: Vec<usize>,
}

impl Out {
    fn of(&self, place: usize) -> impl Iterator<Item = usize> + '_ {
        self.edges[self.starts[place]..self.starts[place + 1]].iter().copied()
    }
}

//! What the channels hold in the end, through each gateway, against what was told: counts for people.
//!
//! The reads are part of the record, so the checker judges them too; this says how much is lost, and not only that something is.

use super::history::{Answer, Call, Client, End, Id, Post, Wish};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What one gateway shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shows {
    /// Which gateway.
    pub gateway: String,
    /// How many messages.
    pub messages: usize,
    /// Acknowledged posts that are not there.
    pub lost: usize,
    /// Posts that are there more than once.
    pub doubled: usize,
    /// Posts that stand after a later one of the same client.
    pub reordered: usize,
    /// Posts that were refused, or that nobody sent.
    pub strange: usize,
    /// Why not all could be read, if so.
    pub failure: Option<String>,
}

/// A message as it is there in the end: its id, its post, its stars.
pub type Kept = Vec<(Id, Option<Post>, Box<[Client]>)>;

/// Counts what a gateway shows.
pub fn count(gateway: &str, calls: &[Call], kept: &Kept) -> Shows {
    let mut places: BTreeMap<Post, Vec<Id>> = BTreeMap::new();
    kept.iter().filter_map(|(id, post, _)| Some((*id, (*post)?))).for_each(|(id, post)| {
        places.entry(post).or_default().push(id);
    });
    let mut shows = Shows { gateway: gateway.to_owned(), messages: kept.len(), ..Shows::default() };
    let (mut known, mut last) = (BTreeSet::new(), BTreeMap::<Client, Id>::new());
    let mut posts: Vec<_> = calls.iter().filter(|call| matches!(call.wish, Wish::Post { .. })).collect();
    posts.sort_by_key(|call| call.called);
    for call in posts {
        let Wish::Post { post, .. } = call.wish else { continue };
        let is_acknowledged = matches!(call.end, End::Answered { answer: Answer::Message(_), .. });
        if !matches!(call.end, End::Refused { .. }) {
            known.insert(post);
        }
        match places.get(&post).and_then(|ids| ids.first()) {
            Some(id) if is_acknowledged => {
                let before = last.insert(call.client, *id);
                shows.reordered += usize::from(before.is_some_and(|before| before > *id));
            }
            None if is_acknowledged => shows.lost += 1,
            Some(_) | None => {}
        }
    }
    shows.doubled = places.values().map(|ids| ids.len() - 1).sum();
    shows.strange = kept.iter().filter(|(_, post, _)| !post.is_some_and(|post| known.contains(&post))).count();
    shows
}

#[cfg(test)]
mod tests {
    use super::super::history::{Moment, Shown};
    use super::*;

    fn posted(client: Client, post: Post, called: u64, end: fn(Moment, Answer) -> End) -> Call {
        let shown = Shown { id: Id(called), post: Some(post), channel: Some(0), by: Some(client), stars: [].into() };
        let end = end(Moment(called + 1), Answer::Message(shown));
        Call { client, wish: Wish::Post { channel: 0, post }, called: Moment(called), end, tries: 1, gateway: 0 }
    }

    #[test]
    fn what_is_lost_doubled_reordered_and_strange_is_counted() {
        let answered: fn(Moment, Answer) -> End = |at, answer| End::Answered { at, answer, receipt: None };
        let calls = [
            posted(1, 0, 10, answered),
            posted(1, 1, 20, answered),
            posted(2, 2, 30, answered),
            posted(2, 3, 40, |at, _| End::Refused { at }),
            posted(2, 4, 50, |at, _| End::Unknown { at }),
        ];
        let kept = |ids: &[(u64, Option<Post>)]| -> Kept {
            ids.iter().map(|(id, post)| (Id(*id), *post, [].into())).collect()
        };
        let counts = |ids: &[(u64, Option<Post>)]| {
            let Shows { lost, doubled, reordered, strange, .. } = count("g", &calls, &kept(ids));
            (lost, doubled, reordered, strange)
        };
        assert_eq!(counts(&[(10, Some(0)), (20, Some(1)), (30, Some(2))]), (0, 0, 0, 0));
        assert_eq!(counts(&[(10, Some(0)), (20, Some(1)), (30, Some(2)), (60, Some(4))]), (0, 0, 0, 0), "in doubt");
        assert_eq!(counts(&[(10, Some(0)), (20, Some(1))]), (1, 0, 0, 0));
        assert_eq!(counts(&[(10, Some(0)), (20, Some(1)), (30, Some(2)), (31, Some(2))]), (0, 1, 0, 0));
        assert_eq!(counts(&[(20, Some(0)), (10, Some(1)), (30, Some(2))]), (0, 0, 1, 0));
        assert_eq!(counts(&[(10, Some(0)), (20, Some(1)), (30, Some(2)), (40, Some(3)), (41, None)]), (0, 0, 0, 2));
    }
}

//! The records of view changes: replicated state like any other, so that they are equal on all replicas, go with a snapshot
//! and survive restarts.
//!
//! - A record begins with the view entry, and is completed by what the view's primary tells later, once.
//! - The last [`VIEWS_MAX`] are kept; what is older goes when a new one comes, on every replica alike.
//!
//! Not here: what a record says (`change.rs`).

use super::changes::{Changes, decode, encode};
use super::keys;
use crate::change::{Change, Course};
use crate::storage::StorageError;
use crate::storage::kv::{Direction, Kv, Table};
use crate::view::View;
use std::ops::ControlFlow;

/// How many view changes are kept.
pub const VIEWS_MAX: usize = 1_000;

/// A view serves: its record begins, and the oldest one goes.
pub(super) fn begin<K: Kv>(changes: &mut Changes<'_, K>, view: &View) -> Result<(), StorageError> {
    let key = keys::view(view.number);
    if changes.get(&key)?.is_some() {
        return Ok(()); // Entered twice, which no primary does.
    }
    let mut known = Vec::new();
    changes.kv().scan(Table::Store, &keys::views(), Direction::Forward, &mut |key, _| {
        known.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    let surplus = (known.len() + 1).saturating_sub(VIEWS_MAX);
    known.into_iter().take(surplus).for_each(|key| changes.delete(key));
    changes.put(key, encode(&Change::new(view)));
    Ok(())
}

/// Completes the records that are still kept, and not complete.
pub(super) fn complete<K: Kv>(changes: &mut Changes<'_, K>, courses: &[Course]) -> Result<(), StorageError> {
    for course in courses {
        let key = keys::view(course.view);
        let known: Option<Change> = changes.read(&key)?;
        if let Some(change) = known.filter(|change| change.course.is_none()) {
            changes.put(key, encode(&Change { course: Some(course.clone()), ..change }));
        }
    }
    Ok(())
}

/// The last records, oldest first.
pub(super) fn last<K: Kv>(kv: &K, limit: usize) -> Result<Vec<Change>, StorageError> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    kv.scan(Table::Store, &keys::views(), Direction::Reverse, &mut |key, value| {
        found.push(decode::<Change>(key, value)?);
        Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    found.reverse();
    Ok(found)
}

#[cfg(all(test, feature = "sim"))]
pub(super) mod tests {
    use super::*;
    use crate::ids::{Hash, Index, ViewNumber};
    use crate::log::{Batch, Entry};
    use crate::sim::disk::SimDisk;
    use crate::store::{Hints, apply, state};
    use crate::testing::view;

    /// Applies one more entry.
    pub(in crate::store) fn enter(disk: &mut SimDisk, batch: Batch) {
        let before = state(disk).expect("reads");
        let prev_hash = if before.index == Index(0) { Hash::default() } else { before.hash };
        let entry = Entry::new(before.index.next(), prev_hash, batch);
        let applied = apply(disk, &before, &entry, &mut Hints::default()).expect("applies");
        disk.write(applied.changes).expect("writes");
    }

    fn course(number: u64, stall_ms: u64) -> Course {
        let view = ViewNumber(number);
        Course { view, decision: None, finish_ms: 0, serve_ms: 0, stall_ms: Some(stall_ms) }
    }

    #[test]
    fn section_12_the_last_thousand_views_are_kept_and_completed_once() {
        let mut disk = SimDisk::new();
        for number in 1..=VIEWS_MAX as u64 + 2 {
            enter(&mut disk, Batch::View(view(number, 3, &[1, 3], 1)));
        }
        let kept = last(&disk, usize::MAX).expect("reads");
        assert_eq!((kept.len(), kept[0].view), (VIEWS_MAX, ViewNumber(3)), "the oldest two went");
        enter(&mut disk, Batch::Courses(vec![course(1, 7), course(9, 8)]));
        enter(&mut disk, Batch::Courses(vec![course(9, 1_000)]));
        let kept = last(&disk, usize::MAX).expect("reads");
        assert_eq!((kept.len(), kept[0].view), (VIEWS_MAX, ViewNumber(3)), "what went does not come back");
        let told: Vec<_> = kept.iter().filter_map(|change| Some((change.view.0, change.stall_ms()?))).collect();
        assert_eq!(told, [(9, 8)], "the first word counts");
        let newest = last(&disk, 2).expect("reads");
        assert_eq!(newest.iter().map(|change| change.view.0).collect::<Vec<_>>(), [1_001, 1_002]);
        assert!(last(&disk, 0).expect("reads").is_empty());
    }
}

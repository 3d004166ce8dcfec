//! The members: replicated state like any other, so that every primary knows who was removed, whoever decided it.
//!
//! - A view entry makes everyone a member whom it lists; a removal marks all disks of one name, for ever.
//! - There is one record for each disk that ever voted: they are few, and none is dropped.
//!
//! Not here: whether somebody may be removed, and what follows from it (`coordinator/leaving.rs`).

use super::changes::{Changes, decode, encode};
use super::keys;
use crate::ids::Voter;
use crate::member::{Member, Members};
use crate::storage::StorageError;
use crate::storage::kv::{Direction, Kv, Table};
use crate::view::View;
use std::ops::ControlFlow;

/// A view serves: whom it lists is a member. Who was removed stays so, though it has not left yet.
pub(super) fn listed<K: Kv>(changes: &mut Changes<'_, K>, view: &View) -> Result<(), StorageError> {
    for peer in view.voters() {
        let key = keys::member(&peer.voter, peer.incarnation);
        let known: Option<Member> = changes.read(&key)?;
        let removed = known.as_ref().is_some_and(|member| member.removed);
        let member = Member { peer, removed };
        if known.as_ref() != Some(&member) {
            changes.put(key, encode(&member));
        }
    }
    Ok(())
}

/// all disks of this name have left for good. An unknown name changes nothing, on every replica alike.
pub(super) fn remove<K: Kv>(changes: &mut Changes<'_, K>, voter: &Voter) -> Result<(), StorageError> {
    for member in all(changes.kv())?.iter().filter(|member| member.peer.voter == *voter && !member.removed) {
        let key = keys::member(voter, member.peer.incarnation);
        changes.put(key, encode(&Member { removed: true, ..member.clone() }));
    }
    Ok(())
}

/// All of them.
pub(super) fn all<K: Kv>(kv: &K) -> Result<Members, StorageError> {
    let mut found = Vec::new();
    kv.scan(Table::Store, &keys::members(), Direction::Forward, &mut |key, value| {
        found.push(decode::<Member>(key, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Members::new(found))
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::ids::Incarnation;
    use crate::log::Batch;
    use crate::sim::disk::SimDisk;
    use crate::store::views::tests::enter;
    use crate::testing::{node, view, witness};

    #[test]
    fn r25_a_removal_is_about_every_disk_of_the_name_and_no_later_one() {
        let mut disk = SimDisk::new();
        enter(&mut disk, Batch::View(view(1, 3, &[1, 2, 3], 1)));
        let mut wiped = view(2, 3, &[1, 2, 3], 1);
        let seat = wiped.replicas.get_mut(&crate::ids::NodeId(2)).expect("listed");
        seat.incarnation = Incarnation(77);
        enter(&mut disk, Batch::View(wiped.clone()));
        assert_eq!(all(&disk).expect("reads").iter().count(), 5, "node 2 has had two disks");
        enter(&mut disk, Batch::Remove(node(2).voter));
        let members = all(&disk).expect("reads");
        let second = wiped.replica_peers().find(|peer| peer.voter == node(2).voter).expect("listed");
        assert!(members.is_removed(&node(2)) && members.is_removed(&second) && members.has_left(&node(2).voter));
        assert!(!members.is_removed(&node(1)) && !members.has_left(&node(1).voter));
        enter(&mut disk, Batch::View(view(3, 3, &[1, 2, 3], 1)));
        assert!(all(&disk).expect("reads").is_removed(&node(2)), "a view that still lists it brings nothing back");
        let mut third = view(4, 3, &[1, 2, 3], 1);
        third.replicas.get_mut(&crate::ids::NodeId(2)).expect("listed").incarnation = Incarnation(78);
        enter(&mut disk, Batch::View(third));
        assert!(!all(&disk).expect("reads").has_left(&node(2).voter), "an empty disk is a new member");
    }

    #[test]
    fn r25_a_witness_is_removed_by_its_name_and_a_stranger_changes_nothing() {
        let mut disk = SimDisk::new();
        enter(&mut disk, Batch::View(view(1, 3, &[1, 3], 1)));
        let before = all(&disk).expect("reads");
        enter(&mut disk, Batch::Remove(node(9).voter));
        assert_eq!(all(&disk).expect("reads"), before);
        enter(&mut disk, Batch::Remove(witness(1).voter));
        enter(&mut disk, Batch::Remove(witness(1).voter));
        let members = all(&disk).expect("reads");
        assert!(members.is_removed(&witness(1)) && !members.is_removed(&node(1)));
    }
}

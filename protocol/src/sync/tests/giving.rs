//! The giver: node 3 is primary of view 5, node 1 joins.

use super::*;
use crate::change::{Fault, Reason};

/// Node 3 serves in view 5 with node 2.
fn serving() -> Machine1 {
    let me = peer(3);
    let mut giver = Machine1(Sync::new(&setup(me.clone()), &recovered(&me, position(50), None)), None);
    assert_eq!(giver.tick(0), NONE);
    assert_eq!(giver.hears(0, Input::ViewChanged(view(5, 3, &[2, 3]))), NONE);
    assert_eq!(giver.hears(0, Input::Serving { view: ViewNumber(5) }), NONE);
    giver
}

impl Machine1 {
    fn begin(&mut self, ms: u64, from: Peer, nonce: u64, (commit_index, hash): (Index, Hash)) -> Vec<String> {
        self.hears(ms, Input::BeginSync { from, nonce, commit_index, hash })
    }

    fn id(&self) -> SessionId {
        observed(|status| self.0.observe(status)).sync.expect("a session").session
    }

    fn log_read(&mut self, ms: u64, after: u64, to: u64, applied: u64) -> Vec<String> {
        let hash = Some(position(after).1);
        let (session, after, applied) = (self.id(), Index(after), Index(applied));
        self.hears(ms, Input::LogRead { session, after, hash, entries: entries(after.0, to), applied })
    }

    /// The same, and what it announces then.
    fn log_read_says(&mut self, ms: u64, after: u64, to: u64) -> Vec<String> {
        let hash = Some(position(after).1);
        let (session, after, applied) = (self.id(), Index(after), Index(to));
        self.says(ms, Input::LogRead { session, after, hash, entries: entries(after.0, to), applied })
    }

    fn fenced(&mut self, ms: u64, accepted: bool) -> Vec<String> {
        let session = self.id();
        self.hears(ms, Input::Fenced { view: ViewNumber(5), session, accepted })
    }

    fn give(&mut self, ms: u64, after: u64) -> Vec<String> {
        let session = self.id();
        self.hears(ms, Input::GiveEntries { from: peer(1), session, after: Index(after) })
    }

    fn end(&mut self, ms: u64, at: u64) -> Vec<String> {
        let (session, (index, hash)) = (self.id(), position(at));
        self.hears(ms, Input::EndSync { from: peer(1), session, index, hash })
    }

    fn granted(&mut self, ms: u64) -> Vec<String> {
        let owner = self.1.expect("it asked for the lock");
        self.hears(ms, Input::Granted { owner })
    }
}

/// Node 1 has `commit` entries, which agree, and the session is open.
fn open(commit: u64) -> Machine1 {
    let mut giver = serving();
    giver.begin(0, peer(1), 7, position(commit));
    giver.log_read(0, commit, commit + 1, 50);
    assert_eq!(giver.fenced(0, false), [format!("n1: ok to 7 in 5: log {commit}")]);
    giver
}

/// The last entries are sent, under the lock.
fn locked(giver: &mut Machine1, ms: u64) {
    giver.give(ms, 40);
    assert_eq!(giver.log_read(ms, 40, 50, 50), ["acquire"]);
    assert_eq!(giver.granted(ms), ["read log 40 1000"]);
    assert_eq!(giver.log_read(ms, 40, 50, 50), ["n1: entries 40 41..50 true"]);
}

/// `EndSync` counted, the campaign is asked.
fn adding() -> Machine1 {
    let mut giver = open(40);
    locked(&mut giver, 1);
    assert_eq!(giver.end(2, 50), ["read log 50 1000"]);
    assert_eq!(giver.log_read(2, 50, 50, 50), ["add node 1 in 5"]);
    giver
}

#[test]
fn r18_a_history_that_agrees_needs_only_the_entries_after_it() {
    let mut giver = serving();
    assert_eq!(giver.begin(0, peer(1), 7, position(40)), ["read log 40 1"]);
    assert_eq!(giver.log_read(0, 40, 41, 50), ["fence 5"]);
    assert_eq!(giver.fenced(0, false), ["n1: ok to 7 in 5: log 40"]);
    assert_eq!(giver.sync_status(), Some((1, "entries".to_owned(), 0, 40)));
}

#[test]
fn r18_an_empty_node_needs_only_the_log_while_that_reaches_back() {
    let mut giver = serving();
    assert_eq!(giver.begin(0, peer(1), 7, position(0)), ["read log 0 1"]);
    assert_eq!(giver.log_read(0, 0, 1, 50), ["fence 5"]);
    assert_eq!(giver.fenced(0, false), ["n1: ok to 7 in 5: log 0"]);
}

#[test]
fn r18_another_history_or_a_short_log_needs_a_snapshot() {
    let reads = [Some(Hash([9; 32])), None];
    for hash in reads {
        let mut giver = serving();
        giver.begin(0, peer(1), 7, position(40));
        let (session, after, applied) = (giver.id(), Index(40), Index(50));
        let told = giver.hears(0, Input::LogRead { session, after, hash, entries: Vec::new(), applied });
        assert_eq!(told, ["pin"]);
        let (index, hash) = position(50);
        let pinned = Input::Pinned { session, index, hash, bytes: 100, last_timestamp: Timestamp(50) };
        assert_eq!(giver.hears(0, pinned), ["fence 5"]);
        assert_eq!(giver.fenced(0, false), ["n1: ok to 7 in 5: snapshot 50"]);
    }
    assert_eq!(serving().begin(0, peer(1), 7, (Index(0), SCRATCH_HASH)), ["pin"], "whatever the log could give");
}

#[test]
fn d17_an_id_that_the_view_lists_is_refused_under_any_disk() {
    let mut giver = serving();
    assert_eq!(giver.begin(0, peer(2), 7, position(0)), ["n2: refused begin: Listed"]);
    assert_eq!(giver.begin(0, wiped(2), 7, position(0)), ["n2: refused begin: Listed"]);
    assert_eq!(giver.begin(0, witness(), 7, position(0)), NONE, "holds nothing");
}

#[test]
fn r18_only_a_primary_that_serves_gives() {
    let me = peer(3);
    let mut giver = Machine1(Sync::new(&setup(me.clone()), &recovered(&me, position(50), None)), None);
    let refused = ["n1: refused begin: NotPrimary"];
    assert_eq!(giver.begin(0, peer(1), 7, position(0)), refused, "knows no view");
    giver.hears(0, Input::ViewChanged(view(5, 3, &[2, 3])));
    assert_eq!(giver.begin(0, peer(1), 7, position(0)), refused, "does not serve yet");
    giver.hears(0, Input::Serving { view: ViewNumber(4) });
    assert_eq!(giver.begin(0, peer(1), 7, position(0)), refused, "served in another view");
    let mut voter = Machine1(Sync::new(&setup(witness()), &recovered(&witness(), position(0), None)), None);
    voter.hears(0, Input::ViewChanged(view(5, 3, &[2, 3])));
    assert_eq!(voter.0.deadline(), None);
    assert_eq!(voter.begin(0, peer(1), 7, position(0)), refused);
}

#[test]
fn d9_sync_ok_comes_only_from_who_has_accepted_no_next_view() {
    let mut giver = serving();
    giver.begin(0, peer(1), 7, position(40));
    giver.log_read(0, 40, 41, 50);
    let (session, view) = (giver.id(), ViewNumber(4));
    assert_eq!(giver.hears(0, Input::Fenced { view, session, accepted: false }), NONE, "of another view");
    assert_eq!(giver.fenced(0, true), ["n1: refused session: NotPrimary", "end view 5"]);
    assert_eq!(giver.sync_status(), None);
}

#[test]
fn r18_one_at_a_time_the_second_is_told_busy() {
    let mut giver = open(40);
    assert_eq!(giver.begin(1, peer(4), 1, position(0)), ["n4: refused begin: Busy"]);
    assert_eq!(giver.begin(1, peer(1), 8, position(40)), ["read log 40 1"], "the same node begins again");
    let old = SessionId(1);
    let told = giver.hears(1, Input::GiveEntries { from: peer(1), session: old, after: Index(40) });
    assert_eq!(told, ["n1: refused session: NoSession"], "the earlier one is forgotten");
}

#[test]
fn r18_begin_sync_is_repeated_until_it_is_answered() {
    let mut giver = serving();
    giver.begin(0, peer(1), 7, position(40));
    assert_eq!(giver.begin(1, peer(1), 7, position(40)), NONE, "it is on its way");
    giver.log_read(1, 40, 41, 50);
    giver.fenced(1, false);
    assert_eq!(giver.begin(2, peer(1), 7, position(40)), ["n1: ok to 7 in 5: log 40"], "it was lost");
    giver.give(3, 40);
    assert_eq!(giver.begin(9_000, peer(1), 7, position(40)), NONE, "a sign of life of one that writes");
    assert_eq!(lines(giver.0.tick(at(10_500))), NONE, "so it is not silent");
}

/// A session of node 1, which begins from scratch: it is given the store as it was at entry 50.
fn open_with_a_snapshot() -> Machine1 {
    let mut giver = serving();
    giver.begin(0, peer(1), 7, (Index(0), SCRATCH_HASH));
    let (session, (index, hash)) = (giver.id(), position(50));
    giver.hears(0, Input::Pinned { session, index, hash, bytes: 22, last_timestamp: Timestamp(50) });
    giver.fenced(0, false);
    giver
}

#[test]
fn r19_chunks_carry_their_checksum_and_are_read_once_at_a_time() {
    let mut giver = open_with_a_snapshot();
    let session = giver.id();
    let give = |cursor| Input::GiveMeAllData { from: peer(1), session, cursor };
    assert_eq!(giver.hears(1, give(None)), ["read chunk None 1000"]);
    assert_eq!(giver.hears(2, give(None)), NONE, "repeated while it is read");
    let read = |cursor, chunk| Input::ChunkRead { session, cursor, chunk };
    let effects = giver.0.step(at(3), read(None, Some((vec![pair(1), pair(2)], false))));
    let sent = effects.as_slice().iter().find_map(|effect| match effect {
        Effect::Send { message: PeerMessage::Chunk { pairs, checksum, .. }, .. } => Some((pairs.clone(), *checksum)),
        _ => None,
    });
    let (pairs, checksum) = sent.expect("a chunk");
    assert_eq!(checksum, chunk_checksum(&pairs));
    assert_ne!(chunk_checksum(&[(vec![1, 2], vec![3])]), chunk_checksum(&[(vec![1], vec![2, 3])]));
    assert_eq!(giver.sync_status(), Some((1, "snapshot".to_owned(), 22, 0)));
    assert_eq!(giver.hears(4, give(Some(vec![2]))), ["read chunk Some([2]) 1000"]);
    assert_eq!(giver.hears(4, give(Some(vec![3]))), ["read chunk Some([3]) 1000"], "it has more than it said");
    assert_eq!(giver.hears(4, read(Some(vec![2]), Some((vec![pair(3)], true)))), NONE, "not to the last question");
    assert_eq!(giver.hears(4, read(Some(vec![3]), Some((vec![pair(1)], false)))), ["n1: chunk Some([3]) 1 false"]);
    assert_eq!(giver.hears(5, give(None)), ["read chunk None 1000"], "an older letter came late");
    assert_eq!(giver.hears(5, read(None, Some((vec![pair(1)], false)))), ["n1: chunk None 1 false"]);
    giver.hears(5, give(Some(vec![2])));
    let told = giver.hears(5, read(Some(vec![2]), None));
    assert_eq!(told, ["n1: refused session: NoSession", "unpin"], "the snapshot is gone");
}

#[test]
fn r19_a_chunk_that_is_on_its_way_is_not_sent_again_at_once() {
    let mut giver = open_with_a_snapshot();
    let session = giver.id();
    let give = |cursor| Input::GiveMeAllData { from: peer(1), session, cursor };
    let read = |cursor, chunk| Input::ChunkRead { session, cursor, chunk };
    giver.hears(1, give(None));
    giver.hears(2, read(None, Some((vec![pair(2)], false))));
    let mut answered = Vec::new();
    for n in 1..=20 {
        if giver.hears(2 + n * 100, give(None)) != NONE {
            answered.push(n);
            giver.hears(3 + n * 100, read(None, Some((vec![pair(2)], false))));
        }
    }
    assert_eq!(answered, [4, 8, 16], "a slow link would carry ever more copies of it");
    assert_eq!(giver.hears(3_000, give(Some(vec![2]))), ["read chunk Some([2]) 1000"], "the next one is");
}

#[test]
fn r20_r21_rounds_then_the_last_one_under_the_lock() {
    let mut giver = open(20);
    assert_eq!(giver.give(1, 20), ["read log 20 1000"]);
    assert_eq!(giver.give(1, 20), NONE, "repeated");
    assert_eq!(giver.log_read(1, 20, 40, 50), ["n1: entries 20 21..40 false"], "ten are left");
    assert_eq!(giver.give(2, 40), ["read log 40 1000"]);
    assert_eq!(giver.log_read(2, 40, 50, 50), ["acquire"], "less than one round");
    assert_eq!(giver.give(3, 40), NONE, "the answer waits for the lock");
    assert_eq!(giver.granted(4), ["read log 40 1000"]);
    assert_eq!(giver.granted(4), NONE, "told twice");
    assert_eq!(giver.log_read(4, 40, 52, 52), ["n1: entries 40 41..52 true"], "with what was committed meanwhile");
    assert_eq!(giver.sync_status().expect("open").1, "ending");
}

#[test]
fn r21_the_store_is_not_locked_for_a_joiner_that_is_still_busy_with_the_last_round() {
    let slowly = |giver: &mut Machine1, ms: u64, end: u64| {
        giver.give(ms, end);
        giver.log_read(ms, end, end + 1, end + 1)
    };
    let busy = || {
        let mut giver = open(20);
        giver.give(0, 20);
        assert_eq!(giver.log_read(0, 20, 40, 41), ["n1: entries 20 21..40 false"]);
        assert_eq!(slowly(&mut giver, 101, 40), ["n1: entries 40 41..41 false"], "nothing is left, but it took 101 ms");
        giver
    };
    assert_eq!(slowly(&mut busy(), 201, 41), ["acquire"], "prompt");
    let mut giver = busy();
    for n in 1..9 {
        assert_eq!(slowly(&mut giver, 101 + n * 101, 40 + n).len(), 1, "two copies are there, and it would be slow");
    }
    giver.give(1_010, 49);
    assert_eq!(giver.log_read(1_010, 49, 49, 49), ["acquire"], "nothing is written");
    let mut giver = busy();
    giver.hears(102, Input::ViewChanged(view(6, 3, &[3])));
    giver.hears(102, Input::Serving { view: ViewNumber(6) });
    assert_eq!(slowly(&mut giver, 203, 41), ["n1: entries 41 42..42 false"]);
    assert_eq!(
        slowly(&mut giver, 304, 42),
        ["acquire"],
        "the only copy, and sync.rounds_max is 2: it is as slow as that"
    );
}

#[test]
fn r21_a_joiner_that_asks_again_is_no_quicker_for_it() {
    let mut giver = open(20);
    giver.give(0, 20);
    assert_eq!(giver.log_read(0, 20, 40, 41), ["n1: entries 20 21..40 false"]);
    // They are on their way for 400 ms, and it asks again meanwhile.
    for ms in [90, 180, 270] {
        assert_eq!(giver.give(ms, 20), NONE, "sent again, they would be later still");
    }
    assert_eq!(giver.give(360, 20), ["read log 20 1000"], "or they were lost");
    assert_eq!(giver.log_read(360, 20, 42, 43), ["n1: entries 20 21..42 false"], "nor are writes paced for it");
    for ms in [370, 380, 390] {
        assert_eq!(giver.give(ms, 20), NONE, "each doubling");
    }
    assert_eq!(giver.give(395, 20), ["read log 20 1000"]);
    assert_eq!(giver.log_read(395, 20, 42, 43), ["n1: entries 20 21..42 false"], "it is one round, and not in vain");
    giver.give(400, 40);
    assert_eq!(giver.log_read(400, 40, 44, 44), ["n1: entries 40 41..44 false"], "not what was sent last is answered");
    giver.give(490, 44);
    assert_eq!(giver.log_read(490, 44, 45, 45), ["acquire"], "prompt");
}

#[test]
fn r21_writes_wait_for_the_lock_no_longer_than_lock_timeout() {
    let mut giver = open(40);
    giver.give(0, 40);
    assert_eq!(giver.log_read(0, 40, 50, 50), ["acquire"]);
    assert_eq!(giver.tick(1_000), ["release", "read log 40 1000"]);
    assert_eq!(giver.granted(1_000), ["release"], "late");
    assert_eq!(giver.log_read(1_001, 40, 50, 50), ["n1: entries 40 41..50 false"], "a plain round instead");
    giver.give(1_002, 50);
    assert_eq!(giver.log_read(1_002, 50, 50, 50), NONE, "too early to try again");
    giver.give(2_000, 50);
    assert_eq!(giver.log_read(2_000, 50, 50, 50), ["acquire"]);
    assert_eq!(giver.granted(2_001), ["read log 50 1000"]);
    assert_eq!(giver.log_read(2_001, 50, 50, 50), ["n1: entries 50 none true"]);
}

/// A write was committed while the campaign listed a joiner without it (`lockstep sim --seed 291487`).
#[test]
fn r21_a_late_grant_of_a_lock_that_was_given_up_is_no_grant_of_the_next() {
    let mut giver = open(40);
    giver.give(0, 40);
    assert_eq!(giver.log_read(0, 40, 50, 50), ["acquire"]);
    let owner = giver.1.expect("it asked for the lock");
    assert_eq!(giver.tick(1_000), ["release", "read log 40 1000"]);
    assert_eq!(giver.log_read(1_001, 40, 50, 50), ["n1: entries 40 41..50 false"]);
    giver.give(2_000, 50);
    assert_eq!(giver.log_read(2_000, 50, 50, 50), ["acquire"]);
    assert_eq!(giver.hears(2_001, Input::Granted { owner }), ["release"], "it was on its way for long");
    assert_eq!(giver.granted(2_002), ["read log 50 1000"]);
}

#[test]
fn r21_a_joiner_that_does_not_end_lets_writes_go_on() {
    let mut giver = open(40);
    locked(&mut giver, 1);
    assert_eq!(giver.tick(4_001), ["release", "read log 40 1000"]);
    let mut giver = open(40);
    locked(&mut giver, 1);
    let crashed = Input::Unreachable { address: peer(1).address };
    assert_eq!(giver.hears(2, crashed.clone()), ["release"], "at once when it refuses connections");
    assert_eq!(giver.hears(2, crashed), NONE);
    assert_eq!(giver.end(3, 50), ["read log 50 1000"]);
    assert_eq!(giver.log_read(3, 50, 50, 50), NONE, "its EndSync does not count without the lock");
}

#[test]
fn r22_the_joiner_is_added_when_all_is_there_and_the_lock_goes_with_the_view() {
    let mut giver = adding();
    assert_eq!(giver.end(3, 50), NONE, "once");
    let told = giver.hears(4, Input::ViewChanged(view(6, 3, &[1, 2, 3])));
    assert_eq!(told, ["release"]);
    assert_eq!(giver.sync_status(), None);
    assert_eq!(giver.0.deadline(), None);
}

#[test]
fn r22_the_lock_is_kept_while_the_campaign_may_list_the_joiner() {
    let mut giver = adding();
    assert_eq!(giver.hears(3, Input::Unreachable { address: peer(1).address }), NONE, "not when it crashes");
    let told = giver.tick(10_002);
    assert_eq!(told, ["n1: refused session: NoSession", "end view 5"], "not when it is silent (R-23)");
    assert_eq!(giver.begin(10_003, peer(1), 9, position(30)), ["n1: refused begin: Busy"], "it must drop nothing");
    assert_eq!(giver.begin(10_003, peer(4), 9, position(30)), ["n4: refused begin: Busy"]);
    assert_eq!(giver.hears(10_004, Input::NotServing { view: ViewNumber(5) }), NONE, "nor with the end of serving");
    assert_eq!(giver.hears(10_005, Input::AddFailed { view: ViewNumber(4), peer: peer(1) }), NONE, "of another view");
    assert_eq!(giver.hears(10_005, Input::AddFailed { view: ViewNumber(5), peer: peer(4) }), NONE, "of another node");
    assert_eq!(giver.hears(10_005, Input::AddFailed { view: ViewNumber(5), peer: peer(1) }), ["release"]);
    assert_eq!(giver.hears(10_006, Input::AddFailed { view: ViewNumber(5), peer: peer(1) }), NONE, "told twice");
}

#[test]
fn r22_after_a_failed_campaign_the_session_goes_on_from_r20() {
    let mut giver = adding();
    assert_eq!(giver.hears(3, Input::AddFailed { view: ViewNumber(5), peer: peer(1) }), ["release"]);
    assert_eq!(giver.end(4, 50), ["read log 50 1000"]);
    assert_eq!(giver.log_read(4, 50, 55, 55), ["n1: entries 50 51..55 false"], "writes went on");
    assert_eq!(giver.give(1_100, 55), ["read log 55 1000"]);
    assert_eq!(giver.log_read(1_100, 55, 55, 55), ["acquire"]);
    giver.granted(1_100);
    assert_eq!(giver.log_read(1_100, 55, 55, 55), ["n1: entries 55 none true"]);
    giver.end(1_101, 55);
    assert_eq!(giver.log_read(1_101, 55, 55, 55), ["add node 1 in 5"]);
}

#[test]
fn d9_end_sync_counts_in_the_view_in_which_the_lock_was_taken() {
    let mut giver = open(40);
    locked(&mut giver, 1);
    assert_eq!(giver.hears(2, Input::ViewChanged(view(6, 3, &[3]))), ["release"]);
    assert_eq!(giver.end(3, 50), NONE, "does not serve yet");
    giver.hears(4, Input::Serving { view: ViewNumber(6) });
    assert_eq!(giver.end(5, 50), ["read log 50 1000"]);
    assert_eq!(giver.log_read(5, 50, 51, 51), ["acquire"], "R-20 and R-21 again");
    assert_eq!(giver.granted(6), ["read log 50 1000"]);
    assert_eq!(giver.log_read(6, 50, 51, 51), ["n1: entries 50 51..51 true"]);
    giver.end(7, 51);
    assert_eq!(giver.log_read(7, 51, 51, 51), ["add node 1 in 6"]);
}

#[test]
fn r22_a_view_changed_while_adding_without_the_joiner_ends_only_the_adding() {
    let mut giver = adding();
    assert_eq!(giver.hears(3, Input::ViewChanged(view(6, 3, &[3]))), ["release"], "once");
    giver.hears(4, Input::Serving { view: ViewNumber(6) });
    assert_eq!(giver.end(5, 50), ["read log 50 1000"]);
    assert_eq!(giver.hears(6, Input::AddFailed { view: ViewNumber(5), peer: peer(1) }), NONE, "late");
}

#[test]
fn r22_what_does_not_agree_is_not_added() {
    let mut giver = open(40);
    locked(&mut giver, 1);
    giver.end(2, 48);
    assert_eq!(giver.log_read(2, 48, 50, 50), ["n1: entries 48 49..50 true"], "something is missing: sent again");
    let session = giver.id();
    let other = Hash([9; 32]);
    giver.hears(3, Input::EndSync { from: peer(1), session, index: Index(50), hash: other });
    let told = giver.log_read(3, 50, 50, 50);
    assert_eq!(told, ["n1: refused session: NoSession", "release"], "another history");
}

#[test]
fn r23_silence_ends_the_session_and_its_lock_and_its_snapshot() {
    let mut giver = open_with_a_snapshot();
    giver.give(9_000, 50);
    assert_eq!(giver.log_read(9_000, 50, 50, 50), ["acquire"]);
    giver.granted(9_900);
    drop(giver.tick(13_900));
    let told = giver.tick(19_000);
    assert_eq!(told, ["n1: refused session: NoSession", "unpin"]);
    assert_eq!((giver.sync_status(), giver.0.deadline()), (None, None));
}

#[test]
fn r18_a_deposed_primary_drops_everything() {
    let mut giver = open(40);
    locked(&mut giver, 1);
    let told = giver.hears(2, Input::ViewChanged(view(6, 2, &[2, 3])));
    assert_eq!(told, ["release", "n1: refused session: NotPrimary"]);
    let mut giver = open(40);
    locked(&mut giver, 1);
    let told = giver.hears(2, Input::NotServing { view: ViewNumber(5) });
    assert_eq!(told, ["n1: refused session: NotPrimary", "release"]);
    let mut giver = open(40);
    let told = giver.hears(2, Input::ViewChanged(view_of(6, 3, &[peer(3), wiped(1)])));
    assert_eq!(told, ["n1: refused session: Listed"], "the id is taken");
}

#[test]
fn r20_rounds_in_vain_pace_the_batches_more_and_more_till_the_end() {
    let mut giver = open(0);
    let round = |giver: &mut Machine1, from: u64| {
        giver.give(1, from);
        let mut told = giver.log_read(1, from, from + 1, from + 11);
        assert_eq!(told.pop(), Some(format!("n1: entries {from} {0}..{0} false", from + 1)));
        told
    };
    assert_eq!(round(&mut giver, 0), NONE, "ten are left");
    assert_eq!(round(&mut giver, 1), NONE, "and ten again: in vain");
    assert_eq!(round(&mut giver, 2), ["pace 5"], "sync.rounds_max is 2");
    assert_eq!(round(&mut giver, 3), ["pace 10"]);
    assert_eq!(giver.hears(2, Input::ViewChanged(view(6, 3, &[3]))), NONE);
    assert_eq!(giver.hears(2, Input::Serving { view: ViewNumber(6) }), ["pace 10"], "in the next view too");
    assert_eq!(giver.hears(3, Input::ViewChanged(view(7, 3, &[1, 3]))), ["pace 0"]);
}

#[test]
fn r20_while_rounds_bring_it_nearer_now_and_then_nothing_is_paced() {
    let mut giver = open(0);
    for (from, left) in [(0, 10), (1, 9), (2, 9), (3, 8), (4, 8), (5, 7)] {
        giver.give(1, from);
        let told = giver.log_read(1, from, from + 1, from + 1 + left);
        assert_eq!(told, [format!("n1: entries {from} {0}..{0} false", from + 1)], "{left} are left");
    }
}

#[test]
fn r20_writes_do_not_wait_for_a_joiner_that_is_slow_all_the_same() {
    let mut giver = open(0);
    let round = |giver: &mut Machine1, n: u64| {
        giver.give(n * 200, n);
        let mut told = giver.log_read(n * 200, n, n + 1, n + 11);
        assert_eq!(told.pop(), Some(format!("n1: entries {n} {0}..{0} false", n + 1)));
        told
    };
    assert_eq!([round(&mut giver, 0), round(&mut giver, 1)], [NONE, NONE]);
    assert_eq!(round(&mut giver, 2), ["pace 5"], "sync.rounds_max is 2");
    assert_eq!(round(&mut giver, 3), ["pace 0"], "three rounds of one entry each took 200 ms");
    assert_eq!(round(&mut giver, 4), NONE);
}

#[test]
fn r18_a_log_that_was_cut_meanwhile_ends_the_session() {
    let mut giver = open(40);
    giver.give(1, 40);
    let session = giver.id();
    let cut = Input::LogRead { session, after: Index(40), hash: None, entries: Vec::new(), applied: Index(50) };
    assert_eq!(giver.hears(1, cut), ["n1: refused session: NoSession"]);
}

#[test]
fn r21_a_node_that_was_left_out_as_too_slow_shows_first_that_it_is_not() {
    let mut giver = serving();
    let mut without = View::clone(&view(6, 3, &[2, 3]));
    let fault = Fault::Late { limit_ms: 50, ms: 3_000 };
    let reasons = vec![Reason::SetOffline { voter: peer(1).voter, fault }];
    without.cause = Cause::new(Timestamp(0), NodeId(3), reasons).into();
    giver.hears(0, Input::ViewChanged(Arc::new(without)));
    giver.hears(0, Input::Serving { view: ViewNumber(6) });
    giver.begin(0, peer(1), 1, position(40));
    giver.log_read(0, 40, 41, 50);
    let session = giver.id();
    giver.hears(0, Input::Fenced { view: ViewNumber(6), session, accepted: false });
    giver.give(0, 40);
    assert_eq!(giver.log_read(0, 40, 50, 50), ["n1: entries 40 41..50 false"], "any other would lock the store now");
    for n in 1..9 {
        giver.give(200 * n, 49 + n);
        let told = giver.log_read(200 * n, 49 + n, 50 + n, 60 + n);
        assert_eq!(told, [format!("n1: entries {} {1}..{1} false", 49 + n, 50 + n)], "writes are not paced for it");
    }
    giver.give(1_605, 58);
    assert_eq!(giver.log_read(1_605, 58, 59, 59), ["acquire"]);
}

#[test]
fn r18_only_letters_of_the_open_session_are_answered() {
    let mut giver = serving();
    giver.begin(0, peer(1), 7, position(40));
    giver.log_read(0, 40, 41, 50);
    assert_eq!(giver.give(1, 40), ["n1: refused session: NoSession"], "it is not told yet that it is open");
    giver.fenced(1, false);
    let session = giver.id();
    let give = |from, session| Input::GiveEntries { from, session, after: Index(40) };
    let other = SessionId(session.0 ^ 1);
    assert_eq!(giver.hears(2, give(peer(1), other)), ["n1: refused session: NoSession"], "an earlier one's");
    assert_eq!(giver.hears(2, give(wiped(1), session)), ["n1: refused session: NoSession"], "another disk's");
    assert_eq!(giver.hears(2, give(peer(4), session)), ["n4: refused session: NoSession"], "another node's");
    assert_eq!(giver.hears(3, give(peer(1), session)), ["read log 40 1000"]);
}

#[test]
fn r18_a_session_that_is_not_open_ends_with_the_view() {
    let mut giver = serving();
    giver.begin(0, peer(1), 7, position(40));
    assert_eq!(giver.log_read(0, 40, 41, 50), ["fence 5"]);
    assert_eq!(giver.says(1, Input::ViewChanged(view(6, 3, &[3]))), NONE, "nobody was told that it joins");
    assert_eq!((giver.sync_status(), giver.0.deadline()), (None, None));
    assert_eq!(giver.hears(2, Input::Serving { view: ViewNumber(6) }), NONE);
    assert_eq!(giver.begin(3, peer(1), 7, position(40)), ["read log 40 1"], "it is no repeated question now");
    assert_eq!(giver.log_read(3, 40, 41, 50), ["fence 6"], "the replica is asked about this view");
}

#[test]
fn r18_a_snapshot_that_was_pinned_for_an_earlier_session_is_not_given() {
    let scratch = (Index(0), SCRATCH_HASH);
    let mut giver = serving();
    assert_eq!(giver.begin(0, peer(1), 7, scratch), ["pin"]);
    let old = giver.id();
    assert_eq!(giver.begin(1, peer(1), 8, scratch), ["unpin", "pin"], "it begins again");
    let (index, hash) = position(50);
    let pinned = |session| Input::Pinned { session, index, hash, bytes: 22, last_timestamp: Timestamp(50) };
    let session = giver.id();
    assert_eq!(giver.hears(2, pinned(old)), NONE);
    assert_eq!(giver.hears(3, pinned(session)), ["fence 5"]);
    assert_eq!(giver.hears(3, pinned(session)), NONE, "told twice");
    assert_eq!(giver.fenced(4, false), ["n1: ok to 8 in 5: snapshot 50"]);
    assert_eq!(giver.give(5, 50), ["read log 50 1000"]);
    assert_eq!(giver.sync_status(), Some((1, "entries".to_owned(), 0, 50)), "it has the snapshot");
}

#[test]
fn d9_a_primary_serves_only_in_the_view_in_force_and_only_if_it_leads_that() {
    let mut giver = open(40);
    giver.hears(1, Input::ViewChanged(view(6, 3, &[3])));
    assert_eq!(giver.hears(2, Input::Serving { view: ViewNumber(5) }), NONE, "late");
    assert_eq!(giver.give(3, 40), NONE, "so it does not serve, and the joiner repeats its letter");
    assert_eq!(giver.hears(4, Input::Serving { view: ViewNumber(6) }), NONE, "no writes are paced");
    assert_eq!(giver.give(5, 40), ["read log 40 1000"]);
    giver.hears(6, Input::ViewChanged(view(7, 2, &[2, 3])));
    assert_eq!(giver.hears(7, Input::Serving { view: ViewNumber(7) }), NONE);
    assert_eq!(giver.begin(8, peer(1), 8, position(40)), ["n1: refused begin: NotPrimary"]);
}

#[test]
fn r19_people_hear_of_each_tenth_of_a_snapshot_and_at_least_every_five_seconds() {
    let mut giver = serving();
    giver.begin(0, peer(1), 7, (Index(0), SCRATCH_HASH));
    let (session, (index, hash)) = (giver.id(), position(50));
    giver.hears(0, Input::Pinned { session, index, hash, bytes: 220, last_timestamp: Timestamp(50) });
    giver.fenced(0, false);
    let mut chunk = |ms: u64, key: u8| {
        let cursor = Some(vec![key]);
        giver.hears(ms, Input::GiveMeAllData { from: peer(1), session, cursor: cursor.clone() });
        giver.says(ms, Input::ChunkRead { session, cursor, chunk: Some((vec![pair(key + 1)], false)) })
    };
    let so_far = |bytes: u64| [format!("joining node 1: {bytes} of about 220 bytes of snapshot, 0 entries so far")];
    assert_eq!(chunk(1, 0), NONE, "11 bytes are half a tenth");
    assert_eq!(chunk(2, 1), so_far(22));
    assert_eq!(chunk(3, 2), NONE);
    assert_eq!(chunk(4, 3), so_far(44));
    assert_eq!(chunk(5_004, 4), so_far(55), "a slow one");
    assert_eq!(chunk(5_005, 5), so_far(66));
    assert_eq!(chunk(10_004, 6), NONE);
}

#[test]
fn r23_people_hear_what_was_sent_to_a_joiner_that_came_to_nothing() {
    let mut giver = open(0);
    giver.give(1, 0);
    assert_eq!(giver.log_read(1, 0, 10, 60), ["n1: entries 0 1..10 false"]);
    giver.give(5_000, 10);
    let told = giver.log_read_says(5_000, 10, 20);
    assert_eq!(told, ["joining node 1: 0 bytes of snapshot, 20 entries so far"], "there is no total to tell");
    let told = said(&giver.0.tick(at(15_000)));
    assert_eq!(told, ["node 1 has not joined: it is silent (0 bytes of snapshot, 20 entries)"]);
}

#[test]
fn r22_the_campaign_and_people_hear_since_when_writes_wait() {
    let mut giver = open(40);
    giver.give(1, 40);
    assert_eq!(giver.log_read(1, 40, 50, 50), ["acquire"]);
    assert_eq!(giver.granted(4), ["read log 40 1000"]);
    assert_eq!(giver.log_read(5, 40, 50, 50), ["n1: entries 40 41..50 true"]);
    giver.end(7, 50);
    let (session, (after, hash)) = (giver.id(), position(50));
    let read = Input::LogRead { session, after, hash: Some(hash), entries: Vec::new(), applied: after };
    let effects = giver.0.step(at(8), read);
    let locked_at = effects.as_slice().iter().find_map(|effect| match effect {
        Effect::Tell(Note::AddReplica { locked_at, .. }) => Some(*locked_at),
        _ => None,
    });
    assert_eq!(locked_at, Some(Millis(4)), "not since it was asked for, nor since EndSync");
    let told = giver.says(20, Input::ViewChanged(view(6, 3, &[1, 2, 3])));
    let line = "node 1 has joined in view 6, after 20 ms: 0 bytes of snapshot, 10 entries; writes waited 16 ms for it";
    assert_eq!(told, [line]);
}

#[test]
fn r22_while_the_joiner_may_be_listed_a_grant_told_twice_lets_no_write_through() {
    let mut giver = open(40);
    giver.give(0, 40);
    assert_eq!(giver.log_read(0, 40, 50, 50), ["acquire"]);
    let given_up = giver.1.expect("it asked for the lock");
    assert_eq!(giver.tick(1_000), ["release", "read log 40 1000"]);
    assert_eq!(giver.log_read(1_001, 40, 50, 50), ["n1: entries 40 41..50 false"]);
    giver.give(2_000, 50);
    assert_eq!(giver.log_read(2_000, 50, 50, 50), ["acquire"]);
    giver.granted(2_001);
    assert_eq!(giver.log_read(2_001, 50, 50, 50), ["n1: entries 50 none true"]);
    giver.end(2_002, 50);
    assert_eq!(giver.log_read(2_002, 50, 50, 50), ["add node 1 in 5"]);
    assert_eq!(giver.granted(2_003), NONE);
    assert_eq!(giver.hears(2_003, Input::Granted { owner: given_up }), ["release"], "that one is of no use");
    assert_eq!(giver.tick(12_002), ["n1: refused session: NoSession", "end view 5"], "silent");
    assert_eq!(giver.granted(12_003), NONE, "the session is gone, and the lock is kept");
}

#[test]
fn r22_an_end_sync_that_was_read_after_the_lock_was_let_go_does_not_count() {
    let mut giver = open(40);
    locked(&mut giver, 1);
    assert_eq!(giver.end(2, 50), ["read log 50 1000"]);
    assert_eq!(giver.hears(3, Input::Unreachable { address: peer(1).address }), ["release"]);
    assert_eq!(giver.log_read(3, 50, 50, 50), NONE, "a write may have slipped in since it was read");
    let mut giver = open(40);
    locked(&mut giver, 1);
    giver.end(2, 50);
    assert_eq!(giver.hears(3, Input::ViewChanged(view(6, 3, &[3]))), ["release"]);
    giver.hears(3, Input::Serving { view: ViewNumber(6) });
    assert_eq!(giver.log_read(4, 50, 50, 50), ["acquire"], "R-21 again, in the next view");
}

#[test]
fn r22_a_joiner_whose_end_the_log_does_not_hold_is_not_added() {
    let mut giver = open(40);
    locked(&mut giver, 1);
    giver.end(2, 50);
    let (session, index) = (giver.id(), Index(50));
    let cut = Input::LogRead { session, after: index, hash: None, entries: Vec::new(), applied: index };
    assert_eq!(giver.hears(3, cut), ["n1: refused session: NoSession", "release"], "nobody knows whether it agrees");
}

#[test]
fn r22_an_answer_to_another_question_says_nothing_of_the_joiner() {
    let mut giver = open(40);
    assert_eq!(giver.give(1, 40), ["read log 40 1000"]);
    assert_eq!(giver.log_read(1, 30, 50, 50), NONE, "it did not ask for these");
    let mut giver = open(40);
    locked(&mut giver, 1);
    assert_eq!(giver.end(2, 50), ["read log 50 1000"]);
    assert_eq!(giver.log_read(2, 40, 50, 50), NONE, "what is at 40 differs from what is at 50");
    assert_eq!(giver.end(3, 50), ["read log 50 1000"], "asked again");
    assert_eq!(giver.log_read(3, 50, 50, 50), ["add node 1 in 5"]);
}

#[test]
fn r23_the_lock_is_held_for_two_vote_timeouts_without_end_sync() {
    let mut giver = open(40);
    locked(&mut giver, 1);
    assert_eq!(giver.run_to(4_000), NONE);
    assert_eq!(giver.run_to(4_001), ["4001: release", "4001: read log 40 1000"]);
}

#[test]
fn r25_a_joiner_that_is_removed_meanwhile_is_not_let_in() {
    let mut giver = open(40);
    locked(&mut giver, 1);
    let members = |removed| Input::Members(Members::new(vec![Member { peer: peer(1), removed }]));
    assert_eq!(giver.hears(2, members(false)), NONE);
    assert_eq!(giver.hears(3, members(true)), ["n1: removed", "release"]);
    assert_eq!(giver.begin(4, peer(1), 8, position(40)), ["n1: removed"]);
    assert_eq!(giver.begin(5, wiped(1), 9, position(40)), ["read log 40 1"], "another disk under its name is");
}

//! The taker: node 1 is not listed by view 5, whose primary is node 3.

use super::*;
use crate::status::Role;

const SESSION: SessionId = SessionId(77);

/// Node 1 has `commit` entries.
fn node(commit: u64) -> Machine1 {
    let me = peer(1);
    let mut taker = Machine1(Sync::new(&setup(me.clone()), &recovered(&me, position(commit), None)), None);
    assert_eq!(taker.tick(0), NONE);
    assert_eq!(taker.0.deadline(), None);
    taker
}

impl Machine1 {
    /// Hears of the view, and says which nonce it asks with.
    fn left_out(&mut self, ms: u64, view: Arc<View>) -> (u64, Vec<String>) {
        let effects = self.0.step(at(ms), Input::ViewChanged(view));
        (nonce(&effects), lines(effects))
    }

    fn ok(&mut self, ms: u64, nonce: u64, start: SyncFrom) -> Vec<String> {
        self.hears(ms, Input::SyncOk { from: peer(3), nonce, view: ViewNumber(5), session: SESSION, start })
    }

    fn chunk(&mut self, ms: u64, cursor: Option<u8>, keys: &[u8], last: bool) -> Vec<String> {
        let pairs: Vec<Pair> = keys.iter().map(|key| pair(*key)).collect();
        let checksum = chunk_checksum(&pairs);
        let cursor = cursor.map(|key| vec![key]);
        self.hears(ms, Input::Chunk { from: peer(3), session: SESSION, cursor, pairs, checksum, last })
    }

    fn given(&mut self, ms: u64, after: u64, to: u64, last: bool) -> Vec<String> {
        let entries = entries(after, to);
        self.hears(ms, Input::Entries { from: peer(3), session: SESSION, after: Index(after), entries, last })
    }

    fn durable(&mut self, ms: u64, write: u64) -> Vec<String> {
        self.hears(ms, Input::Durable { write: WriteId(write) })
    }

    fn refused(&mut self, ms: u64, session: Option<SessionId>, reason: SyncRefusal) -> Vec<String> {
        self.hears(ms, Input::SyncRefused { from: peer(3), session, reason })
    }
}

fn nonce(effects: &Effects) -> u64 {
    let of = |effect: &Effect| match effect {
        Effect::Send { message: PeerMessage::BeginSync { nonce, .. }, .. } => Some(*nonce),
        _ => None,
    };
    effects.as_slice().iter().find_map(of).unwrap_or_default()
}

fn five() -> Arc<View> {
    view(5, 3, &[2, 3])
}

fn snapshot(count: u64) -> SyncFrom {
    let (index, hash) = position(count);
    SyncFrom::Snapshot { index, hash, last_timestamp: Timestamp(count) }
}

/// In a session that sends the entries after 40.
fn taking() -> Machine1 {
    let mut taker = node(40);
    let (nonce, _) = taker.left_out(0, five());
    assert_eq!(taker.ok(1, nonce, SyncFrom::Log(Index(40))), ["began log 40", "drop tail", "n3: give 40"]);
    taker
}

/// In a session that sends a snapshot at entry 50.
fn installing() -> Machine1 {
    let mut taker = node(40);
    let (nonce, _) = taker.left_out(0, five());
    assert_eq!(taker.ok(1, nonce, snapshot(50)), ["began snapshot 50", "install", "n3: give data None"]);
    taker
}

/// `EndSync` was sent for entry 50.
fn ending() -> Machine1 {
    let mut taker = taking();
    assert_eq!(taker.given(2, 40, 50, true), ["write 1: entries 41..50"]);
    assert_eq!(taker.durable(3, 1), ["synced 50 50", "n3: end 50"], "the replica hears before the letter goes out");
    taker
}

/// In its second session, while a write of the first one, number 1, is on its way to the disk.
fn again(start: SyncFrom) -> Machine1 {
    let mut taker = taking();
    assert_eq!(taker.given(2, 40, 45, false), ["write 1: entries 41..45"]);
    taker.refused(3, Some(SESSION), SyncRefusal::NoSession);
    let nonce = nonce(&taker.0.tick(at(503)));
    taker.ok(504, nonce, start);
    taker
}

/// What it makes of this role, and what it says that it waits for.
fn seen(taker: &Machine1, role: Role) -> (Role, String) {
    let mut status = NodeStatus { role, ..NodeStatus::default() };
    taker.0.observe(&mut status);
    (status.role, status.waiting_for)
}

#[test]
fn r17_a_node_that_is_left_out_asks_the_primary() {
    let mut taker = node(40);
    assert_eq!(taker.hears(0, Input::ViewChanged(view(4, 3, &[1, 3]))), NONE, "listed");
    assert_eq!(taker.hears(1, Input::LogPosition { log_end: Index(45), committed: position(42) }), NONE);
    assert_eq!(taker.left_out(2, five()).1, ["n3: begin 42"]);
    assert_eq!(taker.left_out(3, five()).1, NONE, "told twice");
    assert_eq!(
        taker.hears(4, Input::ViewChanged(view_of(6, 3, &[peer(3), wiped(1)]))),
        ["n3: begin 42"],
        "another disk's seat"
    );
}

#[test]
fn r17_a_witness_takes_nothing() {
    let me = witness();
    let mut voter =
        Machine1(Sync::new(&setup(me.clone()), &recovered(&me, position(0), Some(View::clone(&five())))), None);
    assert_eq!(voter.0.deadline(), None);
    assert_eq!(voter.left_out(0, five()).1, NONE);
}

#[test]
fn r17_a_restarted_node_goes_by_the_view_of_its_disk() {
    let me = peer(1);
    let mut taker =
        Machine1(Sync::new(&setup(me.clone()), &recovered(&me, position(40), Some(View::clone(&five())))), None);
    assert_eq!(taker.tick(0), ["n3: begin 40"]);
    assert_eq!(taker.left_out(0, five()).1, NONE, "and hears of it too");
}

#[test]
fn r23_the_primary_is_asked_again_and_the_others_in_turn_for_a_later_view() {
    let mut taker = node(40);
    taker.left_out(0, five());
    assert_eq!(taker.tick(500), ["n3: begin 40", "n2: ask view"]);
    assert_eq!(taker.tick(1_000), ["n3: begin 40", "n3: ask view"]);
    assert_eq!(taker.hears(1_001, Input::Unreachable { address: peer(3).address }), ["n2: ask view"], "not it");
    assert_eq!(taker.hears(1_001, Input::Unreachable { address: peer(9).address }), NONE);
    assert_eq!(taker.left_out(1_002, view(6, 2, &[2])).1, ["n2: begin 40"], "the next primary at once");
}

#[test]
fn r18_refusals_are_waited_out() {
    for reason in [SyncRefusal::Busy, SyncRefusal::Listed, SyncRefusal::NotPrimary] {
        let mut taker = node(40);
        taker.left_out(0, five());
        assert_eq!(taker.refused(1, None, reason), NONE);
        assert_eq!(taker.0.deadline(), Some(Millis(500)));
        let waiting_for = observed(|status| taker.0.observe(status)).waiting_for;
        assert!(waiting_for.starts_with("node 3 says"), "{waiting_for}");
    }
}

#[test]
fn d9_nothing_is_dropped_before_the_answer_to_this_very_question() {
    let mut taker = node(40);
    let (first, _) = taker.left_out(0, five());
    let start = SyncFrom::Log(Index(40));
    assert_eq!(taker.ok(1, first + 1, start), NONE, "another question's");
    let ok = |from, view| Input::SyncOk { from, nonce: first, view: ViewNumber(view), session: SESSION, start };
    assert_eq!(taker.hears(1, ok(peer(2), 5)), NONE, "not from the primary");
    assert_eq!(taker.hears(1, ok(wiped(3), 5)), NONE, "not from the primary's disk");
    assert_eq!(taker.hears(1, ok(peer(3), 4)), NONE, "from a primary that is behind");
    let (second, _) = taker.left_out(2, view(6, 3, &[3]));
    assert_ne!(first, second);
    assert_eq!(taker.hears(3, ok(peer(3), 6)), NONE, "late");
    let good = Input::SyncOk { from: peer(3), nonce: second, view: ViewNumber(6), session: SESSION, start };
    assert_eq!(taker.hears(4, good.clone()), ["began log 40", "drop tail", "n3: give 40"]);
    assert_eq!(taker.hears(5, good), NONE, "repeated: it drops once");
}

#[test]
fn d9_after_end_sync_a_late_answer_drops_nothing() {
    let mut taker = ending();
    let told = taker.tick(10_003);
    assert_eq!(told, ["n3: begin 50"], "silent too long: it asks again, and has dropped nothing");
    assert_eq!(taker.ok(10_004, 1, snapshot(60)), NONE, "an answer of long ago");
    assert_eq!(taker.hears(10_005, Input::ViewChanged(view(6, 3, &[1, 2, 3]))), NONE, "listed, with all of it");
    assert_eq!(taker.0.deadline(), None);
}

#[test]
fn r20_r21_entries_are_durable_before_the_next_are_asked_for() {
    let mut taker = taking();
    assert_eq!(taker.given(2, 40, 45, false), ["write 1: entries 41..45"]);
    assert_eq!(taker.given(2, 40, 45, false), NONE, "repeated");
    assert_eq!(taker.durable(3, 1), ["n3: give 45"]);
    assert_eq!(taker.given(4, 40, 45, false), NONE, "overtaken");
    assert_eq!(taker.given(4, 45, 45, false), NONE, "nothing new: asked again in a while");
    assert_eq!(taker.tick(303), ["n3: give 45"]);
    assert_eq!(taker.given(305, 45, 50, true), ["write 2: entries 46..50"]);
    assert_eq!(taker.sync_status(), Some((1, "entries".to_owned(), 0, 45)));
    assert_eq!(taker.durable(306, 2), ["synced 50 50", "n3: end 50"]);
    assert_eq!(taker.tick(606), ["n3: end 50"], "until it learns a view");
    let told = taker.hears(700, Input::ViewChanged(view(6, 3, &[1, 2, 3])));
    assert_eq!((told, taker.0.deadline(), taker.sync_status()), (Vec::new(), None, None));
}

#[test]
fn r21_a_node_that_lacks_nothing_ends_at_once() {
    let mut taker = taking();
    assert_eq!(taker.given(2, 40, 40, true), ["synced 40 0", "n3: end 40"]);
}

#[test]
fn r22_entries_after_end_sync_repeat_r20() {
    let mut taker = ending();
    assert_eq!(taker.hears(4, Input::ViewChanged(view(6, 3, &[3]))), NONE, "the same primary: the session goes on");
    assert_eq!(taker.given(5, 50, 52, true), ["write 2: entries 51..52"]);
    assert_eq!(taker.durable(6, 2), ["synced 52 52", "n3: end 52"]);
}

#[test]
fn r23_when_the_primary_is_another_it_begins_again_with_that_one() {
    let mut taker = taking();
    assert_eq!(taker.given(2, 40, 45, false), ["write 1: entries 41..45"]);
    assert_eq!(taker.left_out(3, view(6, 2, &[2])).1, ["n2: begin 40"]);
    assert_eq!(taker.durable(4, 1), NONE, "an earlier session's: those entries are passed over when they come again");
    let mut taker = taking();
    let told = taker.refused(3, Some(SESSION), SyncRefusal::NoSession);
    assert_eq!((told, taker.0.deadline()), (Vec::new(), Some(Millis(503))));
    let mut taker = taking();
    assert_eq!(taker.refused(3, Some(SessionId(1)), SyncRefusal::NoSession), NONE, "late");
    assert_eq!(taker.refused(3, None, SyncRefusal::Busy), NONE, "late");
    assert_eq!(taker.given(2, 40, 45, false), ["write 1: entries 41..45"]);
}

#[test]
fn r23_a_silent_giver_is_left_after_sync_timeout_and_the_view_is_asked_for_before() {
    let mut taker = taking();
    let (mut asked, mut repeated) = (0, 0);
    loop {
        let ms = taker.0.deadline().expect("it waits").0;
        for line in taker.tick(ms) {
            match line.as_str() {
                "n3: give 40" => repeated += 1,
                "n2: ask view" | "n3: ask view" => asked += 1,
                "n3: begin 40" => return assert!(ms == 10_001 && asked >= 10 && repeated >= 30, "{ms} {asked}"),
                other => panic!("unexpected {other}"),
            }
        }
    }
}

#[test]
fn r19_chunks_are_written_one_ahead_and_only_whole_is_durable() {
    let mut taker = installing();
    assert_eq!(taker.chunk(2, None, &[1, 2], false), ["write 1: 2 pairs", "n3: give data Some([2])"]);
    assert_eq!(taker.chunk(2, None, &[1, 2], false), NONE, "repeated");
    assert_eq!(taker.chunk(3, Some(2), &[3], false), ["write 3: 1 pairs"], "two are on their way: it waits");
    assert_eq!(taker.tick(2_503), ["n3: begin 0 from scratch"], "a sign of life");
    assert_eq!(taker.durable(2_600, 3), ["n3: give data Some([3])"]);
    assert_eq!(taker.chunk(2_601, Some(3), &[4], true), ["write 4: 1 pairs", "write 5: whole at 50"]);
    assert_eq!(taker.sync_status(), Some((1, "snapshot".to_owned(), 44, 0)));
    assert_eq!(taker.durable(2_602, 4), NONE);
    assert_eq!(taker.durable(2_603, 5), ["n3: give 50"]);
    assert_eq!(taker.given(2_604, 50, 50, true), ["synced 50 50", "n3: end 50"], "the snapshot's last instant");
}

#[test]
fn r19_a_broken_chunk_is_asked_for_again_from_its_cursor() {
    let mut taker = installing();
    taker.chunk(2, None, &[1, 2], false);
    let (session, cursor, pairs) = (SESSION, Some(vec![2]), vec![pair(3)]);
    let broken = Input::Chunk { from: peer(3), session, cursor, pairs, checksum: Hash([1; 32]), last: false };
    assert_eq!(taker.hears(3, broken), NONE);
    assert_eq!(taker.chunk(3, Some(2), &[2, 3], false), NONE, "goes back");
    assert_eq!(taker.chunk(3, Some(2), &[4, 3], false), NONE, "out of order");
    assert_eq!(taker.chunk(3, Some(2), &[], false), NONE, "brings it no nearer");
    assert_eq!(taker.tick(302), ["n3: give data Some([2])"]);
}

#[test]
fn r18_half_a_snapshot_is_no_base() {
    let mut taker = installing();
    taker.chunk(2, None, &[1], false);
    let (nonce, told) = taker.left_out(3, view(6, 2, &[2]));
    assert_eq!(told, ["n2: begin 0 from scratch"]);
    let ok = |start| Input::SyncOk { from: peer(2), nonce, view: ViewNumber(6), session: SESSION, start };
    assert_eq!(taker.hears(4, ok(SyncFrom::Log(Index(0)))), ["n2: begin 0 from scratch"], "a log will not do");
    let mut taker = installing();
    assert_eq!(taker.hears(3, Input::ViewChanged(view(6, 3, &[1, 3]))), ["halt"], "it cannot be a replica");
}

#[test]
fn r19_a_snapshot_that_ends_elsewhere_is_fetched_again() {
    let mut taker = installing();
    assert_eq!(taker.chunk(2, None, &[1], true), ["write 1: 1 pairs", "write 2: whole at 50"]);
    assert_eq!(taker.hears(3, Input::Mismatch { write: WriteId(1) }), NONE, "another write's");
    assert_eq!(taker.hears(3, Input::Mismatch { write: WriteId(2) }), NONE);
    assert_eq!(taker.tick(503), ["n3: begin 0 from scratch"]);
}

#[test]
fn d16_a_diverged_node_joins_from_scratch_once_it_is_left_out() {
    let mut taker = node(40);
    taker.hears(0, Input::ViewChanged(view(4, 3, &[1, 3])));
    assert_eq!(taker.hears(1, Input::Diverged), NONE, "its log and vote still count");
    let (nonce, told) = taker.left_out(2, five());
    assert_eq!(told, ["n3: begin 0 from scratch"]);
    assert_eq!(taker.ok(3, nonce, snapshot(50)), ["began snapshot 50", "install", "n3: give data None"]);
    taker.chunk(4, None, &[1], true);
    assert_eq!(taker.durable(5, 2), ["n3: give 50"], "from here on it is like any other");
}

#[test]
fn r18_entries_that_do_not_follow_mean_another_history() {
    let mut taker = taking();
    let mut other = entries(40, 41);
    let strange = Entry::new(Index(41), Hash([9; 32]), other.pop().expect("one").batch.clone());
    let given = |entry: Entry| {
        let (from, after) = (peer(3), Index(40));
        Input::Entries { from, session: SESSION, after, entries: vec![Arc::new(entry)], last: true }
    };
    let torn = Entry { hash: Hash([1; 32]), ..strange.clone() };
    assert_eq!(taker.hears(2, given(torn)), NONE, "broken on its way");
    assert_eq!(taker.hears(3, given(strange)), NONE);
    assert_eq!(taker.tick(503), ["n3: begin 0 from scratch"]);
}

#[test]
fn r18_what_the_storage_cannot_append_means_another_history() {
    let mut taker = taking();
    taker.given(2, 40, 45, false);
    assert_eq!(taker.hears(3, Input::Mismatch { write: WriteId(9) }), NONE, "another write's");
    assert_eq!(taker.hears(3, Input::Mismatch { write: WriteId(1) }), NONE);
    assert_eq!(taker.tick(503), ["n3: begin 0 from scratch"]);
}

#[test]
fn r17_a_node_that_flaps_waits_longer_each_time() {
    let mut taker = node(40);
    let mut ms = 0;
    let mut delays = Vec::new();
    for round in 0..8 {
        let number = 2 * round + 5;
        let begins = taker.left_out(ms, view(number, 3, &[2, 3])).1;
        let asks_at = if begins.is_empty() { taker.0.deadline().expect("it seeks").0 } else { ms };
        delays.push(asks_at - ms);
        taker.hears(asks_at, Input::ViewChanged(view(number + 1, 3, &[1, 2, 3])));
        ms = asks_at + 1_000;
    }
    assert_eq!(delays, [0, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    ms += 60_000;
    assert_eq!(taker.left_out(ms, view(50, 3, &[2, 3])).1, ["n3: begin 40"], "it was steady for a while");
}

#[test]
fn r18_people_hear_once_why_a_node_is_not_listed_and_when_it_asks() {
    let mut taker = node(40);
    assert_eq!(taker.says(0, Input::ViewChanged(five())), ["not listed in view 5: asks to join"], "at once");
    let busy = Input::SyncRefused { from: peer(3), session: None, reason: SyncRefusal::Busy };
    assert_eq!(taker.says(1, busy.clone()), ["node 3 says: another node is joining"]);
    assert_eq!(taker.says(501, busy), NONE, "nothing new");
    let mut taker = taking();
    let ended = Input::SyncRefused { from: peer(3), session: Some(SESSION), reason: SyncRefusal::NoSession };
    let line = "node 3 says: the session has ended: asks to join, in 500 ms";
    assert_eq!(taker.says(2, ended), [line]);
    assert_eq!(seen(&taker, Role::Syncing), (Role::Syncing, line.to_owned()));
}

#[test]
fn r20_only_what_the_giver_sends_in_this_session_is_written() {
    let mut taker = taking();
    let given = |from, session| {
        let after = Index(40);
        Input::Entries { from, session, after, entries: entries(40, 45), last: false }
    };
    assert_eq!(taker.hears(2, given(peer(3), SessionId(78))), NONE, "another session's");
    assert_eq!(taker.hears(2, given(peer(2), SESSION)), NONE, "another node's");
    assert_eq!(taker.hears(2, given(wiped(3), SESSION)), NONE, "another disk's");
    assert_eq!(taker.hears(3, given(peer(3), SESSION)), ["write 1: entries 41..45"]);
}

#[test]
fn r23_a_long_write_is_bridged_by_signs_of_life() {
    let mut taker = taking();
    taker.given(2, 40, 45, false);
    let signs = [2_502, 5_002, 7_502, 10_002, 12_502];
    assert_eq!(taker.run_to(14_000), signs.map(|ms| format!("{ms}: n3: begin 40")), "four in sync.timeout");
    assert_eq!(taker.durable(14_001, 1), ["n3: give 45"], "the giver was not silent: it was asked nothing");
    let mut taker = installing();
    taker.chunk(2, None, &[1], false);
    taker.chunk(3, Some(1), &[2], false);
    let signs = [2_503, 5_003].map(|ms| format!("{ms}: n3: begin 0 from scratch"));
    assert_eq!(taker.run_to(6_000), signs, "two chunks are on their way");
    taker.durable(6_001, 2);
    taker.chunk(6_002, Some(2), &[3], true);
    let signs = [8_502, 11_002].map(|ms| format!("{ms}: n3: begin 0 from scratch"));
    assert_eq!(taker.run_to(12_000), signs, "the whole of it is");
}

#[test]
fn r23_the_others_are_asked_for_the_view_when_the_giver_is_silent_for_two_seek_intervals() {
    let mut taker = taking();
    assert_eq!(taker.given(900, 40, 40, false), NONE, "nothing new, but it lives");
    let mut asked = taker.run_to(3_000);
    asked.retain(|line| line.ends_with("ask view"));
    assert_eq!(asked, ["1900: n2: ask view", "2400: n3: ask view", "2900: n2: ask view"]);
}

#[test]
fn r19_of_two_chunks_on_their_way_the_first_makes_room_for_one_more() {
    let mut taker = installing();
    assert_eq!(taker.chunk(2, None, &[1], false), ["write 1: 1 pairs", "n3: give data Some([1])"]);
    assert_eq!(taker.chunk(3, Some(1), &[2], false), ["write 2: 1 pairs"]);
    assert_eq!(taker.durable(4, 1), ["n3: give data Some([2])"]);
    assert_eq!(taker.chunk(5, Some(2), &[3], false), ["write 3: 1 pairs"], "two again, memory holds no more");
    assert_eq!(taker.durable(6, 3), ["n3: give data Some([3])"]);
    let told = taker.chunk(7, Some(3), &[4], false);
    assert_eq!(told, ["write 4: 1 pairs", "n3: give data Some([4])"], "those before are durable with it");
}

#[test]
fn r23_what_became_of_an_earlier_sessions_write_is_not_taken_for_this_ones() {
    let (durable, mismatch) = (Input::Durable { write: WriteId(1) }, Input::Mismatch { write: WriteId(1) });
    let mut taker = again(SyncFrom::Log(Index(40)));
    assert_eq!(taker.given(505, 40, 45, false), ["write 2: entries 41..45"]);
    assert_eq!(taker.hears(506, durable.clone()), NONE);
    assert_eq!(taker.hears(506, mismatch.clone()), NONE);
    assert_eq!(taker.durable(507, 2), ["n3: give 45"], "the session goes on");
    let mut taker = again(snapshot(50));
    taker.chunk(505, None, &[1], false);
    assert_eq!(taker.chunk(506, Some(1), &[2], false), ["write 3: 1 pairs"], "two are on their way");
    assert_eq!(taker.hears(507, durable.clone()), NONE, "and still are");
    assert_eq!(taker.durable(508, 2), ["n3: give data Some([2])"]);
    assert_eq!(taker.chunk(509, Some(2), &[3], true), ["write 4: 1 pairs", "write 5: whole at 50"]);
    assert_eq!(taker.hears(510, durable), NONE);
    assert_eq!(taker.hears(510, mismatch), NONE);
    assert_eq!(taker.durable(511, 5), ["n3: give 50"]);
}

#[test]
fn r21_people_hear_what_came_and_how_long_it_took() {
    let mut taker = taking();
    taker.given(2, 40, 45, false);
    taker.durable(3, 1);
    taker.given(4, 45, 50, true);
    let told = taker.says(6, Input::Durable { write: WriteId(2) });
    assert_eq!(told, ["all up to 50 is durable after 5 ms: 0 bytes, 10 entries"]);
    let mut taker = installing();
    taker.chunk(2, None, &[1], false);
    taker.chunk(3, Some(1), &[2], true);
    assert_eq!(taker.says(4, Input::Durable { write: WriteId(3) }), ["the snapshot at entry 50 is installed"]);
    taker.given(5, 50, 52, true);
    let told = taker.says(9, Input::Durable { write: WriteId(4) });
    assert_eq!(told, ["all up to 52 is durable after 8 ms: 22 bytes, 2 entries"]);
}

#[test]
fn r25_members_that_neither_view_nor_seeds_name_are_asked_for_the_view_too() {
    let mut taker = node(40);
    let member = |id, removed| Member { peer: peer(id), removed };
    taker.hears(0, Input::Members(Members::new(vec![member(8, true), member(9, false)])));
    taker.left_out(0, five());
    let mut asked = taker.run_to(2_000);
    asked.retain(|line| line.ends_with("ask view"));
    assert_eq!(asked, ["500: n2: ask view", "1000: n3: ask view", "1500: n9: ask view", "2000: n2: ask view"]);
}

#[test]
fn r26_a_drained_node_stays_out_and_says_so() {
    let mut taker = node(40);
    taker.hears(0, Input::ViewChanged(view(4, 3, &[1, 3])));
    assert_eq!(taker.hears(1, Input::Draining { on: true }), NONE, "listed: it is let go first");
    assert_eq!(seen(&taker, Role::Replica), (Role::Replica, String::new()));
    assert_eq!(taker.left_out(2, five()).1, NONE);
    let waits = "the end of its drain, or a restart".to_owned();
    assert_eq!(seen(&taker, Role::Syncing), (Role::Drained, waits));
    assert_eq!(taker.0.deadline(), None);
    assert_eq!(taker.hears(3, Input::Draining { on: false }), ["n3: begin 40"]);
    assert_eq!(seen(&taker, Role::Syncing), (Role::Syncing, "the drain has ended: asks to join".to_owned()));
}

#[test]
fn r26_a_join_that_is_under_way_is_left_when_the_node_is_drained() {
    let mut taker = taking();
    assert_eq!(taker.hears(2, Input::Draining { on: false }), NONE, "there was no drain");
    assert_eq!(taker.given(3, 40, 45, false), ["write 1: entries 41..45"], "so the session goes on");
    assert_eq!(taker.hears(4, Input::Draining { on: true }), NONE);
    assert_eq!(taker.durable(5, 1), NONE);
    assert_eq!((taker.sync_status(), taker.0.deadline()), (None, None));
    assert_eq!(taker.hears(6, Input::Draining { on: true }), NONE, "told twice");
    assert_eq!(taker.hears(7, Input::Draining { on: false }), ["n3: begin 40"]);
}

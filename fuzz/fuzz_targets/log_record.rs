//! A record of the log: what decodes is sealed and unsealed to the same, one flipped bit is noticed, and its batch, in its place
//! in a log, is written, found after a restart, and applied by two replicas to equal stores (S5), or refused by both.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_fuzz::store;
use lockstep_protocol::ids::{Attempt, Hash, Index, ViewNumber, WriteId};
use lockstep_protocol::lock::{Mode, Resource};
use lockstep_protocol::log::{Entry, LogRecord, RecordError, seal, unseal};
use lockstep_protocol::storage::{Identity, StorageRequest, VoteRecord};
use std::sync::Arc;

fn check_seal(record: &LogRecord, data: &[u8]) {
    let sealed = seal(record);
    assert_eq!(unseal::<LogRecord>(&sealed).as_ref(), Ok(record));
    let mut flipped = sealed;
    let place = data.iter().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let bit = place % (8 * flipped.len());
    flipped[bit / 8] ^= 1 << (bit % 8);
    assert_eq!(unseal::<LogRecord>(&flipped), Err(RecordError::Checksum));
}

/// The same batch as the first entry of a log.
fn check_applied(record: &LogRecord) {
    let entry = Arc::new(Entry::new(Index(1), Hash::default(), record.entry.batch.clone()));
    assert!(entry.is_intact());
    let locks = entry.locks();
    assert!(locks.windows(2).all(|pair| pair[0].0 < pair[1].0), "locks are taken in one order");
    assert!(locks.first().is_none_or(|first| *first == (Resource::Store, Mode::IntentExclusive)));
    let record = LogRecord { entry: entry.clone(), view: ViewNumber(1), attempt: Attempt(1), commit_index: Index(0) };
    let write = StorageRequest::WriteLog { write: WriteId(1), record: record.clone() };
    let disk = store::disk();
    store::open(&disk).0.perform(vec![write]).expect("an entry that follows is written");
    let (mut first, found) = store::open(&disk);
    assert_eq!(found.tail, [record], "it is in doubt after a restart");
    let (mut second, _) = store::open(&store::disk());
    let apply = || vec![StorageRequest::Apply { entry: entry.clone() }];
    let (one, other) = (first.perform(apply()), second.perform(apply()));
    assert_eq!(one, other);
    if one.is_ok() {
        assert_eq!(first.digest(), second.digest());
        assert_eq!(first.applied(), (Index(1), entry.hash));
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = unseal::<LogRecord>(data);
    let _ = postcard::from_bytes::<VoteRecord>(data).map(|vote| assert_eq!(unseal(&seal(&vote)), Ok(vote)));
    let _ = postcard::from_bytes::<Identity>(data).map(|owner| assert_eq!(unseal(&seal(&owner)), Ok(owner)));
    let Ok(record) = postcard::from_bytes::<LogRecord>(data) else { return };
    check_seal(&record, data);
    check_applied(&record);
});

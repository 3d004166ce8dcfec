//! A snapshot on its way: chunks of any size, and pairs that were changed. Unchanged, it installs, and both stores are equal.
//! Changed, it is refused, or what is read from it is an error or an answer, after a restart too.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use lockstep_fuzz::store;
use lockstep_protocol::ids::{RequestId, SessionId, Timestamp, WriteId};
use lockstep_protocol::message::Pair;
use lockstep_protocol::operation::{ChannelName, Page, Query};
use lockstep_protocol::sim::disk::SimDisk;
use lockstep_protocol::storage::{Storage, StorageEvent, StorageRequest};
use lockstep_protocol::sync::chunk_checksum;

/// Every chunk is as large as it may be, or one pair; together they are all pairs, in order.
fn chunks(storage: &mut Storage<SimDisk>, bytes_max: usize) -> Vec<Vec<Pair>> {
    let session = SessionId(1);
    let (mut chunks, mut cursor) = (Vec::new(), None);
    storage.perform(vec![StorageRequest::Pin { session }]).expect("pins");
    loop {
        let ask = StorageRequest::ReadChunk { session, cursor: cursor.clone(), bytes_max };
        let events = storage.perform(vec![ask]).expect("reads");
        let [StorageEvent::ChunkRead { chunk: Some((pairs, is_last)), .. }] = &events[..] else { panic!("{events:?}") };
        let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes <= bytes_max || pairs.len() == 1, "{bytes} bytes in a chunk of {bytes_max}");
        cursor = pairs.last().map(|(key, _)| key.clone()).or(cursor);
        chunks.push(pairs.clone());
        if *is_last {
            return chunks;
        }
    }
}

/// True when something is different.
fn change(bytes: &mut Unstructured<'_>, chunks: &mut [Vec<Pair>]) -> arbitrary::Result<bool> {
    let before = chunks.to_vec();
    for _ in 0..bytes.int_in_range(0..=3)? {
        let chunk = bytes.choose_index(chunks.len())?;
        let pairs = &mut chunks[chunk];
        let sum = chunk_checksum(pairs);
        let old = pairs.clone();
        let place = bytes.int_in_range(0..=pairs.len())?;
        match bytes.int_in_range(0..=3)? {
            0 if place < pairs.len() => pairs[place].0 = bytes.arbitrary()?,
            1 if place < pairs.len() => pairs[place].1 = bytes.arbitrary()?,
            2 if place < pairs.len() => drop(pairs.remove(place)),
            _ => pairs.insert(place, bytes.arbitrary()?),
        }
        assert_eq!(chunk_checksum(pairs) == sum, *pairs == old, "a chunk's checksum tells pairs apart");
    }
    Ok(before != chunks)
}

fn ask_all(storage: &mut Storage<SimDisk>) {
    let channel = ChannelName::new("general").expect("a name");
    let page = Page { limit: 10, before: None, after: None, ascending: false };
    let queries = [
        Query::History { channel: channel.clone(), page },
        Query::Stars { channel: channel.clone(), user: None, page },
        Query::Channels { limit: 10, after: None },
        Query::Message { id: Timestamp(10) },
    ];
    for query in queries {
        let _ = storage.perform(vec![StorageRequest::Query { request: RequestId(1), query }]);
    }
    let _ = storage.perform(vec![StorageRequest::Examine { round: 1, operations: vec![store::post("a")] }]);
    let _ = (storage.view_changes(10), storage.digest());
}

fn run(data: &[u8]) -> arbitrary::Result<()> {
    let mut bytes = Unstructured::new(data);
    let mut giver = store::filled();
    let mut chunks = chunks(&mut giver, bytes.int_in_range(1..=400)?);
    let is_changed = change(&mut bytes, &mut chunks)?;
    let ((index, hash), disk) = (giver.applied(), store::disk());
    let (mut taker, _) = store::open(&disk);
    let mut asks = vec![StorageRequest::InstallBegin];
    asks.extend(chunks.into_iter().map(|pairs| StorageRequest::InstallChunk { write: WriteId(1), pairs }));
    asks.push(StorageRequest::InstallEnd { write: WriteId(2), index, hash });
    let ended = taker.perform(asks);
    if !is_changed {
        let events = ended.as_ref().expect("it installs");
        assert!(!events.iter().any(|event| matches!(event, StorageEvent::Mismatch { .. })));
        assert_eq!((taker.digest(), taker.applied()), (giver.digest(), giver.applied()));
    }
    if ended.is_ok() {
        ask_all(&mut taker);
    }
    if let Ok((mut again, _)) = store::try_open(&disk) {
        ask_all(&mut again);
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data); // Too few bytes are no run.
});

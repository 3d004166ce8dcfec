//! Idempotency keys: which text is one, and what the store says of it. A map of first requests is the model: of whatever came
//! before, a key is known with its first answer, refused for another request, or new (S3, S4). Only what is new gets into the log.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use lockstep_fuzz::store;
use lockstep_protocol::ids::{Hash, Index, Timestamp};
use lockstep_protocol::log::{Batch, Entry};
use lockstep_protocol::operation::{
    Action, ChannelName, IdempotencyKey, KEY_BYTES_MAX, KeyOwner, LoggedOperation, Operation, OperationError, Outcome,
    Text,
};
use lockstep_protocol::sim::disk::SimDisk;
use lockstep_protocol::storage::{Storage, StorageEvent, StorageRequest, Verdict};
use std::collections::BTreeMap;

/// What a key stands for: the request and its answer; none for an aborted one.
type First = Option<(Action, Outcome)>;

struct Run {
    storage: Storage<SimDisk>,
    end: (Index, Hash),
    at: u64,
    keys: BTreeMap<KeyOwner, First>,
}

fn channel() -> ChannelName {
    ChannelName::new("general").expect("a name")
}

impl Run {
    fn examine(&mut self, operation: &Operation) -> Verdict {
        let ask = StorageRequest::Examine { round: 1, operations: vec![operation.clone()] };
        match &self.storage.perform(vec![ask]).expect("examines")[..] {
            [StorageEvent::Examined { verdicts, .. }] => verdicts[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    fn apply(&mut self, batch: Batch) -> Vec<Outcome> {
        let entry = Entry::new(self.end.0.next(), self.end.1, batch);
        self.end = (entry.index, entry.hash);
        match &self.storage.perform(vec![StorageRequest::Apply { entry: entry.into() }]).expect("applies")[..] {
            [StorageEvent::Applied { outcomes, .. }] => outcomes.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, operation: Operation) {
        self.at += 1;
        let logged = LoggedOperation { operation: operation.clone(), channel: channel(), at: Timestamp(self.at) };
        let (keys_at, expire_keys_before) = (Timestamp(0), Timestamp(0));
        let verdict = self.examine(&operation);
        let batch = Batch::Operations { operations: vec![logged], keys_at, expire_keys_before };
        match (self.keys.get(&operation.owner), verdict) {
            (None, Verdict::Valid(found)) => assert_eq!(found, channel()),
            (None, Verdict::Failed(OperationError::MessageNotFound { .. })) => return,
            (Some(None), Verdict::Known(outcome, _)) => return assert_eq!(outcome, Outcome::Aborted),
            (Some(Some((first, answer))), Verdict::Known(outcome, _)) => {
                return assert_eq!((first, answer), (&operation.action, &outcome));
            }
            (Some(Some((first, _))), Verdict::Failed(OperationError::KeyReused)) => {
                return assert!(*first != operation.action);
            }
            (known, verdict) => panic!("{operation:?} is {verdict:?}, and {known:?} is known"),
        }
        let outcomes = self.apply(batch);
        self.keys.insert(operation.owner, Some((operation.action, outcomes[0].clone())));
    }

    fn abort(&mut self, owner: KeyOwner) {
        self.at += 1;
        self.apply(Batch::Abort { keys: vec![(owner.clone(), Timestamp(self.at))], keys_at: Timestamp(0) });
        self.keys.entry(owner).or_insert(None);
    }
}

fn check_text(text: &str) {
    let is_key = (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    let key = IdempotencyKey::new(text);
    assert_eq!(key.is_ok(), is_key, "{text:?}");
    if let Ok(key) = key {
        let encoded = postcard::to_stdvec(&key).expect("it encodes");
        assert_eq!(postcard::from_bytes::<IdempotencyKey>(&encoded), Ok(key));
    }
}

fn run(data: &[u8]) -> arbitrary::Result<()> {
    let mut bytes = Unstructured::new(data);
    let (storage, _) = store::open(&store::disk());
    let mut run = Run { storage, end: (Index(0), Hash::default()), at: 100, keys: BTreeMap::new() };
    for _ in 0..16 {
        let user = *bytes.choose(&["ada", "bob", "a"])?;
        let text: &str = bytes.arbitrary()?;
        check_text(text);
        let Ok(owner) = KeyOwner::new(user, text) else { continue };
        let id = Timestamp(bytes.int_in_range(100..=110)?);
        let text = Text::new(bytes.choose(&["one", "two"])?).expect("a text");
        let action = match bytes.int_in_range(0..=4)? {
            0 => Action::Star { id },
            1 => Action::Unstar { id },
            2 => Action::CreateChannel { channel: channel() },
            3 => {
                run.abort(owner);
                continue;
            }
            _ => Action::Post { channel: channel(), text, create_channel: true },
        };
        run.write(Operation { owner, action });
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = std::str::from_utf8(data).map(check_text);
    let _ = run(data); // Too few bytes are a shorter run.
});

//! `step` and `tick` of every machine: one node, to which bytes send letters of all kinds from all peers, ask for writes, reads,
//! removals and drains, let time go by, have its disk hang, and kill it. What must hold is in `lone.rs`.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use lockstep_fuzz::letters::{node, peer};
use lockstep_fuzz::lone::Lone;
use lockstep_fuzz::store;
use lockstep_protocol::ids::{NodeId, Timestamp, WriteId};
use lockstep_protocol::machine::{Limits, Note};
use lockstep_protocol::operation::{Action, ChannelName, KeyOwner, Operation, Page, Query};
use lockstep_protocol::operator::OperatorCall;
use lockstep_protocol::route;
use lockstep_protocol::storage::{Storage, StorageRequest, VoteRecord};

const EVENTS_MAX: usize = 64;

/// Data node 1, 2 or 3 of view 1, or 4, which is outside of it; with or without a log, or with an empty disk.
fn begin(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Lone> {
    let (me, disk) = (node(bytes.int_in_range(1..=4)?), store::disk());
    let state = bytes.int_in_range(0..=3)?;
    if state > 0 {
        let limits = Limits::default();
        let opened = Storage::open(disk.clone(), me.voter.clone(), me.incarnation, &limits);
        let vote = VoteRecord { view: store::view(1, 3), promised: None, accepted: None };
        let mut asks = vec![StorageRequest::WriteVote { write: WriteId(1), vote }];
        if state > 1 {
            asks.push(StorageRequest::WriteCommitted { write: WriteId(2), entries: store::entries() });
        }
        opened.expect("an empty disk").0.perform(asks).expect("a disk in memory");
    }
    let mut lone = Lone::new(me, disk);
    lone.start();
    Ok(lone)
}

fn write(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Operation> {
    let post = store::post(bytes.choose(&["x", "y", "z"])?);
    let id = Timestamp(bytes.int_in_range(9..=12)?);
    let owner = KeyOwner::new("bob", bytes.choose(&["x", "y"])?).expect("a key");
    Ok(match bytes.int_in_range(0..=3)? {
        0 => Operation { owner, action: Action::Star { id } },
        1 => Operation { owner, action: Action::Unstar { id } },
        _ => post,
    })
}

fn query(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Query> {
    let page = Page { limit: 2, before: None, after: None, ascending: bytes.arbitrary()? };
    let channel = ChannelName::new("general").expect("a name");
    Ok(match bytes.int_in_range(0..=3)? {
        0 => Query::Stars { channel, user: None, page },
        1 => Query::Channels { limit: 1, after: None },
        2 => Query::Message { id: Timestamp(bytes.int_in_range(9..=12)?) },
        _ => Query::History { channel, page },
    })
}

fn event(bytes: &mut Unstructured<'_>, lone: &mut Lone) -> arbitrary::Result<()> {
    match bytes.int_in_range(0..=15)? {
        0 | 1 => lone.wait(*bytes.choose(&[0, 1, 100, 300, 1_000, 3_000, 11_000])?),
        2 => {
            let operation = write(bytes)?;
            lone.ask(|request| route::submit(request, operation));
        }
        3 => {
            let query = query(bytes)?;
            lone.ask(|request| route::query(request, query));
        }
        4 => {
            let voter = peer(bytes)?.voter;
            let on = bytes.arbitrary()?;
            let call = if bytes.arbitrary()? { OperatorCall::Remove { voter } } else { OperatorCall::Drain { on } };
            lone.ask(|request| route::operator(request, call));
        }
        5 => lone.hear(route::unreachable(&peer(bytes)?.address)),
        6 => lone.hear(route::watch_ended(&peer(bytes)?.address)),
        7 => {
            let to = bytes.int_in_range(0..=4)?;
            lone.hear(route::note(Note::HandOver { to: (to > 0).then_some(NodeId(to)) }));
        }
        8 => {
            lone.is_held = !lone.is_held;
            lone.settle();
        }
        9 => {
            lone.crash(bytes.int_in_range(0..=3)?);
            lone.start();
        }
        _ => {
            let letter = lone.pool.letter(bytes)?;
            if letter.from.address != lone.me().address {
                lone.open(letter);
            }
        }
    }
    Ok(())
}

fn run(data: &[u8]) -> arbitrary::Result<()> {
    let mut bytes = Unstructured::new(data);
    let mut lone = begin(&mut bytes)?;
    for _ in 0..EVENTS_MAX {
        if bytes.is_empty() || !lone.is_alive() {
            break;
        }
        event(&mut bytes, &mut lone)?;
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data); // Too few bytes are a shorter run.
});

//! The peer port's body: bytes that decode are letters that encode to no more bytes, and decode to the same again. A letter is
//! let through only of this version and cluster, and with a view only that could be one (section 11).

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::ids::{ClusterId, ViewNumber};
use lockstep_protocol::message::{Envelope, PROTOCOL_VERSION, PeerMessage};
use lockstep_protocol::route::{self, Known};
use lockstep_protocol::view::View;

fn carried(message: &PeerMessage) -> Option<&View> {
    match message {
        PeerMessage::Election { view } | PeerMessage::Victory { view, .. } | PeerMessage::ViewIs { view } => Some(view),
        PeerMessage::Accept { proposal, .. } => Some(proposal),
        PeerMessage::HelloAnswer { view, .. } => view.as_ref(),
        _ => None,
    }
}

fn check(letter: &Envelope, known: &Known) {
    let Ok(deliveries) = route::letter(known, letter.clone()) else { return };
    assert!(!deliveries.is_empty(), "a letter that is let through is heard by somebody");
    assert_eq!(letter.version, PROTOCOL_VERSION);
    if let (Some(theirs), Some(ours)) = (letter.cluster, known.cluster) {
        assert_eq!(theirs, ours);
    }
    if let Some(view) = carried(&letter.message) {
        assert!(view.is_well_formed());
        assert!(known.cluster.is_none_or(|ours| ours == view.cluster));
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(letters) = postcard::from_bytes::<Vec<Envelope>>(data) else { return };
    let bytes = postcard::to_stdvec(&letters).expect("letters encode");
    assert!(bytes.len() <= data.len(), "{} bytes became {}", data.len(), bytes.len());
    assert_eq!(postcard::from_bytes::<Vec<Envelope>>(&bytes).as_ref(), Ok(&letters));
    for letter in &letters {
        check(letter, &Known { cluster: None, view: ViewNumber(0) });
        check(letter, &Known { cluster: Some(ClusterId(1)), view: ViewNumber(1) });
        check(letter, &Known { cluster: letter.cluster, view: letter.view });
    }
});

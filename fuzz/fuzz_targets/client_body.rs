//! The body of a post: whatever it is, a JSON object whose only `text` is one is posted as it stands there, and everything else
//! is refused with a code, and asks the cluster nothing. The first byte picks what the header says of the body.

#![no_main]

use actix_web::http::header::CONTENT_TYPE;
use actix_web::test::TestRequest;
use libfuzzer_sys::fuzz_target;
use lockstep_actors::gateway::ClientCall;
use lockstep_fuzz::client::{Reply, call};
use lockstep_protocol::operation::{Action, Text};
use serde_json::{Map, Value};

const KINDS: [Option<&str>; 6] = [
    Some("application/json"),
    Some("application/json; charset=utf-8"),
    Some("Application/JSON;charset=\"UTF-8\";"),
    Some("application/json; charset=latin1"),
    Some("text/plain"),
    None,
];

fn post(kind: Option<&str>, body: &[u8]) -> Reply {
    let request = TestRequest::post().uri("/v1/channels/general/messages").insert_header(("Idempotency-Key", "k"));
    let request = match kind {
        Some(kind) => request.insert_header((CONTENT_TYPE, kind)),
        None => request,
    };
    call(request.set_payload(body.to_vec()))
}

/// What was posted.
fn posted(reply: &Reply) -> Option<&str> {
    match &reply.calls[..] {
        [] => None,
        [ClientCall::Write(operation)] => match &operation.action {
            Action::Post { text, .. } => Some(text.as_str()),
            other => panic!("a post became {other:?}"),
        },
        other => panic!("a post became {other:?}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let place = usize::from(*first) % KINDS.len();
    let reply = post(KINDS[place], body);
    assert_eq!(reply.status == 201, posted(&reply).is_some(), "{reply:?}");
    if place > 2 {
        assert_eq!(reply.status, 415, "{reply:?}");
        return;
    }
    let object: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
    let text = object.as_ref().and_then(|object| object.get("text")).and_then(Value::as_str);
    let text = text.filter(|text| Text::new(text).is_ok());
    match (posted(&reply), text) {
        (Some(posted), Some(text)) => assert_eq!(posted, text),
        (Some(_), None) => panic!("no text became {reply:?}"),
        (None, None) => {}
        (None, Some(text)) => {
            // A key that stands there twice is the only reason that a reader of JSON does not see.
            let once = serde_json::to_vec(&object).expect("it encodes");
            assert_eq!(posted(&post(KINDS[0], &once)), Some(text));
        }
    }
});

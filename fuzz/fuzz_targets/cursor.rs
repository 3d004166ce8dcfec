//! A cursor: bytes behind its hexadecimal form, and any text. One is taken by at most one list; whatever it says, the page that
//! it asks for is within bounds, and the cursor of the page after it is taken, too.

#![no_main]

use actix_web::test::TestRequest;
use libfuzzer_sys::fuzz_target;
use lockstep_actors::gateway::ClientCall;
use lockstep_fuzz::client::{Reply, call, percent_encoded};
use lockstep_protocol::operation::{PAGE_MAX, Query};

const LISTS: [&str; 5] = [
    "/v1/channels/general/messages?cursor=",
    "/v1/channels/other/messages?cursor=",
    "/v1/channels/general/stars?cursor=",
    "/v1/channels/general/stars?user=ada&cursor=",
    "/v1/channels?cursor=",
];

fn get(list: &str, cursor: &str) -> Reply {
    call(TestRequest::get().uri(&format!("{list}{cursor}")))
}

fn check(cursor: &str) {
    let mut taken = 0;
    for list in LISTS {
        let reply = get(list, cursor);
        if reply.status != 200 {
            assert_eq!(reply.status, 400, "{reply:?}");
            continue;
        }
        taken += 1;
        let [ClientCall::Read(query)] = &reply.calls[..] else { panic!("{reply:?}") };
        let limit = match query {
            Query::History { page, .. } | Query::Stars { page, .. } => page.limit,
            Query::Channels { limit, .. } => *limit,
            Query::Message { .. } | Query::Channel { .. } => panic!("{query:?}"),
        };
        assert!((1..=PAGE_MAX).contains(&limit));
        let next = reply.body["next"].as_str().expect("there is more");
        assert_eq!(get(list, next).status, 200, "{query:?}");
    }
    assert!(taken <= 1, "{cursor} is taken by {taken} lists");
}

fuzz_target!(|data: &[u8]| {
    check(&data.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    if std::str::from_utf8(data).is_ok() {
        check(&percent_encoded(data));
    }
});

//! The query of a list: the first byte picks the list. What is let through asks for a page within bounds; its `next` is taken, and
//! asks for what follows the last message, in the same list and order, and within the same bounds.

#![no_main]

use actix_web::http::Uri;
use actix_web::test::TestRequest;
use libfuzzer_sys::fuzz_target;
use lockstep_actors::gateway::ClientCall;
use lockstep_fuzz::client::{NEWEST, OLDEST, Reply, call};
use lockstep_protocol::operation::{PAGE_MAX, Page, Query};

const LISTS: [&str; 4] =
    ["/v1/channels/general/messages", "/v1/channels/general/stars", "/v1/channels", "/v1/cluster/changes"];

fn get(path: &str, query: &str) -> Option<Reply> {
    let uri = format!("{path}?{query}");
    uri.parse::<Uri>().ok()?;
    Some(call(TestRequest::get().uri(&uri)))
}

fn query(reply: &Reply) -> Option<Query> {
    match &reply.calls[..] {
        [ClientCall::Read(query)] => Some(query.clone()),
        _ => None,
    }
}

fn page(query: &Query) -> Option<Page> {
    match query {
        Query::History { page, .. } | Query::Stars { page, .. } => Some(*page),
        _ => None,
    }
}

/// What a page's `next` must ask for, with no other limit than the default.
fn follows(query: &Query) -> Query {
    let mut next = query.clone();
    match &mut next {
        Query::History { page, .. } | Query::Stars { page, .. } => {
            page.limit = 100;
            if page.ascending {
                page.after = Some(NEWEST);
            } else {
                page.before = Some(OLDEST);
            }
        }
        Query::Channels { limit, after } => {
            *limit = 100;
            *after = lockstep_protocol::operation::ChannelName::new("zebra").ok();
        }
        Query::Message { .. } | Query::Channel { .. } => {}
    }
    next
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let path = LISTS[usize::from(*first) % LISTS.len()];
    let Some(reply) = get(path, text) else { return };
    if reply.status != 200 {
        assert_eq!(reply.status, 400, "{reply:?}");
        return;
    }
    let Some(asked) = query(&reply) else { return };
    if let Some(page) = page(&asked) {
        assert!((1..=PAGE_MAX).contains(&page.limit));
    }
    let cursor = reply.body["next"].as_str().expect("there is more").to_owned();
    let user = match &asked {
        Query::Stars { user: Some(user), .. } => format!("&user={}", percent(user.as_str())),
        _ => String::new(),
    };
    let next = get(path, &format!("cursor={cursor}{user}")).expect("a query");
    assert_eq!(query(&next), Some(follows(&asked)), "{asked:?}");
});

fn percent(text: &str) -> String {
    lockstep_fuzz::client::percent_encoded(text.as_bytes())
}

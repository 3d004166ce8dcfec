//! Which part of a list a client asks for: `limit`, `before`, `after`, `order`, `cursor`.
//!
//! A cursor names the last message of a page and the list that it is of, so that the next page neither repeats nor skips
//! while others post, and cannot be taken for one of another list. It takes the place of `before`, `after` and `order`.

use super::client_body::hex;
use super::error::ApiError;
use actix_web::{HttpRequest, web};
use lockstep_protocol::ids::Timestamp;
use lockstep_protocol::operation::{ChannelName, Found, Invalid, PAGE_MAX, Page, Query, UserName};
use lockstep_protocol::page::Messages;
use serde::{Deserialize, Serialize};

/// How many messages or channels a page has when nobody says.
const PAGE_DEFAULT: u32 = 100;

/// What a cursor says. Its text form is for us alone.
#[derive(Debug, Serialize, Deserialize)]
enum Cursor {
    Messages { list: List, ascending: bool, before: Option<Timestamp>, after: Option<Timestamp> },
    Channels { after: ChannelName },
}

/// The list that a cursor is of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum List {
    History { channel: ChannelName },
    Stars { channel: ChannelName, user: Option<UserName> },
}

/// The parameters of a request, each at most once. Unknown ones are ignored.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let pairs = pairs.map_err(|_| ApiError::Malformed("the query cannot be read".to_owned()))?;
        Ok(Self(pairs.into_inner()))
    }

    fn get(&self, name: &str) -> Result<Option<&str>, Invalid> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() { Err(Invalid::new(name, "stands there twice")) } else { Ok(first) }
    }

    fn limit(&self) -> Result<u32, Invalid> {
        let Some(text) = self.get("limit")? else { return Ok(PAGE_DEFAULT) };
        let limit = text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
        limit.ok_or_else(|| Invalid::new("limit", format!("must be a whole number from 1 to {PAGE_MAX}")))
    }

    fn id(&self, name: &str) -> Result<Option<Timestamp>, Invalid> {
        let parsed = self.get(name)?.map(Timestamp::parse).transpose();
        parsed.map_err(|reason| Invalid::new(name, reason))
    }

    fn ascending(&self) -> Result<Option<bool>, Invalid> {
        match self.get("order")? {
            None => Ok(None),
            Some("asc") => Ok(Some(true)),
            Some("desc") => Ok(Some(false)),
            Some(_) => Err(Invalid::new("order", "must be asc or desc")),
        }
    }

    fn user(&self) -> Result<Option<UserName>, Invalid> {
        self.get("user")?.map(UserName::new).transpose()
    }

    fn cursor(&self) -> Result<Option<Cursor>, Invalid> {
        let Some(text) = self.get("cursor")? else { return Ok(None) };
        decode(text).map(Some).ok_or_else(not_ours)
    }

    /// The page: the cursor's, when there is one.
    fn page(&self, list: &List) -> Result<Page, Invalid> {
        let limit = self.limit()?;
        let (before, after, order) = (self.id("before")?, self.id("after")?, self.ascending()?);
        match self.cursor()? {
            None => Ok(Page { limit, before, after, ascending: order.unwrap_or(false) }),
            Some(Cursor::Messages { list: of, ascending, before, after }) if of == *list => {
                if order.is_some_and(|order| order != ascending) {
                    return Err(Invalid::new("order", "is not the order of the cursor"));
                }
                Ok(Page { limit, before, after, ascending })
            }
            Some(Cursor::Messages { .. } | Cursor::Channels { .. }) => Err(not_ours()),
        }
    }
}

fn not_ours() -> Invalid {
    Invalid::new("cursor", "is no cursor of this list; take `next` of the page before, or leave it out")
}

/// `GET /v1/channels/{channel}/messages`.
///
/// # Errors
/// When a parameter is not what it must be.
pub fn history(request: &HttpRequest, channel: ChannelName) -> Result<Query, ApiError> {
    let page = Parameters::of(request)?.page(&List::History { channel: channel.clone() })?;
    Ok(Query::History { channel, page })
}

/// `GET /v1/channels/{channel}/stars`.
///
/// # Errors
/// When a parameter is not what it must be.
pub fn stars(request: &HttpRequest, channel: ChannelName) -> Result<Query, ApiError> {
    let parameters = Parameters::of(request)?;
    let user = parameters.user()?;
    let page = parameters.page(&List::Stars { channel: channel.clone(), user: user.clone() })?;
    Ok(Query::Stars { channel, user, page })
}

/// `GET /v1/channels`.
///
/// # Errors
/// When a parameter is not what it must be.
pub fn channels(request: &HttpRequest) -> Result<Query, ApiError> {
    let parameters = Parameters::of(request)?;
    let limit = parameters.limit()?;
    let after = match parameters.cursor()? {
        None => None,
        Some(Cursor::Channels { after }) => Some(after),
        Some(Cursor::Messages { .. }) => return Err(not_ours().into()),
    };
    Ok(Query::Channels { limit, after })
}

/// How many view changes a request asks for.
///
/// # Errors
/// When the limit is malformed or out of bounds.
pub fn limit(request: &HttpRequest) -> Result<usize, ApiError> {
    Ok(Parameters::of(request)?.limit()? as usize)
}

/// The cursor of the page after this one; none when this is the last.
#[must_use]
pub fn next(query: &Query, found: &Found) -> Option<String> {
    match (query, found) {
        (Query::History { channel, page }, Found::Messages { messages, has_more: true }) => {
            after_page(List::History { channel: channel.clone() }, *page, messages)
        }
        (Query::Stars { channel, user, page }, Found::Messages { messages, has_more: true }) => {
            after_page(List::Stars { channel: channel.clone(), user: user.clone() }, *page, messages)
        }
        (Query::Channels { .. }, Found::Channels { channels, has_more: true }) => {
            channels.last().and_then(|channel| encode(&Cursor::Channels { after: channel.name.clone() }))
        }
        (
            Query::History { .. }
            | Query::Stars { .. }
            | Query::Message { .. }
            | Query::Channels { .. }
            | Query::Channel { .. },
            _,
        ) => None,
    }
}

fn after_page(list: List, page: Page, messages: &Messages) -> Option<String> {
    let last = messages.last()?;
    let (before, after) = if page.ascending { (page.before, Some(last)) } else { (Some(last), page.after) };
    encode(&Cursor::Messages { list, ascending: page.ascending, before, after })
}

fn encode(cursor: &Cursor) -> Option<String> {
    postcard::to_stdvec(cursor).ok().map(|bytes| hex(&bytes))
}

fn decode(text: &str) -> Option<Cursor> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Option<_>>()?;
    let (cursor, rest) = postcard::take_from_bytes(&bytes).ok()?;
    rest.is_empty().then_some(cursor)
}

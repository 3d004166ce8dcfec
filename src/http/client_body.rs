//! What is read from a request beside its path and query: the caller's name, the key, and the body.
//!
//! A body is a JSON object. Fields that nobody asks for are ignored, so that newer clients can talk to older gateways; a key
//! that stands there twice is refused, because readers differ on which one counts.

use super::client::ClientLimits;
use super::error::ApiError;
use actix_web::error::PayloadError;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use lockstep_protocol::operation::{IdempotencyKey, Invalid, KeyOwner, Text, UserName};
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Who calls; there is no proof of it yet.
pub const USER_HEADER: &str = "Lockstep-User";
/// The caller's name for one write.
pub const KEY_HEADER: &str = "Idempotency-Key";
/// Who calls when nobody says who.
const ANONYMOUS: &str = "anonymous";

/// The caller's name, and the write's key: the caller's own, or a fresh one.
///
/// # Errors
/// When either is there and is none.
pub fn owner(request: &HttpRequest) -> Result<KeyOwner, ApiError> {
    let user = single(request, USER_HEADER)?.unwrap_or(ANONYMOUS);
    let user = UserName::new(user).map_err(|invalid| Invalid::new(USER_HEADER, invalid.reason))?;
    let key = match single(request, KEY_HEADER)? {
        Some(text) => IdempotencyKey::new(text)?,
        None => fresh_key()?,
    };
    Ok(KeyOwner { user, key })
}

/// A header's only value. Two of them would leave it open which one counts.
fn single<'a>(request: &'a HttpRequest, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = request.headers().get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| Invalid::new(name, "must be visible ASCII characters").into())
        }
        (Some(_), Some(_)) => Err(Invalid::new(name, "stands there twice").into()),
    }
}

/// 128 random bits: no two writes ever share one.
fn fresh_key() -> Result<IdempotencyKey, ApiError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| ApiError::Internal("the system gives no randomness"))?;
    Ok(IdempotencyKey::new(&hex(&random))?)
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `{"text": ...}`.
///
/// # Errors
/// When it is not announced as JSON, too large, too slow, no such object, or the text is none.
pub async fn text(request: &HttpRequest, body: web::Payload, limits: &ClientLimits) -> Result<Text, ApiError> {
    let Fields(mut fields) = object(request, body, limits).await?;
    match fields.remove("text") {
        Some(Value::String(text)) => Ok(Text::new(&text)?),
        Some(_) => Err(Invalid::new("text", "must be a string: 1 to 40000 characters").into()),
        None => Err(Invalid::new("text", "is missing: 1 to 40000 characters").into()),
    }
}

async fn object(request: &HttpRequest, body: web::Payload, limits: &ClientLimits) -> Result<Fields, ApiError> {
    if !is_json(request) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let limit = Duration::from_millis(limits.body_timeout_ms);
    let bytes = tokio::time::timeout(limit, read(body, limits.body_bytes_max)).await;
    let bytes = bytes.unwrap_or(Err(ApiError::BodyTimeout))?;
    serde_json::from_slice(&bytes).map_err(|error| not_an_object(&error))
}

async fn read(mut body: web::Payload, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part.map_err(|error| unreadable(&error))?);
        if bytes.len() > bytes_max {
            return Err(ApiError::BodyTooLarge { bytes_max });
        }
    }
    Ok(bytes.freeze())
}

fn unreadable(error: &PayloadError) -> ApiError {
    ApiError::Malformed(format!("the body was cut short or cannot be read: {error}"))
}

/// What is wrong, without the caller's own text.
fn not_an_object(error: &serde_json::Error) -> ApiError {
    let reason = match error.classify() {
        Category::Eof => "the body ends too early".to_owned(),
        Category::Syntax | Category::Io => format!("the body is no JSON: {error}"),
        Category::Data => "the body must be one JSON object in which no key stands twice".to_owned(),
    };
    ApiError::Malformed(reason)
}

/// `application/json`, and of parameters only `charset=utf-8`: JSON has no other.
fn is_json(request: &HttpRequest) -> bool {
    let Ok(Some(header)) = single(request, CONTENT_TYPE.as_str()) else { return false };
    let mut parts = header.split(';').map(str::trim);
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) && parts.all(is_utf_8)
}

fn is_utf_8(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return parameter.is_empty() };
    name.trim().eq_ignore_ascii_case("charset") && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
}

/// The fields of a JSON object, none of them twice.
struct Fields(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.insert(name, value).is_some() {
                return Err(A::Error::custom("a key stands there twice"));
            }
        }
        Ok(Fields(fields))
    }
}

//! The one table from errors to status and code, and how an error looks: RFC 9457, `application/problem+json`.
//!
//! The code is stable: programs act on it. Title and detail are for people and may change. What a caller wrote goes out
//! only inside JSON strings, and never into a log line.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use lockstep_protocol::operation::{IdempotencyKey, Invalid, OperationError};
use serde::Serialize;
use std::fmt;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// After how many seconds a caller that was told 503 may ask again: about as long as a failover takes.
const RETRY_AFTER_S: u64 = 1;

/// Why a request got no 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The request cannot be read at all: no JSON, cut short, a key twice.
    Malformed(String),
    /// It can be read, but a part of it is not what it must be.
    InvalidArgument(Invalid),
    /// No such path.
    NotFound,
    /// The path does not know this method.
    MethodNotAllowed {
        /// Those that it knows, as in the header `Allow`.
        allow: &'static str,
    },
    /// The body is larger than this.
    BodyTooLarge {
        /// The limit. Bytes.
        bytes_max: usize,
    },
    /// The header is larger than this.
    HeaderTooLarge {
        /// The limit. Bytes.
        bytes_max: usize,
    },
    /// The body did not come in time.
    BodyTimeout,
    /// The body is not announced as JSON.
    UnsupportedMediaType,
    /// The cluster did not carry it out.
    Operation {
        /// Why.
        error: OperationError,
        /// The key of a write.
        key: Option<IdempotencyKey>,
    },
    /// The gateway itself failed: a bug, or no randomness.
    Internal(&'static str),
}

/// One row of the table.
struct Row {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
}

const fn row(status: StatusCode, code: &'static str, title: &'static str) -> Row {
    Row { status, code, title }
}

impl ApiError {
    /// The table of `docs/api.md`.
    fn row(&self) -> Row {
        match self {
            Self::Malformed(_) => row(StatusCode::BAD_REQUEST, "malformed", "The request cannot be read"),
            Self::InvalidArgument(_) => {
                row(StatusCode::BAD_REQUEST, "invalid_argument", "A part of the request is not what it must be")
            }
            Self::NotFound => row(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path"),
            Self::MethodNotAllowed { .. } => {
                row(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path does not know this method")
            }
            Self::BodyTooLarge { .. } => row(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is too large"),
            Self::HeaderTooLarge { .. } => {
                row(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "The header is too large")
            }
            Self::BodyTimeout => row(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The body did not come in time"),
            Self::UnsupportedMediaType => {
                row(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body must be JSON")
            }
            Self::Operation { error, .. } => operation_row(error),
            Self::Internal(_) => row(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The gateway failed"),
        }
    }

    /// What happened, for people.
    fn detail(&self) -> String {
        match self {
            Self::Malformed(reason) => reason.clone(),
            Self::InvalidArgument(invalid) => invalid.reason.clone(),
            Self::NotFound => "no call of the API has this path".to_owned(),
            Self::MethodNotAllowed { allow } => format!("allowed here: {allow}"),
            Self::BodyTooLarge { bytes_max } => format!("a body has at most {bytes_max} bytes"),
            Self::HeaderTooLarge { bytes_max } => format!("a header has at most {bytes_max} bytes"),
            Self::BodyTimeout => "the connection is closed; send the request again".to_owned(),
            Self::UnsupportedMediaType => {
                "send Content-Type: application/json; the charset can only be utf-8".to_owned()
            }
            Self::Operation { error, .. } => operation_detail(error),
            Self::Internal(reason) => (*reason).to_owned(),
        }
    }

    /// The field that is meant, as the caller knows it.
    fn field(&self) -> Option<&str> {
        match self {
            Self::InvalidArgument(invalid) => Some(&invalid.field),
            Self::Malformed(_)
            | Self::NotFound
            | Self::MethodNotAllowed { .. }
            | Self::BodyTooLarge { .. }
            | Self::HeaderTooLarge { .. }
            | Self::BodyTimeout
            | Self::UnsupportedMediaType
            | Self::Operation { .. }
            | Self::Internal(_) => None,
        }
    }

    /// The key to ask again with, where it is not known whether a write took effect.
    fn key_to_retry_with(&self) -> Option<&str> {
        match self {
            Self::Operation { error: OperationError::OutcomeUnknown, key } => key.as_ref().map(IdempotencyKey::as_str),
            Self::Operation { .. }
            | Self::Malformed(_)
            | Self::InvalidArgument(_)
            | Self::NotFound
            | Self::MethodNotAllowed { .. }
            | Self::BodyTooLarge { .. }
            | Self::HeaderTooLarge { .. }
            | Self::BodyTimeout
            | Self::UnsupportedMediaType
            | Self::Internal(_) => None,
        }
    }

    /// Whether the rest of the request is not worth reading.
    fn closes(&self) -> bool {
        matches!(self, Self::BodyTooLarge { .. } | Self::HeaderTooLarge { .. } | Self::BodyTimeout)
    }
}

fn operation_row(error: &OperationError) -> Row {
    match error {
        OperationError::NotPrimary { .. } => row(StatusCode::SERVICE_UNAVAILABLE, "no_primary", "No data node leads"),
        OperationError::TooFewReplicas { .. } => {
            row(StatusCode::SERVICE_UNAVAILABLE, "too_few_replicas", "Too few data nodes hold the data")
        }
        OperationError::Overloaded => row(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too much waits already"),
        OperationError::Aborted => row(StatusCode::CONFLICT, "aborted", "It never took effect and never will"),
        OperationError::OutcomeUnknown => {
            row(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", "It may have taken effect")
        }
        OperationError::KeyReused => row(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "This idempotency key stands for another request",
        ),
        OperationError::ChannelNotFound { .. } => {
            row(StatusCode::NOT_FOUND, "channel_not_found", "There is no such channel")
        }
        OperationError::MessageNotFound { .. } => {
            row(StatusCode::NOT_FOUND, "message_not_found", "There is no such message")
        }
    }
}

fn operation_detail(error: &OperationError) -> String {
    match error {
        OperationError::NotPrimary { .. } => "no data node leads at the moment; nothing was done, ask again".to_owned(),
        OperationError::Aborted => "it never took effect and never will; a new try takes a new key".to_owned(),
        OperationError::OutcomeUnknown => {
            "it may have taken effect; the same request with the same Idempotency-Key tells which".to_owned()
        }
        OperationError::TooFewReplicas { .. }
        | OperationError::Overloaded
        | OperationError::KeyReused
        | OperationError::ChannelNotFound { .. }
        | OperationError::MessageNotFound { .. } => error.to_string(),
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().code)
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::InvalidArgument(invalid)
    }
}

/// An error's body (RFC 9457).
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.row().status
    }

    fn error_response(&self) -> HttpResponse {
        let Row { status, code, title } = self.row();
        let mut response = HttpResponse::build(status);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_S));
        }
        if let Self::MethodNotAllowed { allow } = self {
            response.insert_header((ALLOW, *allow));
        }
        if self.closes() {
            response.force_close();
        }
        response.content_type(PROBLEM_JSON).json(Problem {
            r#type: format!("urn:lockstep:error:{code}"),
            title,
            status: status.as_u16(),
            detail: self.detail(),
            code,
            field: self.field(),
            idempotency_key: self.key_to_retry_with(),
        })
    }
}

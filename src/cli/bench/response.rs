//! The beginning of an HTTP/1.1 response, out of bytes that come in pieces: only what the load generator needs of it.
//!
//! Every answer of the client API says how long its body is; one that does not is refused, chunks too.

/// The most bytes before the body.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The largest body: a page of 1,000 of the longest messages, all of it escaped, is smaller. Bytes.
const BODY_BYTES_MAX: usize = 512 << 20;
/// The most header fields.
const FIELDS_MAX: usize = 32;

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// How many bytes come before the body.
    pub head_bytes: usize,
    /// How many bytes the body has.
    pub body_bytes: usize,
    /// After how many seconds to ask again, when the answer says so.
    pub retry_after_s: Option<u64>,
    /// Whether the connection ends with this answer.
    pub closes: bool,
    /// The view and the index that its receipt names.
    pub receipt: (Option<u64>, Option<u64>),
}

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Reads the head, or nothing while it is not whole.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(|_| Malformed("no HTTP response"))?;
    let httparse::Status::Complete(head_bytes) = parsed else {
        let is_whole = bytes.len() > HEAD_BYTES_MAX;
        return if is_whole { Err(Malformed("its head does not end")) } else { Ok(None) };
    };
    if response.version != Some(1) {
        return Err(Malformed("not HTTP/1.1"));
    }
    let status = response.code.filter(|code| (200..600).contains(code)).ok_or(Malformed("no final status"))?;
    let head = Head { status, head_bytes, body_bytes: 0, retry_after_s: None, closes: false, receipt: (None, None) };
    with_fields(head, response.headers).map(Some)
}

fn with_fields(mut head: Head, fields: &[httparse::Header<'_>]) -> Result<Head, Malformed> {
    let mut length = None;
    for field in fields {
        let named = |name: &str| field.name.eq_ignore_ascii_case(name);
        if named("content-length") {
            let bytes = number(field.value).filter(|bytes| *bytes <= BODY_BYTES_MAX as u64);
            let bytes = bytes.ok_or(Malformed("a Content-Length that is none"))?;
            if length.replace(bytes).is_some() {
                return Err(Malformed("Content-Length twice"));
            }
        } else if named("transfer-encoding") {
            return Err(Malformed("a Transfer-Encoding"));
        } else if named("connection") {
            head.closes |= field.value.eq_ignore_ascii_case(b"close");
        } else if named("retry-after") {
            head.retry_after_s = number(field.value);
        } else if named("lockstep-view") {
            head.receipt.0 = number(field.value);
        } else if named("lockstep-index") {
            head.receipt.1 = number(field.value);
        }
    }
    let bytes = length.ok_or(Malformed("no Content-Length"))?;
    head.body_bytes = usize::try_from(bytes).map_err(|_| Malformed("a Content-Length that is none"))?;
    Ok(head)
}

/// Digits and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_in_pieces_is_the_same_head() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 12\r\nRetry-After: 1\r\nConnection: Close\r\nLockstep-View: 3\r\nLockstep-Index: 12\r\n\r\nhello";
        let whole = Head {
            status: 503,
            head_bytes: 91 + 38,
            body_bytes: 12,
            retry_after_s: Some(1),
            closes: true,
            receipt: (Some(3), Some(12)),
        };
        assert_eq!(text.len(), whole.head_bytes + 5);
        for end in 0..whole.head_bytes {
            assert_eq!(parse(&text[..end]), Ok(None), "after {end} bytes");
        }
        for end in whole.head_bytes..=text.len() {
            assert_eq!(parse(&text[..end]), Ok(Some(whole)), "after {end} bytes");
        }
    }

    #[test]
    fn a_malformed_head_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(FIELDS_MAX + 1));
        let cases = [
            "hello",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            &long,
            &many,
        ];
        for case in cases {
            assert!(parse(case.as_bytes()).is_err(), "{case:?} was taken for a head");
        }
    }
}

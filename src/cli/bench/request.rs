//! Requests of the client API, as bytes.

use std::io::Write as _;

/// Writes requests into one buffer, used again and again.
pub struct Encoder {
    /// Lines that every request of this client has.
    fields: String,
    bytes: Vec<u8>,
}

impl Encoder {
    /// Of a client that calls itself so.
    pub fn new(user: &str) -> Self {
        Self { fields: format!("Lockstep-User: {user}\r\n"), bytes: Vec::new() }
    }

    /// A read.
    pub fn get(&mut self, host: &str, path: std::fmt::Arguments<'_>) -> &[u8] {
        self.begin("GET", host, path);
        self.bytes.extend_from_slice(b"\r\n");
        &self.bytes
    }

    /// A write without a body.
    pub fn write(&mut self, method: &str, host: &str, path: std::fmt::Arguments<'_>, key: &str) -> &[u8] {
        self.begin(method, host, path);
        // Writing to a Vec cannot fail, here and below.
        let _ = write!(self.bytes, "Idempotency-Key: {key}\r\nContent-Length: 0\r\n\r\n");
        &self.bytes
    }

    /// A post of a text that JSON need not escape.
    pub fn post(&mut self, host: &str, path: std::fmt::Arguments<'_>, key: &str, text: &[u8]) -> &[u8] {
        self.begin("POST", host, path);
        let length = text.len() + br#"{"text":""}"#.len();
        let _ = write!(
            self.bytes,
            "Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{{\"text\":\""
        );
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\"}");
        &self.bytes
    }

    fn begin(&mut self, method: &str, host: &str, path: std::fmt::Arguments<'_>) {
        self.bytes.clear();
        let _ = write!(self.bytes, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{}", self.fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_whole_and_say_how_long_they_are() {
        let mut encoder = Encoder::new("ada-1");
        let post = encoder.post("h:1", format_args!("/v1/channels/{}/messages", "c"), "k-1", b"hello");
        let expected = "POST /v1/channels/c/messages HTTP/1.1\r\nHost: h:1\r\nLockstep-User: ada-1\r\n\
                        Idempotency-Key: k-1\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"text\":\"hello\"}";
        assert_eq!(String::from_utf8_lossy(post), expected);
        let get = encoder.get("h:1", format_args!("/x"));
        assert_eq!(String::from_utf8_lossy(get), "GET /x HTTP/1.1\r\nHost: h:1\r\nLockstep-User: ada-1\r\n\r\n");
        let star = encoder.write("PUT", "h:1", format_args!("/x"), "k-2");
        assert!(String::from_utf8_lossy(star).ends_with("Idempotency-Key: k-2\r\nContent-Length: 0\r\n\r\n"));
    }
}

//! JSON of texts: one in which nothing must be escaped, as in most, is copied, and not looked through byte by byte.
//!
//! Not here: what answers look like (`client_json.rs`).

use serde::{Serialize, Serializer};
use serde_json::ser::{Formatter, Serializer as JsonSerializer};
use std::io;

/// A text. To be written by [`write()`], which knows that bytes are a text; another JSON serializer takes them for numbers.
#[derive(Clone, Copy, Debug)]
pub struct PlainStr<'a>(pub &'a str);

impl Serialize for PlainStr<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(text) = *self;
        match has_escapes(text) {
            true => serializer.serialize_str(text),
            false => serializer.serialize_bytes(text.as_bytes()),
        }
    }
}

/// Whether JSON writes a byte of it otherwise (RFC 8259, section 7). Looks at all of it, and so at many bytes at a time.
fn has_escapes(text: &str) -> bool {
    text.bytes().fold(false, |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\'))
}

/// Compact JSON, in which bytes are a text without escapes.
struct Plain;

impl Formatter for Plain {
    fn write_byte_array<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &[u8]) -> io::Result<()> {
        writer.write_all(b"\"")?;
        writer.write_all(text)?;
        writer.write_all(b"\"")
    }
}

/// A value's JSON.
///
/// # Errors
/// When the value has none.
pub fn write<T: Serialize>(value: &T, room: usize) -> serde_json::Result<Vec<u8>> {
    let mut json = Vec::with_capacity(room);
    value.serialize(&mut JsonSerializer::with_formatter(&mut json, Plain))?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_as_json_has_it_whatever_is_in_it() {
        let every = (0..=0x2ff).filter_map(char::from_u32);
        let more = ["\u{2028}", "\u{1f600}", "\u{ffff}", "\u{10ffff}", "", "\"", "\\", "plain"];
        for special in every.map(String::from).chain(more.map(str::to_owned)) {
            for text in [special.clone(), format!("{}{special}", "before ".repeat(9)), format!("{special} and behind")]
            {
                let json = write(&PlainStr(&text), 0).expect("JSON");
                assert_eq!(json, serde_json::to_vec(&text).expect("JSON"), "{text:?}");
            }
        }
    }
}

//! A source file as `tests/tidy.rs` sees it: its text, its code without comments and strings, its functions and names.
//!
//! It knows just enough of Rust's lexical structure (comments, strings, characters, braces), and nothing of its grammar. What
//! a macro makes of its tokens it cannot see.

use std::collections::BTreeSet;

/// One file.
pub struct Source {
    /// Relative to the root.
    pub path: String,
    /// As it stands on disk.
    pub text: String,
    /// The same, byte for byte as long, with blanks for what lies in comments, strings and characters.
    pub code: String,
}

/// One function with a body.
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where `fn` stands, from 1.
    pub line: usize,
    /// From `fn` to the closing brace, both counted.
    pub lines: usize,
    /// Whether it is async and public, or answers HTTP: what `src/http` registers.
    pub is_handler: bool,
}

impl Source {
    /// Reads nothing: the text is given.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// Every function that has a body, inner ones too.
    pub fn functions(&self) -> Vec<Function> {
        let code = self.code.as_str();
        let starts = code.match_indices("fn ").filter(|(at, _)| !follows_name(code, *at));
        starts.filter_map(|(at, _)| self.function(at)).collect()
    }

    fn function(&self, at: usize) -> Option<Function> {
        let code = &self.code;
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let open = at + body(&code[at..])?;
        let close = open + matching_brace(&code[open..])?;
        let line = code[..at].matches('\n').count() + 1;
        let before = code[..at].rsplit(['\n', '}', ';']).next().unwrap_or_default();
        let is_handler = before.contains("async") && code[at..open].contains("HttpResponse");
        (!name.is_empty()).then(|| Function {
            name,
            line,
            lines: code[at..close].matches('\n').count() + 1,
            is_handler,
        })
    }

    /// What it names by `crate::` or `super::`, each without that beginning: `lock::Mode`.
    pub fn crate_paths(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        for start in ["crate::", "super::super::"] {
            for (at, _) in self.code.match_indices(start) {
                expand("", &self.code[at + start.len()..], &mut paths);
            }
        }
        paths
    }

    /// Every word of the code that could be a name.
    pub fn identifiers(&self) -> BTreeSet<String> {
        let words = self.code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// The text of its tests: all of it in a folder or file of tests, else what follows `#[cfg(test)]`.
    pub fn tests(&self) -> &str {
        let is_all =
            self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        match (is_all, self.text.find("#[cfg(test)]")) {
            (true, _) => &self.text,
            (false, Some(at)) => &self.text[at..],
            (false, None) => "",
        }
    }
}

/// Whether what stands before `at` makes it a part of a longer name.
fn follows_name(code: &str, at: usize) -> bool {
    code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Where the body of the function begins that begins here; none for one without.
fn body(code: &str) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// How far it is from this brace to the one that closes it.
fn matching_brace(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Takes `a::{b, c::D}` apart into `a::b`, `a::c::D`; returns how much of the text that was.
fn expand(prefix: &str, text: &str, paths: &mut BTreeSet<String>) -> usize {
    let mut path = prefix.to_owned();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let name = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        path.push_str(&rest[..name]);
        at += name;
        if text[at..].starts_with("::") {
            path.push_str("::");
            at += 2;
        } else if text[at..].starts_with('{') {
            return at + 1 + expand_list(&path, &text[at + 1..], paths);
        } else {
            paths.insert(path);
            return at;
        }
    }
}

fn expand_list(prefix: &str, text: &str, paths: &mut BTreeSet<String>) -> usize {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '}' => return at + 1,
            c if c.is_alphanumeric() || c == '_' || c == '{' => at += expand(prefix, &text[at..], paths).max(1),
            c => at += c.len_utf8(),
        }
    }
    at
}

/// Where the lexer is.
#[derive(Clone, Copy)]
enum Place {
    Code,
    LineComment,
    BlockComment,
    /// Until a quote; with the number of `#` that follow it in a raw one.
    Text(Option<usize>),
}

/// Blanks comments, strings and characters; newlines stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut place = Place::Code;
    while out.len() < bytes.len() {
        let rest = &bytes[out.len()..];
        let (length, next) = advance(place, rest, out.last().copied());
        let keep = matches!((place, next), (Place::Code, Place::Code)) && !is_character(rest, length);
        out.extend(rest[..length].iter().map(|b| if keep || *b == b'\n' { *b } else { b' ' }));
        place = next;
    }
    String::from_utf8(out).unwrap_or_default()
}

/// How many bytes belong together here, and where the lexer is after them.
fn advance(place: Place, rest: &[u8], before: Option<u8>) -> (usize, Place) {
    match place {
        Place::Code => advance_code(rest, before),
        Place::LineComment if rest[0] == b'\n' => (1, Place::Code),
        Place::LineComment => (1, Place::LineComment),
        Place::BlockComment if rest.starts_with(b"*/") => (2, Place::Code),
        Place::BlockComment => (1, Place::BlockComment),
        Place::Text(None) if rest[0] == b'\\' => (2.min(rest.len()), place),
        Place::Text(None) if rest[0] == b'"' => (1, Place::Code),
        Place::Text(Some(hashes)) if rest[0] == b'"' && count_hashes(&rest[1..]) >= hashes => (1 + hashes, Place::Code),
        Place::Text(_) => (1, place),
    }
}

fn advance_code(rest: &[u8], before: Option<u8>) -> (usize, Place) {
    let in_name = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    if rest.starts_with(b"//") {
        (2, Place::LineComment)
    } else if rest.starts_with(b"/*") {
        (2, Place::BlockComment)
    } else if rest[0] == b'"' {
        (1, Place::Text(None))
    } else if let (Some(quote), false) = (raw_quote(rest), in_name) {
        (quote + 1, Place::Text(Some(count_hashes(&rest[1..]))))
    } else if rest[0] == b'\'' {
        (character(rest).unwrap_or(1), Place::Code)
    } else {
        (utf8_length(rest[0]), Place::Code)
    }
}

/// Where the quote of a raw string that begins here stands.
fn raw_quote(rest: &[u8]) -> Option<usize> {
    let hashes = count_hashes(rest.get(1..)?);
    (rest[0] == b'r' && rest.get(1 + hashes) == Some(&b'"')).then_some(1 + hashes)
}

fn count_hashes(rest: &[u8]) -> usize {
    rest.iter().take_while(|b| **b == b'#').count()
}

/// The length of the character literal that begins here; none for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    let first = *rest.get(1)?;
    let skip = if first == b'\\' { 2 } else { utf8_length(first) };
    let end = rest.iter().skip(1 + skip).take(10).position(|b| *b == b'\'')? + 1 + skip;
    (first == b'\\' || end == 1 + skip).then_some(end + 1)
}

fn is_character(rest: &[u8], length: usize) -> bool {
    rest[0] == b'\'' && length > 1
}

fn utf8_length(first: u8) -> usize {
    match first {
        0..=0xbf => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xff => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_no_code() {
        let text = "let a = \"fn x() {\"; // {\nlet b = '{'; let c = r#\"\"{\"#; /* { */ let d: &'a str = '\\n';";
        let code = Source::new("x.rs", text).code;
        assert!(!code.contains('{') && code.len() == text.len(), "{code}");
        assert!(code.contains("let d: &'a str"), "{code}");
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text =
            "trait T { fn none(&self); }\nfn a<const N: usize>(x: [u8; 3]) -> u8\nwhere\n{\n    x[0]\n}\nfn b() {}\n";
        let found: Vec<_> =
            Source::new("x.rs", text).functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("a".to_owned(), 2, 5), ("b".to_owned(), 7, 1)]);
    }

    #[test]
    fn paths_are_taken_out_of_braces() {
        let text =
            "use crate::lock::{Mode, LockOwner};\nuse crate::{replica, read::Input};\nfn f() { crate::sync::g() }";
        let found: Vec<_> = Source::new("x.rs", text).crate_paths().into_iter().collect();
        assert_eq!(found, ["lock::LockOwner", "lock::Mode", "read::Input", "replica", "sync::g"]);
    }
}

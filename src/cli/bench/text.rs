//! The texts that a run posts: each names its writer and its number, and the rest follows from those two.
//!
//! So a text that is read back says whose it is, and whether a single byte of it differs, and nobody has to remember it. Texts are
//! printable ASCII that JSON need not escape.

use std::io::Write as _;

/// The shortest text that can name its post. Bytes.
pub const SIZE_MIN: usize = 32;
/// How many characters name the run.
pub const RUN_CHARS: usize = 12;

/// One post of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostName {
    /// Which writer posted it.
    pub writer: u32,
    /// Counted by the writer, from 0.
    pub number: u32,
}

/// Why a text is not what was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It does not name a post of this run.
    Strange,
    /// It names this post, and differs from it.
    Changed(PostName),
}

/// The texts of one run.
pub struct Texts {
    run: String,
    size: usize,
    pool: Vec<u8>,
}

impl Texts {
    /// Texts of so many bytes, of the run with this name.
    pub fn new(run: &str, size: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(0);
        let pool = (0..size * 2).map(|_| random.alphanumeric() as u8).collect();
        Self { run: run.to_owned(), size, pool }
    }

    /// Appends the text of a post.
    pub fn write(&self, post: PostName, out: &mut Vec<u8>) {
        let begin = out.len();
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{}.{}.{} ", self.run, post.writer, post.number);
        let rest = self.size.saturating_sub(out.len() - begin);
        let from = usize::try_from(mixed(post) % self.size as u64).unwrap_or(0);
        out.extend_from_slice(&self.pool[from..from + rest]);
    }

    /// Which post this is the text of.
    pub fn read(&self, text: &str) -> Result<PostName, Wrong> {
        let post = self.name(text).ok_or(Wrong::Strange)?;
        let mut expected = Vec::with_capacity(self.size);
        self.write(post, &mut expected);
        if expected == text.as_bytes() { Ok(post) } else { Err(Wrong::Changed(post)) }
    }

    fn name(&self, text: &str) -> Option<PostName> {
        let rest = text.strip_prefix(self.run.as_str())?.strip_prefix('.')?;
        let (writer, rest) = rest.split_once('.')?;
        let (number, _) = rest.split_once(' ')?;
        Some(PostName { writer: writer.parse().ok()?, number: number.parse().ok()? })
    }
}

/// Spreads posts over the pool, so that neighbours do not hold the same characters (Steele and others, SplitMix64, 2014).
fn mixed(post: PostName) -> u64 {
    let mut bits = (u64::from(post.writer) << 32 | u64::from(post.number)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0123456789ab";

    fn text(texts: &Texts, post: PostName) -> String {
        let mut out = Vec::new();
        texts.write(post, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_text_has_the_size_asked_for_and_says_whose_it_is() {
        let last = PostName { writer: 99_999, number: 999_999_999 };
        for size in [SIZE_MIN, 256, 40_000] {
            let texts = Texts::new(RUN, size);
            for post in [PostName { writer: 0, number: 0 }, PostName { writer: 7, number: 12 }, last] {
                let text = text(&texts, post);
                assert_eq!((text.len(), texts.read(&text)), (size, Ok(post)));
                assert_eq!(serde_json::to_string(&text).expect("JSON"), format!("\"{text}\""), "nothing is escaped");
            }
        }
    }

    #[test]
    fn a_byte_that_differs_anywhere_is_seen() {
        let texts = Texts::new(RUN, 100);
        let whole = text(&texts, PostName { writer: 3, number: 45 });
        for at in 0..whole.len() {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(texts.read(&String::from_utf8(bytes).expect("ASCII")).is_err(), "byte {at}");
        }
        let post = PostName { writer: 3, number: 45 };
        assert_eq!(texts.read(&whole[..99]), Err(Wrong::Changed(post)));
        assert_eq!(texts.read(&format!("{whole}x")), Err(Wrong::Changed(post)));
        assert_eq!(texts.read(&whole.replace("3.45", "3.045")), Err(Wrong::Changed(post)));
        for strange in ["", "hello", "0123456789ab.x.1 y", "0123456789ab.1", "0123456789ac.3.45 z"] {
            assert_eq!(texts.read(strange), Err(Wrong::Strange), "{strange:?}");
        }
    }
}

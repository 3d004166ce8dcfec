//! What a client does: the kinds of operations, and how often each comes up.

use clap::ValueEnum;
use std::fmt;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Posts, each with an idempotency key
    Post,
    /// Histories: the newest 100 messages of a channel
    History,
    /// One message by its id
    Message,
    /// Stars given and taken back
    Star,
    /// All of them, as often as --mix says
    Mixed,
}

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A post.
    Post,
    /// The newest messages of a channel.
    History,
    /// One message.
    Message,
    /// A star, given or taken back.
    Star,
}

/// All kinds, in the order in which they are told.
pub const KINDS: [Kind; 4] = [Kind::Post, Kind::History, Kind::Message, Kind::Star];

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::History => "history",
            Self::Message => "message",
            Self::Star => "star",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The largest weight.
const WEIGHT_MAX: u32 = 1_000_000;

/// How often each kind comes up, in the order of [`KINDS`]. One at least is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix([u32; KINDS.len()]);

impl Mix {
    /// This kind alone.
    fn only(kind: Kind) -> Self {
        Self(KINDS.map(|other| u32::from(other == kind)))
    }

    /// What this work is made of; mixed work is this mix.
    pub fn of(work: Work, mixed: Self) -> Self {
        match work {
            Work::Post => Self::only(Kind::Post),
            Work::History => Self::only(Kind::History),
            Work::Message => Self::only(Kind::Message),
            Work::Star => Self::only(Kind::Star),
            Work::Mixed => mixed,
        }
    }

    /// Parses `post=20,history=30`; what is not named does not come up.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut weights = [0; KINDS.len()];
        for part in text.split(',') {
            let wrong = || format!("{part:?} is not KIND=WEIGHT, with a whole number from 0 to {WEIGHT_MAX}");
            let (name, weight) = part.trim().split_once('=').ok_or_else(wrong)?;
            let place = KINDS.iter().position(|kind| kind.name() == name);
            let place = place.ok_or_else(|| format!("{name:?} is none of post, history, message, star"))?;
            weights[place] = weight.parse().ok().filter(|weight| *weight <= WEIGHT_MAX).ok_or_else(wrong)?;
        }
        if weights.iter().all(|weight| *weight == 0) {
            return Err("one weight at least must not be 0".to_owned());
        }
        Ok(Self(weights))
    }

    /// Whether a kind comes up.
    pub fn has(self, kind: Kind) -> bool {
        KINDS.iter().zip(self.0).any(|(other, weight)| *other == kind && weight > 0)
    }

    /// Whether there is anything but posts, which needs messages that are there already.
    pub fn needs_messages(self) -> bool {
        KINDS.iter().any(|kind| *kind != Kind::Post && self.has(*kind))
    }

    /// Draws a kind.
    pub fn draw(self, random: &mut fastrand::Rng) -> Kind {
        let sum: u32 = self.0.iter().sum();
        let mut drawn = random.u32(..sum);
        for (kind, weight) in KINDS.into_iter().zip(self.0) {
            match drawn.checked_sub(weight) {
                Some(rest) => drawn = rest,
                None => return kind,
            }
        }
        Kind::Post
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_comes_up_as_its_weights_say() {
        let mix = Mix::parse("post=1, star=3,history=0").expect("a mix");
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = [0; KINDS.len()];
        for _ in 0..4_000 {
            counts[mix.draw(&mut random) as usize] += 1;
        }
        assert_eq!((counts[1], counts[2]), (0, 0));
        assert!((900..1_100).contains(&counts[0]) && (2_900..3_100).contains(&counts[3]), "{counts:?}");
        assert!(mix.needs_messages() && !Mix::of(Work::Post, mix).needs_messages());
    }

    #[test]
    fn a_mix_that_is_none_is_refused() {
        for bad in ["", "post", "post=", "post=x", "post=-1", "post=0", "posts=1", "post=1;star=1", "post=9999999"] {
            assert!(Mix::parse(bad).is_err(), "{bad:?} was taken for a mix");
        }
    }
}

//! What each answer shows, by itself: real posts, each under one id, where and by whom they were posted; and so the order of posts.
//!
//! Not here: when anything was shown (`order.rs`), and which messages a page lacks.

use super::super::history::{Answer, Call, Channel, Client, End, Id, Post, Shown, Wish};
use super::Verdict;
use super::violation::{Broken, Violation, id_text, post_name};
use std::collections::{BTreeMap, BTreeSet};

/// A post that took effect: somebody saw it, or was told so.
#[derive(Clone, Copy, Debug)]
pub struct Posted {
    /// Its id.
    pub id: Id,
    /// Which post.
    pub post: Post,
    /// The call that posted it.
    pub call: usize,
}

/// All posts that took effect.
#[derive(Debug, Default)]
pub struct Posts {
    /// By id.
    pub all: Vec<Posted>,
    /// Places in `all` of each channel's posts, by id.
    pub of_channel: BTreeMap<Channel, Vec<usize>>,
    /// Places in `all`.
    by_id: BTreeMap<Id, usize>,
}

impl Posts {
    /// Reads all answers, and tells what is wrong with what they show.
    pub fn new(calls: &[Call], verdict: &mut Verdict) -> Self {
        let mut sent = BTreeMap::new();
        for (place, call) in calls.iter().enumerate() {
            if let Wish::Post { channel, post } = call.wish {
                sent.insert(post, Sent { call: place, channel, client: call.client });
            }
        }
        let mut told = BTreeSet::new();
        let mut reader = Reader { calls, sent, seen: BTreeMap::new(), owners: BTreeMap::new() };
        for (place, call) in calls.iter().enumerate() {
            verdict.add(reader.answer(place, call).err());
            for shown in call.shown() {
                // Every later answer shows it again, and that says nothing new.
                verdict.add(reader.shown(place, shown).err().filter(|_| told.insert(shown.post)));
            }
        }
        reader.finish()
    }

    /// Where the post with this id stands.
    pub fn place(&self, id: Id) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// A channel's posts, as places in `all`.
    pub fn channel(&self, channel: Channel) -> &[usize] {
        self.of_channel.get(&channel).map_or(&[], Vec::as_slice)
    }
}

#[derive(Clone, Copy)]
struct Sent {
    call: usize,
    channel: Channel,
    client: Client,
}

struct Reader<'a> {
    calls: &'a [Call],
    sent: BTreeMap<Post, Sent>,
    /// The id of each post, and the call that showed it first.
    seen: BTreeMap<Post, (Id, usize)>,
    /// The post of each id, and the call that showed it first.
    owners: BTreeMap<Id, (Post, usize)>,
}

impl Reader<'_> {
    /// Whether it answers what was asked at all.
    fn answer(&self, place: usize, call: &Call) -> Result<(), Violation> {
        let wrong = |what: &str| Err(Violation::new(Broken::WrongAnswer, what, &[place]));
        let Some(answer) = call.answer() else { return Ok(()) };
        match (&call.wish, answer) {
            (Wish::Post { post, .. }, Answer::Message(shown)) if shown.post == Some(*post) => {
                if shown.stars.is_empty() { Ok(()) } else { wrong("a message that is new has stars") }
            }
            (Wish::Post { .. }, Answer::Message(_)) => wrong("a post was answered with another one"),
            (Wish::Star { message, .. } | Wish::Message { message }, Answer::Message(shown))
                if shown.id != *message =>
            {
                wrong("another message was shown than the one that was asked for")
            }
            (Wish::Star { message: _, on }, Answer::Message(shown)) if shown.stars.contains(&call.client) != *on => {
                wrong("the answer to a star does not show what it did")
            }
            (Wish::Star { .. } | Wish::Message { .. }, Answer::Message(_) | Answer::NotFound)
            | (Wish::History(_) | Wish::Stars { .. }, Answer::Page(_)) => Ok(()),
            (Wish::Post { .. } | Wish::History(_) | Wish::Stars { .. }, Answer::NotFound) => {
                wrong("the channel is said not to be there")
            }
            (_, Answer::Unreadable) => wrong("the answer cannot be read"),
            (Wish::History(_) | Wish::Stars { .. }, Answer::Message(_))
            | (Wish::Post { .. } | Wish::Star { .. } | Wish::Message { .. }, Answer::Page(_)) => {
                wrong("the answer is one to another question")
            }
        }
    }

    /// One message of an answer.
    fn shown(&mut self, place: usize, shown: &Shown) -> Result<(), Violation> {
        let id = id_text(shown.id);
        let sent = shown.post.and_then(|post| Some((post, *self.sent.get(&post)?)));
        let Some((post, sent)) = sent else {
            return Err(Violation::new(Broken::Strange, format!("nobody posted the text of message {id}"), &[place]));
        };
        let name = post_name(post);
        let broken = |broken, text: String| Err(Violation::new(broken, text, &[sent.call, place]));
        if shown.channel != Some(sent.channel) {
            let text = format!("{name} went to channel {}, and {id} is shown in {:?}", sent.channel, shown.channel);
            return broken(Broken::OtherChannel, text);
        }
        if shown.by != Some(sent.client) {
            return broken(
                Broken::OtherUser,
                format!("{name} is client {}'s, and shown as {:?}", sent.client, shown.by),
            );
        }
        if matches!(self.calls[sent.call].end, End::Refused { .. }) {
            return broken(Broken::Resurrected, format!("{name} was refused, and is there as {id}"));
        }
        self.under_one_id(place, post, shown.id, sent)
    }

    fn under_one_id(&mut self, place: usize, post: Post, id: Id, sent: Sent) -> Result<(), Violation> {
        let name = post_name(post);
        let (first, by) = *self.seen.entry(post).or_insert((id, place));
        if first != id {
            let text = format!("{name} is there as {} and as {}", id_text(first), id_text(id));
            return Err(Violation::new(Broken::Doubled, text, &[sent.call, by, place]));
        }
        let (owner, by) = *self.owners.entry(id).or_insert((post, place));
        if owner != post {
            let text = format!("{} and {name} both have the id {}", post_name(owner), id_text(id));
            return Err(Violation::new(Broken::SharedId, text, &[by, place]));
        }
        Ok(())
    }

    fn finish(self) -> Posts {
        let mut posts = Posts::default();
        for (id, (post, _)) in self.owners {
            let Some(sent) = self.sent.get(&post) else { continue };
            posts.by_id.insert(id, posts.all.len());
            posts.of_channel.entry(sent.channel).or_default().push(posts.all.len());
            posts.all.push(Posted { id, post, call: sent.call });
        }
        posts
    }
}

//! What the store should hold: a second, plain reading of what operations mean, which remembers every state that it was in.
//!
//! It is fed the decided log and asked what a query should have found at an index (S2). It shares no code with
//! `store.rs`, on purpose: one mistake in both would have to be made twice.
//!
//! Not here: what was decided (`checker.rs`), and idempotency keys (`invariant.rs`).

use crate::ids::{Index, Timestamp};
use crate::operation::{
    Action, Channel, ChannelName, Found, LoggedOperation, Message, OperationError, Outcome, Page, Query, UserName,
};
use crate::page::Messages;
use std::collections::BTreeMap;

/// A message, and when each star was set and taken back.
#[derive(Clone, Debug)]
struct Posted {
    index: Index,
    message: Message,
    stars: BTreeMap<UserName, Vec<(Index, bool)>>,
}

impl Posted {
    fn is_starred_by(&self, user: &UserName, at: Index) -> bool {
        let changes = self.stars.get(user).map_or(&[][..], Vec::as_slice);
        changes.iter().rev().find(|(index, _)| *index <= at).is_some_and(|(_, starred)| *starred)
    }

    fn at(&self, at: Index) -> Message {
        let users = self.stars.keys().filter(|user| self.is_starred_by(user, at));
        Message { starred_by: users.cloned().collect(), ..self.message.clone() }
    }
}

/// Every state that the store was in.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    channels: BTreeMap<ChannelName, (Index, Channel)>,
    messages: BTreeMap<Timestamp, Posted>,
}

impl Oracle {
    /// The decided operations, in order; says what each did. None when it could not be done, which no decided one may be.
    pub fn apply(&mut self, index: Index, logged: &LoggedOperation) -> Option<Outcome> {
        let user = &logged.operation.owner.user;
        match &logged.operation.action {
            Action::Post { channel, text, create_channel } => {
                if !create_channel && !self.channels.contains_key(channel) {
                    return None;
                }
                self.create(index, channel, logged);
                let message = Message {
                    id: logged.at,
                    channel: channel.clone(),
                    user: user.clone(),
                    text: text.clone(),
                    starred_by: Vec::new(),
                };
                let posted = Posted { index, message: message.clone(), stars: BTreeMap::new() };
                self.messages.insert(logged.at, posted).is_none().then_some(Outcome::Message(message))
            }
            Action::Star { id } => self.star(index, *id, user, true),
            Action::Unstar { id } => self.star(index, *id, user, false),
            Action::CreateChannel { channel } => {
                let created = self.create(index, channel, logged);
                let (_, channel) = self.channels.get(channel)?;
                Some(Outcome::Channel { channel: channel.clone(), created })
            }
        }
    }

    fn create(&mut self, index: Index, name: &ChannelName, logged: &LoggedOperation) -> bool {
        let is_new = !self.channels.contains_key(name);
        if is_new {
            let created_by = logged.operation.owner.user.clone();
            let channel = Channel { name: name.clone(), created_at: logged.at, created_by };
            self.channels.insert(name.clone(), (index, channel));
        }
        is_new
    }

    fn star(&mut self, index: Index, id: Timestamp, user: &UserName, starred: bool) -> Option<Outcome> {
        let posted = self.messages.get_mut(&id)?;
        posted.stars.entry(user.clone()).or_default().push((index, starred));
        Some(Outcome::Message(posted.at(index)))
    }

    /// Whether the channel was there at `at`.
    #[must_use]
    pub fn has_channel(&self, name: &ChannelName, at: Index) -> bool {
        self.channels.get(name).is_some_and(|(index, _)| *index <= at)
    }

    /// Whether the message was there at `at`.
    #[must_use]
    pub fn has_message(&self, id: Timestamp, at: Index) -> bool {
        self.messages.get(&id).is_some_and(|posted| posted.index <= at)
    }

    /// The channels that there are now.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.channels.keys()
    }

    /// What the query should find in the state after `at`.
    ///
    /// # Errors
    /// As the store's: when the channel or the message is not there.
    pub fn query(&self, query: &Query, at: Index) -> Result<Found, OperationError> {
        match query {
            Query::History { channel, page } => self.page(channel, *page, at, |_| true),
            Query::Stars { channel, user, page } => self.page(channel, *page, at, |posted| match user {
                Some(user) => posted.is_starred_by(user, at),
                None => posted.stars.keys().any(|user| posted.is_starred_by(user, at)),
            }),
            Query::Message { id } => {
                let posted = self.messages.get(id).filter(|posted| posted.index <= at);
                posted.map(|posted| Found::Message(posted.at(at))).ok_or(OperationError::MessageNotFound { id: *id })
            }
            Query::Channels { limit, after } => Ok(self.list(*limit, after.as_ref(), at)),
            Query::Channel { channel } => {
                let (_, found) = self.known_channel(channel, at)?;
                Ok(Found::Channel(found.clone()))
            }
        }
    }

    fn known_channel(&self, name: &ChannelName, at: Index) -> Result<&(Index, Channel), OperationError> {
        let known = self.channels.get(name).filter(|(index, _)| *index <= at);
        known.ok_or_else(|| OperationError::ChannelNotFound { channel: name.clone() })
    }

    fn list(&self, limit: u32, after: Option<&ChannelName>, at: Index) -> Found {
        let there = self.channels.values().filter(|(index, _)| *index <= at).map(|(_, channel)| channel);
        let mut wanted = there.filter(|channel| after.is_none_or(|after| channel.name > *after)).cloned();
        let channels: Vec<Channel> = wanted.by_ref().take(limit as usize).collect();
        Found::Channels { channels, has_more: wanted.next().is_some() }
    }

    fn page(
        &self,
        channel: &ChannelName,
        page: Page,
        at: Index,
        wanted: impl Fn(&Posted) -> bool,
    ) -> Result<Found, OperationError> {
        self.known_channel(channel, at)?;
        let in_page = |posted: &&Posted| {
            posted.index <= at
                && posted.message.channel == *channel
                && page.before.is_none_or(|before| posted.message.id < before)
                && page.after.is_none_or(|after| posted.message.id > after)
                && wanted(posted)
        };
        let limit = page.limit as usize;
        let found: Vec<&Posted> = if page.ascending {
            self.messages.values().filter(in_page).take(limit + 1).collect()
        } else {
            self.messages.values().rev().filter(in_page).take(limit + 1).collect()
        };
        let messages: Vec<_> = found.iter().take(limit).map(|posted| posted.at(at)).collect();
        Ok(Found::Messages { messages: Messages::of(channel.clone(), &messages), has_more: found.len() > limit })
    }
}

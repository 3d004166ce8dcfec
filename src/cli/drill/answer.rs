//! What a wish looks like on the wire, and what its answer says.
//!
//! A post's text holds its number and what follows from it, so that a text which lost or changed one byte is nobody's.
//!
//! Not here: when it is asked again (`client.rs`), and what an answer may show (`checker`).

use super::super::bench::request::Encoder;
use super::history::{Answer, Channel, Client, Id, Page, Post, STRANGER, Shown, Wish};
use lockstep_protocol::ids::Timestamp;
use serde::Deserialize;

/// The longest filling of a text. Bytes.
const FILLING_MAX: u32 = 240;

/// The names of one drill.
#[derive(Clone, Debug)]
pub struct Names {
    /// In every text, so that nothing of another drill is taken for this one's.
    pub run: String,
}

impl Names {
    /// A channel's name.
    pub fn channel(&self, channel: Channel) -> String {
        format!("drill-{}-{channel}", self.run)
    }

    fn channel_number(&self, name: &str) -> Option<Channel> {
        let number = name.strip_prefix("drill-")?.strip_prefix(&self.run)?.strip_prefix('-')?.parse().ok()?;
        (self.channel(number) == name).then_some(number)
    }

    /// A client's user name.
    pub fn user(client: Client) -> String {
        format!("drill-{client}")
    }

    fn user_number(name: &str) -> Option<Client> {
        let number = name.strip_prefix("drill-")?.parse().ok()?;
        (Self::user(number) == name).then_some(number)
    }

    /// A post's text: of some length, and nothing that JSON would escape.
    pub fn text(&self, post: Post) -> String {
        let filling = usize::try_from(post.wrapping_mul(97) % FILLING_MAX).unwrap_or(0);
        format!("post {post} of drill {} {}", self.run, ".".repeat(filling))
    }

    fn post_number(&self, text: &str) -> Option<Post> {
        let number = text.strip_prefix("post ")?.split(' ').next()?.parse().ok()?;
        (self.text(number) == text).then_some(number)
    }
}

/// Writes the request for a wish, under this key when it is a write.
pub fn encode<'a>(names: &Names, encoder: &'a mut Encoder, host: &str, wish: &Wish, key: &str) -> &'a [u8] {
    let id = |message: &Id| Timestamp(message.0);
    match wish {
        Wish::Post { channel, post } => {
            let path = format_args!("/v1/channels/{}/messages", names.channel(*channel));
            encoder.post(host, path, key, names.text(*post).as_bytes())
        }
        Wish::Star { message, on } => {
            let method = if *on { "PUT" } else { "DELETE" };
            encoder.write(method, host, format_args!("/v1/messages/{}/star", id(message)), key)
        }
        Wish::History(Page { channel, after, ascending, limit }) => {
            let order = if *ascending { "asc" } else { "desc" };
            let after = after.as_ref().map_or_else(String::new, |after| format!("&after={}", id(after)));
            let channel = names.channel(*channel);
            encoder.get(host, format_args!("/v1/channels/{channel}/messages?limit={limit}&order={order}{after}"))
        }
        Wish::Stars { channel, of, limit } => {
            let user = of.map_or_else(String::new, |user| format!("&user={}", Names::user(user)));
            let channel = names.channel(*channel);
            encoder.get(host, format_args!("/v1/channels/{channel}/stars?limit={limit}{user}"))
        }
        Wish::Message { message } => encoder.get(host, format_args!("/v1/messages/{}", id(message))),
    }
}

#[derive(Deserialize)]
struct MessageJson {
    id: String,
    channel: String,
    user: String,
    text: String,
    starred_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum BodyJson {
    One { message: MessageJson },
    Page { messages: Vec<MessageJson> },
}

impl MessageJson {
    fn shown(&self, names: &Names) -> Option<Shown> {
        let id = Timestamp::parse(&self.id).ok()?;
        let stars = self.starred_by.iter().map(|user| Names::user_number(user).unwrap_or(STRANGER));
        Some(Shown {
            id: Id(id.0),
            post: names.post_number(&self.text),
            channel: names.channel_number(&self.channel),
            by: Names::user_number(&self.user),
            stars: stars.collect(),
        })
    }
}

/// Reads an answer's body.
pub fn decode(names: &Names, body: &[u8]) -> Answer {
    let read = match serde_json::from_slice(body) {
        Ok(BodyJson::One { message }) => message.shown(names).map(Answer::Message),
        Ok(BodyJson::Page { messages }) => {
            messages.iter().map(|message| message.shown(names)).collect::<Option<Vec<_>>>().map(Answer::Page)
        }
        Err(_) => None,
    };
    read.unwrap_or(Answer::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { run: "0a1b".to_owned() }
    }

    #[test]
    fn every_name_is_read_as_what_it_was_and_nothing_else_is() {
        let names = names();
        for number in [0, 7, 4_294_967_295] {
            assert_eq!(names.channel_number(&names.channel(number)), Some(number));
            assert_eq!(Names::user_number(&Names::user(number)), Some(number));
            assert_eq!(names.post_number(&names.text(number)), Some(number));
        }
        let changed = names.text(7).replace('7', "8");
        let longer = names.text(8) + ".";
        let other = Names { run: "ffff".to_owned() };
        for text in ["", "post", "post x", &changed[..changed.len() - 1], &longer, &other.text(7)] {
            assert_eq!(names.post_number(text), None, "{text:?}");
        }
        assert_eq!(names.channel_number(&other.channel(1)), None);
        assert_eq!((names.channel_number("drill-0a1b-01"), Names::user_number("drill-+1")), (None, None));
    }

    #[test]
    fn an_answer_is_read_or_is_none() {
        let names = names();
        let message = serde_json::json!({"id": "0000000000.000009", "channel": names.channel(2), "user": "drill-3",
            "text": names.text(5), "posted_at": "", "starred_by": ["drill-1", "ada"]});
        let shown = Shown { id: Id(9), post: Some(5), channel: Some(2), by: Some(3), stars: [1, STRANGER].into() };
        let one = serde_json::json!({ "message": message }).to_string();
        assert_eq!(decode(&names, one.as_bytes()), Answer::Message(shown.clone()));
        let page = serde_json::json!({"messages": [message], "next": null, "has_more": false}).to_string();
        assert_eq!(decode(&names, page.as_bytes()), Answer::Page(vec![shown]));
        for body in ["", "{}", "[]", r#"{"message": {"id": "1"}}"#, &one[..one.len() - 1]] {
            assert_eq!(decode(&names, body.as_bytes()), Answer::Unreadable, "{body:?}");
        }
    }

    #[test]
    fn a_wish_is_asked_for_as_the_api_has_it() {
        let (names, mut encoder) = (names(), Encoder::new("drill-1"));
        let mut line = |wish: Wish| {
            let bytes = encode(&names, &mut encoder, "h", &wish, "k").to_vec();
            String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(
            line(Wish::Star { message: Id(9), on: false }),
            "DELETE /v1/messages/0000000000.000009/star HTTP/1.1"
        );
        let page = Page { channel: 1, after: Some(Id(9)), ascending: true, limit: 5 };
        assert_eq!(
            line(Wish::History(page)),
            "GET /v1/channels/drill-0a1b-1/messages?limit=5&order=asc&after=0000000000.000009 HTTP/1.1"
        );
        assert_eq!(
            line(Wish::Stars { channel: 1, of: Some(2), limit: 5 }),
            "GET /v1/channels/drill-0a1b-1/stars?limit=5&user=drill-2 HTTP/1.1"
        );
    }
}

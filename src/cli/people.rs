//! How stored things look on a terminal. What others wrote is shown with its control characters made visible: a message
//! must not move the cursor, clear the screen or forge a line.

use serde_json::Value;

/// The text with its control characters made visible; tabs become spaces.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { ' '.to_string() } else { visible(c) }).collect()
}

fn visible(c: char) -> String {
    // Directional overrides and the like can make a line read as another one.
    let deceives = matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || deceives { c.escape_unicode().to_string() } else { c.to_string() }
}

/// A field as text, safe to show; empty when it is not there.
pub fn field(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::String(text) => safe(text),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => safe(&other.to_string()),
    }
}

/// `2023-11-14T22:13:20.000123Z` as `2023-11-14 22:13:20`.
pub fn moment(rfc_3339: &str) -> String {
    rfc_3339.chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// One message: when, who, its stars, its id, and its text with later lines moved in.
pub fn message(message: &Value) -> String {
    let stars = message["starred_by"].as_array().map_or(0, Vec::len);
    let stars = if stars == 0 { String::new() } else { format!("  *{stars}") };
    let lines = message["text"].as_str().unwrap_or_default().split('\n').map(safe);
    let text = lines.collect::<Vec<_>>().join("\n    ");
    let (at, user, id) = (moment(&field(message, "posted_at")), field(message, "user"), field(message, "id"));
    format!("{at}  {user}  [{id}]{stars}\n    {text}")
}

/// A page of messages, oldest first, as one reads a conversation.
pub fn messages(page: &Value, newest_first: bool) -> Vec<String> {
    let mut lines: Vec<_> = page["messages"].as_array().into_iter().flatten().map(message).collect();
    if newest_first {
        lines.reverse();
    }
    lines
}

/// Prints the answer: as JSON, or as these lines.
pub fn print(json: bool, answer: &Value, lines: impl IntoIterator<Item = String>) {
    if json {
        println!("{answer:#}");
        return;
    }
    for line in lines {
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(safe("a\x1b[2Jb\r\u{202E}c\td"), "a\\u{1b}[2Jb\\u{d}\\u{202e}c d");
        let forged = json!({"id": "1", "user": "ada", "text": "hi\n2023 root [2]\x07", "posted_at": "2023-11-14T22:13:20.000123Z",
            "starred_by": ["x", "y"]});
        let expected = "2023-11-14 22:13:20  ada  [1]  *2\n    hi\n    2023 root [2]\\u{7}";
        assert_eq!(message(&forged), expected);
    }

    #[test]
    fn pages_are_shown_oldest_first() {
        let page = json!({"messages": [{"id": "2", "text": "b"}, {"id": "1", "text": "a"}]});
        assert!(messages(&page, true)[0].contains("[1]"));
        assert!(messages(&page, false)[0].contains("[2]"));
    }
}

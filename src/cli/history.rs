//! `lockstep history`: shows the messages of a channel, the latest last.

use super::api::{Call, Gateways, Target, segment};
use super::{Failure, people};
use clap::Args;
use serde_json::Value;
use std::process::ExitCode;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which channel
    channel: String,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    target: Target,
}

/// Which part of a channel.
#[derive(Debug, Args)]
pub struct Page {
    /// How many messages: 1 to 1000
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Only messages before this one's id
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Only messages after this one's id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// The first messages instead of the last
    #[arg(long)]
    oldest: bool,
}

impl Page {
    /// The call, with this part of it.
    pub fn of(&self, call: Call) -> Call {
        let order = if self.oldest { "asc" } else { "desc" };
        call.with("limit", Some(self.limit))
            .with("before", self.before.as_ref())
            .with("after", self.after.as_ref())
            .with("order", Some(order))
    }

    /// Prints what came, oldest first, and how to see more.
    pub fn print(&self, json: bool, answer: &Value) {
        let mut lines = people::messages(answer, !self.oldest);
        if answer["has_more"] == Value::Bool(true) {
            let last = answer["messages"].as_array().and_then(|messages| messages.last());
            let id = last.map(|last| people::field(last, "id")).unwrap_or_default();
            let more = if self.oldest {
                format!("later ones: --oldest --after {id}")
            } else {
                format!("earlier ones: --before {id}")
            };
            let place = if self.oldest { lines.len() } else { 0 };
            lines.insert(place, format!("({more})"));
        }
        people::print(json, answer, lines);
    }
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { channel, page, target } = arguments;
    let call = page.of(Call::get(format!("/v1/channels/{}/messages", segment(&channel))));
    page.print(target.json, &Gateways::new(&target).ask(&call).await?);
    Ok(ExitCode::SUCCESS)
}

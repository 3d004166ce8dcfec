//! `lockstep post`: posts a message.

use super::api::{Call, Gateways, Target, segment};
use super::{Failure, people};
use awc::http::Method;
use clap::Args;
use serde_json::json;
use std::io::Read;
use std::process::ExitCode;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to
    channel: String,
    /// What; `-` reads it from the standard input
    text: String,
    /// The idempotency key of an earlier try, to learn what became of it
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { channel, text, key, target } = arguments;
    let text = if text == "-" { read_input()? } else { text };
    let path = format!("/v1/channels/{}/messages", segment(&channel));
    let call = Call::write(Method::POST, path, Some(json!({ "text": text })), key)?;
    let answer = Gateways::new(&target).ask(&call).await?;
    people::print(target.json, &answer, [people::message(&answer["message"])]);
    Ok(ExitCode::SUCCESS)
}

/// All of the standard input, without the line's end that a pipe adds.
fn read_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|e| Failure::new(format!("the standard input cannot be read as text: {e}")))?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

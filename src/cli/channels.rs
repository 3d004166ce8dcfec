//! `lockstep channels`: lists the channels by name, or creates one.

use super::api::{Call, Gateways, Target, segment};
use super::{Failure, people};
use awc::http::Method;
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Create this channel instead; again is no error
    #[arg(long, value_name = "NAME")]
    create: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { create, target } = arguments;
    let gateways = Gateways::new(&target);
    match create {
        Some(name) => {
            let call = Call::write(Method::PUT, format!("/v1/channels/{}", segment(&name)), None, None)?;
            let answer = gateways.ask(&call).await?;
            people::print(target.json, &answer, [line(&answer["channel"])]);
        }
        None => {
            let answer = all(&gateways).await?;
            let lines: Vec<_> = answer["channels"].as_array().into_iter().flatten().map(line).collect();
            people::print(target.json, &answer, lines);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All pages as one.
async fn all(gateways: &Gateways) -> Result<Value, Failure> {
    let (mut channels, mut cursor) = (Vec::new(), None);
    loop {
        let call = Call::get("/v1/channels".to_owned()).with("limit", Some(1_000)).with("cursor", cursor);
        let mut page = gateways.ask(&call).await?;
        if let Value::Array(more) = page["channels"].take() {
            channels.extend(more);
        }
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(json!({ "channels": channels }));
        }
    }
}

fn line(channel: &Value) -> String {
    let at = people::moment(&people::field(channel, "created_at"));
    format!("{}  (created {at} by {})", people::field(channel, "name"), people::field(channel, "created_by"))
}

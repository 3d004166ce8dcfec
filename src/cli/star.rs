//! `lockstep star`: stars a message, or takes the star back.

use super::api::{Call, Gateways, Target, segment};
use super::{Failure, people};
use awc::http::Method;
use clap::Args;
use std::process::ExitCode;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The message's id, such as 1700000000.000123
    id: String,
    /// Take the star back
    #[arg(long)]
    remove: bool,
    /// The idempotency key of an earlier try, to learn what became of it
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { id, remove, key, target } = arguments;
    let method = if remove { Method::DELETE } else { Method::PUT };
    let call = Call::write(method, format!("/v1/messages/{}/star", segment(&id)), None, key)?;
    let answer = Gateways::new(&target).ask(&call).await?;
    people::print(target.json, &answer, [people::message(&answer["message"])]);
    Ok(ExitCode::SUCCESS)
}

//! `lockstep stars`: shows the starred messages of a channel, the latest last.

use super::Failure;
use super::api::{Call, Gateways, Target, segment};
use super::history::Page;
use clap::Args;
use std::process::ExitCode;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which channel
    channel: String,
    /// Only what this user starred
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    target: Target,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { channel, by, page, target } = arguments;
    let call = page.of(Call::get(format!("/v1/channels/{}/stars", segment(&channel)))).with("user", by);
    page.print(target.json, &Gateways::new(&target).ask(&call).await?);
    Ok(ExitCode::SUCCESS)
}

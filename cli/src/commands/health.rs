//! `bosun health`: one word and an exit code, for scripts and probes.

use std::time::{Duration, Instant};

use bosun_client::{Client, ConnectOptions};

use crate::arguments::{Arguments, Health};
use crate::output;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one try may take: a probe that hangs tells nothing.
const TRY: Duration = Duration::from_secs(2);

/// Asks, again until the time is over; gives the exit code.
pub async fn health(arguments: &Arguments, json: bool, options: &Health) -> anyhow::Result<u8> {
    let begin = Instant::now();
    let patience = Duration::from_secs(u64::from(options.wait));
    loop {
        let (word, why, serves) = ask(arguments).await;
        if serves || begin.elapsed() >= patience {
            if json {
                output::json(&serde_json::json!({"status": word, "why": why}))?;
            } else {
                output::line(word);
                why.iter().for_each(output::note);
            }
            return Ok(u8::from(!serves));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The word, the reason for a bad one, and whether it serves.
async fn ask(arguments: &Arguments) -> (&'static str, Option<String>, bool) {
    let address = arguments.address.to_string_lossy();
    let options =
        ConnectOptions { connect_deadline: PAUSE, call_deadline: TRY, ..ConnectOptions::address(&address) };
    let status = async { Client::connect(options).await?.status().await };
    match tokio::time::timeout(TRY, status).await {
        Err(_) => ("not serving", Some(format!("no answer within {TRY:?}")), false),
        Ok(Err(error)) => ("not serving", Some(error.message), false),
        Ok(Ok(status)) => match (status.read_only, status.recovering) {
            (Some(why), _) => ("read-only", Some(why), false),
            (None, true) => ("recovering", None, true),
            (None, false) => ("serving", None, true),
        },
    }
}

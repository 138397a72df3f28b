//! `bosun logs`.

use bosun_types::stdio::{LogRequest, OutputStream};

use crate::arguments::Logs;
use crate::context::{self, Context};
use crate::output;

/// Prints a container's output: its stdout on ours, its stderr on ours.
pub async fn logs(context: &Context, options: &Logs) -> anyhow::Result<()> {
    let request = LogRequest {
        follow: options.follow,
        tail_lines: options.tail,
        since: options.since.as_deref().map(context::time).transpose()?,
    };
    let task = context.container(&options.container)?.task();
    let mut records = task.logs(request).await?;
    while let Some(record) = records.next().await {
        let record = record?;
        let mut bytes = Vec::new();
        if options.timestamps {
            bytes.extend_from_slice(format!("{} ", record.at).as_bytes());
        }
        bytes.extend_from_slice(&record.bytes);
        match record.stream {
            OutputStream::Stdout => output::bytes(&bytes),
            OutputStream::Stderr => output::error_bytes(&bytes),
        }
    }
    Ok(())
}

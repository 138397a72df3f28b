//! `bosun transfers`: what the daemon fetches and sends, whoever asked for it.

use bosun_types::transfer::{TransferProgress, TransferState};

use super::pull;
use crate::arguments::TransfersCommand;
use crate::context::Context;
use crate::output;

/// Does what the words say.
pub async fn transfers(context: &Context, command: TransfersCommand) -> anyhow::Result<()> {
    let transfers = context.namespace().transfers();
    match command {
        TransfersCommand::Ls => list(context, &transfers.list().await?),
        TransfersCommand::Follow { id } => {
            let transfer = transfers.get(id);
            let images = pull::follow(&transfer, context.json).await?;
            pull::show(context, &images, false)
        }
        TransfersCommand::Cancel { ids } => {
            for id in ids {
                transfers.get(id).cancel().await?;
                output::line(id.to_string());
            }
            Ok(())
        }
    }
}

fn list(context: &Context, transfers: &[TransferProgress]) -> anyhow::Result<()> {
    context.list(transfers, &["ID", "KIND", "BYTES", "SUBJECT", "STATE"], |transfer| {
        let state = match &transfer.state {
            TransferState::Running => "running".to_owned(),
            TransferState::Done(_) => "done".to_owned(),
            TransferState::Failed(error) => format!("failed: {error}"),
        };
        let sum = |of: fn(&bosun_types::transfer::PartProgress) -> u64| transfer.parts.iter().map(of).sum();
        let done = sum(|it| it.offset) + transfer.bytes;
        let bytes = format!("{} / {}", output::size(done), output::size(sum(|it| it.total)));
        vec![transfer.id.to_string(), transfer.kind.to_string(), bytes, transfer.subject.clone(), state]
    })
}

//! `bosun checkpoint`. (`bosun restore` is `bosun run --checkpoint`.)

use anyhow::Context as _;
use bosun_types::ImageName;
use bosun_types::checkpoint::{CheckpointRequest, DumpOptions};

use crate::arguments::Checkpoint;
use crate::context::Context;
use crate::output;

/// Stores a container as an image; prints its name and digest.
pub async fn checkpoint(context: &Context, options: Checkpoint) -> anyhow::Result<()> {
    let request = CheckpointRequest {
        image: options.image.map(ImageName::new).transpose()?,
        exit: options.exit,
        dump: DumpOptions {
            open_tcp: options.open_tcp,
            external_unix_sockets: options.external_unix_sockets,
            terminal: options.terminal,
            file_locks: options.file_locks,
            empty_namespaces: options.empty_ns,
            cgroups_mode: options.cgroups_mode,
        },
    };
    let name = &options.container;
    let image = context.container(name)?.task().checkpoint(request).await;
    let image = image.with_context(|| format!("container {name}"))?;
    if context.json {
        return output::json(&image);
    }
    output::line(format!("{} {}", image.name, image.target.digest));
    Ok(())
}

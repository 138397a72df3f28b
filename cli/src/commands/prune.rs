//! `bosun prune`: containers that have ended, images that nothing uses, and what only they kept.
//!
//! What goes is decided from what the daemon lists ([`plan`]); each goes by the call that `rm` and `images rm` use, and one collection at the end takes
//! the rest.

mod plan;

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use bosun_types::{ErrorClass, Timestamp};
use serde::Serialize;

use self::plan::{Known, Plan};
use super::containers;
use crate::arguments::Prune;
use crate::context::Context;
use crate::output;

/// What went, or would.
#[derive(Serialize)]
struct Report<'a> {
    containers: &'a [String],
    images: &'a [String],
    blobs: u64,
    blob_bytes: u64,
    snapshots: u64,
    snapshot_bytes: u64,
    dry_run: bool,
}

/// Shows what would go, asks, and removes it.
pub async fn prune(context: &Context, options: &Prune) -> anyhow::Result<()> {
    let plan = Plan::of(&known(context).await?, !options.images, !options.containers, Timestamp::now());
    if options.dry_run {
        return told(context, &report(&plan, true));
    }
    if !options.force && !confirmed(&plan)? {
        bail!("nothing was removed");
    }
    for name in &plan.containers {
        removed(containers::remove_ended(context, name).await.with_context(|| format!("container {name}")))?;
    }
    for name in &plan.images {
        let image = bosun_types::ImageName::new(name.as_str())?;
        removed(context.namespace().images().delete(image).await.with_context(|| format!("image {name}")))?;
    }
    let mut report = report(&plan, false);
    match context.client.collect_garbage(false).await {
        Ok(collected) => {
            (report.blobs, report.blob_bytes) = (collected.blobs, collected.blob_bytes);
            // The containers' own went with them.
            report.snapshots = plan.own_snapshots + collected.snapshots;
            report.snapshot_bytes = plan.own_bytes + collected.snapshot_bytes;
        }
        // Through a namespace's own socket: the daemon does it by itself, later.
        Err(error) if error.class == ErrorClass::PermissionDenied => {
            output::note("what they kept goes with the daemon's next collection");
        }
        Err(error) => return Err(error.into()),
    }
    told(context, &report)
}

/// Something that went meanwhile, or is in use again, is no failure of this.
fn removed(outcome: anyhow::Result<()>) -> anyhow::Result<()> {
    let Err(error) = outcome else { return Ok(()) };
    let class = error.downcast_ref::<bosun_types::Error>().map(|error| error.class);
    match class {
        Some(ErrorClass::NotFound) => Ok(()),
        Some(ErrorClass::FailedPrecondition) => {
            output::note(format!("kept: {error:#}"));
            Ok(())
        }
        _ => Err(error),
    }
}

async fn known(context: &Context) -> anyhow::Result<Known> {
    let namespace = context.namespace();
    let (containers, content, images) = (namespace.containers(), namespace.content(), namespace.images());
    let (containers, tasks, policies, images, blobs) = tokio::try_join!(
        containers.list(),
        namespace.tasks(),
        namespace.relaunches(),
        images.list(),
        content.list()
    )?;
    let mut snapshotters: Vec<&str> =
        containers.iter().filter_map(|container| container.snapshotter.as_deref()).collect();
    snapshotters.push(bosun_types::snapshot::SNAPSHOTTER_DEFAULT);
    snapshotters.sort_unstable();
    snapshotters.dedup();
    let mut snapshots = Vec::new();
    for snapshotter in snapshotters {
        let all = namespace.snapshots(snapshotter);
        for mut snapshot in all.list().await? {
            if snapshot.usage.is_none() {
                // One that is written to is measured now; one that went meanwhile has nothing.
                snapshot.usage = all.usage(snapshot.key.clone()).await.ok();
            }
            snapshots.push(snapshot);
        }
    }
    Ok(Known { containers, tasks, policies, images, blobs, snapshots })
}

fn report(plan: &Plan, dry_run: bool) -> Report<'_> {
    Report {
        containers: &plan.containers,
        images: &plan.images,
        blobs: plan.blobs,
        blob_bytes: plan.blob_bytes,
        snapshots: plan.snapshots,
        snapshot_bytes: plan.snapshot_bytes,
        dry_run,
    }
}

fn told(context: &Context, report: &Report<'_>) -> anyhow::Result<()> {
    if context.json {
        return output::json(report);
    }
    for (what, names) in [("container", report.containers), ("image", report.images)] {
        names.iter().for_each(|name| output::line(format!("{what} {name}")));
    }
    let verb = if report.dry_run { "would remove" } else { "removed" };
    output::line(format!(
        "{verb} {} containers, {} images, {} blobs ({}), {} snapshots ({})",
        report.containers.len(),
        report.images.len(),
        report.blobs,
        output::size(report.blob_bytes),
        report.snapshots,
        output::size(report.snapshot_bytes),
    ));
    Ok(())
}

fn confirmed(plan: &Plan) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody is here to ask: give --force, or --dry-run to look first");
    }
    let bytes = output::size(plan.blob_bytes + plan.snapshot_bytes);
    let (containers, images) = (plan.containers.len(), plan.images.len());
    output::error_bytes(
        format!("Remove {containers} containers and {images} images ({bytes})? [y/N] ").as_bytes(),
    );
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

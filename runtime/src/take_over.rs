//! What the daemon does for a container that shall go on though its shim died: it ends what is left of that shim, and starts another one that takes the
//! container over. Every step may be repeated, and the whole from any point; crash points lie between them.
//!
//! Only by proof: init is named by pid and start time, and a shim that does not find that very process does not begin.

use std::time::Duration;

use bosun_faults::point;
use bosun_types::shim::Adoption;
use bosun_types::task::ProcessIdentity;
use bosun_types::{ContainerId, NamespaceName};

use crate::clean_up::{ended, kill_shim};
use crate::error::Result;
use crate::shim::ShimLauncher;
use crate::task_directory::TaskDirectory;

/// How long the new shim may take until it listens.
const SHIM_START: Duration = Duration::from_secs(10);

/// See the module. Gives the new shim; it listens, and has the container.
pub async fn take_over(
    launcher: &ShimLauncher,
    directory: &TaskDirectory,
    owner: (&NamespaceName, &ContainerId),
    shim: Option<ProcessIdentity>,
    adoption: &Adoption,
) -> Result<ProcessIdentity> {
    point("take_over.end_rest.before")?;
    // A damaged beacon is no reason to stop: its shim is found by its command line too.
    let beacon = directory.beacon().ok().flatten().map(|it| it.shim);
    let of_container = adoption.execs.iter().filter_map(|it| it.identity).chain([adoption.init]);
    let spared: Vec<ProcessIdentity> = of_container.collect();
    for descriptor in kill_shim(directory, shim.into_iter().chain(beacon), &spared).await? {
        ended(&descriptor, "the dead shim's rest").await?;
    }
    point("take_over.end_rest.after")?;
    directory.write_adoption(adoption)?;
    point("take_over.write_adoption.after")?;
    let shim = launcher.spawn_to_adopt(directory, owner.0, owner.1, SHIM_START).await?;
    point("take_over.spawn_shim.after")?;
    Ok(shim)
}

//! `bosund probe`: what the runtime can do on this host, and the btrfs snapshotter, tried with directories that go again.

use std::path::Path;

use bosun_storage::snapshotter::{Btrfs, Snapshotter as _};
use bosun_types::snapshot::SnapshotKind;

/// Names, and why what is called so did not work.
pub fn all(directory: &Path) -> Vec<(String, Option<String>)> {
    let mut outcomes: Vec<_> =
        bosun_runtime::probe::all(directory).into_iter().map(|it| (it.name, it.failure)).collect();
    outcomes.push(("btrfs".to_owned(), btrfs(directory).err().map(|error| error.message)));
    outcomes
}

/// A subvolume is made and removed, where the snapshotter's are.
fn btrfs(directory: &Path) -> Result<(), bosun_types::Error> {
    let own = directory.join("snapshots/btrfs");
    let place = if own.is_dir() { own } else { directory.to_owned() };
    let scratch = place.join(format!(".bosun-probe-btrfs-{}", std::process::id()));
    let made = Btrfs::open(&scratch).map_err(bosun_types::Error::from).and_then(|btrfs| {
        let made = btrfs.ensure_directory(1, &[], SnapshotKind::Active);
        Ok(made.and(btrfs.ensure_no_directory(1))?)
    });
    if scratch.exists()
        && let Err(error) = std::fs::remove_dir_all(&scratch)
    {
        tracing::warn!(path = %scratch.display(), %error, "a directory of a probe stays");
    }
    made
}

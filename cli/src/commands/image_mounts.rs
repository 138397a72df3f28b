//! `bosun images mount` and `unmount`: an image's files on a directory of this host. The snapshot is the daemon's, the mount is made here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use bosun_types::gc::LABEL_ROOT;
use bosun_types::{ErrorClass, ImageName, Labels, SnapshotKey};

use super::snapshots::looks;
use crate::arguments::{MountImage, UnmountImage};
use crate::context::Context;
use crate::output;

/// Makes a snapshot of the image that is called like the directory, and mounts it there.
pub async fn mount(context: &Context, options: &MountImage) -> anyhow::Result<()> {
    let target = directory(&options.target)?;
    let (namespace, snapshotter) = (context.namespace(), &options.snapshotter);
    let image = namespace.image(ImageName::new(options.image.as_str())?);
    image.unpack(snapshotter).await?;
    // An image without layers has no snapshot to stand on.
    let chain = image.inspect(None, snapshotter).await?.chain_id;
    let parent = chain.map(|chain| SnapshotKey::new(chain.to_string())).transpose()?;
    let key = SnapshotKey::new(target.as_str())?;
    let snapshots = namespace.snapshots(snapshotter);
    // Nothing else keeps it.
    let kept = Labels::from([(LABEL_ROOT.to_owned(), "images mount".to_owned())]);
    let made = match options.rw {
        true => snapshots.prepare(key.clone(), parent, kept).await,
        false => snapshots.view(key.clone(), parent, kept).await,
    };
    let mounts = match made {
        Err(error) if error.class == ErrorClass::AlreadyExists => {
            let hint = format!("`bosun images unmount --rm {target}` removes it");
            return Err(error.with_hint(hint).into());
        }
        made => made?,
    };
    let script: Vec<String> = mounts.iter().flat_map(|mount| looks::commands(mount, &target)).collect();
    let mounted = shell(&script.join("\n")).with_context(|| format!("cannot mount on {target}"));
    if let Err(error) = mounted {
        // The failure to mount is the one to tell.
        let _ = snapshots.remove(key).await;
        return Err(error);
    }
    if context.json {
        return output::json(&serde_json::json!({"target": target, "mounts": mounts}));
    }
    output::line(&target);
    Ok(())
}

/// Takes the mount away, and with `--rm` the snapshot.
pub async fn unmount(context: &Context, options: &UnmountImage) -> anyhow::Result<()> {
    let target = directory(&options.target)?;
    match nix::mount::umount2(target.as_str(), nix::mount::MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => {}
        // After a reboot there is nothing to unmount, but still a snapshot.
        Err(nix::errno::Errno::EINVAL) if options.rm => {}
        Err(nix::errno::Errno::EINVAL) => bail!("nothing is mounted on {target}"),
        Err(error) => return Err(error).with_context(|| format!("cannot unmount {target}")),
    }
    if options.rm {
        let snapshots = context.namespace().snapshots(&options.snapshotter);
        snapshots.remove(SnapshotKey::new(target.as_str())?).await?;
    }
    output::line(target);
    Ok(())
}

/// Its whole path, without links: the name of the snapshot.
fn directory(path: &Path) -> anyhow::Result<String> {
    let whole = path.canonicalize().with_context(|| format!("directory {}", path.display()))?;
    if !whole.is_dir() {
        bail!("{} is not a directory", path.display());
    }
    Ok(whole.to_str().context("the directory's path is not UTF-8")?.to_owned())
}

fn shell(script: &str) -> anyhow::Result<()> {
    let output = Command::new("sh").args(["-ec", script]).output().context("cannot start sh")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

//! The container's root file system, mounted in the shim's own mount namespace only (MNT-1, MNT-2); with maps of users
//! among a mount's options its files are shown through them.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use bosun_types::Error;
use bosun_types::mount::Mount;
use bosun_types::shim::file;
use bosun_types::user_namespace::{IdMaps, is_map_word};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Context as _, Result};
use crate::idmap::{self, Layers, Users};

/// mount(2) copies one page of options; more than this is shortened by relative layer paths.
const OPTIONS_BYTES_MAX: usize = 4000;
/// Most mounts stacked on the root that unmounting takes off.
const STACK_MAX: usize = 64;

/// fstab words that are flags: word, flag, whether the word sets it (else it clears it).
const FLAG_WORDS: &[(&str, MsFlags, bool)] = &[
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("atime", MsFlags::MS_NOATIME, false),
    ("bind", MsFlags::MS_BIND, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("nodev", MsFlags::MS_NODEV, true),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("remount", MsFlags::MS_REMOUNT, true),
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
];

/// Performs the mounts in order onto `rootfs` of the working directory (TSK-6). For workers: it may change the
/// working directory for a moment.
pub fn mount_all(mounts: &[Mount]) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    let root = std::env::current_dir().context(|| "working directory".into())?.join(file::ROOTFS);
    std::fs::create_dir_all(&root).context(|| format!("make {}", root.display()))?;
    for it in mounts {
        mount_one(it, &root)?;
    }
    Ok(())
}

/// Takes everything off `rootfs`; nothing mounted is success.
pub fn unmount_all() -> Result<()> {
    for _ in 0..STACK_MAX {
        match umount2(file::ROOTFS, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, or not even there.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error).context(|| format!("unmount {}", file::ROOTFS)),
        }
    }
    Err(Error::internal(format!("more than {STACK_MAX} mounts on {}", file::ROOTFS)).into())
}

fn mount_one(it: &Mount, root: &Path) -> Result<()> {
    let (flags, recursive, data) = split_options(&it.options);
    // The target is opened inside the root, so a link in an image cannot lead a mount outside.
    let opened = open_inside(root, &it.target)?;
    let target = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let context = || format!("mount {} {} on /{}", it.kind, it.source, it.target);
    let users = IdMaps::from_mount_words(&it.options)?.map(|maps| Users::new(&maps)).transpose()?;
    if flags.contains(MsFlags::MS_BIND) || it.kind == "bind" {
        let recursion = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
        match &users {
            // One mount only: what is mounted below may be of a kind that takes no maps.
            Some(users) => users
                .shown(Path::new(&it.source))
                .and_then(|shown| idmap::attach(&shown, &target))
                .context(context)?,
            None => mount(
                Some(it.source.as_str()),
                &target,
                None::<&str>,
                MsFlags::MS_BIND | recursion,
                None::<&str>,
            )
            .context(context)?,
        }
        let rest = flags - MsFlags::MS_BIND;
        if !rest.is_empty() {
            // A bind takes its flags only by a second call; the target must be opened anew, on top of it.
            let opened = open_inside(root, &it.target)?;
            let target = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | rest;
            mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).context(context)?;
        }
        return Ok(());
    }
    match &users {
        Some(users) if it.kind == "overlay" => return Layers::mount(users, &data, flags, &target),
        Some(_) => {
            let message = format!("a mount of type {:?} cannot be shown through maps", it.kind);
            return Err(Error::not_implemented(message).into());
        }
        None => {}
    }
    let data = data.join(",");
    if data.len() <= OPTIONS_BYTES_MAX {
        return mount(Some(it.source.as_str()), &target, Some(it.kind.as_str()), flags, Some(data.as_str()))
            .context(context);
    }
    mount_shortened(it, &target, flags, &data).context(context)
}

/// Mounts an overlay with so many layers that the options fill a page: with the layers' common directory as the
/// working directory, they get short relative names.
fn mount_shortened(it: &Mount, target: &Path, flags: MsFlags, data: &str) -> nix::Result<()> {
    let back = File::open(".").map_err(|_| Errno::ENOENT)?;
    // More would be cut off without a word.
    let short = shorten_layers(data).filter(|(_, data)| data.len() <= OPTIONS_BYTES_MAX);
    let (base, data) = short.ok_or(Errno::E2BIG)?;
    nix::unistd::chdir(&base)?;
    let mounted = mount(Some(it.source.as_str()), target, Some(it.kind.as_str()), flags, Some(data.as_str()));
    nix::unistd::fchdir(back.as_fd())?;
    mounted
}

/// The longest directory that all lower layers share, and the options with layers relative to it.
fn shorten_layers(data: &str) -> Option<(PathBuf, String)> {
    const LOWER: &str = "lowerdir=";
    let layers: Vec<&str> = data.split(',').find_map(|word| word.strip_prefix(LOWER))?.split(':').collect();
    let mut base = Path::new(layers.first()?).parent()?.to_path_buf();
    while !layers.iter().all(|layer| Path::new(layer).starts_with(&base)) {
        base = base.parent()?.to_path_buf();
    }
    let short: Option<Vec<&str>> =
        layers.iter().map(|layer| Path::new(layer).strip_prefix(&base).ok()?.to_str()).collect();
    let lower = format!("{LOWER}{}", short?.join(":"));
    let words: Vec<&str> =
        data.split(',').map(|word| if word.starts_with(LOWER) { lower.as_str() } else { word }).collect();
    Some((base, words.join(",")))
}

/// Opens `target` below `root`, resolving links inside it only.
fn open_inside(root: &Path, target: &str) -> Result<std::os::fd::OwnedFd> {
    let root_fd = File::open(root).context(|| format!("open {}", root.display()))?;
    let relative = if target.trim_matches('/').is_empty() { "." } else { target };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(&root_fd, relative, how)
        .context(|| format!("open mount point {target:?} in the root file system"))
}

/// Flags, whether binds are recursive, and the words that are data.
fn split_options(options: &[String]) -> (MsFlags, bool, Vec<&str>) {
    let (mut flags, mut recursive, mut data) = (MsFlags::empty(), false, Vec::new());
    for option in options {
        match FLAG_WORDS.iter().find(|(word, ..)| word == option) {
            Some((_, flag, set)) => flags.set(*flag, *set),
            None if option == "rbind" => {
                flags |= MsFlags::MS_BIND;
                recursive = true;
            }
            None if option == "defaults" || is_map_word(option) => {}
            None => data.push(option.as_str()),
        }
    }
    (flags, recursive, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn mnt_2_what_is_no_flag_word_is_data() {
        let options = words(&["rbind", "ro", "nosuid", "suid", "lowerdir=/a:/b"]);
        let (flags, recursive, data) = split_options(&options);
        assert_eq!(flags, MsFlags::MS_BIND | MsFlags::MS_RDONLY);
        assert!(recursive);
        assert_eq!(data, ["lowerdir=/a:/b"]);
    }

    #[test]
    fn many_layers_become_relative_to_their_common_directory() {
        let (base, data) =
            shorten_layers("index=off,lowerdir=/v/s/12/fs:/v/s/3/fs,upperdir=/v/s/9/fs").unwrap();
        assert_eq!(base, Path::new("/v/s"));
        assert_eq!(data, "index=off,lowerdir=12/fs:3/fs,upperdir=/v/s/9/fs");
    }
}

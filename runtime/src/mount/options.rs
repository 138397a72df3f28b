//! fstab words to flags and data (MNT-2). Maps of users are left out: the daemon looks at files as they are on disk.

use bosun_types::user_namespace::is_map_word;
use nix::mount::MsFlags;

/// Words that are flags: word, flag, whether the word sets it (else it clears it).
const FLAG_WORDS: &[(&str, MsFlags, bool)] = &[
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("atime", MsFlags::MS_NOATIME, false),
    ("bind", MsFlags::MS_BIND, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("mand", MsFlags::MS_MANDLOCK, true),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("nodev", MsFlags::MS_NODEV, true),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("nomand", MsFlags::MS_MANDLOCK, false),
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

/// Words that say how mounts propagate; a call of their own (MNT-3).
const PROPAGATION_WORDS: &[(&str, MsFlags, bool)] = &[
    ("private", MsFlags::MS_PRIVATE, false),
    ("rprivate", MsFlags::MS_PRIVATE, true),
    ("rshared", MsFlags::MS_SHARED, true),
    ("rslave", MsFlags::MS_SLAVE, true),
    ("runbindable", MsFlags::MS_UNBINDABLE, true),
    ("shared", MsFlags::MS_SHARED, false),
    ("slave", MsFlags::MS_SLAVE, false),
    ("unbindable", MsFlags::MS_UNBINDABLE, false),
];

/// Options, told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions<'a> {
    /// Flags of the first call.
    pub flags: MsFlags,
    /// `rbind`.
    pub recursive: bool,
    /// Flags of the propagation call.
    pub propagation: Option<MsFlags>,
    /// Everything else, for the file system itself.
    pub data: Vec<&'a str>,
}

/// See the module.
pub fn parse(options: &[String]) -> MountOptions<'_> {
    let mut parsed =
        MountOptions { flags: MsFlags::empty(), recursive: false, propagation: None, data: Vec::new() };
    for option in options {
        if let Some((_, flag, set)) = FLAG_WORDS.iter().find(|(word, ..)| word == option) {
            parsed.flags.set(*flag, *set);
        } else if let Some((_, flag, all)) = PROPAGATION_WORDS.iter().find(|(word, ..)| word == option) {
            parsed.propagation = Some(if *all { *flag | MsFlags::MS_REC } else { *flag });
        } else if option == "rbind" {
            parsed.flags |= MsFlags::MS_BIND;
            parsed.recursive = true;
        } else if option != "defaults" && !is_map_word(option) {
            parsed.data.push(option);
        }
    }
    parsed
}

//! What a name's two sides mean for the layer. Pure.

use std::cmp::Ordering;
use std::ffi::CString;

/// On which sides a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Lower,
    Upper,
    Both,
}

/// The names of both directories, each once, in order of their bytes.
pub(super) fn merge(mut lower: Vec<CString>, mut upper: Vec<CString>) -> Vec<(CString, Side)> {
    lower.sort_unstable();
    upper.sort_unstable();
    let mut merged = Vec::with_capacity(lower.len().max(upper.len()));
    let (mut lower, mut upper) = (lower.into_iter().peekable(), upper.into_iter().peekable());
    loop {
        let order = match (lower.peek(), upper.peek()) {
            (None, None) => return merged,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.cmp(other),
        };
        let (name, side) = match order {
            Ordering::Less => (lower.next(), Side::Lower),
            Ordering::Greater => (upper.next(), Side::Upper),
            Ordering::Equal => {
                lower.next();
                (upper.next(), Side::Both)
            }
        };
        merged.extend(name.map(|name| (name, side)));
    }
}

/// What is compared of a file beside its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Type and permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, i64),
    /// Length of a regular file's contents in bytes; 0 for everything else.
    pub(crate) size: u64,
    /// Number of a device; 0 for everything else.
    pub(crate) device: u64,
    /// Number of names; 1 for directories. A file that got or lost a name is written again, so that the names that stay
    /// and those that came are one file.
    pub(crate) names: u64,
    /// A symbolic link's text.
    pub(crate) link: Vec<u8>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Facts {
    fn is(&self, kind: u32) -> bool {
        self.mode & libc::S_IFMT == kind
    }
}

/// What becomes of a name that is on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing, unless a further name of it changed.
    Same,
    /// Nothing if the contents are equal.
    SameIfContentsAre,
    /// Written.
    Changed,
    /// A directory on both sides: its own entry is written now (`true`) or when something in it is.
    Descend(bool),
}

/// Judges a name on both sides. `is_same_inode`: both are one and the same file.
pub(super) fn judge(lower: &Facts, upper: &Facts, is_same_inode: bool) -> Verdict {
    let both_are = |kind| lower.is(kind) && upper.is(kind);
    if both_are(libc::S_IFDIR) {
        Verdict::Descend(lower != upper)
    } else if lower != upper {
        Verdict::Changed
    } else if !is_same_inode && both_are(libc::S_IFREG) && upper.size > 0 {
        Verdict::SameIfContentsAre
    } else {
        Verdict::Same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<CString> {
        names.iter().map(|name| CString::new(*name).unwrap()).collect()
    }

    #[test]
    fn names_are_merged_in_order_and_each_comes_once() {
        let merged = merge(names(&["c", "a", "x"]), names(&["b", "a", "d"]));
        let text: Vec<(&str, Side)> =
            merged.iter().map(|(name, side)| (name.to_str().unwrap(), *side)).collect();
        let expected = [
            ("a", Side::Both),
            ("b", Side::Upper),
            ("c", Side::Lower),
            ("d", Side::Upper),
            ("x", Side::Lower),
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn a_name_on_both_sides_is_judged_by_everything_it_has() {
        let file = Facts {
            mode: libc::S_IFREG | 0o644,
            uid: 0,
            gid: 0,
            mtime: (1, 0),
            size: 3,
            device: 0,
            names: 1,
            link: Vec::new(),
            xattrs: Vec::new(),
        };
        let empty = Facts { size: 0, ..file.clone() };
        let directory = Facts { mode: libc::S_IFDIR | 0o755, size: 0, ..file.clone() };
        let link = Facts { mode: libc::S_IFLNK | 0o777, link: b"x".to_vec(), size: 0, ..file.clone() };
        let changed = |change: fn(&mut Facts)| {
            let mut facts = file.clone();
            change(&mut facts);
            facts
        };
        let table = [
            (file.clone(), file.clone(), false, Verdict::SameIfContentsAre),
            (file.clone(), file.clone(), true, Verdict::Same),
            (empty.clone(), empty.clone(), false, Verdict::Same),
            (link.clone(), link.clone(), false, Verdict::Same),
            (link.clone(), Facts { link: b"y".to_vec(), ..link.clone() }, false, Verdict::Changed),
            (file.clone(), changed(|facts| facts.uid = 1), true, Verdict::Changed),
            (file.clone(), changed(|facts| facts.gid = 1), false, Verdict::Changed),
            (file.clone(), changed(|facts| facts.mode |= 0o4000), false, Verdict::Changed),
            (file.clone(), changed(|facts| facts.mtime = (1, 1)), false, Verdict::Changed),
            (file.clone(), changed(|facts| facts.size = 4), false, Verdict::Changed),
            (file.clone(), changed(|facts| facts.names = 2), true, Verdict::Changed),
            (file.clone(), changed(|facts| facts.xattrs.push((vec![1], vec![]))), false, Verdict::Changed),
            (file.clone(), directory.clone(), false, Verdict::Changed),
            (directory.clone(), file.clone(), false, Verdict::Changed),
            (directory.clone(), directory.clone(), false, Verdict::Descend(false)),
            (directory.clone(), Facts { mtime: (2, 0), ..directory.clone() }, false, Verdict::Descend(true)),
        ];
        for (lower, upper, same_inode, expected) in table {
            assert_eq!(judge(&lower, &upper, same_inode), expected, "{lower:?} {upper:?}");
        }
    }
}

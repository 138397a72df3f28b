//! A random tree, a random change, our layer of it; and whoever unpacks that layer
//! (we, in every way we have; GNU tar; libarchive's bsdtar where it is installed) has the changed tree. `BOSUN_SEED` runs
//! one seed again.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;

use super::forest::{Random, assert_as_sparse, change, grow, picture};
use super::*;

/// Trees of an ordinary run.
const SEEDS: u64 = 8;

fn for_each_seed(test: impl Fn(&mut Random)) {
    let seeds = match std::env::var("BOSUN_SEED") {
        Ok(seed) => vec![seed.parse().expect("BOSUN_SEED is a number")],
        Err(_) => (1..=SEEDS).collect(),
    };
    for seed in seeds {
        println!("BOSUN_SEED={seed}");
        test(&mut Random::new(seed));
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn copy_of(tree: &Path) -> TempDir {
    let copy = directory();
    let status = Command::new("cp").arg("-aT").arg(tree).arg(copy.path()).status().unwrap();
    assert!(status.success());
    copy
}

fn assert_same(what: &str, got: &Path, expected: &BTreeMap<PathBuf, String>) {
    let got = picture(got);
    for (path, text) in expected {
        assert_eq!(got.get(path), Some(text), "{what}: {path:?}");
    }
    let extra: Vec<&PathBuf> = got.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(extra.is_empty(), "{what}: {extra:?} should not be there");
}

fn apply(layer: &[u8], target: &Path, whiteouts: Whiteouts) {
    let options = UnpackOptions { whiteouts, ..UnpackOptions::default() };
    unpack(layer, target, &options).unwrap();
}

/// What whiteouts mean, written a second time, for tools that do not know them: before the rest of the layer is unpacked,
/// what it removes goes, and what it replaces by another kind of file.
fn whiteout_pass(layer: &[u8], target: &Path) {
    let mut archive = tar::Archive::new(layer);
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let path = target.join(std::ffi::OsStr::from_bytes(&entry.path_bytes()));
        let name = path.file_name().unwrap().as_bytes().to_vec();
        if name == b".wh..wh..opq" {
            for child in fs::read_dir(path.parent().unwrap()).into_iter().flatten() {
                remove(&child.unwrap().path());
            }
        } else if let Some(removed) = name.strip_prefix(b".wh.") {
            remove(&path.with_file_name(std::ffi::OsStr::from_bytes(removed)));
        } else if let Ok(there) = fs::symlink_metadata(&path) {
            if there.is_dir() != entry.header().entry_type().is_dir() {
                remove(&path);
            } else if there.is_dir() {
                // Neither tool takes away what a directory has and the archive does not say.
                let fd = nix::fcntl::open(&path, nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty())
                    .unwrap();
                for (name, _) in crate::archive::xattr::all(std::os::fd::AsFd::as_fd(&fd)).unwrap() {
                    let name = name.to_str().unwrap();
                    let status = Command::new("setfattr").args(["-x", name]).arg(&path).status().unwrap();
                    assert!(status.success());
                }
            }
        }
    }
}

fn remove(path: &Path) {
    let status = Command::new("rm").arg("-rf").arg(path).status().unwrap();
    assert!(status.success());
}

/// Unpacks with a tool of others; false where it is not installed.
fn by_peer(command: &str, layer: &[u8], target: &Path) -> bool {
    whiteout_pass(layer, target);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), layer).unwrap();
    let script =
        format!("command -v {} > /dev/null || exit 77; {command}", command.split(' ').next().unwrap());
    let output = Command::new("sh")
        .args(["-ec", &script, "sh"])
        .arg(file.path())
        .arg(target)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let missing = output.status.code() == Some(77);
    assert!(missing || output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    !missing
}

/// The whole tree as GNU tar packs it with its maps of holes, unpacked by us.
fn apply_by_tar_of_sparse_files(tree: &Path, target: &Path) {
    let output = Command::new("tar")
        .args(["--create", "--sparse", "--format=posix", "--numeric-owner", "--xattrs", "--xattrs-include=*"])
        .args(["--file", "-", "--directory"])
        .arg(tree)
        .arg(".")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    apply(&output.stdout, target, Whiteouts::Remove);
}

const GNU_TAR: &str = "tar --extract --numeric-owner --same-owner --preserve-permissions --xattrs --xattrs-include='*' \
     --warning=no-timestamp --exclude='.wh.*' --file \"$1\" --directory \"$2\"";
const BSDTAR: &str =
    "bsdtar -x -p --numeric-owner --same-owner --xattrs --exclude '.wh.*' -f \"$1\" -C \"$2\"";

#[test]
fn two_trees_a_layer_and_whoever_unpacks_it() {
    for_each_seed(|random| {
        let lower = directory();
        grow(lower.path(), random, 40);
        let upper = copy_of(lower.path());
        change(upper.path(), random, 25);
        let expected = picture(upper.path());
        let (layer, _) = layer_of(Source::trees(Some(lower.path()), upper.path()).unwrap());
        let ours = copy_of(lower.path());
        apply(&layer, ours.path(), Whiteouts::Remove);
        assert_same("ours, on a copy", ours.path(), &expected);
        assert_as_sparse("ours, on a copy", ours.path(), upper.path());
        // What is left to say after that is nothing.
        let (again, compared) = layer_of(Source::trees(Some(upper.path()), ours.path()).unwrap());
        assert_eq!(compared.report.entries, 0, "{:?}", names(&again));
        let gnu = copy_of(lower.path());
        assert!(by_peer(GNU_TAR, &layer, gnu.path()), "GNU tar is installed");
        assert_same("GNU tar", gnu.path(), &expected);
        let (whole, _) = layer_of(Source::trees(None, upper.path()).unwrap());
        let bsd = directory();
        let sparsely = directory();
        apply_by_tar_of_sparse_files(upper.path(), sparsely.path());
        let (got, is_file) = (picture(sparsely.path()), |text: &String| text.starts_with("100"));
        for (path, text) in expected.iter().filter(|(_, text)| is_file(text)) {
            // GNU tar packs no links to devices.
            assert_eq!(got.get(path), Some(text), "GNU tar's sparse files, unpacked by us: {path:?}");
        }
        assert_as_sparse("GNU tar's sparse files, unpacked by us", sparsely.path(), upper.path());
        if by_peer(BSDTAR, &whole, bsd.path()) {
            // Into directories that are there it unpacks with their times wrong, so only whole trees.
            assert_same("bsdtar", bsd.path(), &expected);
        }
    });
}

#[test]
fn a_stack_of_layers_unpacked_one_after_the_other_and_all_at_once() {
    for_each_seed(|random| {
        // What containers do: an overlay over the one before, changed through its mount.
        let base = Overlay::new("index=off,redirect_dir=off,metacopy=off", |lower| grow(lower, random, 30));
        change(&base.at("merged"), random, 15);
        let expected_first = picture(&base.at("merged"));
        let snapshot = copy_of(&base.at("merged"));
        let top = Overlay::new("index=off,redirect_dir=off,metacopy=off", |lower| {
            let status = Command::new("cp").arg("-aT").arg(snapshot.path()).arg(lower).status().unwrap();
            assert!(status.success());
        });
        change(&top.at("merged"), random, 15);
        let expected = picture(&top.at("merged"));

        let layers = [
            layer_of(Source::trees(None, &base.at("lower")).unwrap()).0,
            layer_of(Source::overlay(&base.at("upper")).unwrap()).0,
            layer_of(Source::overlay(&top.at("upper")).unwrap()).0,
        ];
        let by_trees = layer_of(Source::trees(Some(&top.at("lower")), &top.at("merged")).unwrap()).0;

        let sequential = directory();
        apply(&layers[0], sequential.path(), Whiteouts::Remove);
        apply(&layers[1], sequential.path(), Whiteouts::Remove);
        assert_same("sequential, two layers", sequential.path(), &expected_first);
        let other = copy_of(sequential.path());
        apply(&layers[2], sequential.path(), Whiteouts::Remove);
        assert_same("sequential, three layers", sequential.path(), &expected);
        apply(&by_trees, other.path(), Whiteouts::Remove);
        assert_same("sequential, the last by trees", other.path(), &expected);

        let parallel: Vec<TempDir> = layers.iter().map(|_| directory()).collect();
        std::thread::scope(|scope| {
            for (layer, target) in layers.iter().zip(&parallel) {
                scope.spawn(|| apply(layer, target.path(), Whiteouts::Overlay));
            }
        });
        let mounted = directory();
        let lower: Vec<String> =
            parallel.iter().rev().map(|layer| layer.path().display().to_string()).collect();
        let data = format!("index=off,lowerdir={}", lower.join(":"));
        mount(Some("overlay"), mounted.path(), Some("overlay"), MsFlags::empty(), Some(data.as_str()))
            .unwrap();
        let got = std::panic::catch_unwind(|| assert_same("parallel", mounted.path(), &expected));
        umount2(mounted.path(), MntFlags::MNT_DETACH).unwrap();
        if let Err(panic) = got {
            std::panic::resume_unwind(panic);
        }
    });
}

//! Debian packages that a fresh machine lacks. Root: installed through apt-get. Others: told which to install.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::run;

/// A package and a file that proves it is there.
pub struct Package {
    name: &'static str,
    proof: &'static [&'static str],
}

/// To build: libcontainer's seccomp support links libseccomp.
pub const BUILD: &[Package] = &[
    Package { name: "libseccomp-dev", proof: &["/usr/include/seccomp.h", "/usr/local/include/seccomp.h"] },
    Package { name: "pkg-config", proof: &["/usr/bin/pkg-config"] },
    Package { name: "gcc", proof: &["/usr/bin/gcc", "/usr/bin/cc"] },
];

/// For the demo and the tests: a real registry, a static busybox for images, other OCI runtimes, and judges that know
/// nothing of ours: of extended attributes, of archives, of exported images.
pub const TEST: &[Package] = &[
    Package { name: "docker-registry", proof: &["/usr/bin/docker-registry"] },
    Package { name: "busybox-static", proof: &["/bin/busybox", "/usr/bin/busybox"] },
    Package { name: "runc", proof: &["/usr/sbin/runc", "/usr/bin/runc"] },
    Package { name: "crun", proof: &["/usr/bin/crun"] },
    // The client of another language.
    Package { name: "python3", proof: &["/usr/bin/python3", "/usr/local/bin/python3"] },
    Package { name: "python3-pip", proof: &["/usr/bin/pip3", "/usr/lib/python3/dist-packages/pip"] },
    Package { name: "attr", proof: &["/usr/bin/getfattr"] },
    // Certificates and signed tokens of registries that are guarded.
    Package { name: "openssl", proof: &["/usr/bin/openssl"] },
    Package { name: "libarchive-tools", proof: &["/usr/bin/bsdtar"] },
    Package { name: "skopeo", proof: &["/usr/bin/skopeo"] },
    Package { name: "btrfs-progs", proof: &["/usr/bin/mkfs.btrfs", "/usr/sbin/mkfs.btrfs"] },
];

/// For the bench: the peers.
pub const BENCH: &[Package] = &[Package { name: "containerd", proof: &["/usr/bin/containerd"] }];

/// For renewing the schema's code generator requests.
pub const CODEGEN: &[Package] = &[
    Package { name: "capnproto", proof: &["/usr/bin/capnp"] },
    // Holds stream.capnp, without which a schema with `-> stream` is refused.
    Package { name: "libcapnp-dev", proof: &["/usr/include/capnp/stream.capnp"] },
];

/// Installs what is missing, or says what to install.
pub fn ensure(sets: &[&[Package]]) -> anyhow::Result<()> {
    let missing: Vec<&str> = sets
        .iter()
        .flat_map(|set| set.iter())
        .filter(|package| !package.proof.iter().any(|file| Path::new(file).exists()))
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let apt = Path::new("/usr/bin/apt-get").exists();
    if !is_root() || !apt {
        bail!("missing packages: {list}\nInstall them first, for example: sudo apt-get install {list}");
    }
    run::say(&format!("installing {list}"));
    // The package lists of a fresh machine may be old or absent; a failure shows in the install that follows.
    let quiet = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "Dpkg::Use-Pty=0"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
        command
    };
    let _ = quiet(&["update"]).status();
    run::check(quiet(&["install", "-y", "--no-install-recommends"]).args(&missing))
}

/// Whether we may install packages, mount, and make namespaces.
pub fn is_root() -> bool {
    // The owner of our own /proc entry is our effective user.
    std::os::unix::fs::MetadataExt::uid(&match std::fs::metadata("/proc/self") {
        Ok(metadata) => metadata,
        Err(_) => return false,
    }) == 0
}

/// Refuses early, with what to do.
pub fn require_root(what: &str) -> anyhow::Result<()> {
    if !is_root() {
        bail!(
            "{what} makes real namespaces, mounts and cgroups: it needs root. Try: sudo -E env PATH=\"$PATH\" cargo xtask {what}"
        );
    }
    Ok(())
}

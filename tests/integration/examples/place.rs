//! The world that examples speak of: a daemon, a registry, images of every name, containers that run, files, and the programs of others.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bosun_tests::fixture;
use bosun_tests::registry::Registry;
use bosun_tests::world::{Daemon, World, program, wait_until};

use super::pages::{of_commands, of_documents};
use crate::cli::good;

/// What containers are called in examples.
const CONTAINERS: &[&str] = &["web", "worker", "db", "cache", "api", "shell", "web2"];
/// The image of a container that an example finds.
const IMAGE: &str = "test.local/busybox:latest";
/// It lives, ends at TERM, ignores HUP, and has files to copy.
const LIVES: &str = "mkdir -p /srv; echo page > /srv/page; echo web > /etc/hostname; trap 'exit 0' TERM QUIT; trap : HUP; \
    while :; do sleep 0.1; done";
/// A device that stands for a GPU.
const CDI: &str = r#"{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [{"name": "all", "containerEdits": {"env": ["GPU=1"]}}]}"#;
/// Programs of others that examples call; each does as little as its place in a pipe needs.
const PROGRAMS: &[(&str, &str)] = &[
    ("docker", "case $1 in save) cat \"$EXAMPLES/app.tar\";; *) cat >/dev/null;; esac"),
    ("ssh", "shift; exec \"$@\""),
    ("vi", "echo ' ' >> \"$1\""),
    ("systemctl", "true"),
];

/// See the module.
pub struct Place {
    world: World,
    _daemon: Daemon,
    registry: Registry,
    directory: PathBuf,
    /// Every image's name that an example wants to find.
    names: BTreeSet<String>,
    blob: String,
    manifest: String,
    other_platform: String,
    chain: String,
}

/// The same place, in a namespace of a page's own.
pub struct Here<'a> {
    place: &'a Place,
    namespace: String,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

impl Place {
    pub fn new() -> Self {
        let world = World::new();
        std::fs::create_dir(world.path("cdi")).expect("makes");
        std::fs::write(world.path("cdi/gpu.json"), CDI).expect("writes");
        let daemon = world.start_with_words(&["--cdi-dir", &world.path("cdi").to_string_lossy()]);
        let registry = Registry::start(&world.path("registry"));
        let directory = world.path("here");
        std::fs::create_dir_all(directory.join("bin")).expect("makes");
        for (name, script) in PROGRAMS {
            let path = directory.join("bin").join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        }
        std::os::unix::fs::symlink(program("bosun"), directory.join("bin/bosun")).expect("links");
        let image = fixture::busybox_image().expect("an image");
        let foreign = fixture::image_of("linux/arm64").expect("an image");
        let config: serde_json::Value = image
            .blobs
            .iter()
            .find(|(it, _)| it.media_type.contains("config"))
            .and_then(|(_, bytes)| serde_json::from_slice(bytes).ok())
            .expect("a config");
        let layer = image.blobs.iter().find(|(it, _)| it.media_type.contains("layer")).expect("a layer");
        let mut place = Self {
            blob: layer.0.digest.to_string(),
            manifest: image.target.digest.to_string(),
            other_platform: foreign.target.digest.to_string(),
            // Of a single layer the chain is the layer.
            chain: config["rootfs"]["diff_ids"][0].as_str().expect("a digest").to_owned(),
            names: BTreeSet::new(),
            world,
            _daemon: daemon,
            registry,
            directory,
        };
        place.names = place.wanted_names();
        place.write_files(&image);
        runtime().block_on(async {
            for name in ["team/app:1.2", "library/busybox:latest", "team/web:1.2", "team/api:1.2"] {
                fixture::push(&image, &place.registry.reference(name)).await.expect("pushes");
            }
            fixture::push(&foreign, &place.registry.reference("team/app:foreign")).await.expect("pushes");
        });
        good(&place.world, &["namespaces", "create", "web"]);
        place
    }

    fn write_files(&self, image: &bosun_storage::image::writer::BuiltImage) {
        for name in ["app.tar", "bin/pristine"] {
            let file = std::fs::File::create(self.directory.join(name)).expect("creates");
            image.write_oci_tar(file, Some("test.local/app:1")).expect("writes");
        }
        let run = |script: &str| {
            let done = Command::new("sh").args(["-ec", script]).current_dir(&self.directory).status();
            assert!(done.expect("a shell").success(), "{script}");
        };
        run(
            "gzip -k app.tar; mkdir layout site rootfs; tar -xf app.tar -C layout; echo page > site/index; cp app.tar layer.tar.gz",
        );
        fixture::write_rootfs(&self.directory.join("rootfs")).expect("writes");
        let group = "name = \"shop\"\nstrategy = \"rest_for_one\"\n[[member]]\ncontainer = \"db\"\n[[member]]\ncontainer = \"web\"\n";
        std::fs::write(self.directory.join("shop.toml"), group).expect("writes");
    }

    /// Names of images in examples that do not make them.
    fn wanted_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::from([IMAGE.to_owned(), "app:built".to_owned()]);
        for page in of_commands().iter().chain(&of_documents()) {
            for example in
                page.examples.iter().filter(|it| !it.contains("bosun commit") && !it.contains("images tag"))
            {
                let worded = self.hosts(example);
                let is_name = |word: &&str| {
                    let (path, tag) = word.rsplit_once(':').unwrap_or((*word, ""));
                    !word.starts_with(['/', '.', '-'])
                        && path.contains('/')
                        && !tag.contains('/')
                        && !tag.is_empty()
                        && !word.contains(['=', '@', '\''])
                };
                names.extend(worded.split_whitespace().filter(is_name).map(str::to_owned));
            }
        }
        names
    }

    fn hosts(&self, text: &str) -> String {
        text.replace("registry.local:5000", self.registry.host())
            .replace("registry.local", self.registry.host())
    }

    /// A namespace of the page's own, with every image.
    pub fn with_page(&self, title: &str) -> Here<'_> {
        let namespace: String =
            title.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '-' }).collect();
        let namespace = namespace.trim_matches('-').to_lowercase();
        // Examples write over what others read.
        for name in ["app.tar", "archive.tar"] {
            std::fs::copy(self.directory.join("bin/pristine"), self.directory.join(name)).expect("copies");
        }
        good(&self.world, &["-n", &namespace, "load", &self.directory.join("app.tar").to_string_lossy()]);
        runtime().block_on(async {
            let client = self.world.client().await;
            let images = client.namespace(namespace.parse().expect("good")).images();
            let loaded = images.get("test.local/app:1".parse().expect("good")).await.expect("loaded");
            for name in &self.names {
                let image =
                    bosun_types::image::ImageRecord { name: name.parse().expect(name), ..loaded.clone() };
                images.create(image).await.expect(name);
            }
        });
        Here { place: self, namespace }
    }
}

impl Here<'_> {
    /// An example in this world's words.
    pub fn worded(&self, example: &str) -> String {
        let place = self.place;
        let digest = if example.contains("@sha256:") {
            &place.other_platform
        } else if example.contains("snapshots view") {
            &place.chain
        } else if example.contains("manifest.v1+json") || example.contains("content edit") {
            &place.manifest
        } else {
            &place.blob
        };
        let state = place.world.places().state.display().to_string();
        place
            .hosts(example)
            .replace("sha256:…", digest)
            .replace("/run/bosun", &state)
            .replace("/srv/rootfs", &place.directory.join("rootfs").to_string_lossy())
            .replace("ci:deploy", "daemon:daemon")
            .replace(":monitoring", ":daemon")
            .replace("--user ci", "--user daemon")
            // Here every image is of one platform.
            .replace("team/app:1.2 --platform linux/arm64", "team/app:1.2")
            .replace("/mnt", &place.directory.join("mnt").to_string_lossy())
            .replace("transfers follow 7", &format!("transfers follow {}", self.last_transfer(example)))
    }

    fn last_transfer(&self, example: &str) -> u64 {
        if !example.contains("transfers") {
            return 0;
        }
        let _ = self.bosun(&["pull", &self.place.hosts("registry.local:5000/team/app:1.2")]);
        let listed: serde_json::Value =
            serde_json::from_str(&self.bosun(&["--json", "transfers", "ls"])).expect("JSON");
        listed.as_array().and_then(|all| all.last()?.get("id")?.as_u64()).expect("a transfer")
    }

    fn bosun(&self, words: &[&str]) -> String {
        good(&self.place.world, &[&["-n", self.namespace.as_str()], words].concat())
    }

    /// What the example speaks of is there, as it expects it.
    pub fn prepare(&self, example: &str) {
        let _ = std::fs::create_dir(self.place.directory.join("mnt"));
        let mut words: Vec<&str> = example.split([' ', ':', '\'']).collect();
        if example.contains("ps -q") {
            words.push("web");
        }
        let made: Vec<&str> = words
            .windows(2)
            .filter(|pair| matches!(pair[0], "--name" | "create" | "run"))
            .map(|pair| pair[1])
            .collect();
        let all = self.bosun(&["ps", "-aq"]);
        let up = self.bosun(&["ps", "-q"]);
        let is_in = |list: &str, name: &str| list.lines().any(|line| line == name);
        for name in CONTAINERS.iter().copied().filter(|name| words.contains(name)) {
            // A signal of the example before may still be on its way.
            let is_up = is_in(&up, name) && !example.starts_with("bosun kill");
            if is_in(&all, name) && (made.contains(&name) || !is_up) {
                self.bosun(&["rm", "-f", name]);
            }
            if !made.contains(&name) && !is_up {
                self.bosun(&["run", "-d", "-i", "--name", name, IMAGE, "sh", "-c", LIVES]);
                let name = name.to_owned();
                wait_until("the container's files", || {
                    let mut looked = self.place.world.bosun(&[
                        "-n",
                        &self.namespace,
                        "exec",
                        &name,
                        "test",
                        "-s",
                        "/etc/hostname",
                    ]);
                    looked.output().is_ok_and(|output| output.status.success())
                });
            }
        }
        if example.starts_with("bosun rm ") && !example.contains("-f") {
            self.bosun(&["stop", "-t", "0", words[2]]);
        }
        if example.contains("snapshots view look") || example.contains("snapshots mounts") {
            let mut remove = self.place.world.bosun(&["-n", &self.namespace, "snapshots", "rm", "look"]);
            let _ = remove.output();
            if example.contains("mounts") {
                self.bosun(&["snapshots", "view", "look", &self.place.chain]);
            }
        }
        let script = |script: &str| {
            let mut shell = self.shell(script);
            let _ = shell.wait();
        };
        if example.contains("-o layout/") {
            script("rm -rf layout");
        } else if example.contains("layout/") {
            script("test -d layout || { mkdir layout; tar -xf app.tar -C layout; }");
        }
        if example.contains("content ingest") {
            // It is not there yet.
            script(&format!("bosun content rm {}", self.place.blob));
        }
        if example.contains("content abort layer-2") {
            let writer = self.shell("(echo part; sleep 1000) | bosun content ingest layer-2");
            wait_until("the write to begin", || self.bosun(&["content", "active"]).contains("layer-2"));
            self.end(writer);
        }
        if example.contains("group create") {
            script("bosun group rm -f shop");
        }
        if example.contains("--snapshotter native web") {
            let _ = self
                .place
                .world
                .bosun(&["-n", &self.namespace, "snapshots", "--snapshotter", "native", "prepare", "web"])
                .output();
        }
    }

    /// Starts it as the leader of a group of its own, so that all of a pipe can be ended.
    pub fn shell(&self, words: &str) -> Child {
        let place = self.place;
        let path = format!(
            "{}:{}",
            place.directory.join("bin").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let said = std::fs::File::create(place.directory.join("said")).expect("creates");
        Command::new("sh")
            .args(["-c", words])
            .current_dir(&place.directory)
            .env("PATH", path)
            .env("BOSUN_ADDRESS", place.world.address())
            // Through a namespace's own socket there is no other.
            .envs((!words.contains("--address")).then_some(("BOSUN_NAMESPACE", &self.namespace)))
            .env("EXAMPLES", &place.directory)
            .env("EDITOR", "vi")
            .env("PORT", "80")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a descriptor"))
            .stderr(said)
            .spawn()
            .expect("a shell")
    }

    /// Ends it with all its children.
    pub fn end(&self, mut child: Child) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = child.wait();
    }

    /// The end of what it printed.
    pub fn said(&self) -> String {
        let text = std::fs::read(self.place.directory.join("said")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().rev().take(6).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n    ")
    }
}

impl Drop for Place {
    /// An example mounts something.
    fn drop(&mut self) {
        let mounted: &Path = &self.directory.join("mnt");
        let _ = nix::mount::umount2(mounted, nix::mount::MntFlags::MNT_DETACH);
    }
}

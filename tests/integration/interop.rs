//! Archives between bosun and containerd: what one writes the other reads and runs. Where containerd is not installed (`cargo xtask bench` does it)
//! the test says so and is skipped.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bosun_tests::client::{IMAGE, import};
use bosun_tests::world::{World, wait_until};

/// A containerd of the test's own; killed and reaped when dropped.
struct Containerd {
    child: Child,
    socket: PathBuf,
}

impl Containerd {
    /// `None` where it is not installed.
    #[expect(clippy::print_stdout, reason = "why it is skipped")]
    fn start(world: &World) -> Option<Self> {
        for program in ["containerd", "ctr"] {
            if Command::new(program).arg("--version").output().is_err() {
                println!("SKIPPED: {program} is not installed (Debian: apt-get install containerd)");
                return None;
            }
        }
        let (config, socket) = (world.path("containerd.toml"), world.path("containerd.sock"));
        let text = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{}\"\n",
            world.path("containerd").display(),
            world.path("containerd-state").display(),
            socket.display()
        );
        std::fs::write(&config, text).expect("writes");
        let log = std::fs::File::create(world.path("containerd.log")).expect("a log");
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starts");
        let it = Self { child, socket };
        wait_until("containerd to serve", || {
            it.command(&["version"]).output().is_ok_and(|output| output.status.success())
        });
        Some(it)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(words);
        command
    }

    fn good(&self, words: &[&str]) -> String {
        let output = self.command(words).output().expect("ctr runs");
        assert!(output.status.success(), "ctr {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bosun(world: &World, words: &[&str]) -> String {
    let output = world.bosun(words).output().expect("bosun runs");
    assert!(output.status.success(), "bosun {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn iex_1_iex_6_containerd_reads_what_is_exported_and_what_it_exports_comes_in() {
    let world = World::new();
    let Some(containerd) = Containerd::start(&world) else { return };
    let _daemon = world.start();
    let client = world.client().await;
    import(&client).await;
    for format in ["oci", "docker"] {
        let archive = world.path(&format!("{format}.tar")).to_string_lossy().into_owned();
        bosun(&world, &["images", "export", "--format", format, "-o", &archive, IMAGE]);
        containerd.good(&["images", "import", &archive]);
        let listed = containerd.good(&["images", "ls", "--quiet"]);
        assert!(listed.lines().any(|name| name == IMAGE), "{format}: {listed}");
        let checked = containerd.good(&["images", "check"]);
        assert!(checked.contains("complete"), "{format}: {checked}");
        let said = containerd.good(&["run", "--rm", IMAGE, &format!("reads-{format}"), "echo", format]);
        assert_eq!(said.trim(), format);
        let back = world.path(&format!("{format}-back.tar")).to_string_lossy().into_owned();
        containerd.good(&["images", "export", &back, IMAGE]);
        containerd.good(&["images", "rm", "--sync", IMAGE]);

        let other = World::new();
        let _daemon = other.start();
        let there = other.client().await;
        bosun(&other, &["load", &back]);
        assert_eq!(bosun(&other, &["run", "--rm", IMAGE, "echo", "came", "back"]), "came back\n");
        other.check(&there).await;
    }
    world.check(&client).await;
}

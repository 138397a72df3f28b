//! A real docker-registry on a free loopback port.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bosun_types::reference::Reference;

use crate::world::wait_until;

/// A running registry; killed when dropped.
pub struct Registry {
    child: Child,
    host: String,
    data: PathBuf,
}

impl Registry {
    /// Starts one with its data below `directory`.
    pub fn start(directory: &Path) -> Self {
        let data = directory.join("registry");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a port")
            .port();
        let config = directory.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            data.display()
        );
        std::fs::write(&config, text).expect("writes");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.expect("docker-registry is installed: run `cargo xtask test`");
        wait_until("the registry to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, host: format!("127.0.0.1:{port}"), data }
    }

    /// A reference to something in it.
    pub fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host).parse().expect("good")
    }

    /// The file of a blob, to damage it.
    pub fn blob(&self, hex: &str) -> PathBuf {
        self.data.join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

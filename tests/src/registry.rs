//! A real docker-registry on a free loopback port: open, with users, with a token service, with TLS.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bosun_types::reference::Reference;

use crate::world::wait_until;

/// The user that every guarded registry knows.
pub const USER: &str = "user";
/// Its password; a word that is nowhere else.
pub const SECRET: &str = "hush-8c1f2b";
/// bcrypt of it, as `htpasswd -B` writes it.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuPlE.smQRDhTKI9ra7/oc3M5GpoltTO2\n";

/// How a registry is guarded.
#[derive(Default)]
pub struct Guards<'a> {
    /// [`USER`] with [`SECRET`] and nobody else.
    pub users: bool,
    /// A token service: its address and the certificate of its key.
    pub tokens: Option<(&'a str, &'a Path)>,
    /// Certificate and key.
    pub tls: Option<(&'a Path, &'a Path)>,
    /// Who signs its clients' certificates.
    pub clients: Option<&'a Path>,
}

impl Guards<'_> {
    fn auth(&self, directory: &Path) -> String {
        if self.users {
            let path = directory.join("htpasswd");
            std::fs::write(&path, HTPASSWD).expect("writes");
            return format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path.display());
        }
        match self.tokens {
            None => String::new(),
            Some((realm, certificate)) => format!(
                "auth: {{token: {{realm: \"{realm}\", service: registry.test, issuer: test, rootcertbundle: {}}}}}\n",
                certificate.display()
            ),
        }
    }

    fn tls(&self) -> String {
        let Some((certificate, key)) = self.tls else { return String::new() };
        let clients = self.clients.map(|path| format!(", clientcas: [{}]", path.display()));
        format!(
            ", tls: {{certificate: {}, key: {}{}}}",
            certificate.display(),
            key.display(),
            clients.unwrap_or_default()
        )
    }
}

/// A running registry; killed when dropped.
pub struct Registry {
    child: Child,
    host: String,
    data: PathBuf,
}

impl Registry {
    /// Starts one with its data below `directory`.
    pub fn start(directory: &Path) -> Self {
        Self::guarded(directory, &Guards::default())
    }

    /// The same, guarded.
    pub fn guarded(directory: &Path, guards: &Guards<'_>) -> Self {
        std::fs::create_dir_all(directory).expect("makes");
        let data = directory.join("registry");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a port")
            .port();
        let config = directory.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nvalidation: {{manifests: {{urls: {{allow: [\"^https?://\"]}}}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n{}http: {{addr: \"127.0.0.1:{port}\"{}}}\n",
            data.display(),
            guards.auth(directory),
            guards.tls()
        );
        std::fs::write(&config, text).expect("writes");
        let log = std::fs::File::create(directory.join("registry.log")).expect("a log file");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = child.expect("docker-registry is installed: run `cargo xtask test`");
        wait_until("the registry to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, host: format!("127.0.0.1:{port}"), data }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> &str {
        &self.host
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

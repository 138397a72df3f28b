//! Certificates for one test, made by openssl: an authority, a server on loopback, a client, and a key that signs tokens.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of an authority and what it signed.
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes all of them below `directory`.
    pub fn make(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("makes");
        let made = Self { directory: directory.to_owned() };
        made.own("ca", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        made.own("token", &["-newkey", "rsa:2048"]);
        made.signed("server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n");
        made.signed("client", "extendedKeyUsage=clientAuth\n");
        made
    }

    /// The certificate of `ca`, `token`, `server` or `client`.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pem"))
    }

    /// Its key.
    pub fn key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    fn own(&self, name: &str, key: &[&str]) {
        let mut command = openssl(&["req", "-x509", "-nodes", "-days", "2", "-subj", &format!("/CN={name}")]);
        command.args(key).arg("-keyout").arg(self.key(name)).arg("-out").arg(self.certificate(name));
        run(&mut command);
    }

    fn signed(&self, name: &str, extensions: &str) {
        let (request, file) =
            (self.directory.join(format!("{name}.csr")), self.directory.join(format!("{name}.ext")));
        std::fs::write(&file, extensions).expect("writes");
        let mut command = openssl(&["req", "-nodes", "-subj", &format!("/CN={name}")]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        run(command.arg("-keyout").arg(self.key(name)).arg("-out").arg(&request));
        let mut command = openssl(&["x509", "-req", "-days", "2", "-CAcreateserial"]);
        command.arg("-in").arg(&request).arg("-extfile").arg(&file).arg("-out").arg(self.certificate(name));
        run(command.arg("-CA").arg(self.certificate("ca")).arg("-CAkey").arg(self.key("ca")));
    }
}

/// RS256 of some bytes.
pub fn sign(key: &Path, bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("writes");
    run(openssl(&["dgst", "-sha256", "-sign"]).arg(key).arg(file.path()))
}

fn openssl(words: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(words);
    command
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("openssl is installed: run `cargo xtask test`");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

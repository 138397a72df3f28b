//! Renews `protocol/schema/*.cgr`, the checked-in code generator requests that `protocol/build.rs` feeds to capnpc,
//! so that a fresh machine needs cargo alone. `schema.sum` beside them holds the digest of each schema file as it was
//! when its request was made: `cargo xtask tidy` fails on drift without needing the compiler.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::{packages, run};

const SCHEMA: &str = "protocol/schema";

/// Compiles each schema file.
pub fn run() -> anyhow::Result<()> {
    packages::ensure(&[packages::CODEGEN])?;
    for schema in schema_files()? {
        let request = run::output(
            Command::new("capnp")
                .args(["compile", "-o-", "--import-path=/usr/include"])
                .arg(format!("--src-prefix={SCHEMA}"))
                .arg(&schema),
        )?;
        std::fs::write(schema.with_extension("cgr"), request)?;
    }
    std::fs::write(Path::new(SCHEMA).join("schema.sum"), sums()?)?;
    run::say("renewed protocol/schema/*.cgr");
    Ok(())
}

/// One line for each schema file: digest and name.
pub fn sums() -> anyhow::Result<String> {
    let mut text = String::new();
    for schema in schema_files()? {
        let bytes = std::fs::read(&schema)?;
        let hex = Sha256::digest(&bytes).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let file = schema.file_name().unwrap_or_default().to_string_lossy().into_owned();
        writeln!(text, "{hex}  {file}")?;
    }
    Ok(text)
}

/// What was recorded when the requests were made last.
pub fn recorded_sums() -> anyhow::Result<String> {
    std::fs::read_to_string(Path::new(SCHEMA).join("schema.sum"))
        .context("protocol/schema/schema.sum is missing")
}

fn schema_files() -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(SCHEMA)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "capnp"));
    files.sort();
    Ok(files)
}

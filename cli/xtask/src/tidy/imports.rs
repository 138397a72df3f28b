//! Who may import whom, from cargo metadata. A new edge in this table needs an ADR (docs/adr/0001).

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Crate, and which of ours it may import in production code.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("bosun-types", &[]),
    ("bosun-faults", &[]),
    ("bosun-filter", &["bosun-types"]),
    ("bosun-protocol", &["bosun-types"]),
    ("bosun-client", &["bosun-types", "bosun-filter", "bosun-protocol"]),
    ("bosun-edge", &["bosun-types", "bosun-filter", "bosun-protocol", "bosun-actors"]),
    (
        "bosun-actors",
        &["bosun-types", "bosun-filter", "bosun-storage", "bosun-registry", "bosun-runtime", "bosun-faults"],
    ),
    ("bosun-storage", &["bosun-types", "bosun-faults"]),
    ("bosun-registry", &["bosun-types"]),
    ("bosun-runtime", &["bosun-types", "bosun-faults"]),
    ("bosun-shim", &["bosun-types"]),
    ("bosun-cli", &["bosun-types", "bosun-client"]),
    (
        "bosun-daemon",
        &[
            "bosun-types",
            "bosun-edge",
            "bosun-actors",
            "bosun-storage",
            "bosun-registry",
            "bosun-runtime",
            "bosun-faults",
        ],
    ),
    ("xtask", &[]),
];

/// External crates that only some of ours may know, and why.
const ONLY: &[(&str, &[&str], &str)] = &[
    ("ractor", &["bosun-actors"], "no other crate sees an actor, only its handle"),
    ("fjall", &["bosun-storage"], "one crate knows the database"),
    ("capnp", &["bosun-protocol", "bosun-client", "bosun-edge"], "the wire ends at the edge"),
    ("capnp-rpc", &["bosun-client", "bosun-edge"], "the wire ends at the edge"),
    ("libcontainer", &["bosun-shim"], "the OCI runtime runs in the shim, never in the daemon"),
    ("reqwest", &["bosun-registry"], "one crate speaks to registries"),
];

/// Crates that must not come in at all, and what to use.
const BANNED: &[(&str, &str)] = &[
    ("tokio-tar", "RUSTSEC-2025-0111; use tar, synchronously"),
    ("oci-distribution", "dead; bosun-registry is our own"),
    ("ractor-supervisor", "kills children in the middle of a handler; use actors::supervisor"),
    ("openssl-sys", "rustls with ring"),
    ("aws-lc-sys", "rustls with ring"),
];

/// One line for each forbidden edge.
pub fn check() -> anyhow::Result<Vec<String>> {
    let metadata = MetadataCommand::new().exec()?;
    let ours: Vec<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).chain(["bosun-tests"]).collect();
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == package.name.as_str());
        if allowed.is_none() && package.name.as_str() != "bosun-tests" {
            findings.push(format!("{}: a new crate: give it a row in tidy's import table", package.name));
        }
        for dependency in &package.dependencies {
            if dependency.kind == DependencyKind::Development {
                continue;
            }
            let name = dependency.name.as_str();
            if let Some((_, allowed)) = allowed
                && ours.contains(&name)
                && !allowed.contains(&name)
            {
                findings.push(format!(
                    "{} must not import {name} (docs/architecture.md, who imports whom)",
                    package.name
                ));
            }
            if let Some((_, who, why)) = ONLY.iter().find(|(only, ..)| *only == name)
                && !who.contains(&package.name.as_str())
                && package.name.as_str() != "bosun-tests"
            {
                findings.push(format!("{} must not import {name}: {why}", package.name));
            }
        }
    }
    for package in &metadata.packages {
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == package.name.as_str()) {
            findings.push(format!("{} is in the dependency tree: {why}", package.name));
        }
    }
    Ok(findings)
}

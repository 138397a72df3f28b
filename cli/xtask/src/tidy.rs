//! `cargo xtask tidy`: the countable rules of the house, so that no reviewer has to count.

mod imports;
mod sources;

use anyhow::bail;

use crate::{codegen, run};

/// Checks everything; prints each finding with its place and its rule.
pub fn run() -> anyhow::Result<()> {
    let mut findings = imports::check()?;
    findings.extend(sources::check()?);
    if codegen::recorded_sums()? != codegen::sums()? {
        findings.push(
            "protocol/schema: a schema changed but its .cgr did not: run `cargo xtask codegen`".to_owned(),
        );
    }
    if findings.is_empty() {
        return Ok(());
    }
    for finding in &findings {
        run::say(finding);
    }
    bail!("tidy: {} finding(s)", findings.len())
}

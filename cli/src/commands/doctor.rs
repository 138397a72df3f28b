//! `bosun doctor`: looks at the host, says what will not work, why, and what to do. Facts are gathered in [`facts`], judged by pure functions here;
//! what can be tried is tried ([`probes`]); nothing stays changed, and no daemon is needed.
//!
//! Exit code: 0 when everything that bosun needs is there (warnings too), 1 when something is not.

mod facts;
mod installed;
mod judge;
mod probes;
mod tried;

use std::path::PathBuf;

use serde::Serialize;

use self::facts::Facts;
use crate::arguments::Doctor;
use crate::output;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Nothing is wrong; good to know.
    Note,
    /// Something that not everybody needs will not work.
    Warning,
    /// bosun will not work, or is not safe.
    Failure,
}

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is there.
    pub found: String,
    /// What will not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequence: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Examines and reports; gives the exit code.
pub async fn doctor(address: PathBuf, json: bool, options: &Doctor) -> anyhow::Result<u8> {
    let facts = Facts::gather(address, options.root.clone()).await;
    let findings = judge::all(&facts);
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if json {
        output::json(&findings)?;
    } else {
        print(&findings, options.quiet);
    }
    Ok(u8::from(worst == Level::Failure))
}

fn print(findings: &[Finding], quiet: bool) {
    for finding in findings.iter().filter(|finding| !quiet || finding.level > Level::Ok) {
        let mark = match finding.level {
            Level::Ok => "ok     ",
            Level::Note => "note   ",
            Level::Warning => "warning",
            Level::Failure => "FAILURE",
        };
        output::line(format!("{mark}  {:<12} {}", finding.check, finding.found));
        for (word, text) in [("", &finding.consequence), ("do: ", &finding.advice)] {
            if let Some(text) = text {
                output::line(format!("{:22}{word}{text}", ""));
            }
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (failures, warnings) = (count(Level::Failure), count(Level::Warning));
    output::line(format!("{} looked at: {failures} failures, {warnings} warnings", findings.len()));
}

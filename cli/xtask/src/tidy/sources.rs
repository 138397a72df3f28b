//! Rules on source files: headers, lengths, supervision events, unsafe, waiting without a deadline, notes to self.

use std::path::{Path, PathBuf};

/// Lines of code a file may have (blank lines and comments are not counted).
const CODE_LINES_MAX: usize = 600;
/// The same for a file of tests.
const TEST_LINES_MAX: usize = 800;
/// Folders of crates that may use `unsafe`: they mount, fork, or call the kernel.
const UNSAFE_ALLOWED: &[&str] = &[
    "runtime/",
    "storage/src/archive",
    "storage/src/snapshotter",
    "storage/src/content",
    "storage/src/layer",
    "tests/",
];
const FOLDERS: &[&str] = &["protocol", "actors", "storage", "runtime", "cli", "tests"];

/// One line for each finding.
pub fn check() -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(Path::new(folder), &mut files)?;
    }
    files.sort();
    let mut findings = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        findings.extend(
            check_file(&path, &text).into_iter().map(|finding| format!("{}: {finding}", path.display())),
        );
    }
    Ok(findings)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(path: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let name = path.to_string_lossy();
    if !text.trim_start().starts_with("//!") {
        findings.push("no `//!` header".to_owned());
    }
    let is_test = name.ends_with("tests.rs") || name.contains("/tests/") || name.starts_with("tests/");
    let limit = if is_test { TEST_LINES_MAX } else { CODE_LINES_MAX };
    let code = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    if code > limit {
        findings.push(format!("{code} lines of code, at most {limit}: split it"));
    }
    if text.contains("impl Actor for") && !text.contains("handle_supervisor_evt") {
        findings.push(
            "an actor without handle_supervisor_evt: ractor's default stops the parent on any child's end"
                .to_owned(),
        );
    }
    if !UNSAFE_ALLOWED.iter().any(|allowed| name.starts_with(allowed)) && uses_unsafe(text) {
        findings.push("unsafe code outside runtime, shim and the archive code".to_owned());
    }
    for (number, line) in text.lines().enumerate() {
        let place = number + 1;
        // The word is put together so that this very line is no finding.
        if line.contains(concat!("TO", "DO")) && !line.contains('#') {
            findings.push(format!("line {place}: a note to self without an issue number"));
        }
        if line.contains(concat!("ractor::call", "!("))
            || line.trim_start().starts_with(concat!("call", "!("))
        {
            findings.push(format!("line {place}: a call without a deadline waits for ever: use ask()"));
        }
    }
    findings
}

fn uses_unsafe(text: &str) -> bool {
    text.lines().map(str::trim_start).any(|line| {
        !line.starts_with("//")
            && (["{", "fn", "impl"].iter().any(|next| line.contains(&format!("{} {next}", "unsafe"))))
    })
}

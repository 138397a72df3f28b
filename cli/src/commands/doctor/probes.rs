//! What can be found out only by doing it is done, by the programs that will do it for containers: `bosund probe`, `bosun-shim`, `criu check`. They take away
//! again what they made.

use std::path::Path;
use std::process::{Command, Stdio};

use bosun_types::shim::flag::PROBE_IDMAP;

use super::facts::{Tried, installed, on_path};

/// Everything that can be tried here; others than root can try nothing.
pub fn all(directory: &Path) -> Tried {
    let mut tried = Tried::new();
    if !nix::unistd::geteuid().is_root() {
        return tried;
    }
    if let Some(bosund) = installed("bosund")
        && let Ok(output) = Command::new(bosund).arg("probe").arg(directory).stdin(Stdio::null()).output()
    {
        tried.extend(lines(&String::from_utf8_lossy(&output.stdout)));
    }
    if let Some(shim) = installed("bosun-shim") {
        tried.insert("idmap".to_owned(), failure(Command::new(shim).arg(PROBE_IDMAP).arg(directory)));
    }
    if let Some(criu) = on_path("criu") {
        tried.insert("criu".to_owned(), failure(Command::new(criu).arg("check")));
    }
    tried
}

/// `name TAB ok`, or why not.
fn lines(text: &str) -> Tried {
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, outcome)| (name.to_owned(), (outcome != "ok").then(|| outcome.to_owned())))
        .collect()
}

/// `None`: it ended well; else the last line of what it said.
fn failure(command: &mut Command) -> Option<String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty());
            Some(last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned()))
        }
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_by_lines() {
        let tried = lines("overlayfs\tok\nbtrfs\tit is not on btrfs\nnoise\n");
        assert_eq!(tried.get("overlayfs"), Some(&None));
        assert_eq!(tried["btrfs"].as_deref(), Some("it is not on btrfs"));
        assert_eq!(tried.len(), 2);
        assert_eq!(failure(&mut Command::new("true")), None);
        let said = failure(Command::new("sh").args(["-c", "echo first >&2; echo why >&2; exit 1"]));
        assert_eq!(said.as_deref(), Some("why"));
    }
}

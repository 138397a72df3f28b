//! CRIU for the tests that need one: fetched once into the target directory, by a script that touches nothing of the host's packages.

use std::path::Path;
use std::process::Command;

/// Its path; `None`, with the reason on standard error, where it cannot be had: the test is then skipped.
pub fn criu() -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("criu/fetch.sh");
    let own = std::env::current_exe().expect("a test binary has a path");
    let cache = own.ancestors().nth(3).expect("target/<profile>/deps").join("criu");
    let output = Command::new(script).arg(cache).output().expect("the script runs");
    if !output.status.success() {
        eprintln!("SKIPPED, CRIU cannot be had: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

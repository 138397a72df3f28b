//! Findings about what is installed and left on the host: directories, runtimes, shims. Pure.

use bosun_types::shim::PROTOCOL_VERSION;

use super::facts::Facts;
use super::judge::{bad, good};
use super::{Finding, Level};

/// Directories of the daemon: others get no further than to the socket.
pub fn directories(facts: &Facts) -> Finding {
    let words = |mode: Option<u32>| mode.map_or_else(|| "not made yet".to_owned(), |it| format!("{it:04o}"));
    let found = format!("root {}, state {}", words(facts.root_mode), words(facts.state_mode));
    if facts.root_mode.is_some_and(|mode| mode & 0o077 != 0)
        || facts.state_mode.is_some_and(|mode| mode & 0o066 != 0)
    {
        return bad(
            Level::Failure,
            "directories",
            found,
            "others may look into the database and into containers",
            "chmod 0700 the root and 0711 the state directory; bosund does it when it starts",
        );
    }
    if facts.state_mode.is_some_and(|mode| mode & 0o001 == 0) {
        return bad(
            Level::Warning,
            "directories",
            found,
            "neither the socket's group nor root inside a container with users of its own gets through the state directory",
            "chmod 0711 it; bosund does it when it starts",
        );
    }
    good("directories", found)
}

/// The embedded one is always there.
pub fn runtimes(facts: &Facts) -> Finding {
    let others: Vec<&str> = facts.runtimes.iter().map(String::as_str).collect();
    match others.is_empty() {
        true => good("runtimes", "bosun (embedded); no runc, crun or youki on the path for --runtime"),
        false => good("runtimes", format!("bosun (embedded), {}", others.join(", "))),
    }
}

/// Shims go on over an upgrade of the daemon: their containers keep what they had.
pub fn shims(facts: &Facts) -> Finding {
    let count = facts.shims.len();
    let old = facts.shims.iter().filter(|shim| shim.protocol < PROTOCOL_VERSION).count();
    let new = facts.shims.iter().filter(|shim| shim.protocol > PROTOCOL_VERSION).count();
    let replaced = facts.shims.iter().filter(|shim| shim.replaced).count();
    let found = format!("{count} live");
    match (old, new, replaced) {
        (0, 0, 0) => good("shims", found),
        (_, new, _) if new > 0 => bad(
            Level::Warning,
            "shims",
            format!("{found}, {new} newer than this bosun"),
            "bosun and bosund are older than what the containers were started with",
            "install all of one release",
        ),
        (0, _, replaced) => bad(
            Level::Note,
            "shims",
            format!("{found}, {replaced} run a bosun-shim that was replaced on disk since"),
            "their containers go on with what was installed when they were started",
            "bosun restart them when it suits you",
        ),
        (old, ..) => bad(
            Level::Warning,
            "shims",
            format!("{found}, {old} older than this bosun"),
            "their containers go on, but newer verbs are refused as not implemented",
            "bosun restart them when it suits you",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::ShimFacts;
    use super::*;

    #[test]
    fn what_is_installed_is_judged() {
        let shim = |protocol, replaced| vec![ShimFacts { protocol, replaced }];
        let host = || Facts { kernel: "6.15.0".to_owned(), ..Facts::default() };
        type Judge = fn(&Facts) -> Finding;
        let cases: Vec<(Judge, Level, Facts)> = vec![
            (directories, Level::Ok, host()),
            (directories, Level::Ok, Facts { root_mode: Some(0o700), state_mode: Some(0o711), ..host() }),
            (directories, Level::Failure, Facts { root_mode: Some(0o755), ..host() }),
            (directories, Level::Failure, Facts { state_mode: Some(0o755), ..host() }),
            (directories, Level::Warning, Facts { state_mode: Some(0o700), ..host() }),
            (shims, Level::Ok, Facts { shims: shim(PROTOCOL_VERSION, false), ..host() }),
            (shims, Level::Note, Facts { shims: shim(PROTOCOL_VERSION, true), ..host() }),
            (shims, Level::Warning, Facts { shims: shim(PROTOCOL_VERSION - 1, true), ..host() }),
            (shims, Level::Warning, Facts { shims: shim(PROTOCOL_VERSION + 1, false), ..host() }),
            (runtimes, Level::Ok, host()),
        ];
        for (judge, level, facts) in cases {
            let finding = judge(&facts);
            assert_eq!(finding.level, level, "{finding:?}");
            assert_eq!(finding.advice.is_some(), level != Level::Ok, "{finding:?}");
        }
    }
}

//! `shim.log`: what went wrong, and what was asked on whose behalf: a line when a request comes and one when it is answered, with the number of the client's
//! call that the daemon's log has too. As the daemon's own log is: text, or a JSON object a line; which lines, `RUST_LOG` says. The file keeps below a limit.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::LazyLock;

use bosun_types::Timestamp;
use bosun_types::shim::Request;
use bosun_types::shim::environment::{JSON, LOG_FILTER, LOG_FORMAT};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

/// The log begins anew beyond this many bytes: a container that lives for years is asked often.
const LOG_BYTES_MAX: i64 = 256 << 10;
/// What lines are of, for `RUST_LOG`.
const TARGET: &str = "bosun_shim";

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something went wrong.
    Error,
    /// What a client asked for.
    Info,
    /// What the daemon asks for itself.
    Debug,
}

struct Style {
    json: bool,
    /// `None`: no line at all.
    most: Option<Level>,
}

static STYLE: LazyLock<Style> = LazyLock::new(|| Style {
    json: std::env::var(LOG_FORMAT).is_ok_and(|format| format == JSON),
    most: most(&std::env::var(LOG_FILTER).unwrap_or_default()),
});

/// The level of the words of `RUST_LOG` for us: the most exact word counts, the last of those.
fn most(filter: &str) -> Option<Level> {
    let level = |word: &str| match word.trim().to_ascii_lowercase().as_str() {
        "off" => Some(None),
        "error" | "warn" => Some(Some(Level::Error)),
        "info" => Some(Some(Level::Info)),
        "debug" | "trace" => Some(Some(Level::Debug)),
        _ => None,
    };
    let words = || filter.split(',');
    let own = words().filter_map(|word| word.split_once('=')).filter(|(target, _)| target.trim() == TARGET);
    let general = words().filter_map(level).next_back();
    // With words for others alone, errors are told, as everywhere.
    let otherwise = if filter.trim().is_empty() { Level::Info } else { Level::Error };
    own.filter_map(|(_, word)| level(word)).next_back().or(general).unwrap_or(Some(otherwise))
}

/// One line, if it is wanted; what cannot be written is not missed.
pub fn tell(level: Level, call: Option<u64>, what: impl Display) {
    if STYLE.most.is_none_or(|most| level > most) {
        return;
    }
    let mut log = std::io::stderr().lock();
    if fstat(&log).is_ok_and(|it| it.st_size > LOG_BYTES_MAX) {
        let _ = ftruncate(&log, 0);
    }
    let _ = log.write_all(line(STYLE.json, level, call, &what.to_string()).as_bytes());
}

fn line(json: bool, level: Level, call: Option<u64>, what: &str) -> String {
    let at = Timestamp::now();
    if !json {
        return match call {
            Some(call) => format!("{at} call={call:016x} {what}\n"),
            None => format!("{at} bosun-shim: {what}\n"),
        };
    }
    let level = match level {
        Level::Error => "ERROR",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
    };
    let span =
        call.map_or_else(String::new, |call| format!(r#","span":{{"id":"{call:016x}","name":"call"}}"#));
    let what = serde_json::Value::from(what);
    format!(
        r#"{{"timestamp":"{at}","level":"{level}","fields":{{"message":{what}}},"target":"{TARGET}"{span}}}"#
    ) + "\n"
}

/// A request in a word.
pub fn word(request: &Request) -> &'static str {
    match request {
        Request::Create(_) => "create",
        Request::Start { .. } => "start",
        Request::State => "state",
        Request::Kill { .. } => "kill",
        Request::AddExec { .. } => "add_exec",
        Request::DeleteExec { .. } => "delete_exec",
        Request::Delete => "delete",
        Request::AckExit { .. } => "ack_exit",
        Request::Resize { .. } => "resize",
        Request::CloseStdin { .. } => "close_stdin",
        Request::Pause => "pause",
        Request::Resume => "resume",
        Request::Pids => "pids",
        Request::Update { .. } => "update",
        Request::Shutdown => "shutdown",
        Request::Attach { .. } => "attach",
        Request::WriteStdin { .. } => "write_stdin",
        Request::Dump(_) => "dump",
        Request::CreateFromDump { .. } => "create_from_dump",
        Request::Once { request, .. } => word(request),
        Request::Recall { .. } => "recall",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_log_reaches_the_shim() {
        for (filter, wanted) in [
            ("", Some(Level::Info)),
            ("info", Some(Level::Info)),
            ("bosun_edge=debug,info", Some(Level::Info)),
            ("bosun_edge=debug", Some(Level::Error)),
            ("warn,bosun_shim=debug", Some(Level::Debug)),
            ("bosun_shim=off,debug", None),
            ("TRACE", Some(Level::Debug)),
            ("off", None),
        ] {
            assert_eq!(most(filter), wanted, "{filter:?}");
        }
    }

    #[test]
    fn lines_are_text_or_json() {
        assert!(line(false, Level::Info, Some(0xab), "done").ends_with(" call=00000000000000ab done\n"));
        assert!(line(false, Level::Error, None, "no room").ends_with(" bosun-shim: no room\n"));
        let told: serde_json::Value =
            serde_json::from_str(&line(true, Level::Error, Some(0xab), "a \"b\"\n")).expect("JSON");
        assert_eq!(told["fields"]["message"], "a \"b\"\n");
        assert_eq!(told["span"]["id"], "00000000000000ab");
        assert_eq!((told["level"].as_str(), told["target"].as_str()), (Some("ERROR"), Some("bosun_shim")));
        let told: serde_json::Value =
            serde_json::from_str(&line(true, Level::Debug, None, "x")).expect("JSON");
        assert!(told.get("span").is_none());
    }
}

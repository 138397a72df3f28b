//! `--log-uri` and `--log-opt`.

use anyhow::{Context as _, bail};
use bosun_types::log_program::LogProgram;
use bosun_types::stdio::{LogTarget, Stdio};

use crate::context;

const FILE_SCHEME: &str = "file://";

/// Size and number of log files; `None`: as the daemon has it.
pub fn target(words: &[String]) -> anyhow::Result<Option<LogTarget>> {
    let mut target = LogTarget::default();
    for word in words {
        match word.split_once('=') {
            Some(("max-size", size)) => target.bytes_max = context::bytes(size)?,
            Some(("max-file", count)) => {
                let files_max = count.parse().ok().filter(|count| *count > 0);
                target.files_max =
                    files_max.with_context(|| format!("--log-opt {word:?}: use a number from 1"))?;
            }
            _ => bail!("--log-opt {word:?}: use max-size=16m or max-file=4"),
        }
    }
    Ok((!words.is_empty()).then_some(target))
}

/// Sends output to a URI; whether the daemon's log file is wanted then.
pub fn to_uri(uri: &str, stdio: &mut Stdio) -> anyhow::Result<bool> {
    if let Some(path) = uri.strip_prefix(FILE_SCHEME) {
        if !path.starts_with('/') {
            bail!("--log-uri {uri:?}: use file:///absolute/path");
        }
        stdio.log.get_or_insert_with(LogTarget::default).path = path.to_owned();
        return Ok(false);
    }
    if !LogProgram::is_uri(uri) {
        bail!("--log-uri {uri:?}: use file:///path or binary:///program?key=value");
    }
    // Here, before anything is made.
    uri.parse::<LogProgram>()?;
    if stdio.log.take().is_some() {
        bail!("--log-opt is for a log file, not for a logging program");
    }
    stdio.stdout = Some(uri.to_owned());
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn log_options_are_numbers() {
        assert_eq!(target(&[]).expect("good"), None);
        let given = target(&words("max-size=1m max-file=2")).expect("good").expect("some");
        assert_eq!((given.bytes_max, given.files_max, given.path.as_str()), (1 << 20, 2, ""));
        for bad in ["max-file=0", "max-size=x", "size=1", "max-file"] {
            assert!(target(&words(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn log_uris_are_files_or_programs() {
        let mut stdio = Stdio::default();
        assert!(!to_uri("file:///var/log/c.log", &mut stdio).expect("good"));
        assert_eq!(stdio.log.as_ref().map(|log| log.path.as_str()), Some("/var/log/c.log"));
        assert!(to_uri("binary:///bin/log", &mut stdio).is_err(), "options are for files");
        let mut stdio = Stdio::default();
        assert!(!to_uri("binary:///bin/log?a=b", &mut stdio).expect("good"));
        assert_eq!(stdio.stdout.as_deref(), Some("binary:///bin/log?a=b"));
        for bad in ["fluentd://x", "file://x", "binary://x", "/x"] {
            assert!(to_uri(bad, &mut Stdio::default()).is_err(), "{bad}");
        }
    }
}

//! `binary://` log URIs (IO-12).

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Scheme of a logging program's URI.
pub const SCHEME: &str = "binary://";

/// A program that gets a process's output: stdout as descriptor 3, stderr as 4; it closes 5 once it is ready, and the process is not made before. It sees end-of-file
/// when the output has ended. `CONTAINER_ID` and `CONTAINER_NAMESPACE` are in its environment. While it lives and does not read, the process waits with its
/// output; when it has ended, output for it is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProgram {
    /// Absolute path.
    pub path: String,
    /// Of the query: each key, and its value if it has one, in their order.
    pub arguments: Vec<String>,
}

impl LogProgram {
    /// Whether a stream's path is such a URI.
    pub fn is_uri(text: &str) -> bool {
        text.starts_with(SCHEME)
    }
}

impl FromStr for LogProgram {
    type Err = Error;

    /// `binary:///usr/bin/logger?key=value&flag`: an absolute path, a query in the form of URLs. InvalidArgument else.
    fn from_str(uri: &str) -> Result<Self, Error> {
        let refuse = || {
            Error::invalid_argument(format!("log URI {uri:?}"))
                .with_hint("use binary:///absolute/path?key=value&key=value")
        };
        let rest = uri.strip_prefix(SCHEME).filter(|rest| rest.starts_with('/')).ok_or_else(refuse)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path =
            percent_encoding::percent_decode_str(path).decode_utf8().map_err(|_| refuse())?.into_owned();
        let mut arguments = Vec::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            arguments.push(key.into_owned());
            if !value.is_empty() {
                arguments.push(value.into_owned());
            }
        }
        if arguments.iter().chain([&path]).any(|word| word.contains('\0')) {
            return Err(refuse());
        }
        Ok(Self { path, arguments })
    }
}

impl fmt::Display for LogProgram {
    /// For people: the path alone, for arguments can hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "logging program {}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_12_uris_are_programs_with_arguments() {
        let table: [(&str, &str, &[&str]); 4] = [
            ("binary:///bin/log", "/bin/log", &[]),
            ("binary:///bin/log?", "/bin/log", &[]),
            ("binary:///bin/a%20b?id=x&flag&m=1%262", "/bin/a b", &["id", "x", "flag", "m", "1&2"]),
            ("binary:///l?a+b=c", "/l", &["a b", "c"]),
        ];
        for (uri, path, arguments) in table {
            let program: LogProgram = uri.parse().expect(uri);
            assert_eq!(
                (program.path.as_str(), program.arguments),
                (path, arguments.iter().map(ToString::to_string).collect())
            );
        }
        for bad in [
            "binary://bin/log",
            "binary:/bin/log",
            "/bin/log",
            "binary:///a%00b",
            "binary:///a?b=%00",
            "binary:///%ff",
        ] {
            assert!(bad.parse::<LogProgram>().is_err(), "{bad}");
        }
    }
}

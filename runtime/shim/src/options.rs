//! The command line. By hand: a parser crate would be the largest part of the binary.

use std::path::PathBuf;

use bosun_types::shim::flag;

/// Set on the second start, from the read-only view of the binary (see `setup`).
pub const PROTECTED: &str = "--protected";

/// The parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Task directory.
    pub directory: PathBuf,
    /// The task's nonce; a connection must name it.
    pub nonce: String,
    /// Namespace, for people.
    pub namespace: String,
    /// Container id, for people.
    pub id: String,
    /// Pipe to write one byte to once the socket listens.
    pub ready_fd: Option<i32>,
    /// Name of the compiled seccomp filter in the task directory.
    pub seccomp: Option<String>,
    /// Name of the file in the task directory that says what to take over.
    pub adopt: Option<String>,
    /// Whether this process already runs from the read-only view of its binary.
    pub protected: bool,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut directory, mut nonce, mut ready_fd, mut protected) = (None, None, None, false);
        let (mut namespace, mut id, mut seccomp, mut adopt) = (String::new(), String::new(), None, None);
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            if name == PROTECTED {
                protected = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name}: a value is missing"))?;
            match name.as_str() {
                flag::DIRECTORY => directory = Some(PathBuf::from(value)),
                flag::NONCE => nonce = Some(value),
                flag::NAMESPACE => namespace = value,
                flag::ID => id = value,
                flag::SECCOMP => seccomp = Some(value),
                flag::ADOPT => adopt = Some(value),
                flag::READY_FD => {
                    ready_fd = Some(value.parse().map_err(|_| format!("{name}: {value:?} is no number"))?);
                }
                _ => return Err(format!("{name}: unknown flag")),
            }
        }
        Ok(Self {
            directory: directory.ok_or_else(|| format!("{} is missing", flag::DIRECTORY))?,
            nonce: nonce.ok_or_else(|| format!("{} is missing", flag::NONCE))?,
            namespace,
            id,
            ready_fd,
            seccomp,
            adopt,
            protected,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn directory_and_nonce_are_required() {
        assert!(parse(&[]).unwrap_err().contains("--directory"));
        assert!(parse(&["--directory", "/d"]).unwrap_err().contains("--nonce"));
        let options = parse(&["--directory", "/d", "--nonce", "ab", "--ready-fd", "5"]).unwrap();
        assert_eq!((options.nonce.as_str(), options.ready_fd, options.protected), ("ab", Some(5), false));
    }

    #[test]
    fn a_filter_is_named() {
        let options = parse(&["--directory", "/d", "--nonce", "ab", "--seccomp", "seccomp.bpf"]).unwrap();
        assert_eq!(options.seccomp.as_deref(), Some("seccomp.bpf"));
    }

    #[test]
    fn an_unknown_flag_and_a_missing_value_are_refused() {
        assert!(parse(&["--what", "x"]).unwrap_err().contains("unknown"));
        assert!(parse(&["--nonce"]).unwrap_err().contains("value"));
    }
}

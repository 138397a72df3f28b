//! Registry references: `<host>/<path>[:tag][@digest]` (REM-1). No default host, no default tag.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::{Digest, ImageName};

/// Longest reference in bytes.
pub const REFERENCE_BYTES_MAX: usize = 1024;

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// `host[:port]`.
    pub host: String,
    /// Repository path inside the host.
    pub path: String,
    /// Tag, when given.
    pub tag: Option<String>,
    /// Digest, when given; it wins over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses; InvalidArgument names the part that is wrong. The object starts at the first `:` or `@` of the path.
    pub fn parse(text: &str) -> Result<Self> {
        let head: String = text.chars().take(120).collect();
        let refuse = |why: &str| {
            Error::invalid_argument(format!("reference {head:?}: {why}"))
                .with_hint("use <host>/<path>[:tag][@digest], such as registry.local:5000/team/app:1.2")
        };
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(refuse("too long"));
        }
        if text.contains("://") {
            return Err(refuse("it must not contain a URL scheme"));
        }
        let (host, rest) = text.split_once('/').ok_or_else(|| refuse("a host is required"))?;
        let host_ok = !host.is_empty()
            && !host.starts_with('.')
            && !host.contains("..")
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        // A bare short name such as `team/app` has no host: a host has a dot, a port, or is localhost.
        if !host_ok || !(host.contains(['.', ':']) || host == "localhost") {
            return Err(refuse("a host is required"));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(digest.parse::<Digest>().map_err(|error| error.context(format!("reference {head:?}")))?),
            ),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if !path.split('/').all(component_ok) {
            return Err(refuse("the repository path is malformed"));
        }
        if tag.is_some_and(|tag| !tag_ok(tag)) {
            return Err(refuse("the tag is malformed"));
        }
        Ok(Self { host: host.to_owned(), path: path.to_owned(), tag: tag.map(str::to_owned), digest })
    }

    /// What a registry is asked for: the digest if there is one, else the tag; neither is an error (REM-2).
    pub fn object(&self) -> Result<String> {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Ok(digest.to_string()),
            (None, Some(tag)) => Ok(tag.clone()),
            (None, None) => {
                Err(Error::invalid_argument(format!("reference {self}: a tag or a digest is required"))
                    .with_hint(format!("try {self}:latest")))
            }
        }
    }

    /// The reference as an image name.
    pub fn image_name(&self) -> Result<ImageName> {
        ImageName::new(self.to_string())
    }
}

/// Distribution spec: lower-case alphanumeric runs joined by `.`, `_`, `__` or dashes.
fn component_ok(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !bytes.is_empty()
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
        && !component.contains("..")
}

fn tag_ok(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !tag.starts_with(['.', '-'])
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Reference {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rem_1_reference_forms() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for good in [
            "localhost/a:1".to_owned(),
            "127.0.0.1:5000/a/b:t".to_owned(),
            format!("r.io/a@{digest}"),
            format!("r.io/a:t@{digest}"),
            "r.io/a".to_owned(),
        ] {
            assert_eq!(Reference::parse(&good).expect(&good).to_string(), good);
        }
        for bad in [
            "",
            "busybox",
            "team/app:1",
            "/a",
            "r.io/",
            "r.io/A",
            "r.io/a:",
            "r.io/../b",
            "http://r.io/a",
            "r.io/a@sha256:12",
            "r.io/a:.x",
        ] {
            assert_eq!(Reference::parse(bad).expect_err(bad).class, crate::ErrorClass::InvalidArgument);
        }
        assert!(Reference::parse("r.io/a").expect("parses").object().is_err());
    }
}

//! Validated identifiers. Parse, don't validate: a value of these types is well formed wherever it is (rows ID-1..3, CON-3).

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest identifier in bytes (ID-1, ID-3).
pub const IDENTIFIER_BYTES_MAX: usize = 76;
/// Longest image name, snapshot key, lease id in bytes. containerd has no limit; everything here has one.
pub const NAME_BYTES_MAX: usize = 4096;

/// ID-1: alphanumeric runs joined by single `.`, `_` or `-`, at most 76 bytes.
fn check_identifier(what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid_argument(format!("{what} is empty")));
    }
    if text.len() > IDENTIFIER_BYTES_MAX {
        let head: String = text.chars().take(16).collect();
        return Err(Error::invalid_argument(format!(
            "{what} {head:?}… is {} bytes long, at most {IDENTIFIER_BYTES_MAX} are allowed",
            text.len()
        )));
    }
    let is_separator = |byte: u8| matches!(byte, b'.' | b'_' | b'-');
    let bytes = text.as_bytes();
    let well_formed = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || is_separator(*byte))
        && !bytes.windows(2).any(|pair| is_separator(pair[0]) && is_separator(pair[1]))
        && !is_separator(bytes[0])
        && !is_separator(bytes[bytes.len() - 1]);
    if well_formed {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("{what} {text:?} is malformed"))
        .with_hint("use letters and digits, joined by single '.', '_' or '-'"))
}

/// ID-3: domain-like labels joined by `.`; the stray colon of the original's pattern is refused.
fn check_namespace(text: &str) -> Result<()> {
    if text.is_empty() {
        // ID-4: a missing namespace is a failed precondition, not a malformed one.
        return Err(Error::failed_precondition("namespace is required"));
    }
    let part_ok = |part: &str, min: usize| {
        part.len() >= min
            && part.as_bytes()[0].is_ascii_alphabetic()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    // A label: a letter plus at least one alphanumeric, then groups of '-' runs followed by the same.
    let label_ok = |label: &str| {
        label.split('-').enumerate().all(|(index, part)| {
            if part.is_empty() { index != 0 && !label.ends_with('-') } else { part_ok(part, 2) }
        })
    };
    if text.len() <= IDENTIFIER_BYTES_MAX && text.split('.').all(|label| !label.is_empty() && label_ok(label))
    {
        return Ok(());
    }
    let head: String = text.chars().take(80).collect();
    Err(Error::invalid_argument(format!("namespace {head:?} is malformed"))
        .with_hint("use domain-like words of at least two characters that start with a letter, such as 'web' or 'team.web', at most 76 bytes"))
}

fn check_name(what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid_argument(format!("{what} is empty")));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(Error::invalid_argument(format!(
            "{what} is {} bytes long, at most {NAME_BYTES_MAX} are allowed",
            text.len()
        )));
    }
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Error::invalid_argument(format!("{what} {text:?} contains a control character")));
    }
    Ok(())
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses and checks; InvalidArgument says what is wrong.
            pub fn new(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                let check: fn(&str) -> Result<()> = $check;
                check(&text)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:?}", self.0) }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> { Self::new(text) }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> { Self::new(text) }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String { id.0 }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str { &self.0 }
        }
    };
}

string_id!(
    /// A tenancy name (ID-3): the scope of every other name.
    NamespaceName, check_namespace
);
string_id!(
    /// A container's name inside its namespace (ID-1). A task has the id of its container.
    ContainerId, |text| check_identifier("container id", text)
);
string_id!(
    /// An additional process of a task (ID-1).
    ExecId, |text| check_identifier("exec id", text)
);
string_id!(
    /// A group of containers (ID-1).
    GroupName, |text| check_identifier("group name", text)
);
string_id!(
    /// The name of an image record: any non-empty text; a registry reference when it was pulled (IMG-2).
    ImageName, |text| check_name("image name", text)
);
string_id!(
    /// The key of an active snapshot or the name of a committed one; one space per snapshotter (SNP-3).
    SnapshotKey, |text| check_name("snapshot key", text)
);
string_id!(
    /// A socket that yields one namespace; unique in the daemon, part of a file name (ID-1).
    SocketId, |text| check_identifier("socket id", text)
);
string_id!(
    /// A named cursor of a subscriber to events (ID-1).
    CursorId, |text| check_identifier("cursor", text)
);
string_id!(
    /// What a client calls one of its calls, so that a repetition is known as one: random, at most 76 bytes (ID-1).
    CallKey, |text| check_identifier("idempotency key", text)
);
string_id!(
    /// A lease (LSE-1).
    LeaseId, |text| check_name("lease id", text)
);

impl NamespaceName {
    /// `default`, what tools use when none is given (ID-5).
    pub fn default_name() -> Self {
        Self("default".to_owned())
    }
}

/// A content digest, `sha256:<64 lower-case hex>`. No other algorithm is stored; no other form parses (CVE-2024-3727).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// From the raw 32 bytes of a finished SHA-256.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex characters, as used in file names.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let head: String = text.chars().take(80).collect();
        let malformed = || {
            Error::invalid_argument(format!("digest {head:?} is malformed"))
                .with_hint("a digest is 'sha256:' and 64 lower-case hexadecimal digits")
        };
        let hex = text.strip_prefix("sha256:").ok_or_else(malformed)?;
        if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(malformed());
        }
        let mut bytes = [0u8; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).map_err(|_| malformed())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// One logged operation; dense and increasing within a database, so the log reads in order of begin.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub struct OperationId(pub u64);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorClass;

    #[test]
    fn id_1_identifier_grammar() {
        for good in ["a", "A1", "a.b", "a_b-c.d", &"x".repeat(76)] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "a.", "a..b", "a._b", "a/b", "a b", "é", &"x".repeat(77)] {
            let error = ContainerId::new(bad).expect_err(bad);
            assert_eq!(error.class, ErrorClass::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn id_3_namespace_grammar() {
        for good in ["default", "k8s.io", "a1", "team-web", "a1--b2.cc"] {
            assert!(NamespaceName::new(good).is_ok(), "{good}");
        }
        for bad in ["a", "1x", "x_y", "-ab", "ab-", "ab:-cd", "ab.", &"ab.".repeat(30)] {
            assert_eq!(NamespaceName::new(bad).expect_err(bad).class, ErrorClass::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn id_4_empty_namespace_is_a_failed_precondition() {
        assert_eq!(NamespaceName::new("").expect_err("empty").class, ErrorClass::FailedPrecondition);
    }

    #[test]
    fn con_3_digest_forms() {
        let text = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(text.parse::<Digest>().expect("good").to_string(), text);
        for bad in [
            "",
            "sha256:",
            "sha512:00",
            &format!("sha256:{}", "0F".repeat(32)),
            &format!("sha256:../{}", "0".repeat(61)),
        ] {
            assert_eq!(bad.parse::<Digest>().expect_err(bad).class, ErrorClass::InvalidArgument);
        }
    }
}

//! Platforms: parse, normalise, match (PLT-*).

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Operating system, architecture, variant; normalised (PLT-3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v7`; empty when there is none.
    pub variant: String,
}

const KNOWN_OS: &[&str] =
    &["linux", "darwin", "windows", "freebsd", "netbsd", "openbsd", "solaris", "android"];
const KNOWN_ARCHITECTURES: &[&str] = &[
    "amd64", "386", "arm64", "arm", "ppc64", "ppc64le", "s390x", "riscv64", "mips64le", "mips64", "mips",
    "mipsle", "loong64",
];

impl Platform {
    /// The platform of this host (PLT-5).
    pub fn host() -> Self {
        let (architecture, variant) = normalise_architecture(std::env::consts::ARCH, "");
        Self { os: "linux".to_owned(), architecture, variant }
    }

    /// From the fields of a descriptor or an image config.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, variant) = normalise_architecture(architecture, variant);
        Self { os: normalise_os(os), architecture, variant }
    }

    /// PLT-1, PLT-2: `os`, `arch`, `os/arch` or `os/arch/variant`.
    pub fn parse(text: &str) -> Result<Self> {
        let head: String = text.chars().take(80).collect();
        let refuse = |why: &str| {
            Error::invalid_argument(format!("platform {head:?}: {why}"))
                .with_hint("use <os>/<arch>[/<variant>], such as linux/arm64")
        };
        if text.contains('*') {
            return Err(refuse("wildcards are not supported"));
        }
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| {
            part.is_empty() || !part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        }) {
            return Err(refuse("a part is empty or malformed"));
        }
        match parts.as_slice() {
            [one] => {
                let os = normalise_os(one);
                if KNOWN_OS.contains(&os.as_str()) {
                    return Ok(Self { os, ..Self::host() });
                }
                let (architecture, variant) = normalise_architecture(one, "");
                if KNOWN_ARCHITECTURES.contains(&architecture.as_str()) {
                    return Ok(Self { os: Self::host().os, architecture, variant });
                }
                Err(refuse("neither a known operating system nor a known architecture"))
            }
            [os, arch] => Ok(Self::new(os, arch, "")),
            [os, arch, variant] => Ok(Self::new(os, arch, variant)),
            _ => Err(refuse("more than three parts")),
        }
    }

    /// How well `candidate` serves `self`: `None` not at all, else smaller is better (PLT-4 as meant: v8, v7, v6, v5 fall back).
    pub fn rank(&self, candidate: &Self) -> Option<u32> {
        if self.os != candidate.os || self.architecture != candidate.architecture {
            return None;
        }
        match (variant_number(self), variant_number(candidate)) {
            (Some(want), Some(have)) if have <= want => Some(want - have),
            (None, None) if self.variant == candidate.variant => Some(0),
            _ => None,
        }
    }
}

/// The number of an arm variant, with the default of each architecture filled in.
fn variant_number(platform: &Platform) -> Option<u32> {
    let default = match platform.architecture.as_str() {
        "arm64" => 8,
        "arm" => 7,
        _ => return None,
    };
    if platform.variant.is_empty() { Some(default) } else { platform.variant.strip_prefix('v')?.parse().ok() }
}

fn normalise_os(os: &str) -> String {
    let lower = os.to_ascii_lowercase();
    if lower == "macos" { "darwin".to_owned() } else { lower }
}

fn normalise_architecture(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let pair = |a: &str, v: &str| (a.to_owned(), v.to_owned());
    match architecture.as_str() {
        "i386" => pair("386", ""),
        "x86_64" | "x86-64" | "amd64" => pair("amd64", if variant == "v1" { "" } else { &variant }),
        "aarch64" | "arm64" => pair("arm64", if variant == "8" || variant == "v8" { "" } else { &variant }),
        "armhf" => pair("arm", "v7"),
        "armel" => pair("arm", "v6"),
        "arm" => match variant.as_str() {
            "" | "7" => pair("arm", "v7"),
            "5" | "6" | "8" => ("arm".to_owned(), format!("v{variant}")),
            _ => pair("arm", &variant),
        },
        _ => (architecture, variant),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.os.is_empty() { "unknown" } else { &self.os })?;
        for part in [&self.architecture, &self.variant] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plt_1_specifier_forms() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
        ] {
            assert_eq!(Platform::parse(text).expect(text).to_string(), want);
        }
        for bad in ["", "*", "linux/*", "a/b/c/d", "nonsense", "linux//v7"] {
            assert_eq!(Platform::parse(bad).expect_err(bad).class, crate::ErrorClass::InvalidArgument);
        }
    }

    #[test]
    fn plt_2_plt_3_one_word_is_a_system_or_an_architecture_and_other_spellings_are_known() {
        let host = Platform::host();
        assert_eq!(Platform::parse("linux").expect("an os"), host);
        assert_eq!(Platform::parse("s390x").expect("an architecture"), Platform::new("linux", "s390x", ""));
        for (text, want) in [
            ("macos/x86-64", "darwin/amd64"),
            ("linux/i386", "linux/386"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/armel", "linux/arm/v6"),
            ("LINUX/ARM/8", "linux/arm/v8"),
        ] {
            assert_eq!(Platform::parse(text).expect(text).to_string(), want);
        }
    }

    #[test]
    fn plt_5_plt_6_the_hosts_platform_and_how_one_is_written() {
        let host = Platform::host();
        assert_eq!(Platform::parse(&host.to_string()).expect("reads its own"), host);
        assert_eq!((host.os.as_str(), host.architecture.is_empty()), ("linux", false));
        assert_eq!(Platform::new("", "amd64", "").to_string(), "unknown/amd64");
        assert_eq!(Platform::new("linux", "", "").to_string(), "linux");
    }

    #[test]
    fn plt_4_variants_fall_back_to_the_nearest() {
        let want = Platform::parse("linux/arm/v7").expect("parses");
        assert_eq!(want.rank(&Platform::new("linux", "arm", "v7")), Some(0));
        assert_eq!(want.rank(&Platform::new("linux", "arm", "v6")), Some(1));
        assert_eq!(want.rank(&Platform::new("linux", "arm", "v8")), None);
        assert_eq!(Platform::new("linux", "arm64", "").rank(&Platform::new("linux", "arm64", "v8")), Some(0));
    }
}

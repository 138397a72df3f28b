//! References, digests, names, platforms: what is accepted is written as it was meant, and read again as the same.

use bosun_types::platform::Platform;
use bosun_types::reference::Reference;
use bosun_types::{ContainerId, Digest, ImageName, NamespaceName, SnapshotKey};

use super::engine::{Target, as_it_is};

const WORDS: &[&str] = &[
    "sha256:",
    "@",
    ":",
    "/",
    "..",
    "//",
    "localhost",
    ":5000",
    "[::1]",
    "linux/amd64",
    "%2f",
    "\u{0}",
    "é",
    "A",
    "_",
    "-",
    ".",
    "\n",
];

#[test]
fn a_reference_that_is_accepted_is_read_again_as_the_same_and_leads_nowhere_else() {
    let inputs = vec![b"registry.example:5000/team/app:1.2".to_vec()];
    let target = Target { name: "reference", inputs, words: WORDS, mend: as_it_is, change: None };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        let Ok(reference) = Reference::parse(&text) else { return };
        assert_eq!(Reference::parse(&reference.to_string()).expect("reads its own word"), reference);
        assert!(reference.to_string().split('/').all(|part| part != ".."), "{reference}: no path upwards");
        // What becomes an address of a registry has nothing in it that begins another part of an address.
        let address = format!("{}/{}", reference.host, reference.path);
        assert!(!address.contains(['?', '#', '%', '\\', '@', ' ']), "{address:?}");
        assert!(!address.chars().any(char::is_control), "{address:?}");
        if let Ok(object) = reference.object() {
            assert!(!object.contains(['/', '?', '#', '%', '\\', ' ']), "{object:?}");
        }
    });
}

#[test]
fn a_word_that_is_accepted_is_read_again_as_the_same() {
    let inputs = [
        "registry.example:5000/team/app:1.2",
        "linux/arm64/v8",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ];
    let inputs = inputs.iter().map(|text| text.as_bytes().to_vec()).collect();
    let target = Target { name: "word", inputs, words: WORDS, mend: as_it_is, change: None };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text, "one form");
            assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        if let Ok(platform) = Platform::parse(&text) {
            assert_eq!(Platform::parse(&platform.to_string()).expect("reads its own word"), platform);
        }
        for accepted in [
            ImageName::new(text.as_ref()).map(|name| name.to_string()),
            NamespaceName::new(text.as_ref()).map(|name| name.to_string()),
            ContainerId::new(text.as_ref()).map(|name| name.to_string()),
            SnapshotKey::new(text.as_ref()).map(|name| name.to_string()),
        ]
        .into_iter()
        .flatten()
        {
            assert_eq!(accepted, text);
            assert!(!accepted.chars().any(char::is_control), "{accepted:?}");
        }
    });
}

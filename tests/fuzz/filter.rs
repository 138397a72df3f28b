//! Filters: what is parsed is small, has its place in the text when it is refused, and matches the same each time.

use std::borrow::Cow;

use bosun_filter::{FILTER_BYTES_MAX, Fields, Filter};

use super::engine::{Target, as_it_is};

const WORDS: &[&str] = &[
    "==",
    "!=",
    "~=",
    "=",
    ",",
    ".",
    "\"",
    "\\",
    "/",
    "|",
    "\\x41",
    "\\u00e9",
    "\\777",
    "\\q",
    "labels.",
    "name",
    " ",
    "(a|b)*",
    "(?i)",
    "{1000}",
    "[^",
    "\\pL",
    "\u{0}",
    "é",
    "\u{10ffff}",
];

/// Whatever is asked of it is the text that it is.
struct Echo;

impl Fields for Echo {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        path.first().filter(|first| *first != "none").map(|_| Cow::Owned(path.join(".")))
    }
}

#[test]
fn a_filter_is_understood_or_its_error_names_a_place_in_it() {
    let inputs = vec![b"name".to_vec(), b"none!=x,name~=^n".to_vec()];
    let target = Target { name: "filter", inputs, words: WORDS, mend: as_it_is, change: None };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        match Filter::parse(&text) {
            Ok(filter) => {
                assert!(text.len() <= FILTER_BYTES_MAX);
                let matches = filter.matches(&Echo);
                // Of a list it is one of several that will do.
                let list = Filter::parse_all(&[text.as_ref(), "none"]).expect("each is good");
                assert!(list.is_all() || list.matches(&Echo) == matches, "{text:?}");
                assert!(!filter.is_all() || matches, "{text:?}");
            }
            Err(error) => {
                assert!(error.position <= error.input.len() && !error.reason.is_empty(), "{error:?}");
                assert!(error.input.is_char_boundary(error.position), "{error:?}");
                assert!(text.starts_with(&error.input) && error.to_string().contains(">|"), "{error}");
            }
        }
    });
}

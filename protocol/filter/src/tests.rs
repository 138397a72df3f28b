//! The rows FLT-1..8 as tables; what is built parses back; whatever bytes come, the parser ends with an answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bosun_types::ErrorClass;
use proptest::prelude::*;

use super::*;
use crate::matching::compile;
use crate::scan::unquote;

/// A thing with a name and labels.
struct Thing {
    name: &'static str,
    labels: BTreeMap<String, String>,
}

impl Fields for Thing {
    fn field(&self, path: &[String]) -> Option<std::borrow::Cow<'_, str>> {
        match path[0].as_str() {
            "name" => Some(self.name.into()),
            "labels" => crate::fields::of_labels(&self.labels, &path[1..]),
            _ => None,
        }
    }
}

fn thing(name: &'static str, labels: &[(&str, &str)]) -> Thing {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Thing { name, labels }
}

fn things() -> Vec<Thing> {
    vec![
        thing("foo", &[("foo", "true")]),
        thing("bar", &[]),
        thing("foo2", &[("foo", "present"), ("a label with \\ and \".", "present")]),
        thing("bar2", &[("bar", "true"), ("containerd.io/gc.root", "now")]),
        thing("empty", &[("foo", "")]),
        thing("compound", &[("foo", "omg_asdf.asdf-qwer"), ("a.b.c", "dots")]),
        thing("spaced", &[("foo", "x y, z")]),
    ]
}

/// The names of those that the filters want.
fn wanted(filters: &[&str]) -> Vec<&'static str> {
    let filter = Filter::parse_all(filters).unwrap_or_else(|error| panic!("{filters:?}: {error}"));
    things().iter().filter(|thing| filter.matches(*thing)).map(|thing| thing.name).collect()
}

const ALL: &[&str] = &["foo", "bar", "foo2", "bar2", "empty", "compound", "spaced"];

#[test]
fn flt_1_selectors_are_and_ed_filters_are_or_ed_and_none_or_an_empty_one_wants_all() {
    assert_eq!(wanted(&[]), ALL);
    assert_eq!(wanted(&[""]), ALL);
    assert_eq!(wanted(&["name==foo", ""]), ALL);
    assert_eq!(wanted(&["name==foo"]), ["foo"]);
    assert_eq!(wanted(&["name==foo,labels.foo==true"]), ["foo"]);
    assert_eq!(wanted(&["name==foo,labels.foo==present"]), [""; 0]);
    assert_eq!(wanted(&["name==bar", "labels.foo==present"]), ["bar", "foo2"]);
    assert_eq!(wanted(&["name~=^foo,name!=foo"]), ["foo2"]);
    assert_eq!(wanted(&[" name == bar , name"]), ["bar"], "space between tokens is nothing");
}

#[test]
fn flt_2_paths_of_plain_and_quoted_fields() {
    assert_eq!(wanted(&["labels.\"containerd.io/gc.root\"==now"]), ["bar2"]);
    assert_eq!(wanted(&["\"labels\".\"foo\"==true"]), ["foo"]);
    assert_eq!(wanted(&["labels.\"a label with \\\\ and \\\".\""]), ["foo2"]);
    assert_eq!(wanted(&["unknown"]), [""; 0]);
    refused("labels.containerd.io/gc.root==now", 20, "expected an operator");
}

#[test]
fn flt_3_values_quoted_or_a_run_without_comma_and_space() {
    assert_eq!(wanted(&["labels.foo==omg_asdf.asdf-qwer"]), ["compound"]);
    assert_eq!(wanted(&["labels.foo==\"omg_asdf.asdf-qwer\""]), ["compound"]);
    assert_eq!(wanted(&["labels.foo==\"x y, z\""]), ["spaced"]);
    refused("labels.foo==x y", 14, "unexpected input: y");
    // A path needs no quotes; what looks like a regular expression is not compared as text.
    assert!(Filter::parse("topic==/tasks/exit").is_ok());
    assert!(Filter::parse("topic!=/tasks/exit,topic==/").is_err());
}

#[test]
fn flt_4_quotes_and_their_escapes() {
    for (quoted, content) in [
        (r#""a\"b\\c""#, "a\"b\\c"),
        (r#""\a\b\f\n\r\t\v""#, "\u{7}\u{8}\u{c}\n\r\t\u{b}"),
        (r#""\x41\102\u00e9\U0001F600""#, "AB\u{e9}\u{1F600}"),
        (r#""\xc3\xa9""#, "\u{e9}"),
        (r"/a\/b/", "a/b"),
        (r"|a\|b|", "a|b"),
        (r"/\d+\.\w\b/", r"\d+\.\w\b"),
        (r"/a\\.b/", r"a\.b"),
    ] {
        assert_eq!(unquote(quoted).as_deref(), Ok(content), "{quoted}");
    }
    for quoted in
        [r#""\q""#, r#""\x4""#, r#""\xff""#, r#""\400""#, r#""\ud800""#, r#""\'""#, r#""\U00110000""#]
    {
        assert!(unquote(quoted).is_err(), "{quoted}");
    }
    assert_eq!(wanted(&["name~=/^foo/"]), ["foo", "foo2"]);
    assert_eq!(wanted(&["name~=|^foo|"]), ["foo", "foo2"]);
    assert_eq!(wanted(&["name~=/^[a-z]{3,3}$/"]), ["foo", "bar"], "a comma between quotes");
    refused("name==/foo/", 6, "invalid quote encountered");
    refused("name==/[abc]{0,2}/", 6, "invalid quote encountered");
    refused("name==|foo|", 6, "invalid quote encountered");
    refused("name~=/foo", 6, "quoted literal not terminated");
    refused("name==\"foo\\\"", 6, "quoted literal not terminated");
    refused("name==\"fo\no\"", 9, "newline");
    refused("name==\"\\q\"", 6, "unquoting failed");
}

#[test]
fn flt_5_presence() {
    assert_eq!(wanted(&["labels.foo"]), ["foo", "foo2", "compound", "spaced"], "an empty value is absent");
    assert_eq!(wanted(&["labels.foo!=true"]), ["bar", "foo2", "bar2", "empty", "compound", "spaced"]);
    assert_eq!(wanted(&["labels.foo~=^$"]), ["bar", "bar2", "empty"]);
    assert_eq!(wanted(&["labels.foo==\"\""]), [""; 0]);
    assert_eq!(wanted(&["nothing!=x"]), ALL);
}

#[test]
fn flt_6_bad_and_costly_regular_expressions_are_refused_when_parsed() {
    assert_eq!(wanted(&["name~=oo"]), ["foo", "foo2"], "unanchored");
    refused("name~=\"fo(o\"", 6, "bad regular expression: unclosed group");
    refused("name~=(?=x)", 6, "bad regular expression: look-around");
    refused("name~=/(a{1000}){1000}/", 6, "too large");
    refused(&format!("name~={}a{}", "(".repeat(100), ")".repeat(100)), 6, "nest");
    // RE2's promise: linear in the text, however it is built.
    let evil = compile("(a+)+(a|aa)+(a|a?)+$").expect("small");
    let begin = Instant::now();
    assert!(!evil.is_match(&format!("{}b", "a".repeat(20_000))));
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn flt_7_unquoted_keys_with_dots() {
    assert_eq!(wanted(&["labels.a.b.c==dots"]), ["compound"]);
    assert_eq!(wanted(&["labels.a.\"b.c\"==dots"]), ["compound"]);
    assert_eq!(wanted(&["labels.a.b"]), [""; 0]);
}

/// Refused at this byte with a reason that contains this.
fn refused(text: &str, position: usize, reason: &str) {
    let error = Filter::parse(text).map(drop).expect_err(text);
    assert_eq!(error.position, position, "{text}: {error}");
    assert!(error.reason.contains(reason), "{text}: {error}");
}

#[test]
fn flt_8_the_place_is_marked_and_the_class_is_invalid_argument() {
    for (text, want) in [
        ("name=bar", "[name >|=|< bar]: unsupported operator \"=\""),
        ("name==bar,?", "[name==bar, >|?|< ]: expected field or quoted"),
        ("name==é é", "[name==é  >|é|< ]: unexpected input: é"),
        ("name==", "[name== >||<]: expected value or quoted"),
        ("name,", "[name, >||<]: expected field or quoted"),
        (",", "[ >|,|< ]: expected field or quoted"),
        ("name.", "[name. >||<]: expected field or quoted"),
        ("a b", "[a  >|b|< ]: expected an operator (\"==\"|\"!=\"|\"~=\")"),
    ] {
        let error = Filter::parse(text).map(drop).expect_err(text);
        assert_eq!(error.to_string(), want);
        let told = Filter::parse_all(&["fine", text]).expect_err(text);
        assert_eq!((told.class, told.message), (ErrorClass::InvalidArgument, format!("filter {want}")));
        assert!(told.hint.is_some());
    }
}

#[test]
fn what_a_request_may_cost_has_limits() {
    assert!(Filter::parse_all(&vec!["a"; FILTERS_MAX]).is_ok());
    assert!(Filter::parse_all(&vec!["a"; FILTERS_MAX + 1]).is_err());
    assert!(Filter::parse(&vec!["a"; SELECTORS_MAX].join(",")).is_ok());
    assert!(Filter::parse(&vec!["a"; SELECTORS_MAX + 1].join(",")).is_err());
    let error = Filter::parse(&"a".repeat(FILTER_BYTES_MAX + 1)).expect_err("too long");
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn what_is_built_means_what_was_said() {
    let filters = field("name").equals("foo").and(label("foo").present()).or(label("a.b.c").matches("^d"));
    assert_eq!(filters.texts(), ["name==\"foo\",labels.\"foo\"", "labels.\"a.b.c\"~=\"^d\""]);
    let texts: Vec<&str> = filters.texts().iter().map(String::as_str).collect();
    assert_eq!(wanted(&texts), ["foo", "compound"]);
    assert_eq!(wanted(&[&field("name").differs("bar").to_string()]).len(), ALL.len() - 1);
}

proptest! {
    #[test]
    fn any_label_can_be_asked_for(key in "\\PC{1,40}|[\\x01-\\x7f]{1,20}", value in "\\PC{1,40}|[\\x01-\\x7f]{1,20}") {
        let thing = Thing { name: "x", labels: BTreeMap::from([(key.clone(), value.clone())]) };
        let one = |expression: Expression| {
            Filter::parse(&expression.to_string()).unwrap_or_else(|error| panic!("{error}")).matches(&thing)
        };
        prop_assert!(one(label(&key).equals(&value)));
        prop_assert!(one(label(&key).present()));
        prop_assert!(!one(label(&key).differs(&value)));
        prop_assert!(one(label(&key).matches(&regex::escape(&value))));
        let other = format!("{value}!");
        prop_assert!(!one(label(&key).equals(&other)));
    }

    /// Against a model: lists of simple selectors, by the words of the rows.
    #[test]
    fn conditions_mean_what_the_rows_say(
        labels in proptest::collection::btree_map("[ab]", "[xy]{0,2}", 0..3),
        alternatives in proptest::collection::vec(
            proptest::collection::vec(("[ab]", 0..4_usize, "[xy]{1,2}"), 1..3), 0..3),
    ) {
        let thing = Thing { name: "x", labels: labels.clone() };
        let text = |(key, test, value): &(String, usize, String)| match test {
            0 => format!("labels.{key}"),
            1 => format!("labels.{key}=={value}"),
            2 => format!("labels.{key}!={value}"),
            _ => format!("labels.{key}~={value}"),
        };
        let holds = |(key, test, value): &(String, usize, String)| {
            let found = labels.get(key).cloned().unwrap_or_default();
            match test {
                0 => !found.is_empty(),
                1 => found == *value,
                2 => found != *value,
                _ => found.contains(value.as_str()),
            }
        };
        let texts: Vec<String> =
            alternatives.iter().map(|all| all.iter().map(text).collect::<Vec<_>>().join(",")).collect();
        let model = alternatives.is_empty() || alternatives.iter().any(|all| all.iter().all(holds));
        prop_assert_eq!(Filter::parse_all(&texts).expect("good").matches(&thing), model);
    }
}

const CORPUS: &[&str] = &[
    "name==foo,labels.foo==true",
    "labels.\"containerd.io/gc.root\"!=\"a\\u00e9\\x41\\101\"",
    "topic~=/^\\/tasks\\/(exit|oom)$/,namespace==default",
    "event.labels.a.b.c~=|[a-z]{1,3}(?i:x)|",
    "image==docker.io/library/busybox:1.36@sha256:00 , id~=\"^web-\\\\d+$\"",
    "topic==/tasks/exit",
];

/// Mutations of good filters: each ends with a filter or with an error whose place is in the text, in bounded time.
#[test]
fn whatever_comes_the_parser_ends_with_an_answer() {
    let seed =
        std::env::var("BOSUN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x9e37_79b9_7f4a_7c15);
    println!("BOSUN_SEED={seed}");
    let mut state: u64 = seed;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap_or(0)
    };
    const BITS: &[&str] = &[
        "\"", "/", "|", "\\", ",", ".", "==", "!=", "~=", " ", "\n", "é", "(", "{9999}", "\\x", "*", "\u{0}",
    ];
    let values = things();
    let (begin, mut good, mut bad) = (Instant::now(), 0, 0);
    while begin.elapsed() < Duration::from_millis(700) {
        let mut text = CORPUS[random(CORPUS.len())].to_owned();
        for _ in 0..=random(5) {
            let at = random(text.chars().count() + 1);
            let at = text.char_indices().nth(at).map_or(text.len(), |(at, _)| at);
            match random(4) {
                0 => text.insert_str(at, BITS[random(BITS.len())]),
                1 => text.truncate(at),
                2 if at < text.len() => drop(text.remove(at)),
                _ => text.push_str(&CORPUS[random(CORPUS.len())][..4]),
            }
        }
        match Filter::parse(&text) {
            Ok(filter) => {
                good += 1;
                let matched = values.iter().filter(|value| filter.matches(*value)).count();
                assert!(matched <= values.len());
            }
            Err(error) => {
                bad += 1;
                assert!(error.position <= text.len() && text.is_char_boundary(error.position), "{text:?}");
                assert!(error.to_string().contains(">|"), "{error}");
            }
        }
    }
    assert!(good > 20 && bad > 20, "{good} good, {bad} bad: the mutations reach both");
}

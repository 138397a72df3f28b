//! Every method of the schema, and what the edge makes of it: written in the sources, so that a new one cannot be forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;

/// Methods that do nothing by themselves: they hand out a capability, or tell what the connection is; and pieces of a stream, which belong to the call that opened it.
const PLAIN: &[&str] = &[
    "Bosun.events",
    "Bosun.namespace",
    "Bosun.reach",
    "Bosun.version",
    "Bosun.withKey",
    "ByteSink.end",
    "ByteSink.write",
    "Container.task",
    "Containers.get",
    "ContentWriter.write",
    "Groups.get",
    "Namespace.containers",
    "Namespace.content",
    "Namespace.events",
    "Namespace.groups",
    "Namespace.images",
    "Namespace.leases",
    "Namespace.snapshots",
    "Namespace.transfers",
    "Namespace.withKey",
    "Namespace.withLease",
    "Task.process",
    "Transfer.progress",
    "Transfer.watch",
];

/// How the sources call it: `held.once(…)` and the like, and the macros of transfers, which do.
const ONCE: &[&str] = &["once(", "feed(", "begin!("];
const OTHERS: &[&str] = &["call(", "wait("];

fn snake(name: &str) -> String {
    let low = |c: char| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.into() };
    name.chars().map(low).collect()
}

/// `Interface.method` of every schema file.
fn schema() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
    let mut methods = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the schema is there") {
        let path = entry.expect("is read").path();
        if path.extension().is_none_or(|it| it != "capnp") {
            continue;
        }
        let mut interface = None;
        for line in std::fs::read_to_string(path).expect("is text").lines() {
            if let Some(rest) = line.strip_prefix("interface ") {
                interface = rest.split([' ', '(']).next().map(str::to_owned);
            } else if line.starts_with('}') {
                interface = None;
            } else if let (Some(interface), Some((method, rest))) = (&interface, line.split_once(" @"))
                && line.starts_with("  ")
                && rest.split_once(" (").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
            {
                methods.push((interface.clone(), method.trim().to_owned()));
            }
        }
    }
    methods
}

/// What each method of each `impl …::Server` says of itself: its names in the audit log, and whether it is done once.
fn sources() -> BTreeMap<(String, String), Vec<(String, bool)>> {
    let mut found = BTreeMap::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in std::fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("is read").path();
        // What a namespace's socket shows is the same, or refused.
        if path.extension().is_none_or(|it| it != "rs") || path.ends_with("confined.rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).expect("is text");
        for part in text.split("\nimpl ").skip(1) {
            let Some((interface, rest)) = part.split_once("::Server for ") else { continue };
            let body = rest.split("\n}\n").next().unwrap_or_default();
            for method in body.split("\n    async fn ").skip(1) {
                let name = method.split('(').next().unwrap_or_default().to_owned();
                found.insert((interface.trim().to_owned(), name), calls(method));
            }
        }
    }
    found
}

/// Each `word("name", …` of a method's text.
fn calls(text: &str) -> Vec<(String, bool)> {
    let flat: String = text.split_whitespace().collect();
    let mut found = Vec::new();
    for (words, once) in [(ONCE, true), (OTHERS, false)] {
        for word in words {
            for rest in flat.split(word).skip(1) {
                // The macro's first words are the method's own.
                let named = rest.trim_start_matches("self,params,results,").strip_prefix('"');
                if let Some(name) = named.and_then(|name| name.split('"').next()) {
                    found.push((name.to_owned(), once));
                }
            }
        }
    }
    found
}

#[test]
fn what_is_not_named_changes() {
    assert!(READS.is_sorted() && FEEDS.is_sorted(), "binary search needs order");
    assert!(SAME_AGAIN.is_sorted(), "binary search needs order");
    for method in READS {
        assert_eq!(effect(method), Effect::Reads);
    }
    for method in ["container.create", "process.attach", "process.kill", "new.call", "", "event.publish"] {
        assert_eq!(effect(method), Effect::Changes, "{method}");
    }
    assert_eq!(effect("process.write_stdin"), Effect::Feeds);
    assert_eq!(same_again("container.create"), None);
    assert!(same_again("content.writer").is_some());
}

#[test]
fn each_method_of_the_schema_reads_or_is_done_once_or_is_the_same_when_repeated() {
    let (schema, sources) = (schema(), sources());
    assert!(schema.len() > 100, "{}", schema.len());
    let mut named = BTreeSet::new();
    for (interface, method) in &schema {
        let shown = format!("{interface}.{method}");
        let known = sources.get(&(snake(interface).trim_start_matches('_').to_owned(), snake(method)));
        let calls = known.unwrap_or_else(|| panic!("{shown}: nothing serves it"));
        if PLAIN.contains(&shown.as_str()) {
            continue;
        }
        assert!(!calls.is_empty(), "{shown} has no name of its own: it is neither audited nor limited");
        for (name, once) in calls {
            named.insert(name.clone());
            match (effect(name), once, same_again(name)) {
                (Effect::Reads, once, _) => assert!(!once, "{shown}: {name} only reads"),
                (_, true, None) | (_, false, Some(_)) => {}
                (_, true, Some(_)) => panic!("{shown}: {name} is done once, and is listed as the same again"),
                (_, false, None) => panic!(
                    "{shown}: {name} changes something, and is neither done once nor listed as the same again"
                ),
            }
        }
    }
    for name in READS.iter().chain(FEEDS).chain(SAME_AGAIN.iter().map(|(name, _)| name)) {
        assert!(named.contains(*name), "{name} is listed, and no method is called so");
    }
}

#[test]
fn the_page_about_calls_names_each_change_where_it_belongs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/calls.md");
    let page = std::fs::read_to_string(page).expect("is there");
    let (once, same) = page.split_once("## The same when repeated").expect("has both parts");
    for (name, once_here) in sources().into_values().flatten() {
        if effect(&name) == Effect::Reads {
            continue;
        }
        let quoted = format!("`{name}`");
        match same_again(&name) {
            None => assert!(once_here && once.contains(&quoted), "{name} is not in the page's table of keys"),
            Some(reason) => {
                assert!(
                    same.contains(&format!("| {quoted} | {reason} |")),
                    "{name}: the page says something else"
                );
            }
        }
    }
}

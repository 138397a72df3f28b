//! The schema's files are the contract: what was once in them stays as it was. `protocol/schema/contract.txt` lists every member with its number and
//! type; a line of it that the schema does not say any more breaks clients that were built before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Set to `write`, the list is renewed: members that were added are then promised too.
const RENEW: &str = "BOSUN_GOLDEN";

fn schema() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema")
}

/// `<file> <scope>.<member> @<number> <the rest>`, for each member of a file.
fn members(file: &str, text: &str) -> BTreeSet<String> {
    let (mut found, mut scopes) = (BTreeSet::new(), Vec::new());
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line == "}" {
            scopes.pop().expect("every brace was opened");
            continue;
        }
        if let Some(head) = line.strip_suffix('{') {
            // `struct X`, `interface X extends(Y)`, `cause :union`, or `union` without a name.
            let head = head.trim();
            let words: Vec<&str> = head.split([' ', ':', '(']).filter(|word| !word.is_empty()).collect();
            let keyword = ["struct", "interface", "enum"].contains(&words[0]);
            scopes.push(if keyword { words[1].to_owned() } else { words[0].to_owned() });
            if head.contains("extends") {
                found.insert(format!("{file} {head}"));
            }
            continue;
        }
        if let Some((member, rest)) =
            line.trim_end_matches(';').split_once(" @").filter(|_| !scopes.is_empty())
        {
            let name = format!("{file} {}.{member}", scopes.join("."));
            match rest.split_once(" (") {
                None => drop(found.insert(format!("{name} @{rest}"))),
                Some((number, words)) => {
                    found.insert(format!("{name} @{number}"));
                    found.extend(words_of(&name, words));
                }
            }
        }
    }
    assert!(scopes.is_empty(), "{file}: {scopes:?} stay open");
    found
}

/// A method's parameters and results, each with its place: more may follow, these stay.
fn words_of(name: &str, words: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (parameters, results) = words.split_once("->").expect("a method answers");
    for (arrow, words) in [("", parameters), (" ->", results)] {
        let words = words.trim().trim_start_matches('(').trim_end_matches(')');
        // No type of ours has a comma.
        for (place, word) in words.split(", ").filter(|word| !word.is_empty()).enumerate() {
            // The closing parenthesis of a list's type went with that of the method.
            let whole = if word.matches('(').count() > word.matches(')').count() { ")" } else { "" };
            found.push(format!("{name}{arrow} ({place}) {word}{whole}"));
        }
    }
    found
}

/// The same member once it is retired: its number stays, its name says so.
fn retired(line: &str) -> String {
    let mut words = line.splitn(3, ' ');
    let (file, name, rest) = (words.next(), words.next(), words.next());
    format!("{} {}Old {}", file.unwrap_or_default(), name.unwrap_or_default(), rest.unwrap_or_default())
}

fn all() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(schema()).expect("lists") {
        let path = entry.expect("lists").path();
        if path.extension().is_some_and(|extension| extension == "capnp") {
            let file = path.file_stem().expect("has a name").to_string_lossy().into_owned();
            found.extend(members(&file, &std::fs::read_to_string(&path).expect("reads")));
        }
    }
    found
}

#[test]
fn what_the_schema_has_promised_it_keeps() {
    let (path, now) = (schema().join("contract.txt"), all());
    assert!(now.len() > 500, "only {} members were read", now.len());
    if std::env::var(RENEW).is_ok_and(|value| value == "write") {
        let text: String = now.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, text).expect("writes");
    }
    let promised = std::fs::read_to_string(&path).expect("reads");
    let broken: Vec<&str> =
        promised.lines().filter(|line| !now.contains(*line) && !now.contains(&retired(line))).collect();
    assert!(broken.is_empty(), "the schema does not say any more:\n  {}", broken.join("\n  "));
}

#[test]
fn members_are_read_with_their_scope_number_and_type() {
    let text = "@0x1;\nstruct A {\n  # @9 is none\n  b @0 :Text;\n  c :union {\n    d @1 :Void;\n  }\n}\ninterface E extends(F) {\n  g @0 (h :Text) -> (i :List(F));\n}\n";
    let read: Vec<String> = members("f", text).into_iter().collect();
    let wanted = [
        "f A.b @0 :Text",
        "f A.c.d @1 :Void",
        "f E.g (0) h :Text",
        "f E.g -> (0) i :List(F)",
        "f E.g @0",
        "f interface E extends(F)",
    ];
    assert_eq!(read, wanted);
    assert_eq!(retired("f A.b @0 :Text"), "f A.bOld @0 :Text");
}

//! `docs/protocol/cli-parity.md`: each verb and flag of ctr, beside a word of ours that the command's help knows, or beside a reason in `docs/scope.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use bosun_tests::world::program;

use super::{ELSEWHERE, quoted, source};

/// What ctr has: a line for each verb, and for each verb's flag.
const WORDS: &str = include_str!("ctr.txt");

struct Row {
    /// `ctr run`, or `ctr` for the flags of all.
    verbs: Vec<String>,
    flag: Option<String>,
    ours: String,
}

fn rows() -> Vec<Row> {
    let text = source("docs/protocol/cli-parity.md");
    let cells = text.lines().filter(|line| line.starts_with("| `ctr")).map(|line| {
        let cells: Vec<&str> = line.trim_start_matches("| ").split(" |").map(str::trim).collect();
        (cells[0].to_owned(), cells[1].to_owned())
    });
    cells
        .map(|(words, ours)| {
            let (verbs, flags): (Vec<&str>, Vec<&str>) =
                quoted(&words).partition(|word| !word.starts_with('-'));
            Row {
                verbs: verbs.into_iter().map(str::to_owned).collect(),
                flag: flags.first().map(|flag| (*flag).to_owned()),
                ours,
            }
        })
        .collect()
}

#[test]
fn cli_1_to_cli_17_each_word_of_ctr_has_its_place() {
    let mut placed = BTreeSet::new();
    for row in rows() {
        for verb in &row.verbs {
            let words = [Some(verb.clone()), row.flag.clone()];
            placed.insert(words.into_iter().flatten().collect::<Vec<_>>().join(" "));
        }
    }
    let wanted: BTreeSet<String> = WORDS.lines().map(str::to_owned).collect();
    let missing: Vec<&String> = wanted.difference(&placed).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    let unknown: Vec<&String> = placed.difference(&wanted).collect();
    assert!(unknown.is_empty(), "ctr has no such words: {unknown:?}");
}

/// The heads of scope.md's reasons: what is before the first colon.
fn reasons() -> Vec<String> {
    let scope = source("docs/scope.md");
    scope.split("\n- ").skip(1).filter_map(|reason| Some(reason.split_once(": ")?.0.to_owned())).collect()
}

#[test]
fn each_word_of_ctr_that_is_not_ours_has_a_reason() {
    let reasons = reasons();
    for row in rows().iter().filter(|row| row.ours == ELSEWHERE) {
        let named = |head: &String, word: &str| quoted(head).any(|it| it == word);
        for verb in &row.verbs {
            let group = verb.split(' ').take(2).collect::<Vec<_>>().join(" ");
            let whole = |head: &String| {
                quoted(head).next() == Some(verb.as_str()) || quoted(head).next() == Some(group.as_str())
            };
            let has = match &row.flag {
                None => reasons.iter().any(whole),
                Some(flag) => reasons
                    .iter()
                    .any(|head| named(head, flag) || named(head, &format!("{verb} {flag}")) || whole(head)),
            };
            assert!(has, "scope.md gives no reason for {verb} {:?}", row.flag);
        }
    }
}

#[test]
fn each_word_of_ours_beside_one_of_ctr_is_in_its_help() {
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let mut count = 0;
    for row in rows().iter().filter(|row| row.ours != ELSEWHERE) {
        assert!(quoted(&row.ours).count() > 0, "nothing is beside {:?}", row.verbs);
        for words in quoted(&row.ours) {
            let (flags, verbs): (Vec<&str>, Vec<&str>) =
                words.split(' ').partition(|word| word.starts_with('-'));
            let path: Vec<String> = verbs.iter().skip(1).map(|word| (*word).to_owned()).collect();
            let help = helps.entry(path.clone()).or_insert_with(|| {
                let output = Command::new(program("bosun")).args(&path).arg("--help").output().expect("runs");
                let usage = format!("Usage: {}", verbs.join(" "));
                let help = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success() && help.contains(&usage), "{words}: {help}");
                help
            });
            for flag in flags {
                let is_flag = |word: &str| word.trim_end_matches(',') == flag;
                assert!(help.split_whitespace().any(is_flag), "{words}: its help does not know {flag}");
            }
            count += 1;
        }
    }
    assert!(count > 200, "only {count} are named");
}

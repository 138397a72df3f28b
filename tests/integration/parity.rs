//! `docs/protocol/parity.md` is whole and true: each row of the feature table, each with a test that exists and is run, or a reason in `docs/scope.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bosun_tests::world::program;

mod ctr;
mod items;

/// The feature table's groups, and how many rows each has.
const GROUPS: [(&str, usize); 28] = [
    ("ERR", 6),
    ("ID", 12),
    ("NS", 9),
    ("CTR", 18),
    ("TSK", 33),
    ("CKP", 11),
    ("IO", 13),
    ("SHM", 15),
    ("CON", 26),
    ("SNP", 24),
    ("MNT", 12),
    ("IMG", 22),
    ("PLT", 6),
    ("REM", 22),
    ("IEX", 6),
    ("DIF", 6),
    ("EVT", 11),
    ("FLT", 8),
    ("LSE", 7),
    ("GC", 10),
    ("SPC", 15),
    ("SEC", 6),
    ("MET", 8),
    ("SYS", 17),
    ("CLT", 6),
    ("CLI", 17),
    ("STR", 2),
    ("RST", 1),
];
/// What the third column says of a row that `scope.md` gives a reason for.
const ELSEWHERE: &str = "see scope.md";

fn source(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of each table row, without heads and rules.
fn rows() -> Vec<Vec<String>> {
    source("docs/protocol/parity.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'))
        .map(|line| line.split(" |").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
        .filter(|cells| cells.len() > 2 && !["row", "Go"].contains(&cells[0].as_str()))
        .collect()
}

/// Whether the first cell is a row's identifier: letters, `-`, number.
fn row_of(cell: &str) -> Option<(String, usize)> {
    let (group, number) = cell.split_once('-')?;
    Some((group.to_owned(), number.parse().ok()?))
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn each_row_of_the_feature_table_has_its_place_once() {
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (group, number) in rows().iter().filter_map(|cells| row_of(&cells[0])) {
        found.entry(group).or_default().push(number);
    }
    let wanted = GROUPS.map(|(group, count)| (group.to_owned(), (1..=count).collect()));
    assert_eq!(found, BTreeMap::from(wanted));
    assert_eq!(GROUPS.iter().map(|(_, count)| count).sum::<usize>(), 349);
}

#[test]
fn each_row_is_shown_by_a_test_or_has_its_reason_in_scope_md() {
    let scope = source("docs/scope.md");
    // Each reason's head: the rows before its colon.
    let heads: String =
        scope.split("\n- ").filter_map(|reason| reason.split(':').next()).collect::<Vec<_>>().join(" ");
    let reasoned: BTreeSet<String> = heads
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| row_of(word).is_some())
        .map(str::to_owned)
        .collect();
    for cells in rows() {
        let shown = quoted(cells.last().expect("has cells")).count() > 0;
        if row_of(&cells[0]).is_some() && cells[2] == ELSEWHERE {
            assert!(!shown && reasoned.contains(&cells[0]), "{}: scope.md gives no reason for it", cells[0]);
        } else if row_of(&cells[0]).is_some() {
            assert!(shown && quoted(&cells[2]).count() > 0, "{}: nothing shows it: {cells:?}", cells[0]);
        }
    }
    for name in rows().iter().filter(|cells| cells.len() == 3) {
        let absent = name[1].starts_with("none:");
        assert!(absent != (quoted(&name[2]).count() > 0), "{name:?}");
    }
}

/// The functions of a file that are run as tests: an attribute that makes it one, none that leaves it out.
fn tests_of(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (mut is_test, mut is_left_out) = (false, false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            is_left_out |= line.starts_with("#[ignore");
            continue;
        }
        let name = line.trim_start_matches("pub ").trim_start_matches("async ").strip_prefix("fn ");
        if let Some(name) = name.and_then(|rest| rest.split('(').next()) {
            if is_test && !is_left_out {
                found.insert(name.to_owned());
            }
            (is_test, is_left_out) = (false, false);
        }
        // The examples are tests by a macro of their own, one a line.
        if let Some((name, _)) = line.split_once(": |").filter(|(name, _)| name.starts_with("example_of_")) {
            found.insert(name.to_owned());
        }
    }
    found
}

#[test]
fn each_test_that_is_named_is_there_and_is_run() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut count = 0;
    for cells in rows() {
        let shown = cells.last().expect("has cells").clone();
        for reference in quoted(&shown) {
            let (file, test) = reference.split_once("::").unwrap_or_else(|| panic!("{reference}: no test"));
            let tests = files.entry(file.to_owned()).or_insert_with(|| tests_of(&source(file)));
            assert!(tests.contains(test), "{}: there is no test {test} in {file}", cells[0]);
            count += 1;
        }
    }
    assert!(count > 400, "only {count} are named");
    // A file of integration tests that no `mod` names is not compiled.
    let main = source("tests/integration/main.rs");
    for name in files.keys().filter_map(|file| file.strip_prefix("tests/integration/")?.strip_suffix(".rs")) {
        assert!(main.contains(&format!("mod {name};")), "{name}");
    }
}

#[test]
fn each_item_that_is_named_is_the_clients() {
    let items: BTreeSet<String> = items::all().into_iter().collect();
    for cells in rows() {
        let ours = if row_of(&cells[0]).is_some() { &cells[2] } else { &cells[1] };
        for name in quoted(ours).filter(|name| !name.starts_with("bosun")) {
            let is_item = name.contains("::") || name.starts_with(char::is_uppercase);
            let is_function = ["expiring", "field", "label"].contains(&name);
            if is_item || is_function {
                assert!(
                    items.contains(name),
                    "{}: {name} is not in tests/integration/parity/items.rs",
                    cells[0]
                );
            }
        }
    }
}

#[test]
fn each_command_that_is_named_has_its_help() {
    let mut commands: BTreeSet<String> = BTreeSet::new();
    for cells in rows() {
        commands.extend(quoted(&cells[2]).filter(|name| name.starts_with("bosun")).map(str::to_owned));
    }
    for command in commands {
        let mut words = command.split(' ');
        let name = words.next().expect("has a first");
        let (flags, verbs): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with('-'));
        if name == "bosun-shim" {
            assert!(program(name).is_file());
            continue;
        }
        let output =
            std::process::Command::new(program(name)).args(verbs).arg("--help").output().expect("runs");
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        for flag in flags {
            assert!(help.contains(flag), "{command}: its help does not know {flag}");
        }
    }
}

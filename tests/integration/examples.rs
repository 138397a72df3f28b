//! Each example of `--help`, of the README and of docs/ is run: against a real daemon, by a shell, in a world that has what examples speak of.
//!
//! A page (a command's help, a file) is run from its first example to its last, in a namespace of its own. Names of hosts, users and digests stand for those
//! of the world ([`World::worded`]). What cannot be run is in [`NOT_RUN`] with its reason; an entry that nothing needs any more is a failure.

mod pages;
mod place;

use std::time::{Duration, Instant};

use self::pages::{Page, of_commands, of_documents};
use self::place::Place;

/// What is not run, and why.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "bosun checkpoint",
        "needs CRIU, which not every host has: tests/integration/checkpoint.rs does the same where it is",
    ),
    (
        "bosun restore",
        "needs CRIU, which not every host has: tests/integration/checkpoint.rs does the same where it is",
    ),
    ("bosun containers checkpoint", "as bosun checkpoint"),
    ("bosun containers restore", "as bosun restore"),
    ("bosun tasks checkpoint", "as bosun checkpoint"),
    ("bosun doctor", "its answer is about this host, and its exit code with it: tests of its own judge it"),
    (
        "bosun transfers cancel",
        "needs a transfer that is under way at that moment: tests/integration/distribution.rs has one",
    ),
    ("bosun operations retry", "needs an operation that has failed for good: the chaos tests make them"),
    ("bosun operations forget", "needs an operation that has failed for good: the chaos tests make them"),
];

/// What goes on until somebody ends it: it is well when it has begun and did not fail.
const GOES_ON: &[&str] = &[
    "bosun events",
    "bosun logs -f",
    "bosun wait",
    "bosun attach",
    "bosun tasks attach",
    "bosun stop db && bosun start --attach",
    "bosun exec -it",
    "bosun run --rm -it",
    "echo reload | bosun attach",
];

/// How long an example may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long one that goes on is watched.
const WATCHED: Duration = Duration::from_millis(800);

fn reason(example: &str) -> Option<&'static str> {
    NOT_RUN.iter().find(|(words, _)| example.starts_with(words)).map(|(_, reason)| *reason)
}

fn goes_on(example: &str) -> bool {
    GOES_ON.iter().any(|words| example.starts_with(words)) && !example.contains("--no-follow")
}

/// Runs a page; gives what failed.
fn run(place: &Place, page: &Page) -> Vec<String> {
    let place = place.with_page(&page.title);
    let mut failed = Vec::new();
    for example in page.examples.iter().filter(|example| reason(example).is_none()) {
        place.prepare(example);
        let words = place.worded(example);
        let mut child = place.shell(&words);
        let begin = Instant::now();
        let goes_on = goes_on(example);
        let deadline = if goes_on { WATCHED } else { DEADLINE };
        let ended = loop {
            match child.try_wait().expect("our child") {
                Some(status) => break Some(status),
                None if begin.elapsed() > deadline => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        match ended {
            Some(status) if status.success() => {}
            None if goes_on => place.end(child),
            ended => {
                place.end(child);
                failed.push(format!(
                    "{}: {example}\n    as: {words}\n    {ended:?}: {}",
                    page.title,
                    place.said()
                ));
            }
        }
    }
    failed
}

/// Every n-th page, so that several tests share the work.
fn share(number: usize, of: usize) {
    let place = Place::new();
    let mut pages = of_commands();
    pages.extend(of_documents());
    let mut failed = Vec::new();
    let mut count = 0;
    for page in pages.iter().skip(number).step_by(of) {
        count += page.examples.len();
        failed.extend(run(&place, page));
    }
    assert!(count > 10, "the examples were not found");
    assert!(failed.is_empty(), "{} examples failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn each_example_runs_first_third() {
    share(0, 3);
}

#[test]
fn each_example_runs_second_third() {
    share(1, 3);
}

#[test]
fn each_example_runs_third_third() {
    share(2, 3);
}

#[test]
fn every_command_has_an_example_and_nothing_is_marked_for_nothing() {
    let pages = of_commands();
    let all: Vec<&String> = pages.iter().flat_map(|page| &page.examples).collect();
    // Its own help has one, or its noun's does.
    let lacking: Vec<&str> = pages
        .iter()
        .filter(|page| page.is_leaf && !all.iter().any(|example| page.is_called_by(example)))
        .map(|page| page.title.as_str())
        .collect();
    assert!(lacking.is_empty(), "no example calls: {lacking:?}");
    let documents = of_documents();
    let all: Vec<&String> = all.into_iter().chain(documents.iter().flat_map(|page| &page.examples)).collect();
    for (words, why) in NOT_RUN {
        assert!(
            all.iter().any(|example| example.starts_with(words)),
            "nothing needs the mark {words:?} ({why})"
        );
    }
    let marked = all.iter().filter(|example| reason(example).is_some()).count();
    assert!(marked * 8 < all.len(), "{marked} of {} examples are not run", all.len());
}

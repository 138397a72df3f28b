//! Progress of pull, push, import and export (CLI-14, CLI-15): a bar a layer on a terminal, whatever its width; plain lines elsewhere.

use std::process::Command;

use bosun_storage::image::writer::BuiltImage;
use bosun_tests::fixture;
use bosun_tests::registry::Registry;
use bosun_tests::terminal::{Person, plain_lines};
use bosun_tests::world::{Daemon, World};

use crate::cli::{good, text};

/// Bytes of each layer: enough to be seen on their way.
const LAYER_BYTES: usize = 6 << 20;

struct Place {
    world: World,
    _daemon: Daemon,
    registry: Registry,
    image: BuiltImage,
}

impl Place {
    async fn new() -> Self {
        let world = World::new();
        let daemon = world.start();
        let registry = Registry::start(&world.path("registry"));
        let image = fixture::layered_image(3, LAYER_BYTES).expect("an image");
        fixture::push(&image, &registry.reference("team/app:1")).await.expect("pushes");
        Self { world, _daemon: daemon, registry, image }
    }

    /// `layer-0123456789ab`, as progress calls each.
    fn layers(&self) -> Vec<String> {
        let layers = self.image.blobs.iter().filter(|(blob, _)| blob.media_type.contains("layer"));
        layers.map(|(blob, _)| format!("layer-{}", &blob.digest.hex()[..12])).collect()
    }

    /// What moves bytes, in an order in which each has something to do.
    fn words(&self) -> [Vec<String>; 4] {
        let archive = self.world.path("app.tar").to_string_lossy().into_owned();
        let reference = |name: &str| self.registry.reference(name).to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        [
            words(&["pull", &reference("team/app:1")]),
            words(&["save", "-o", &archive, &reference("team/app:1")]),
            words(&["push", &reference("other/app:2"), &reference("team/app:1")]),
            words(&["-n", "elsewhere", "load", &archive]),
        ]
    }

    fn command(&self, words: &[String]) -> Command {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.world.bosun(&words);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command
    }
}

/// Whether a line tells a rate and how long it will take.
fn has_rate_and_eta(line: &str) -> bool {
    let mut words = line.split_whitespace().rev();
    let eta = words.next().is_some_and(|word| {
        word.ends_with(['s', 'm', 'h']) && word.starts_with(|it: char| it.is_ascii_digit())
    });
    eta && words.next().is_some_and(|word| word.ends_with("/s"))
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_14_cli_15_a_bar_for_each_layer_with_rate_and_eta_on_a_terminal() {
    let place = Place::new().await;
    for words in place.words() {
        let (code, screen) = Person::with_columns(140, place.command(&words)).ended();
        assert_eq!(code, Some(0), "{words:?}: {screen}");
        let lines = plain_lines(&screen, 140);
        for layer in place.layers() {
            let of_layer: Vec<&String> = lines.iter().filter(|line| line.contains(&layer)).collect();
            let bar = of_layer.iter().find(|line| line.contains(&format!("|{}|", "+".repeat(40))));
            let bar = bar.unwrap_or_else(|| panic!("{words:?}: no full bar of {layer}: {of_layer:?}"));
            assert!(bar.contains("MiB"), "{bar}");
            assert!(of_layer.iter().any(|line| has_rate_and_eta(line)), "{words:?}: {of_layer:?}");
        }
        assert!(screen.contains("\x1b[32m"), "{words:?}: green");
        assert!(lines.iter().any(|line| line.starts_with("elapsed: ") && line.contains("/s)")), "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() < 140), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_14_narrow_terminals_and_no_color() {
    let place = Place::new().await;
    let pull = &place.words()[0];
    for (columns, wanted) in [(80, "% "), (50, "100%"), (24, "layer-")] {
        good(&place.world, &["gc"]);
        let (code, screen) = Person::with_columns(columns, place.command(pull)).ended();
        assert_eq!(code, Some(0), "{screen}");
        let lines = plain_lines(&screen, columns);
        let drawn: Vec<&String> = lines.iter().filter(|line| line.starts_with("layer-")).collect();
        assert!(drawn.iter().any(|line| line.contains(wanted)), "{columns}: {drawn:?}");
        let widest = drawn.iter().map(|line| line.chars().count()).max().expect("some");
        assert!(widest < usize::from(columns), "{columns}: {drawn:?}");
        good(&place.world, &["images", "rm", "--sync", &pull[1]]);
    }
    let mut command = place.command(pull);
    command.env("NO_COLOR", "1");
    let (_, screen) = Person::with_columns(140, command).ended();
    assert!(screen.contains("|+") && !screen.contains("\x1b[32m"), "{screen}");
    let mut command = place.command(pull);
    command.env("TERM", "dumb");
    let (_, screen) = Person::with_columns(140, command).ended();
    assert!(screen.contains("exists") && !screen.contains('\x1b'), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cli_14_plain_lines_where_there_is_no_terminal() {
    let place = Place::new().await;
    for words in place.words() {
        let output = place.command(&words).output().expect("bosun runs");
        let shown = text(&output.stderr);
        assert!(output.status.success(), "{words:?}: {shown}");
        assert!(!shown.contains(['\x1b', '\r']), "{words:?}: {shown}");
        for layer in place.layers() {
            assert!(shown.lines().any(|line| line.starts_with(&format!("{layer}: "))), "{words:?}: {shown}");
        }
        assert!(shown.lines().last().is_some_and(|line| line.starts_with("elapsed: ")), "{words:?}: {shown}");
        // What is for programs is on standard output.
        assert!(!text(&output.stdout).contains("elapsed"), "{words:?}");
    }
}

//! Progress of a transfer: a bar for each part on a terminal, plain lines elsewhere (row CLI-14).

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Instant;

use bosun_types::transfer::{PartProgress, PartStatus, TransferProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output;

/// Draws a transfer as it goes.
pub struct Display {
    begin: Instant,
    form: Form,
}

enum Form {
    Bars {
        multi: MultiProgress,
        bars: BTreeMap<String, ProgressBar>,
    },
    /// The status printed last for each part.
    Lines(BTreeMap<String, PartStatus>),
    Silent,
}

impl Display {
    /// Bars when standard error is a terminal.
    pub fn new(quiet: bool) -> Self {
        let form = if quiet {
            Form::Silent
        } else if std::io::stderr().is_terminal() {
            Form::Bars { multi: MultiProgress::new(), bars: BTreeMap::new() }
        } else {
            Form::Lines(BTreeMap::new())
        };
        Self { begin: Instant::now(), form }
    }

    /// Shows the newest state.
    pub fn update(&mut self, progress: &TransferProgress) {
        match &mut self.form {
            Form::Silent => {}
            Form::Bars { multi, bars } => {
                for part in &progress.parts {
                    let bar = bars.entry(part.key.clone()).or_insert_with(|| multi.add(new_bar(part)));
                    draw(bar, part);
                }
            }
            Form::Lines(shown) => {
                for part in &progress.parts {
                    if shown.insert(part.key.clone(), part.status) != Some(part.status) {
                        output::note(format!(
                            "{}: {} ({})",
                            short(&part.key),
                            word(part.status),
                            output::size(part.total)
                        ));
                    }
                }
            }
        }
    }

    /// The last line: time, bytes, rate.
    pub fn finish(&mut self, progress: &TransferProgress) {
        self.update(progress);
        if matches!(self.form, Form::Silent) {
            return;
        }
        let fetched: u64 = progress
            .parts
            .iter()
            .filter(|part| !matches!(part.status, PartStatus::Exists | PartStatus::Mounted))
            .map(|part| part.offset)
            .sum();
        let seconds = self.begin.elapsed().as_secs_f64().max(0.001);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people"
        )]
        let rate = output::size((fetched as f64 / seconds) as u64);
        output::note(format!("elapsed: {seconds:.1} s  total: {} ({rate}/s)", output::size(fetched)));
    }
}

fn new_bar(part: &PartProgress) -> ProgressBar {
    let bar = ProgressBar::new(part.total);
    let bar_of = if output::stderr_has_colours() { "{bar:40.green}" } else { "{bar:40}" };
    let template = "{prefix:<22} {msg:<11} |BAR| {binary_bytes:>11}/{binary_total_bytes:<11} {binary_bytes_per_sec:>12} {eta:>4}";
    if let Ok(style) = ProgressStyle::with_template(&template.replace("BAR", bar_of)) {
        bar.set_style(style.progress_chars("++-"));
    }
    bar.set_prefix(short(&part.key));
    bar
}

fn draw(bar: &ProgressBar, part: &PartProgress) {
    bar.set_length(part.total);
    bar.set_message(word(part.status));
    match part.status {
        PartStatus::Done | PartStatus::Exists | PartStatus::Mounted => {
            bar.set_position(part.total);
            bar.abandon();
        }
        PartStatus::Waiting | PartStatus::Downloading | PartStatus::Unpacking | PartStatus::Uploading => {
            bar.set_position(part.offset)
        }
    }
}

fn word(status: PartStatus) -> &'static str {
    match status {
        PartStatus::Waiting => "waiting",
        PartStatus::Downloading => "downloading",
        PartStatus::Unpacking => "unpacking",
        PartStatus::Done => "done",
        PartStatus::Exists => "exists",
        PartStatus::Uploading => "uploading",
        PartStatus::Mounted => "mounted",
    }
}

/// `layer-sha256:0123…` → `layer-0123456789ab`.
fn short(key: &str) -> String {
    match key.split_once("sha256:") {
        Some((kind, hex)) => format!("{kind}{}", hex.get(..12).unwrap_or(hex)),
        None => key.to_owned(),
    }
}

//! Progress of a transfer: a bar for each part on a terminal, plain lines elsewhere (row CLI-14).

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Instant;

use bosun_types::transfer::{PartProgress, PartStatus, TransferProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{output, terminal};

/// Width of a terminal that does not say it.
const COLUMNS: usize = 80;
/// Narrowest and widest bar, in characters (row CLI-14).
const BAR_MIN: usize = 10;
const BAR_MAX: usize = 40;

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
        } else if std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        {
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
                // Asked each time: windows change.
                let columns = terminal::stderr_columns().unwrap_or(COLUMNS);
                let template = template(columns, output::stderr_has_colours());
                let style = ProgressStyle::with_template(&template);
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("++-");
                for part in &progress.parts {
                    let bar =
                        bars.entry(part.key.clone()).or_insert_with(|| multi.add(new_bar(part, &style)));
                    draw(bar, &style, part);
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

/// Complete before it is anywhere: what is set afterwards draws it as it is by then.
fn new_bar(part: &PartProgress, style: &ProgressStyle) -> ProgressBar {
    ProgressBar::new(part.total).with_style(style.clone()).with_prefix(short(&part.key))
}

/// What a line shows: all of it where there is room, less on a narrow terminal, and never more than a line.
fn template(columns: usize, has_colours: bool) -> String {
    // Without the bar: two before it, three behind it, and what is between.
    const WHOLE: usize = 19 + 1 + 11 + 2 + 2 + 23 + 1 + 12 + 1 + 4;
    const WITHOUT_BYTES: usize = WHOLE - 23 + 4;
    let colour = if has_colours { ".green" } else { "" };
    let bar = |width: usize| format!("|{{bar:{}{colour}}}|", width.clamp(BAR_MIN, BAR_MAX));
    let names = "{prefix:<19.19} {msg:<11.11}";
    let rate = "{binary_bytes_per_sec:>12.12} {eta:>4.4}";
    // The last column stays free: some terminals go to the next line after it.
    let room = columns.saturating_sub(1);
    if room >= WHOLE + BAR_MIN {
        let width = room - WHOLE;
        return format!(
            "{names} {} {{binary_bytes:>11.11}}/{{binary_total_bytes:<11.11}} {rate}",
            bar(width)
        );
    }
    if room >= WITHOUT_BYTES + BAR_MIN {
        return format!("{names} {} {{percent:>3}}% {rate}", bar(room - WITHOUT_BYTES));
    }
    if room >= 19 + 1 + 11 + 1 + 4 {
        return format!("{names} {{percent:>3}}%");
    }
    format!("{{prefix:<{0}.{0}}}", room.max(1))
}

fn draw(bar: &ProgressBar, style: &ProgressStyle, part: &PartProgress) {
    bar.set_style(style.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_room_on_every_terminal() {
        let width = |template: &str| template.matches("|{bar:").count();
        for (columns, bars, has_bytes, has_rate) in [
            (200, 1, true, true),
            (100, 1, true, true),
            (87, 1, true, true),
            (80, 1, false, true),
            (60, 0, false, false),
            (20, 0, false, false),
        ] {
            let template = template(columns, false);
            assert_eq!(width(&template), bars, "{columns}: {template}");
            assert_eq!(template.contains("binary_total_bytes"), has_bytes, "{columns}: {template}");
            assert_eq!(template.contains("eta"), has_rate, "{columns}: {template}");
            ProgressStyle::with_template(&template).expect("well formed");
        }
        assert!(template(200, false).contains("{bar:40}") && template(200, true).contains("{bar:40.green}"));
        assert!(template(1, true).contains(".1}"));
    }
}

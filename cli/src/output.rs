//! Tables that fit, JSON for programs, errors with a hint. The only place that prints.

use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;

use serde::Serialize;
use serde_json::Value;

use crate::template::Template;
use crate::terminal;

/// Narrowest that a column becomes, in characters.
const COLUMN_MIN: usize = 6;
/// Between columns.
const GAP: &str = "  ";

/// How values are printed, if not as JSON.
static TEMPLATE: OnceLock<Template> = OnceLock::new();

/// Values are printed by a template from now on.
pub fn print_by(template: Template) {
    // There is one `--format`.
    let _ = TEMPLATE.set(template);
}

/// Whether a stream may have colours: a terminal, and nobody said NO_COLOR (https://no-color.org).
fn has_colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether standard error may have colours.
pub fn stderr_has_colours() -> bool {
    has_colours(std::io::stderr().is_terminal())
}

fn painted(text: &str, colour: &str, is_on: bool) -> String {
    if is_on { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Prints a line on standard output; a closed pipe (`bosun ps | head`) ends the program quietly, as tools do.
pub fn line(text: impl AsRef<str>) {
    bytes(text.as_ref().as_bytes());
    bytes(b"\n");
}

/// Prints bytes on standard output.
pub fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints bytes on standard error.
pub fn error_bytes(bytes: &[u8]) {
    let _ = std::io::stderr().lock().write_all(bytes);
}

/// Makes room for the next table of a repeated one.
pub fn clear() {
    bytes(b"\x1b[H\x1b[2J");
}

/// A note for people, on standard error, so that standard output stays for programs.
pub fn note(text: impl AsRef<str>) {
    error_bytes(text.as_ref().as_bytes());
    error_bytes(b"\n");
}

/// Prints a value as JSON, or by the template of `--format`.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    match TEMPLATE.get() {
        Some(template) => templated(template, &serde_json::to_value(value)?),
        None => {
            line(serde_json::to_string_pretty(value)?);
            Ok(())
        }
    }
}

/// The same as one line of JSON, for streams.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    match TEMPLATE.get() {
        Some(template) => templated(template, &serde_json::to_value(value)?),
        None => {
            line(serde_json::to_string(value)?);
            Ok(())
        }
    }
}

/// Each item of a list, or the one value.
fn templated(template: &Template, value: &Value) -> anyhow::Result<()> {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let lines = items.iter().map(|item| template.render(item)).collect::<anyhow::Result<Vec<_>>>()?;
    if !template.is_table {
        lines.iter().for_each(line);
        return Ok(());
    }
    let header = template.header();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows = lines.iter().map(|line| {
        let mut cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        cells.resize(header.len(), String::new());
        cells
    });
    table(&header, &rows.collect::<Vec<_>>());
    Ok(())
}

/// A table: columns as wide as they need to be, the last one free; on a terminal cut to its width.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let is_terminal = std::io::stdout().is_terminal();
    let width = if is_terminal { terminal::size().map(|(width, _)| usize::from(width)) } else { None };
    let has_colours = has_colours(is_terminal);
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let lines = lines_of(&header, rows, width);
    for (number, text) in lines.iter().enumerate() {
        line(painted(text, "1", has_colours && number == 0));
    }
}

/// The header's line and those of the rows.
fn lines_of(header: &[String], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let all = || std::iter::once(header).chain(rows.iter().map(Vec::as_slice));
    let mut widths: Vec<usize> = vec![0; header.len()];
    for row in all() {
        for (column, cell) in widths.iter_mut().zip(row) {
            *column = (*column).max(cell.chars().count());
        }
    }
    if let Some(width) = width {
        fit(&mut widths, width);
    }
    let line = |row: &[String]| {
        let last = widths.len().saturating_sub(1);
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            let cell = cut(cell, *width);
            if at == last { cell } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    all().map(line).collect()
}

/// Takes from the widest columns until all of them fit, as far as that goes.
fn fit(widths: &mut [usize], width: usize) {
    let available = width.saturating_sub(GAP.len() * widths.len().saturating_sub(1));
    while widths.iter().sum::<usize>() > available {
        match widths.iter_mut().max() {
            Some(widest) if *widest > COLUMN_MIN => *widest -= 1,
            _ => return,
        }
    }
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// What failed and why, and what to do about it.
pub fn report(error: &anyhow::Error) {
    let has_colours = stderr_has_colours();
    note(format!("{} {error:#}", painted("error:", "1;31", has_colours)));
    let hint = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<bosun_types::Error>())
        .and_then(|error| error.hint.clone());
    if let Some(hint) = hint {
        note(format!("{} {hint}", painted("hint:", "1;36", has_colours)));
    }
}

/// 1536 → `1.5 KiB`.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// How long ago, in the largest unit that fits.
pub fn age(then: bosun_types::Timestamp) -> String {
    let seconds = (bosun_types::Timestamp::now().0 - then.0).max(0) / 1_000_000_000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_and_cut_what_is_widest() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let header = row(&["NAME", "DIGEST", "AGE"]);
        let rows = [row(&["web", "sha256:0123456789abcdef", "1m"]), row(&["é", "-", "10d"])];
        let free = lines_of(&header, &rows, None);
        assert_eq!(free[1], "web   sha256:0123456789abcdef  1m");
        assert_eq!(free[2], "é     -                        10d");
        let narrow = lines_of(&header, &rows, Some(24));
        assert!(narrow.iter().all(|line| line.chars().count() <= 24), "{narrow:?}");
        assert_eq!(narrow[1], "web   sha256:01234…  1m");
        // Below a few characters nothing could be read any more.
        assert_eq!(lines_of(&header, &rows, Some(3))[1], "web   sha25…  1m");
    }

    #[test]
    fn no_colours_without_a_terminal() {
        assert!(!has_colours(false));
        assert_eq!(painted("x", "1", false), "x");
        assert_eq!(painted("x", "1", true), "\x1b[1mx\x1b[0m");
    }

    #[test]
    fn sizes_in_binary_units_with_one_decimal() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
    }
}

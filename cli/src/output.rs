//! Tables that fit, JSON for programs, errors with a hint. The only place that prints.

use std::io::Write as _;

use serde::Serialize;

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

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a value as one line of JSON, for streams.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?);
    Ok(())
}

/// A table: columns as wide as they need to be, the last one free.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            widths[index] = widths[index].max(cell.chars().count());
        }
    }
    let print = |cells: &[String]| {
        let last = cells.len().saturating_sub(1);
        let text: Vec<String> =
            cells
                .iter()
                .enumerate()
                .map(|(index, cell)| {
                    if index == last {
                        cell.clone()
                    } else {
                        format!("{cell:<width$}", width = widths[index])
                    }
                })
                .collect();
        line(text.join("  ").trim_end());
    };
    print(&header.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|row| print(row));
}

/// What failed and why, and what to do about it.
pub fn report(error: &anyhow::Error) {
    note(format!("error: {error:#}"));
    let hint = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<bosun_types::Error>())
        .and_then(|error| error.hint.clone());
    if let Some(hint) = hint {
        note(format!("hint: {hint}"));
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
    fn sizes_in_binary_units_with_one_decimal() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
    }
}

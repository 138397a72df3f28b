//! Signal names and numbers (row CLI-16), and the signals that `run` passes on.

use anyhow::bail;
use nix::sys::signal::Signal;

/// A number, or a name with or without `SIG`, in any case.
pub fn parse(text: &str) -> anyhow::Result<u32> {
    if let Ok(number) = text.parse::<u32>() {
        if (1..=64).contains(&number) {
            return Ok(number);
        }
        bail!("signal {number} does not exist: 1 to 64 do");
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    match name.parse::<Signal>() {
        Ok(signal) => Ok(signal as u32),
        Err(_) => bail!("signal {text:?} is unknown: use a name such as TERM or SIGHUP, or a number"),
    }
}

/// What a foreground `run` or `exec` without a terminal passes to the container.
pub const FORWARDED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cli_16_names_with_or_without_sig_in_any_case() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("SIGHUP", 1), ("9", 9), ("usr1", 10)] {
            assert_eq!(parse(text).expect(text), number);
        }
        for bad in ["", "0", "65", "NOPE", "-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

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
        Err(_) => match real_time(&name) {
            Some(number) => Ok(number),
            None => bail!("signal {text:?} is unknown: use a name such as TERM or SIGHUP, or a number"),
        },
    }
}

/// `SIGRTMIN+n` and `SIGRTMAX-n`, as the C library numbers them (signal(7)).
fn real_time(name: &str) -> Option<u32> {
    const FIRST: u32 = 34;
    const LAST: u32 = 64;
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<u32>().ok(),
    };
    let number = match name.strip_prefix("SIGRTMIN") {
        Some(rest) => FIRST.checked_add(offset(rest, '+')?)?,
        None => LAST.checked_sub(offset(name.strip_prefix("SIGRTMAX")?, '-')?)?,
    };
    (FIRST..=LAST).contains(&number).then_some(number)
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
        for (text, number) in [
            ("TERM", 15),
            ("sigkill", 9),
            ("SIGHUP", 1),
            ("9", 9),
            ("usr1", 10),
            ("RTMIN+1", 35),
            ("sigrtmax", 64),
        ] {
            assert_eq!(parse(text).expect(text), number);
        }
        for bad in ["", "0", "65", "NOPE", "-1", "RTMIN+31", "RTMAX-31", "RTMIN-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

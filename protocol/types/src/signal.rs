//! Signal names and numbers (row CLI-16), as on every Linux that bosun runs on.

use crate::{Error, Result};

/// Names by number, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Further names of the same.
const ALIASES: [(&str, u32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// SIGINT.
pub const INT: u32 = 2;
/// SIGQUIT.
pub const QUIT: u32 = 3;
/// SIGKILL.
pub const KILL: u32 = 9;
/// SIGTERM.
pub const TERM: u32 = 15;
/// The first and last real-time signal, as the C library numbers them (signal(7)).
const REAL_TIME: (u32, u32) = (34, 64);

/// A number, or a name with or without `SIG`, in any case.
pub fn parse(text: &str) -> Result<u32> {
    let unknown = |message: String| {
        Error::invalid_argument(message)
            .with_hint("use a name such as TERM or SIGHUP, or a number from 1 to 64")
    };
    if let Ok(number) = text.parse::<u32>() {
        let valid = (1..=REAL_TIME.1).contains(&number);
        return if valid { Ok(number) } else { Err(unknown(format!("signal {number} does not exist"))) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = (1..).zip(NAMES).map(|(number, name)| (name, number)).chain(ALIASES);
    let known = named.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number);
    known.or_else(|| real_time(name)).ok_or_else(|| unknown(format!("signal {text:?} is unknown")))
}

/// `RTMIN+n` and `RTMAX-n`.
fn real_time(name: &str) -> Option<u32> {
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<u32>().ok(),
    };
    let (first, last) = REAL_TIME;
    let number = match name.strip_prefix("RTMIN") {
        Some(rest) => first.checked_add(offset(rest, '+')?)?,
        None => last.checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?,
    };
    (first..=last).contains(&number).then_some(number)
}

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
            ("WINCH", 28),
            ("SIGSYS", 31),
            ("IOT", 6),
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

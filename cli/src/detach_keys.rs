//! The keys that leave a process without ending it: they are taken out of what is typed.

use std::str::FromStr;

/// What most container tools use.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, and how much of it was typed. Keys that begin the sequence and do not go on with it are passed to the process late, none is lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl FromStr for DetachKeys {
    type Err = String;

    /// `ctrl-p,ctrl-q`: letters, digits and `ctrl-` with one of `a`-`z` `@` `[` `\` `]` `^` `_`, with commas between. Nothing: no keys detach.
    fn from_str(words: &str) -> Result<Self, String> {
        if words.is_empty() {
            return Ok(Self::default());
        }
        let keys = words.split(',').map(|word| key(word).ok_or_else(|| refuse(word)));
        Ok(Self { keys: keys.collect::<Result<_, _>>()?, typed: 0 })
    }
}

fn refuse(word: &str) -> String {
    format!("{word:?} is no key: use a letter, a digit, or ctrl- with a-z @ [ \\ ] ^ _, such as {DEFAULT}")
}

fn key(word: &str) -> Option<u8> {
    const CONTROL_BITS: u8 = 0x1f;
    match word.as_bytes() {
        [key] if key.is_ascii_graphic() => Some(*key),
        [b'c', b't', b'r', b'l', b'-', key @ (b'a'..=b'z' | b'@' | b'['..=b'_')] => Some(key & CONTROL_BITS),
        _ => None,
    }
}

impl DetachKeys {
    /// What of `input` is for the process; `true`: the keys were typed, and the rest is for nobody.
    pub fn feed(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(input.len());
        for byte in input {
            while self.typed > 0 && self.keys[self.typed] != *byte {
                self.fall_back(&mut passed);
            }
            if self.keys.first().is_none_or(|_| self.keys[self.typed] != *byte) {
                passed.push(*byte);
                continue;
            }
            self.typed += 1;
            if self.typed == self.keys.len() {
                self.typed = 0;
                return (passed, true);
            }
        }
        (passed, false)
    }

    /// Gives up the shortest beginning of what was typed such that the rest begins the sequence again.
    fn fall_back(&mut self, passed: &mut Vec<u8>) {
        let typed = &self.keys[..self.typed];
        let shift = (1..self.typed).find(|shift| typed[*shift..] == typed[..self.typed - shift]);
        let shift = shift.unwrap_or(self.typed);
        passed.extend_from_slice(&typed[..shift]);
        self.typed -= shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(words: &str) -> DetachKeys {
        words.parse().expect("keys")
    }

    #[test]
    fn words_are_keys() {
        assert_eq!(keys(DEFAULT).keys, [16, 17]);
        assert_eq!(keys("a,ctrl-@,ctrl-_,9").keys, [b'a', 0, 31, b'9']);
        assert_eq!(keys("").keys, [0; 0]);
        for bad in ["ctrl-", "ctrl-P", "alt-a", "ab", ",", "a,"] {
            assert!(bad.parse::<DetachKeys>().expect_err(bad).contains("ctrl-p"), "{bad}");
        }
    }

    #[test]
    fn what_is_typed_is_passed_unless_it_detaches() {
        let table: [(&str, &[&str], &str, bool); 8] = [
            ("a,b", &["xyz"], "xyz", false),
            ("a,b", &["xab", "unseen"], "x", true),
            ("a,b", &["x", "a", "b"], "x", true),
            ("a,b", &["a", "c"], "ac", false),
            ("a,b", &["aab"], "a", true),
            ("a,b,a,c", &["aba", "bac"], "ab", true),
            ("a,a,b", &["aaab"], "a", true),
            ("", &["ab"], "ab", false),
        ];
        for (words, typed, wanted, detached) in table {
            let mut keys = keys(words);
            let (mut passed, mut done) = (Vec::new(), false);
            for piece in typed {
                if !done {
                    let (bytes, detaches) = keys.feed(piece.as_bytes());
                    passed.extend(bytes);
                    done = detaches;
                }
            }
            assert_eq!(
                (String::from_utf8_lossy(&passed).as_ref(), done),
                (wanted, detached),
                "{words} {typed:?}"
            );
        }
    }
}

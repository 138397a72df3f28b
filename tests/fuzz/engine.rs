//! The engine: a corpus, a mutator that is the same for the same seed, a time.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Seconds of each target in an ordinary run.
const SECONDS_DEFAULT: u64 = 2;
/// Largest input, in bytes: what makes a difference is small.
const INPUT_BYTES_MAX: usize = 1 << 20;
/// Most changes of one input.
const CHANGES_MAX: u64 = 8;
/// Numbers at which parsers turn.
const NUMBERS: &[&str] = &[
    "-1",
    "0",
    "1",
    "127",
    "128",
    "255",
    "256",
    "65535",
    "65536",
    "2097151",
    "2097152",
    "2147483647",
    "2147483648",
    "4294967294",
    "4294967295",
    "4294967296",
    "8589934591",
    "8589934592",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e9",
    "0x10",
    "00",
    " 1",
];

/// A target: what it is called, what its inputs look like, and what must hold for each.
pub struct Target<'a> {
    /// Its name, and that of its folder in `corpus`.
    pub name: &'a str,
    /// Inputs beside those of the folder.
    pub inputs: Vec<Vec<u8>>,
    /// Words that its inputs are made of.
    pub words: &'a [&'a str],
    /// Mends what a reader checks first, such as checksums, so that the changes behind it are seen.
    pub mend: fn(&mut [u8]),
    /// A change that knows what the input is made of; one in two is by it.
    pub change: Option<fn(&mut Vec<u8>, &mut Random)>,
}

/// splitmix64.
pub struct Random(u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`, or 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).expect("fits")
    }
}

impl Target<'_> {
    /// Tries mutated inputs until the time is over. `check` panics when something does not hold.
    #[expect(clippy::print_stdout, reason = "what to repeat it with")]
    pub fn run(mut self, mut check: impl FnMut(&[u8])) {
        self.inputs.extend(corpus(self.name));
        assert!(!self.inputs.is_empty(), "{}: a corpus", self.name);
        let seconds = number("BOSUN_FUZZ_SECONDS").unwrap_or(SECONDS_DEFAULT);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos();
        let first =
            number("BOSUN_SEED").unwrap_or_else(|| u64::try_from(now % 1_000_000_007).expect("small"));
        for input in &self.inputs {
            self.try_one(first, input, &mut check);
        }
        let (begin, mut seed) = (Instant::now(), first);
        while begin.elapsed() < Duration::from_secs(seconds) {
            let input = self.mutated(&mut Random(seed));
            self.try_one(seed, &input, &mut check);
            seed += 1;
        }
        println!("{}: {} inputs, BOSUN_SEED={first}", self.name, seed - first);
    }

    #[expect(clippy::print_stdout, reason = "what to repeat it with")]
    fn try_one(&self, seed: u64, input: &[u8], check: &mut impl FnMut(&[u8])) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(input))) {
            let path = std::env::temp_dir().join(format!("bosun-fuzz-{}-{seed}", self.name));
            let kept = std::fs::write(&path, input).map(|()| path.display().to_string());
            println!(
                "{}: BOSUN_SEED={seed}, input {}",
                self.name,
                kept.unwrap_or_else(|error| error.to_string())
            );
            resume_unwind(panic);
        }
    }

    fn mutated(&self, random: &mut Random) -> Vec<u8> {
        let mut input = self.inputs[random.below(self.inputs.len())].clone();
        for _ in 0..=random.next() % CHANGES_MAX {
            match self.change {
                Some(change) if random.below(2) == 0 => change(&mut input, random),
                _ => self.change_bytes(&mut input, random),
            }
        }
        input.truncate(INPUT_BYTES_MAX);
        // Now and then what is checked first stays wrong.
        if random.below(8) > 0 {
            (self.mend)(&mut input);
        }
        input
    }

    fn change_bytes(&self, input: &mut Vec<u8>, random: &mut Random) {
        let at = random.below(input.len() + 1);
        let length = random.below(input.len() - at + 1).min(1 + random.below(600));
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'/', b'.', b'"'][random.below(8)],
            2 => drop(input.drain(at..at + length)),
            3 => {
                let copy = input[at..at + length].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            4 => input.truncate(at),
            5 => {
                let other = &self.inputs[random.below(self.inputs.len())];
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + 1 + random.below(1024)).min(other.len())].to_vec();
                input.splice(at..at + length, piece);
            }
            6 => replace(input, at, NUMBERS[random.below(NUMBERS.len())].as_bytes()),
            7 if !self.words.is_empty() => {
                let word = self.words[random.below(self.words.len())].as_bytes().to_vec();
                input.splice(at..at, word);
            }
            _ => {
                // Tar and many others think in blocks.
                let (one, other) = (block(input, random), block(input, random));
                if one + 512 <= other && other + 512 <= input.len() {
                    let (left, right) = input.split_at_mut(other);
                    left[one..one + 512].swap_with_slice(&mut right[..512]);
                }
            }
        }
    }
}

fn block(input: &[u8], random: &mut Random) -> usize {
    random.below(input.len() / 512 + 1) * 512
}

fn replace(input: &mut [u8], at: usize, bytes: &[u8]) {
    let length = bytes.len().min(input.len() - at);
    input[at..at + length].copy_from_slice(&bytes[..length]);
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("lists").path()).collect();
    files.sort_unstable();
    files.iter().map(|path| std::fs::read(path).expect("reads")).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Nothing to mend.
pub fn as_it_is(_: &mut [u8]) {}

//! Mutation fuzzing of everything that reads bytes of strangers, for a bounded time: each target takes the files of its corpus (and what
//! the fixtures make), changes them at random, and must neither panic nor break what it promises.
//!
//! `BOSUN_FUZZ_SECONDS` (default 2) is the time of each target. A failure prints `BOSUN_SEED`, which makes that very input again, and the
//! path of the input, which belongs into the corpus once the bug is mended.

mod archive;
mod document;
mod engine;
mod filter;
mod rpc;
mod word;

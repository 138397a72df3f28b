//! Chaos: crashes at every registered step, random `kill -9`, a full disk.

mod answers;
mod collect;
mod commits;
mod copies;
mod cursor;
mod decisions;
mod deeds;
mod disk_full;
mod groups;
mod kill;
mod matrix;
mod repeats;
mod script;
mod verbs;

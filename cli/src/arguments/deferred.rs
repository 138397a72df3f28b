//! Words whose arguments are made only when they are the ones asked for.
//!
//! Every call of `bosun` makes the whole list of words, and with all their arguments that was 700 KB of memory touched and a millisecond gone, of which one word needed a
//! fiftieth. What walks through all words (completions, manual pages, the tests) builds the tree first.

use clap::builder::Resettable;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches, Subcommand};

/// What a word takes; `clap` learns of it when the word is there.
#[derive(Debug)]
pub struct Deferred<T>(pub T);

impl<T: FromArgMatches> FromArgMatches for Deferred<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<T: Args> Args for Deferred<T> {
    fn augment_args(command: Command) -> Command {
        command.defer(|command| with_own_words(command, T::augment_args))
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl<T: Subcommand> Subcommand for Deferred<T> {
    fn augment_subcommands(command: Command) -> Command {
        command.defer(|command| with_own_words(command, T::augment_subcommands))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        T::augment_subcommands_for_update(command)
    }

    fn has_subcommand(name: &str) -> bool {
        T::has_subcommand(name)
    }
}

/// What the word itself says of itself goes before what its arguments' type says, as without deferring.
fn with_own_words(command: Command, augment: fn(Command) -> Command) -> Command {
    let about = command.get_about().cloned().zip(Some(command.get_long_about().cloned()));
    let after_help = command.get_after_help().cloned();
    let mut command = augment(command);
    if let Some((about, long_about)) = about {
        command = command.about(about).long_about(long_about.map_or(Resettable::Reset, Resettable::Value));
    }
    if let Some(after_help) = after_help {
        command = command.after_help(after_help);
    }
    command
}

//! `--format`: what its word means. It is read with the other arguments, so that a mistake is told before anything is done.

use std::str::FromStr;

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use crate::arguments::{ArchiveFormat, Arguments, Command, Deferred, Images, ImagesCommand};
use crate::output;
use crate::template::{Malformed, Template};

/// A way to print.
#[derive(Debug, Clone)]
pub enum Format {
    /// Everything that is known.
    Json,
    /// Columns for people.
    Table,
    /// Of an archive that is written.
    Archive(ArchiveFormat),
    /// A line for each item.
    Template(Template),
}

impl FromStr for Format {
    type Err = Malformed;

    fn from_str(word: &str) -> Result<Self, Malformed> {
        Ok(match word {
            "json" => Self::Json,
            "table" => Self::Table,
            "oci" => Self::Archive(ArchiveFormat::Oci),
            "docker" => Self::Archive(ArchiveFormat::Docker),
            template => Self::Template(Template::parse(template)?),
        })
    }
}

/// What commands need to know of it; a template is the printer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Printing {
    /// Values are printed, not tables: `--json`, or `--format` with json or a template.
    pub json: bool,
    /// What an archive is.
    pub archive: ArchiveFormat,
}

impl Printing {
    /// What the arguments ask for; a word that does not go with the command is wrong usage.
    pub fn of(arguments: &Arguments) -> Result<Self, clap::Error> {
        let is_archive = matches!(
            arguments.command,
            Command::Save(_)
                | Command::Images(Deferred(Images { command: Some(ImagesCommand::Export(_)), .. }))
        );
        let printing = Self { json: arguments.json, archive: ArchiveFormat::Oci };
        let wrong = |why: &str| Arguments::command().error(ErrorKind::InvalidValue, why);
        match (&arguments.format, is_archive) {
            (None, _) => Ok(printing),
            (Some(Format::Archive(archive)), true) => Ok(Self { archive: *archive, ..printing }),
            (Some(_), true) => Err(wrong("--format of an archive is oci or docker")),
            (Some(Format::Archive(_)), false) => Err(wrong(
                "--format oci and docker are for archives: use json, table, or a template such as '{{.id}}'",
            )),
            (Some(Format::Json), false) => Ok(Self { json: true, ..printing }),
            (Some(Format::Table), false) => Ok(printing),
            (Some(Format::Template(template)), false) => {
                output::print_by(template.clone());
                Ok(Self { json: true, ..printing })
            }
        }
    }
}

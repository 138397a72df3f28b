//! Names of this host's users and groups: from `/etc/passwd` and `/etc/group`, and what is not there, such as users of a directory service, by `getent`.
//!
//! Not by the C library's own functions: they load the name service's modules into the process, which a program that is linked statically, so that it starts fast,
//! cannot rely on.

use std::io;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Exit code of `getent`: the database has no such key.
const NOT_FOUND: i32 = 2;

/// A table of accounts.
#[derive(Debug, Clone, Copy)]
enum Database {
    Users,
    Groups,
}

impl Database {
    fn word(self) -> &'static str {
        match self {
            Self::Users => "passwd",
            Self::Groups => "group",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/passwd",
            Self::Groups => "/etc/group",
        }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// By name.
    pub fn named(name: &str) -> anyhow::Result<Option<Self>> {
        Self::parsed(find(Database::Users, name)?)
    }

    /// By number.
    pub fn numbered(uid: u32) -> anyhow::Result<Option<Self>> {
        Self::parsed(find(Database::Users, &uid.to_string())?)
    }

    fn parsed(line: Option<String>) -> anyhow::Result<Option<Self>> {
        let Some(line) = line else { return Ok(None) };
        let fields: Vec<&str> = line.split(':').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok());
        let (uid, gid) =
            number(2).zip(number(3)).with_context(|| format!("not a line of passwd: {line:?}"))?;
        Ok(Some(Self { name: fields[0].to_owned(), uid, gid }))
    }
}

/// A group's number.
pub fn group_number(name: &str) -> anyhow::Result<Option<u32>> {
    let Some(line) = find(Database::Groups, name)? else { return Ok(None) };
    let number = line.split(':').nth(2).and_then(|field| field.parse().ok());
    number.map(Some).with_context(|| format!("not a line of group: {line:?}"))
}

/// A group's name.
pub fn group_name(gid: u32) -> anyhow::Result<Option<String>> {
    let line = find(Database::Groups, &gid.to_string())?;
    Ok(line.and_then(|line| line.split(':').next().map(str::to_owned)))
}

fn find(database: Database, key: &str) -> anyhow::Result<Option<String>> {
    let text = match std::fs::read(database.file()) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", database.file())),
    };
    match line_of(&text, key) {
        Some(line) => Ok(Some(line.to_owned())),
        None => ask(database, key),
    }
}

/// The line whose name or number is the key.
fn line_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let position = if key.bytes().all(|byte| byte.is_ascii_digit()) { 2 } else { 0 };
    text.lines().find(|line| line.split(':').nth(position) == Some(key))
}

/// A host without `getent` has no accounts but those of its files.
fn ask(database: Database, key: &str) -> anyhow::Result<Option<String>> {
    let mut command = Command::new("getent");
    command.args([database.word(), "--", key]).stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot start getent"),
    };
    if output.status.code() == Some(NOT_FOUND) {
        return Ok(None);
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("`getent {} {key}` ended with {}: {}", database.word(), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_name_and_by_number_and_by_nothing_else() {
        let text = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\n7up:x:77:7::/:\n";
        assert_eq!(line_of(text, "alice").and_then(|line| line.split(':').nth(3)), Some("100"));
        assert_eq!(line_of(text, "1000"), line_of(text, "alice"));
        assert_eq!(line_of(text, "7up").and_then(|line| line.split(':').nth(2)), Some("77"));
        // A group's number, a home, a part of a name: none is a key.
        for absent in ["100", "7", "/root", "ali", ""] {
            assert_eq!(line_of(text, absent), None, "{absent:?}");
        }
    }

    #[test]
    fn root_is_root_and_nobody_is_asked_for_twice() {
        let root = User::named("root").expect("readable").expect("there is root");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(User::numbered(0).expect("readable"), Some(root));
        assert_eq!(group_number("root").expect("readable"), Some(0));
        assert_eq!(group_name(0).expect("readable").as_deref(), Some("root"));
        assert_eq!(User::named("no-such-user").expect("getent says so"), None);
        assert_eq!(group_number("no-such-group").expect("getent says so"), None);
    }

    #[test]
    fn lines_that_are_none_are_told() {
        let error = User::parsed(Some("alice:x:many".to_owned())).expect_err("no number");
        assert!(error.to_string().contains("alice"), "{error}");
    }
}

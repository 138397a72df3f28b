//! Where a copy goes and what it is called there: cp(1)'s rules, as `docker cp` has them. Pure.

use anyhow::bail;

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// It is a directory.
    pub is_directory: bool,
    /// Only what the directory holds.
    pub contents: bool,
    /// Its own name.
    pub name: &'a str,
}

/// What the destination is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// Something else.
    File,
}

/// A directory, and the name in it; an empty name: the directory gets what the source holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    /// It must exist.
    pub directory: String,
    /// What the source is called there.
    pub rename: String,
}

/// Decides.
pub fn aim(source: Source<'_>, destination: &str, there: There) -> anyhow::Result<Aim> {
    let asks_for_directory = destination.ends_with('/') || destination.ends_with("/.");
    match there {
        There::Directory => {
            let rename = if source.contents { String::new() } else { source.name.to_owned() };
            return Ok(Aim { directory: destination.to_owned(), rename });
        }
        There::File if source.is_directory => {
            bail!("{destination:?} is a file: a directory cannot be copied onto it")
        }
        There::File if asks_for_directory => bail!("{destination:?} is not a directory"),
        There::Nothing if asks_for_directory && !source.is_directory => {
            bail!("the directory {destination:?} does not exist")
        }
        There::File | There::Nothing => {}
    }
    let trimmed = destination.trim_end_matches("/.").trim_end_matches('/');
    let (directory, name) = match trimmed.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((directory, name)) => (directory, name),
        None => (".", trimmed),
    };
    if matches!(name, "" | "." | "..") {
        bail!("{destination:?} gives no name");
    }
    Ok(Aim { directory: directory.to_owned(), rename: name.to_owned() })
}

/// A path of a container: counted from its root, without `.`, `..` and empty parts. It is about words: links are resolved where it is used.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The last part of a clean path.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_things_go() {
        let file = Source { is_directory: false, contents: false, name: "f" };
        let directory = Source { is_directory: true, contents: false, name: "d" };
        let contents = Source { contents: true, ..directory };
        let good = [
            (file, "/srv", There::Directory, "/srv", "f"),
            (file, "/srv/new", There::Nothing, "/srv", "new"),
            (file, "/srv/old", There::File, "/srv", "old"),
            (file, "here", There::Nothing, ".", "here"),
            (file, "/top", There::Nothing, "/", "top"),
            (directory, "/srv", There::Directory, "/srv", "d"),
            (directory, "/srv/new", There::Nothing, "/srv", "new"),
            (directory, "/srv/new/", There::Nothing, "/srv", "new"),
            (contents, "/srv", There::Directory, "/srv", ""),
            (contents, "/srv/new", There::Nothing, "/srv", "new"),
        ];
        for (source, destination, there, directory, rename) in good {
            let found = aim(source, destination, there).expect(destination);
            assert_eq!(
                (found.directory.as_str(), found.rename.as_str()),
                (directory, rename),
                "{destination}"
            );
        }
        for (source, destination, there) in [
            (directory, "/srv/old", There::File),
            (file, "/srv/old/", There::File),
            (file, "/srv/new/", There::Nothing),
            (file, "..", There::Nothing),
        ] {
            aim(source, destination, there).expect_err(destination);
        }
    }

    #[test]
    fn paths_of_containers_begin_at_their_root() {
        for (given, cleaned) in
            [("", "/"), ("a/./b/", "/a/b"), ("/a/../../b", "/b"), ("..", "/"), ("//a//b/.", "/a/b")]
        {
            assert_eq!(clean(given), cleaned);
        }
        assert_eq!(base_name("/a/b"), "b");
        assert_eq!(base_name("/"), "");
    }
}

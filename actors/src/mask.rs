//! Field masks of updates (ID-9, ID-10).

use bosun_types::{Error, Labels, Result, labels};

/// Parsed paths. Empty: everything mutable is replaced.
pub(crate) struct Mask {
    paths: Vec<String>,
}

impl Mask {
    /// Checks every path against `labels`, `labels.<key>`, and `fields`; a field that ends in `.` takes a key.
    pub(crate) fn parse(noun: &str, paths: &[String], fields: &[&str]) -> Result<Self> {
        for path in paths {
            let keyed = |prefix: &str| path.strip_prefix(prefix).is_some_and(|key| !key.is_empty());
            let known = path == "labels"
                || keyed("labels.")
                || fields.iter().any(|field| if field.ends_with('.') { keyed(field) } else { field == path });
            if !known {
                return Err(Error::invalid_argument(format!("cannot update {noun} field {path:?}"))
                    .with_hint(format!("there is: labels, labels.<key>, {}", fields.join(", "))));
            }
        }
        Ok(Self { paths: paths.to_vec() })
    }

    /// Whether this field is to be replaced.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|path| path == field)
    }

    /// The keys named below `field`.
    pub(crate) fn keys<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a str> {
        self.paths.iter().filter_map(move |path| path.strip_prefix(field)?.strip_prefix('.'))
    }

    /// Applies it to labels: everything after the first dot is the key (ID-9); an empty value removes (ID-8).
    pub(crate) fn labels(&self, stored: &mut Labels, given: &Labels) {
        if self.has("labels") {
            stored.clear();
            labels::merge(stored, given.clone());
        }
        for key in self.keys("labels") {
            let value = given.get(key).cloned().unwrap_or_default();
            labels::merge(stored, Labels::from([(key.to_owned(), value)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn id_9_everything_after_the_first_dot_is_the_key() {
        let mask = Mask::parse("image", &["labels.a.b/c".to_owned()], &["target"]).expect("good");
        let mut stored = of(&[("x", "1"), ("a.b/c", "old")]);
        mask.labels(&mut stored, &of(&[("a.b/c", "new"), ("ignored", "2")]));
        assert_eq!(stored, of(&[("x", "1"), ("a.b/c", "new")]));
        assert!(!mask.has("target"));
    }

    #[test]
    fn id_10_unknown_paths_are_refused_and_no_path_replaces_all() {
        let error = Mask::parse("image", &["name".to_owned()], &["target"]).err().expect("unknown");
        assert!(error.message.contains("\"name\""), "{error}");
        let mask = Mask::parse("image", &[], &["target"]).expect("good");
        let mut stored = of(&[("x", "1")]);
        mask.labels(&mut stored, &of(&[("y", "2")]));
        assert_eq!(stored, of(&[("y", "2")]));
        assert!(mask.has("target"));
    }
}

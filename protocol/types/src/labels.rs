//! Labels: text to text, ordered, with the size rule ID-6 and the empty-value rule ID-8.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Ordered, so that stored bytes and output are the same each time.
pub type Labels = BTreeMap<String, String>;

/// Longest key plus value in bytes (ID-6).
pub const LABEL_BYTES_MAX: usize = 4096;
/// Most labels on one object. containerd has no limit; everything here has one.
pub const LABELS_MAX: usize = 1024;

/// ID-6: every label is checked, for every kind of object (ID-7 is the original's inverted check).
pub fn validate(labels: &Labels) -> Result<()> {
    if labels.len() > LABELS_MAX {
        return Err(Error::invalid_argument(format!(
            "{} labels given, at most {LABELS_MAX} are allowed",
            labels.len()
        )));
    }
    for (key, value) in labels {
        if key.is_empty() {
            return Err(Error::invalid_argument("a label's key is empty"));
        }
        if key.len() + value.len() > LABEL_BYTES_MAX {
            let head: String = key.chars().take(10).collect();
            return Err(Error::invalid_argument(format!(
                "label {head:?}… is {} bytes with its value, at most {LABEL_BYTES_MAX} are allowed",
                key.len() + value.len()
            )));
        }
    }
    Ok(())
}

/// ID-8, ID-9: sets each given label; an empty value removes it.
pub fn merge(into: &mut Labels, changes: Labels) {
    for (key, value) in changes {
        if value.is_empty() {
            into.remove(&key);
        } else {
            into.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_7_every_label_is_checked() {
        let labels = Labels::from([("a".into(), "fine".into()), ("b".into(), "x".repeat(LABEL_BYTES_MAX))]);
        assert!(validate(&labels).expect_err("oversize").message.contains("\"b\""));
    }

    #[test]
    fn id_8_empty_value_removes() {
        let mut labels = Labels::from([("a".into(), "1".into())]);
        merge(&mut labels, Labels::from([("a".into(), String::new()), ("b".into(), "2".into())]));
        assert_eq!(labels, Labels::from([("b".into(), "2".into())]));
    }
}

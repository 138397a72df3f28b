//! The label that remembers which repositories of a registry have a blob: `containerd.io/distribution.source.<host>=<path>[,<path>…]`. A push to the same
//! registry asks for a mount from there instead of sending the bytes.

use bosun_types::Labels;
use bosun_types::reference::Reference;

const LABEL: &str = "containerd.io/distribution.source.";
/// Repositories remembered for a blob; labels have a limit.
const PATHS_MAX: usize = 8;

fn label(reference: &Reference) -> String {
    format!("{LABEL}{}", reference.host)
}

/// Repositories of the reference's registry that have a blob with these labels.
pub(crate) fn paths(labels: &Labels, reference: &Reference) -> Vec<String> {
    let text = labels.get(&label(reference)).map(String::as_str).unwrap_or_default();
    text.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

/// All repositories that have a blob with these labels, whatever their registry.
pub(crate) fn repositories(labels: &Labels) -> Vec<Reference> {
    let named = labels.iter().filter_map(|(key, paths)| Some((key.strip_prefix(LABEL)?, paths)));
    let each = named.flat_map(|(host, paths)| {
        paths.split(',').filter(|path| !path.is_empty()).map(move |path| (host.to_owned(), path.to_owned()))
    });
    each.map(|(host, path)| Reference { host, path, tag: None, digest: None }).collect()
}

/// This repository has it.
pub(crate) fn add(labels: &mut Labels, reference: &Reference) {
    let new = Labels::from([(label(reference), reference.path.clone())]);
    merge(labels, new);
}

/// Whether `new` says more than `old`.
pub(crate) fn adds(old: &Labels, new: &Labels) -> bool {
    let mut merged = old.clone();
    merge(&mut merged, new.clone());
    merged != *old
}

/// Adds labels; lists of repositories become one list.
pub(crate) fn merge(labels: &mut Labels, new: Labels) {
    for (key, value) in new {
        let old = labels.get(&key).map(String::as_str).unwrap_or_default();
        if !key.starts_with(LABEL) || old.is_empty() {
            labels.insert(key, value);
            continue;
        }
        let mut paths: Vec<&str> = old.split(',').collect();
        for path in value.split(',') {
            if !paths.contains(&path) && paths.len() < PATHS_MAX {
                paths.push(path);
            }
        }
        let joined = paths.join(",");
        labels.insert(key, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_collected_by_registry_and_their_number_is_bounded() {
        let reference = |path: &str| -> Reference { format!("r.io:5000/{path}:1").parse().expect("good") };
        let mut labels = Labels::from([("other".to_owned(), "a".to_owned())]);
        add(&mut labels, &reference("team/app"));
        let before = labels.clone();
        add(&mut labels, &reference("team/app"));
        assert_eq!(labels, before);
        assert!(!adds(&labels, &before));
        add(&mut labels, &reference("other/app"));
        assert_eq!(paths(&labels, &reference("x")), ["team/app", "other/app"]);
        (0..100).for_each(|number| add(&mut labels, &reference(&format!("n/{number}"))));
        assert_eq!(paths(&labels, &reference("x")).len(), PATHS_MAX);
        assert!(paths(&labels, &"q.io/x:1".parse().expect("good")).is_empty());
        merge(&mut labels, Labels::from([("other".to_owned(), "b".to_owned())]));
        assert_eq!(labels["other"], "b");
    }
}

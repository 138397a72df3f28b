//! An image's config with changes in it, as a Dockerfile's words say them. Pure.

use bosun_types::{Digest, Error, Result, Timestamp};
use serde_json::{Map, Value, json};

use super::CommitRequest;

/// Whether all of them are understood, before anything is done.
pub(super) fn check(changes: &[String]) -> Result<()> {
    apply(&mut json!({}), changes)
}

/// Makes the changes.
pub(super) fn apply(config: &mut Value, changes: &[String]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    if !config["config"].is_object() {
        config["config"] = json!({});
    }
    for change in changes {
        let (word, rest) = change.trim().split_once(char::is_whitespace).unwrap_or((change.trim(), ""));
        let rest = rest.trim();
        let process = &mut config["config"];
        match word.to_ascii_uppercase().as_str() {
            "CMD" => process["Cmd"] = json!(words(change, rest)?),
            "ENTRYPOINT" => process["Entrypoint"] = json!(words(change, rest)?),
            "ENV" => env(process, pair(change, rest)?),
            "LABEL" => {
                let (key, value) = pair(change, rest)?;
                entry(process, "Labels", key, json!(value));
            }
            "USER" => process["User"] = json!(one(change, rest)?),
            "WORKDIR" => process["WorkingDir"] = json!(one(change, rest)?),
            "STOPSIGNAL" => process["StopSignal"] = json!(one(change, rest)?),
            "EXPOSE" => {
                let port = one(change, rest)?;
                let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
                entry(process, "ExposedPorts", &port, json!({}));
            }
            "VOLUME" => entry(process, "Volumes", one(change, rest)?, json!({})),
            _ => return Err(malformed(change)),
        }
    }
    Ok(())
}

/// Names the new layer; `None`: the config has no list of layers.
pub(super) fn add_layer(
    config: &mut Value,
    diff_id: &Digest,
    request: &CommitRequest,
    now: Timestamp,
) -> Option<()> {
    config.pointer_mut("/rootfs/diff_ids")?.as_array_mut()?.push(json!(diff_id));
    let created = now.to_string();
    let mut done = json!({"created": created, "created_by": "bosun commit"});
    for (key, value) in [("author", &request.author), ("comment", &request.message)] {
        if !value.is_empty() {
            done[key] = json!(value);
        }
    }
    if !request.author.is_empty() {
        config["author"] = json!(request.author);
    }
    config["created"] = json!(created);
    match config["history"].as_array_mut() {
        Some(history) => history.push(done),
        None => config["history"] = json!([done]),
    }
    Some(())
}

fn malformed(change: &str) -> Error {
    Error::invalid_argument(format!("change {change:?} is not understood")).with_hint(
        "use CMD, ENTRYPOINT, ENV KEY=VALUE, LABEL KEY=VALUE, USER, WORKDIR, EXPOSE PORT, VOLUME PATH or STOPSIGNAL",
    )
}

fn one<'a>(change: &str, rest: &'a str) -> Result<&'a str> {
    if rest.is_empty() { Err(malformed(change)) } else { Ok(rest) }
}

fn pair<'a>(change: &str, rest: &'a str) -> Result<(&'a str, &'a str)> {
    let (key, value) = rest.split_once('=').ok_or_else(|| malformed(change))?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    if key.is_empty() { Err(malformed(change)) } else { Ok((key, value)) }
}

/// A JSON array; anything else is for a shell, as in a Dockerfile.
fn words(change: &str, rest: &str) -> Result<Vec<String>> {
    if rest.starts_with('[') {
        return serde_json::from_str(rest).map_err(|_| malformed(change));
    }
    Ok(["/bin/sh", "-c", one(change, rest)?].map(str::to_owned).to_vec())
}

fn env(process: &mut Value, (key, value): (&str, &str)) {
    let mut all: Vec<String> = serde_json::from_value(process["Env"].clone()).unwrap_or_default();
    all.retain(|word| word.split('=').next() != Some(key));
    all.push(format!("{key}={value}"));
    process["Env"] = json!(all);
}

fn entry(process: &mut Value, list: &str, key: &str, value: Value) {
    let mut all: Map<String, Value> = serde_json::from_value(process[list].clone()).unwrap_or_default();
    all.insert(key.to_owned(), value);
    process[list] = Value::Object(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_a_dockerfiles_words() {
        let mut config = json!({"config": {"Env": ["A=1", "B=2"], "Cmd": ["old"]}});
        let changes = [
            r#"CMD ["/bin/serve", "--fast"]"#,
            "entrypoint exec it",
            "ENV A=new value",
            "LABEL team=\"a b\"",
            "USER 1000:1000",
            "WORKDIR /srv",
            "EXPOSE 80",
            "EXPOSE 53/udp",
            "VOLUME /data",
            "STOPSIGNAL SIGQUIT",
        ]
        .map(str::to_owned);
        apply(&mut config, &changes).expect("understood");
        let wanted = json!({"config": {
            "Env": ["B=2", "A=new value"], "Cmd": ["/bin/serve", "--fast"], "Entrypoint": ["/bin/sh", "-c", "exec it"],
            "Labels": {"team": "a b"}, "User": "1000:1000", "WorkingDir": "/srv",
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT",
        }});
        assert_eq!(config, wanted);
        for bad in ["", "RUN make", "ENV A", "ENV =b", "CMD", "CMD [1]", "USER", "LABEL"] {
            check(&[bad.to_owned()]).expect_err(bad);
        }
    }

    #[test]
    fn a_layer_is_named_in_the_config_and_its_history() {
        let digest = Digest::from_bytes([7; 32]);
        let request = CommitRequest {
            pause: false,
            image: "r.local/a:1".parse().expect("good"),
            replace: false,
            author: "me".to_owned(),
            message: String::new(),
            changes: Vec::new(),
        };
        let mut config = json!({"rootfs": {"type": "layers", "diff_ids": ["sha256:a"]}});
        add_layer(&mut config, &digest, &request, Timestamp(0)).expect("a config");
        assert_eq!(config["rootfs"]["diff_ids"][1], json!(digest));
        assert_eq!(config["history"][0]["author"], "me");
        assert!(config["history"][0].get("comment").is_none());
        assert!(add_layer(&mut json!({}), &digest, &request, Timestamp(0)).is_none());
    }
}

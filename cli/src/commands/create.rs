//! `bosun create`, and what a container is to be, from its flags.

mod security;
mod users;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use bosun_types::container::RuntimeChoice;
use bosun_types::mount::Mount;
use bosun_types::spec::{ContainerRequest, RootRequest, SpecOptions, SpecRequest};
use bosun_types::{ContainerId, ImageName};
use serde_json::Value;

use super::{foreground, lifecycle};
use crate::arguments::{Create, Network, NewContainer};
use crate::context::{self, Context};
use crate::output;

/// Makes a container; says its name.
pub async fn create(context: &Context, options: &Create) -> anyhow::Result<()> {
    let id = id_of(&options.container)?;
    let made = context.namespace().containers().create(request(&options.container, id.clone())?).await;
    let record = made.with_context(|| format!("container {id}"))?;
    if context.json {
        return output::json(&serde_json::json!({"container": record.id}));
    }
    if !options.quiet {
        output::line(record.id.as_str());
    }
    Ok(())
}

/// The name it is given, or one of ours.
pub fn id_of(options: &NewContainer) -> anyhow::Result<ContainerId> {
    Ok(match &options.name {
        Some(name) => ContainerId::new(name.as_str())?,
        None => ContainerId::new(foreground::random_name())?,
    })
}

/// A spec from a file; of a root that is a directory it says which.
fn whole_spec(options: &NewContainer, path: &Path) -> anyhow::Result<SpecRequest> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut spec: Value =
        serde_json::from_slice(&bytes).with_context(|| format!("--config {}", path.display()))?;
    if options.rootfs {
        spec["root"]["path"] = Value::from(std::path::absolute(&options.image)?.to_string_lossy());
    }
    if options.tty {
        spec["process"]["terminal"] = Value::Bool(true);
    }
    Ok(SpecRequest::Json(serde_json::to_vec(&spec)?))
}

/// What is asked for.
pub fn request(options: &NewContainer, id: ContainerId) -> anyhow::Result<ContainerRequest> {
    let (image, root) = if options.rootfs {
        let directory = std::path::absolute(Path::new(&options.image))?;
        if !directory.is_dir() {
            bail!("--rootfs: {} is not a directory", directory.display());
        }
        (None, RootRequest::Directory(directory.to_string_lossy().into_owned()))
    } else {
        (Some(ImageName::new(options.image.as_str())?), RootRequest::Image { key: None })
    };
    Ok(ContainerRequest {
        id,
        labels: context::labels(&options.label)?,
        image,
        snapshotter: options.snapshotter.clone(),
        root,
        runtime: RuntimeChoice { name: options.runtime.clone(), options: None },
        spec: match &options.config {
            Some(path) => whole_spec(options, path)?,
            None => SpecRequest::Build(Box::new(spec_options(options)?)),
        },
        extensions: BTreeMap::new(),
        restart: lifecycle::policy(&options.restart)?,
        checkpoint: None,
    })
}

fn spec_options(options: &NewContainer) -> anyhow::Result<SpecOptions> {
    let mut env = Vec::new();
    for path in &options.env_file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let words = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        env.extend(context::environment(words));
    }
    env.extend(context::environment(options.env.iter().map(String::as_str)));
    let mut mounts = options.mount.iter().map(|word| mount(word)).collect::<anyhow::Result<Vec<_>>>()?;
    for word in &options.volume {
        mounts.push(volume(word)?);
    }
    let mut spec = SpecOptions {
        args: options.command.clone(),
        entrypoint: options.entrypoint.clone().map(|program| vec![program]),
        env,
        cwd: options.cwd.clone(),
        user: options.user.clone(),
        terminal: options.tty,
        hostname: options.hostname.clone(),
        mounts,
        read_only_root: options.read_only,
        privileged: options.privileged,
        host_network: options.net_host || options.net == Network::Host,
        join_namespaces: join_namespaces(&options.with_ns)?,
        memory_bytes_max: options.memory.as_deref().map(context::bytes).transpose()?,
        cpu_millis: options.cpus.map(cpu_millis).transpose()?,
        pids_max: options.pids_limit,
        cpu_shares: options.cpu_shares,
        cpu_quota_micros: options.cpu_quota,
        cpu_period_micros: options.cpu_period,
        annotations: context::pairs("annotation", &options.annotation)?,
        user_namespace: users::user_namespace(&options.users)?,
        ..SpecOptions::default()
    };
    security::apply(&mut spec, &options.security)?;
    Ok(spec)
}

/// Thousandths of a processor.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
pub fn cpu_millis(cpus: f64) -> anyhow::Result<u64> {
    if !(0.001..=1_000_000.0).contains(&cpus) {
        bail!("--cpus {cpus}: use a number such as 0.5 or 2");
    }
    Ok((cpus * 1000.0).round() as u64)
}

fn join_namespaces(words: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    words
        .iter()
        .map(|word| match word.split_once(':') {
            Some((kind, path)) if path.starts_with('/') || path == "host" => {
                Ok((kind.to_owned(), path.to_owned()))
            }
            _ => bail!("--with-ns {word:?}: use type:/path, such as network:/run/netns/web, or type:host"),
        })
        .collect()
}

/// CLI-5: `type=`, `source=` or `src=`, `destination=` or `dst=`, `options=a:b`.
fn mount(word: &str) -> anyhow::Result<Mount> {
    let mut mount =
        Mount { kind: String::new(), source: String::new(), target: String::new(), options: Vec::new() };
    for part in word.split(',') {
        let Some((key, value)) = part.split_once('=') else {
            bail!("--mount {word:?}: {part:?} is not KEY=VALUE");
        };
        match key {
            "type" => value.clone_into(&mut mount.kind),
            "source" | "src" => value.clone_into(&mut mount.source),
            "destination" | "dst" | "target" => value.clone_into(&mut mount.target),
            "options" => mount.options = value.split(':').map(str::to_owned).collect(),
            _ => bail!("--mount {word:?}: {key:?} is unknown: use type, src, dst or options"),
        }
    }
    if !mount.target.starts_with('/') {
        bail!("--mount {word:?}: dst must be an absolute path");
    }
    Ok(mount)
}

/// `/host:/container[:ro]`.
fn volume(word: &str) -> anyhow::Result<Mount> {
    let parts: Vec<&str> = word.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [source, target] => (*source, *target, "rw"),
        [source, target, mode @ ("ro" | "rw")] => (*source, *target, *mode),
        _ => bail!("--volume {word:?}: use /host/path:/path or /host/path:/path:ro"),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        bail!("--volume {word:?}: both paths must be absolute");
    }
    Ok(Mount {
        kind: "bind".to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        options: vec!["rbind".to_owned(), mode.to_owned()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cli_5_mount_words() {
        let parsed = mount("type=bind,src=/a,dst=/b,options=rbind:ro").expect("parses");
        assert_eq!(
            (parsed.kind.as_str(), parsed.source.as_str(), parsed.target.as_str()),
            ("bind", "/a", "/b")
        );
        assert_eq!(parsed.options, ["rbind", "ro"]);
        for bad in ["", "type", "type=bind,sauce=/a,dst=/b", "type=bind,src=/a,dst=b"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volume_words() {
        assert_eq!(volume("/a:/b:ro").expect("parses").options, ["rbind", "ro"]);
        for bad in ["/a", "a:/b", "/a:b", "/a:/b:rx", "/a:/b:ro:z"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn processors_in_thousandths() {
        assert_eq!(cpu_millis(0.5).expect("fine"), 500);
        assert!(cpu_millis(0.0).is_err() && cpu_millis(f64::NAN).is_err());
    }
}

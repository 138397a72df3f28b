//! `bosun why`: the chains that keep a blob or a snapshot.

use anyhow::bail;
use bosun_types::gc::{Chain, Object};
use bosun_types::{Digest, ErrorClass, SnapshotKey};

use crate::arguments::Why;
use crate::context::Context;
use crate::output;

/// Shows every chain; says so when there is none.
pub async fn why(context: &Context, options: &Why) -> anyhow::Result<()> {
    let blob = options.object.parse::<Digest>().ok().map(Object::Blob);
    let key = SnapshotKey::new(options.object.as_str())?;
    let snapshot = Object::Snapshot { snapshotter: options.snapshotter.clone(), key };
    let mut found = Vec::new();
    for object in blob.into_iter().chain([snapshot]) {
        match context.namespace().why(object.clone()).await {
            Ok(chains) => found.push((object, chains)),
            Err(error) if error.class == ErrorClass::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    if found.is_empty() {
        bail!("no blob and no snapshot of {} is called {:?}", options.snapshotter, options.object);
    }
    if context.json {
        return output::json(&found);
    }
    for (object, chains) in &found {
        output::line(object.to_string());
        if chains.is_empty() {
            output::line("  nothing keeps it: the next collection takes it (`bosun gc` is one)");
        }
        chains.iter().for_each(|chain| output::line(format!("  {}", told(chain))));
    }
    Ok(())
}

/// `image a/b:1 → blob sha256:… → snapshot overlayfs/…`
fn told(chain: &Chain) -> String {
    let root = match chain.root.until {
        Some(until) => format!("{} {} (until {until})", chain.root.kind, chain.root.id),
        None => format!("{} {}", chain.root.kind, chain.root.id),
    };
    std::iter::once(root).chain(chain.objects.iter().map(ToString::to_string)).collect::<Vec<_>>().join(" → ")
}

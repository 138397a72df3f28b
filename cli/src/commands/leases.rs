//! `bosun leases`: list, create, remove, and what they hold.

use std::time::Duration;

use anyhow::Context as _;
use bosun_types::lease::{LABEL_FLAT, LeaseRecord, LeaseResource};
use bosun_types::{LeaseId, Timestamp};

use crate::arguments::{Filter, LeaseEntry, Leases, LeasesCommand};
use crate::context::{Context, labels};
use crate::output;

/// Does what the words say.
pub async fn leases(context: &Context, options: Leases) -> anyhow::Result<()> {
    let leases = context.namespace().leases();
    match options.command.unwrap_or(LeasesCommand::Ls { quiet: false, filter: Filter::default() }) {
        LeasesCommand::Ls { quiet, filter } => list(context, quiet, &filter).await,
        LeasesCommand::Create { lease, expires, flat, label } => {
            let mut labels = labels(&label)?;
            let after = span(&expires)
                .with_context(|| format!("--expires {expires:?}: use a time such as 90s, 30m, 24h or 7d"))?;
            if !after.is_zero() {
                labels.extend(bosun_client::expiring(after));
            }
            if flat {
                labels.insert(LABEL_FLAT.to_owned(), "true".to_owned());
            }
            let record = leases.create(lease.map(LeaseId::new).transpose()?, labels).await?;
            if context.json {
                return output::json(&record);
            }
            output::line(record.id.as_str());
            Ok(())
        }
        LeasesCommand::Rm { leases: ids, sync } => {
            for (id, left) in ids.iter().zip((0..ids.len()).rev()) {
                let lease = LeaseId::new(id.as_str())?;
                // One collection, after the last.
                match sync && left == 0 {
                    true => leases.delete_sync(lease).await?,
                    false => leases.delete(lease).await?,
                }
                output::line(id);
            }
            Ok(())
        }
        LeasesCommand::Resources { lease } => {
            let resources = leases.resources(LeaseId::new(lease)?).await?;
            if context.json {
                return output::json(&resources);
            }
            let rows: Vec<Vec<String>> =
                resources.iter().map(|resource| vec![resource.kind(), resource.id()]).collect();
            output::table(&["KIND", "ID"], &rows);
            Ok(())
        }
        LeasesCommand::Add(entry) => {
            let (lease, resource) = parsed(&entry)?;
            Ok(leases.add(lease, resource).await?)
        }
        LeasesCommand::Drop(entry) => {
            let (lease, resource) = parsed(&entry)?;
            Ok(leases.remove(lease, resource).await?)
        }
    }
}

fn parsed(entry: &LeaseEntry) -> anyhow::Result<(LeaseId, LeaseResource)> {
    Ok((LeaseId::new(entry.lease.as_str())?, LeaseResource::parse(&entry.kind, &entry.id)?))
}

/// `90s`, `30m`, `24h`, `7d`, or 0.
fn span(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        '0' if text == "0" => return Some(Duration::ZERO),
        _ => return None,
    };
    let count: u64 = text[..text.len() - 1].parse().ok()?;
    count.checked_mul(unit).map(Duration::from_secs)
}

async fn list(context: &Context, quiet: bool, filter: &Filter) -> anyhow::Result<()> {
    let leases = context.namespace().leases().list_where(filter).await?;
    if quiet && !context.json {
        leases.iter().for_each(|lease| output::line(lease.id.as_str()));
        return Ok(());
    }
    context.list(&leases, &["ID", "AGE", "EXPIRES", "LABELS"], |lease| {
        vec![lease.id.to_string(), output::age(lease.created_at), expiry(lease), labels_text(lease)]
    })
}

fn expiry(lease: &LeaseRecord) -> String {
    match lease.expires_at() {
        None => "never".to_owned(),
        Some(at) if lease.is_expired(Timestamp::now()) => format!("expired {} ago", output::age(at)),
        Some(at) => at.to_string(),
    }
}

fn labels_text(lease: &LeaseRecord) -> String {
    let shown = lease.labels.iter().map(|(key, value)| format!("{key}={value}"));
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(span("90s"), Some(Duration::from_secs(90)));
        assert_eq!(span("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(span("0"), Some(Duration::ZERO));
        for bad in ["", "10", "h", "-1h", "1w", "99999999999999999999d"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}

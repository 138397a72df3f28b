//! `bosun namespaces`.

use bosun_types::NamespaceName;

use super::sockets;
use crate::arguments::{Filter, Namespaces, NamespacesCommand};
use crate::context::{self, Context};
use crate::output;

/// Does what the words say.
pub async fn namespaces(context: &Context, options: Namespaces) -> anyhow::Result<()> {
    match options.command {
        None => list(context, false, &options.filter).await,
        Some(NamespacesCommand::Ls { quiet, filter }) => list(context, quiet, &filter).await,
        Some(NamespacesCommand::Create { name, label }) => {
            let name: NamespaceName = name.parse()?;
            context.client.create_namespace(name.clone(), context::labels(&label)?).await?;
            output::line(name.as_str());
            Ok(())
        }
        Some(NamespacesCommand::Socket(command)) => sockets::sockets(context, command).await,
        Some(NamespacesCommand::Label { name, labels }) => {
            let (name, labels) = (name.parse()?, context::labels(&labels)?);
            context.labels(&context.client.update_namespace(name, labels, false).await?.labels)
        }
        Some(NamespacesCommand::Rm { names }) => {
            for name in names {
                let name: NamespaceName = name.parse()?;
                context.client.delete_namespace(name.clone()).await?;
                output::line(name.as_str());
            }
            Ok(())
        }
    }
}

async fn list(context: &Context, quiet: bool, filter: &Filter) -> anyhow::Result<()> {
    let records = context.client.namespaces_where(filter).await?;
    if quiet && !context.json {
        records.iter().for_each(|record| output::line(record.name.as_str()));
        return Ok(());
    }
    context.list(&records, &["NAME", "AGE", "LABELS"], |record| {
        let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![record.name.to_string(), output::age(record.created_at), labels.join(",")]
    })
}

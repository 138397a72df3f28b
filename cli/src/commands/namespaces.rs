//! `bosun namespaces`.

use bosun_types::NamespaceName;

use super::sockets;
use crate::arguments::{Filter, Namespaces, NamespacesCommand};
use crate::context::{self, Context};
use crate::output;

/// Does what the words say.
pub async fn namespaces(context: &Context, options: Namespaces) -> anyhow::Result<()> {
    match options.command {
        None => list(context, &options.filter).await,
        Some(NamespacesCommand::Ls { filter }) => list(context, &filter).await,
        Some(NamespacesCommand::Create { name, label }) => {
            let name: NamespaceName = name.parse()?;
            context.client.create_namespace(name.clone(), context::labels(&label)?).await?;
            output::line(name.as_str());
            Ok(())
        }
        Some(NamespacesCommand::Socket(command)) => sockets::sockets(context, command).await,
        Some(NamespacesCommand::Rm { name }) => {
            let name: NamespaceName = name.parse()?;
            context.client.delete_namespace(name.clone()).await?;
            output::line(name.as_str());
            Ok(())
        }
    }
}

async fn list(context: &Context, filter: &Filter) -> anyhow::Result<()> {
    let records = context.client.namespaces_where(filter).await?;
    if context.json {
        return output::json(&records);
    }
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            let labels: Vec<String> =
                record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            vec![record.name.to_string(), output::age(record.created_at), labels.join(",")]
        })
        .collect();
    output::table(&["NAME", "AGE", "LABELS"], &rows);
    Ok(())
}

//! `bosun tree`, `operations`, `daemon status`, `version`.

use bosun_types::OperationId;
use bosun_types::operation::OperationStatus;
use bosun_types::tree::{NodeKind, NodeState, TreeNode};

use crate::arguments::{Operations, OperationsCommand};
use crate::context::Context;
use crate::output;

/// Draws the supervision tree.
pub async fn tree(context: &Context) -> anyhow::Result<()> {
    let root = context.client.tree().await?;
    if context.json {
        return output::json(&root);
    }
    draw(&root, "", "");
    Ok(())
}

/// One line for each actor; `prefix` is of the line itself, `below` of its children.
fn draw(node: &TreeNode, prefix: &str, below: &str) {
    output::line(format!("{prefix}{}", describe(node)));
    let last = node.children.len().saturating_sub(1);
    for (index, child) in node.children.iter().enumerate() {
        let (branch, trunk) = if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw(child, &format!("{below}{branch}"), &format!("{below}{trunk}"));
    }
}

fn describe(node: &TreeNode) -> String {
    let mut words = vec![node.name.clone()];
    if node.kind == NodeKind::Supervisor || !node.detail.is_empty() {
        words.push(format!("[{}]", node.detail));
    }
    match &node.state {
        NodeState::Running => {}
        NodeState::Restarting => words.push("restarting".to_owned()),
        NodeState::Parked(cause) => words.push(format!("PARKED: {cause}")),
        NodeState::Stopped => words.push("stopped".to_owned()),
    }
    if node.restarts > 0 {
        words.push(format!("restarts {}", node.restarts));
    }
    if let Some(waiting) = node.mailbox.filter(|waiting| *waiting > 0) {
        words.push(format!("mailbox {waiting}"));
    }
    words.join(" ")
}

/// Lists or retries operations.
pub async fn operations(context: &Context, options: Operations) -> anyhow::Result<()> {
    let filter = match &options.command {
        Some(OperationsCommand::Retry { id }) => {
            return Ok(context.client.retry_operation(OperationId(*id)).await?);
        }
        Some(OperationsCommand::Forget { id }) => {
            return Ok(context.client.forget_operation(OperationId(*id)).await?);
        }
        Some(OperationsCommand::Ls { filter }) => filter,
        None => &options.filter,
    };
    let operations = context.client.operations_where(filter).await?;
    context.list(&operations, &["ID", "NAMESPACE", "OPERATION", "AGE", "ATTEMPTS", "STATUS"], |operation| {
        vec![
            operation.id.to_string(),
            operation.namespace.to_string(),
            operation.intent.name().to_owned(),
            output::age(operation.opened_at),
            operation.attempts.to_string(),
            status_words(&operation.status),
        ]
    })
}

fn status_words(status: &OperationStatus) -> String {
    match status {
        OperationStatus::Forward => "under way".to_owned(),
        OperationStatus::Undoing { cause } => format!("undoing: {cause}"),
        OperationStatus::Parked { cause } => format!("PARKED: {cause}"),
    }
}

/// The daemon at a glance.
pub async fn status(context: &Context) -> anyhow::Result<()> {
    let status = context.client.status().await?;
    if context.json {
        return output::json(&status);
    }
    let health = match (&status.read_only, status.recovering) {
        (Some(why), _) => format!("READ-ONLY: {why}"),
        (None, true) => "recovering".to_owned(),
        (None, false) => "serving".to_owned(),
    };
    for (key, value) in [
        ("status", health),
        ("version", format!("{} {}", status.version, status.revision).trim().to_owned()),
        ("pid", status.pid.to_string()),
        ("up", output::age(status.started_at)),
        ("root", status.root),
        ("state", status.state),
        ("containers", format!("{} ({} live)", status.containers, status.tasks_live)),
        ("operations", format!("{} open, {} parked", status.operations_open, status.operations_parked)),
        ("events", status.event_sequence.to_string()),
    ] {
        output::line(format!("{key:<11} {value}"));
    }
    Ok(())
}

/// Both versions; a difference is said.
pub async fn version(context: &Context) -> anyhow::Result<()> {
    let ours = env!("CARGO_PKG_VERSION");
    let theirs = context.client.version().await?;
    if context.json {
        return output::json(
            &serde_json::json!({"client": {"version": ours}, "daemon": {"version": theirs.version, "revision": theirs.revision, "shims_older": theirs.shims_older, "shims_newer": theirs.shims_newer}}),
        );
    }
    output::line(format!("client {ours}"));
    output::line(format!("daemon {} {}", theirs.version, theirs.revision).trim_end());
    Ok(())
}

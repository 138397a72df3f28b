//! `bosun audit`.

use std::collections::BTreeMap;

use bosun_types::access::{AuditQuery, AuditRecord, AuditResult};

use super::sockets::{user_name, user_of};
use crate::arguments::Audit;
use crate::context::{self, Context};
use crate::output;

/// Prints what was asked for, oldest first.
pub async fn audit(context: &Context, options: &Audit) -> anyhow::Result<()> {
    let query = AuditQuery {
        since: options.since.as_deref().map(context::time).transpose()?,
        uid: options.user.as_deref().map(user_of).transpose()?.map(|(uid, _)| uid),
        subject: options.subject.clone(),
        call: options.call.clone(),
        refused: options.refused,
    };
    let wanted = if options.limit == 0 { usize::MAX } else { usize::try_from(options.limit)? };
    let mut records: Vec<AuditRecord> = Vec::new();
    while records.len() < wanted {
        let before = records.last().map_or(0, |record| record.sequence);
        let page = context.client.audit(query.clone(), before, options.limit).await?;
        if page.is_empty() {
            break;
        }
        records.extend(page);
    }
    records.truncate(wanted);
    records.reverse();
    if context.json {
        return records.iter().try_for_each(output::json_line);
    }
    // Few users in many lines: each is looked up once, which for one that no file has starts a program.
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| row(record, names.entry(record.uid).or_insert_with(|| user_name(record.uid))))
        .collect();
    output::table(&["TIME", "USER", "PID", "SOCKET", "CALL", "SUBJECT", "RESULT"], &rows);
    Ok(())
}

fn row(record: &AuditRecord, user: &str) -> Vec<String> {
    let result = match &record.result {
        AuditResult::Begun => "begun".to_owned(),
        AuditResult::Done { .. } => "done".to_owned(),
        AuditResult::Refused { error, .. } => error.to_string(),
    };
    vec![
        record.at.to_string(),
        user.to_owned(),
        record.pid.to_string(),
        record.socket.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        record.call.clone(),
        record.subject.clone(),
        result,
    ]
}

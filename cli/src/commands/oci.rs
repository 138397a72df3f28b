//! `bosun oci`.

use bosun_types::ContainerId;
use bosun_types::spec::SpecOptions;
use serde_json::Value;

use crate::arguments::{Oci, OciCommand};
use crate::context::Context;
use crate::output;

/// Prints the spec that the daemon makes.
pub async fn oci(context: &Context, options: Oci) -> anyhow::Result<()> {
    let OciCommand::Spec { name, command } = options.command;
    let options = SpecOptions { args: command, ..SpecOptions::default() };
    let spec = context.namespace().containers().build_spec(ContainerId::new(name)?, options).await?;
    output::json(&serde_json::from_slice::<Value>(&spec)?)
}

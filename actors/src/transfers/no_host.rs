//! A host without anything, for tests that make no task.

use std::path::PathBuf;
use std::sync::Arc;

use bosun_types::metrics::CgroupUsage;
use bosun_types::shim::{ExitNotice, Notice};
use bosun_types::stdio::{AttachRequest, LogRecord, LogRequest};
use bosun_types::task::{ExecProcess, ProcessIdentity, TaskRecord};
use bosun_types::{Error, ExecId, Result};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::ports::{Attached, Owner, Shim, SpecInput, TaskHost};

/// See the module.
pub(crate) struct NoHost;

fn none() -> Error {
    Error::not_implemented("a host without anything")
}

impl TaskHost for NoHost {
    fn ensure_directory(&self, _: &str, _: &Owner, _: &[u8], _: &str) -> Result<()> {
        Err(none())
    }
    fn ensure_no_directory(&self, _: &str) -> Result<()> {
        Ok(())
    }
    fn directory(&self, nonce: &str) -> String {
        nonce.to_owned()
    }
    fn directories(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn ensure_shim<'a>(&'a self, _: &'a str, _: &'a Owner) -> BoxFuture<'a, Result<ProcessIdentity>> {
        Box::pin(async { Err(none()) })
    }
    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(Arc<dyn Shim>, mpsc::Receiver<Notice>)>> {
        Box::pin(async { Err(none()) })
    }
    fn live_shim(&self, _: &str) -> Option<ProcessIdentity> {
        None
    }
    fn exit_records(&self, _: &str) -> Result<Vec<ExitNotice>> {
        Ok(Vec::new())
    }
    fn clean_up<'a>(
        &'a self,
        _: &'a str,
        _: &'a Owner,
        _: Option<&'a TaskRecord>,
    ) -> BoxFuture<'a, Result<Vec<ExitNotice>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn boot_id(&self) -> String {
        "boot".to_owned()
    }
    fn build_spec(&self, _: SpecInput) -> BoxFuture<'_, Result<Vec<u8>>> {
        Box::pin(async { Err(none()) })
    }
    fn exec_process(
        &self,
        _: &[u8],
        _: &ExecProcess,
        _: bool,
        _: Option<ProcessIdentity>,
    ) -> Result<Vec<u8>> {
        Err(none())
    }
    fn usage(&self, _: &str) -> Result<CgroupUsage> {
        Err(none())
    }

    fn attach<'a>(
        &'a self,
        _: &'a str,
        _: Option<ExecId>,
        _: AttachRequest,
    ) -> BoxFuture<'a, Result<Attached>> {
        Box::pin(async { Ok(Attached { position: 0, frames: mpsc::channel(1).1 }) })
    }

    fn logs(
        &self,
        _: PathBuf,
        _: LogRequest,
        _: BoxFuture<'static, ()>,
    ) -> mpsc::Receiver<Result<LogRecord>> {
        mpsc::channel(1).1
    }
}

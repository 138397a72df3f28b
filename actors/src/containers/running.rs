//! What people do with a container as a whole: start, stop, restart it, and give it a restart policy. All of it is its policy's affair
//! ([`crate::relaunch`]), so that a person's word and the policy never contradict each other.

use bosun_types::Result;
use bosun_types::relaunch::{POLICY_LABEL, RelaunchInfo, RelaunchRecord, RestartPolicy, StopRequest};
use bosun_types::task::ExitStatus;

use super::{ContainerHandle, get};
use crate::call;
use crate::relaunch::{self, Relauncher};

impl ContainerHandle {
    /// Starts it unless it runs: an ended task makes room for a new one with the same streams. Gives the pid.
    pub async fn start(&self) -> Result<u32> {
        self.relauncher().start().await
    }

    /// Ends it, unless it has ended: first by a word, then by force. Its restart policy takes it for a person's wish. Gives how it ended; `None`: it
    /// never ran.
    pub async fn stop(&self, request: StopRequest) -> Result<Option<ExitStatus>> {
        self.relauncher().stop(request).await
    }

    /// [`Self::stop`], then [`Self::start`].
    pub async fn restart(&self, request: StopRequest) -> Result<u32> {
        self.relauncher().restart(request).await
    }

    /// Its restart policy and where that is; `None`: it never had one.
    pub async fn relaunch(&self) -> Result<Option<RelaunchInfo>> {
        get(&self.core, &self.namespace, &self.id)?;
        let record = relaunch::record(&self.core, &self.namespace, &self.id)?;
        Ok(record.as_ref().map(RelaunchRecord::info))
    }

    /// Gives it another restart policy. A container that has ended already is left as it is. The ecosystem's label follows, where there is one (RST-1).
    pub async fn set_restart_policy(&self, policy: RestartPolicy) -> Result<()> {
        let mut record = get(&self.core, &self.namespace, &self.id)?;
        if !record.labels.contains_key(POLICY_LABEL) {
            return self.relauncher().set_policy(policy).await;
        }
        // A call is done with its last commit.
        call::within(None, self.relauncher().set_policy(policy)).await?;
        record.labels.insert(POLICY_LABEL.to_owned(), policy.when.to_string());
        self.replace(record, vec![format!("labels.{POLICY_LABEL}")]).await.map(drop)
    }

    /// What came of a start or a restart that was asked for before.
    pub async fn started(&self) -> Result<u32> {
        self.relauncher().started().await
    }

    /// What came of a stop that was asked for before.
    pub async fn stopped(&self, request: StopRequest) -> Result<Option<ExitStatus>> {
        self.relauncher().stopped(&request).await
    }

    pub(super) fn relauncher(&self) -> Relauncher<'_> {
        Relauncher { core: &self.core, namespace: &self.namespace, id: &self.id }
    }
}

//! A container as a whole: started, stopped, restarted, and its restart policy.

use bosun_protocol::Wire;
use bosun_types::Result;
use bosun_types::relaunch::{RelaunchInfo, RestartPolicy, StopRequest};
use bosun_types::task::ExitStatus;

use crate::containers::Container;
use crate::failure::answer;

/// One call on the container's capability, without a deadline of ours: a stop takes as long as it is given. The daemon finishes it whatever becomes of us.
macro_rules! on_container {
    ($self:ident.$how:ident, |$container:ident, $results:ident| $request:expr => $value:expr) => {{
        let (namespace, id) = ($self.namespace.clone(), $self.id.clone());
        $self
            .driver
            .$how(move |session| async move {
                let $container = session.scope(&namespace).container(&id);
                answer!($results, $request);
                Ok($value)
            })
            .await
    }};
}

impl Container {
    /// Starts it unless it runs; its pid. An ended task makes room for a new one with the same streams.
    ///
    /// # Errors
    /// FailedPrecondition while it is being stopped.
    pub async fn start(&self) -> Result<u32> {
        on_container!(self.change_and_wait, |container, results| container.start_request() => results.get_pid())
    }

    /// Ends it unless it has ended: by a signal, after the time-out by SIGKILL; how it ended, `None`: it never ran. Its restart policy takes it for
    /// a person's wish.
    pub async fn stop(&self, request: StopRequest) -> Result<Option<ExitStatus>> {
        on_container!(self.change_and_wait, |container, results| {
            let mut call = container.stop_request();
            request.write(call.get().init_request());
            call
        } => if results.has_exit() { Some(ExitStatus::read(results.get_exit()?)?) } else { None })
    }

    /// [`Self::stop`], then [`Self::start`]; the new pid.
    pub async fn restart(&self, request: StopRequest) -> Result<u32> {
        on_container!(self.change_and_wait, |container, results| {
            let mut call = container.restart_request();
            request.write(call.get().init_request());
            call
        } => results.get_pid())
    }

    /// Its restart policy, and where that is; `None`: it never had one.
    pub async fn relaunch(&self) -> Result<Option<RelaunchInfo>> {
        on_container!(self.wait_through_recovery, |container, results| container.relaunch_request() =>
            if results.has_info() { Some(RelaunchInfo::read(results.get_info()?)?) } else { None })
    }

    /// Gives it another restart policy. If it has ended already, it is left as it is.
    pub async fn set_restart_policy(&self, policy: RestartPolicy) -> Result<()> {
        on_container!(self.change_and_wait, |container, _results| {
            let mut call = container.set_restart_policy_request();
            policy.write(call.get().init_policy());
            call
        } => ())
    }
}

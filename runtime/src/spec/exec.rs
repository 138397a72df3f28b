//! The OCI `Process` of an exec (TSK-22).

use std::os::fd::BorrowedFd;

use bosun_types::Error;
use bosun_types::task::ExecProcess;
use oci_spec::runtime::Process;

use super::environment::{check_text, merge};
use super::options::{check_arguments, check_path, process_for_exec};
use super::{json, user};
use crate::error::Result;

/// Of a spec the part that an exec is built from. The rest, a filter of hundreds of calls above all, is only stepped over.
#[derive(serde::Deserialize)]
struct Sketch {
    process: Option<Process>,
}

/// JSON of the process an exec runs. `terminal` is the request's and wins over the process's own. `root` is the
/// container's root file system, for user names; `/proc/<init>/root` will do. Blocking with a `root`.
///
/// Built from the container's own process it has that one's user, groups, capabilities and limits; so it can never
/// have more than the container has.
pub fn exec_process(
    spec: &[u8],
    process: &ExecProcess,
    terminal: bool,
    root: Option<BorrowedFd<'_>>,
) -> Result<Vec<u8>> {
    let mut built = match process {
        ExecProcess::Json(bytes) => given(bytes)?,
        ExecProcess::Inherit { args, env, cwd, user } => {
            let sketch: Sketch = serde_json::from_slice(spec)
                .map_err(|error| Error::data_loss(format!("the container's spec does not parse: {error}")))?;
            let mut built = process_for_exec(sketch.process)?;
            built.set_args(Some(args.clone()));
            let mut environment = built.env().clone().unwrap_or_default();
            if terminal {
                merge(&mut environment, &["TERM=xterm".to_owned()])?;
            }
            merge(&mut environment, env)?;
            built.set_env(Some(environment));
            if let Some(cwd) = cwd {
                built.set_cwd(check_path("working directory", cwd)?.into());
            }
            if let Some(name) = user {
                built.set_user(user::resolve(name, root)?);
            }
            built
        }
    };
    check_arguments(built.args().as_deref().unwrap_or_default())?;
    built.set_terminal(Some(terminal));
    json::stable(&built, &["capabilities"])
}

fn given(bytes: &[u8]) -> Result<Process> {
    let process: Process = serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid_argument(format!("the exec's process is no OCI process: {error}")))?;
    check_path("working directory", &process.cwd().to_string_lossy())?;
    for word in process.env().iter().flatten() {
        check_text("environment word", word)?;
    }
    Ok(process)
}

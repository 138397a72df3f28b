//! `task.capnp`: processes, their streams, what is asked of them.

use bosun_types::checkpoint::TaskCheckpoint;
use bosun_types::stdio::{
    AttachFrom, AttachRecord, AttachRequest, LogRecord, LogRequest, LogTarget, OutputStream, Overflow, Stdio,
};
use bosun_types::task::{
    ExecProcess, ExecRequest, ExitStatus, OnShimDeath, PidInfo, ProcessInfo, ProcessStatus, TaskRequest,
};
use bosun_types::{Result, Timestamp};

use super::common::enum_both_ways;
use super::{
    Sound, Wire, length, read_optional_parsed, read_optional_text, read_parsed, read_text, read_texts,
    read_time, write_texts, write_time,
};
use crate::task_capnp as wire;

enum_both_ways!(
    ProcessStatus,
    wire::ProcessStatus,
    status_to_wire,
    status_from_wire,
    [Creating, Created, Running, Pausing, Paused, Stopped, Recovering]
);
enum_both_ways!(OnShimDeath, wire::OnShimDeath, policy_to_wire, policy_from_wire, [Kill, Adopt]);
enum_both_ways!(Overflow, wire::Overflow, overflow_to_wire, overflow_from_wire, [DropOldest, Block, Spill]);
enum_both_ways!(OutputStream, wire::OutputStream, stream_to_wire, stream_from_wire, [Stdout, Stderr]);

impl Wire for Stdio {
    type Struct = wire::stdio::Owned;

    fn write(&self, mut to: wire::stdio::Builder<'_>) {
        if let Some(path) = &self.stdin {
            to.set_stdin(path.as_str());
        }
        if let Some(path) = &self.stdout {
            to.set_stdout(path.as_str());
        }
        if let Some(path) = &self.stderr {
            to.set_stderr(path.as_str());
        }
        to.set_terminal(self.terminal);
        if let Some(log) = &self.log {
            log.write(to.init_log());
        }
    }

    fn read(from: wire::stdio::Reader<'_>) -> Result<Self> {
        Ok(Self {
            stdin: read_optional_text(from.has_stdin(), from.get_stdin())?,
            stdout: read_optional_text(from.has_stdout(), from.get_stdout())?,
            stderr: read_optional_text(from.has_stderr(), from.get_stderr())?,
            terminal: from.get_terminal(),
            log: if from.has_log() { Some(LogTarget::read(from.get_log().sound()?)?) } else { None },
        })
    }
}

impl Wire for LogTarget {
    type Struct = wire::log_target::Owned;

    fn write(&self, mut to: wire::log_target::Builder<'_>) {
        to.set_path(self.path.as_str());
        to.set_bytes_max(self.bytes_max);
        to.set_files_max(self.files_max);
    }

    fn read(from: wire::log_target::Reader<'_>) -> Result<Self> {
        Ok(Self {
            path: read_text(from.get_path())?,
            bytes_max: from.get_bytes_max(),
            files_max: from.get_files_max(),
        })
    }
}

impl Wire for TaskRequest {
    type Struct = wire::task_request::Owned;

    fn write(&self, mut to: wire::task_request::Builder<'_>) {
        self.stdio.write(to.reborrow().init_stdio());
        to.set_log_to_file(self.log_to_file);
        to.set_no_pivot_root(self.no_pivot_root);
        to.set_on_shim_death(policy_to_wire(self.on_shim_death));
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.write(to.init_checkpoint());
        }
    }

    fn read(from: wire::task_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            stdio: Stdio::read(from.get_stdio().sound()?)?,
            log_to_file: from.get_log_to_file(),
            no_pivot_root: from.get_no_pivot_root(),
            on_shim_death: policy_from_wire(from.get_on_shim_death().sound()?),
            checkpoint: match from.has_checkpoint() {
                true => Some(TaskCheckpoint::read(from.get_checkpoint().sound()?)?),
                false => None,
            },
        })
    }
}

impl Wire for ExecRequest {
    type Struct = wire::exec_request::Owned;

    fn write(&self, mut to: wire::exec_request::Builder<'_>) {
        to.set_id(self.id.as_str());
        self.stdio.write(to.reborrow().init_stdio());
        let mut process = to.init_process();
        match &self.process {
            ExecProcess::Json(json) => process.set_json(json),
            ExecProcess::Inherit { args, env, cwd, user } => {
                let mut inherit = process.init_inherit();
                write_texts(args, inherit.reborrow().init_args(length(args)));
                write_texts(env, inherit.reborrow().init_env(length(env)));
                if let Some(cwd) = cwd {
                    inherit.set_cwd(cwd.as_str());
                }
                if let Some(user) = user {
                    inherit.set_user(user.as_str());
                }
            }
        }
    }

    fn read(from: wire::exec_request::Reader<'_>) -> Result<Self> {
        use wire::exec_request::process::Which;
        let process = match from.get_process().which().sound()? {
            Which::Json(json) => ExecProcess::Json(json.sound()?.to_vec()),
            Which::Inherit(inherit) => {
                let inherit = inherit.sound()?;
                ExecProcess::Inherit {
                    args: read_texts(inherit.get_args())?,
                    env: read_texts(inherit.get_env())?,
                    cwd: read_optional_text(inherit.has_cwd(), inherit.get_cwd())?,
                    user: read_optional_text(inherit.has_user(), inherit.get_user())?,
                }
            }
        };
        Ok(Self { id: read_parsed(from.get_id())?, process, stdio: Stdio::read(from.get_stdio().sound()?)? })
    }
}

impl Wire for ProcessInfo {
    type Struct = wire::process_info::Owned;

    fn write(&self, mut to: wire::process_info::Builder<'_>) {
        to.set_container(self.container.as_str());
        if let Some(exec) = &self.exec {
            to.set_exec(exec.as_str());
        }
        to.set_pid(self.pid);
        to.set_status(status_to_wire(self.status));
        self.stdio.write(to.reborrow().init_stdio());
        if let Some(exit) = &self.exit {
            exit.write(to.reborrow().init_exit());
        }
        to.set_created_at(self.created_at.0);
        to.set_started_at(write_time(self.started_at));
        to.set_confirmed_at(write_time(self.confirmed_at));
    }

    fn read(from: wire::process_info::Reader<'_>) -> Result<Self> {
        Ok(Self {
            container: read_parsed(from.get_container())?,
            exec: read_optional_parsed(from.has_exec(), from.get_exec())?,
            pid: from.get_pid(),
            status: status_from_wire(from.get_status().sound()?),
            stdio: Stdio::read(from.get_stdio().sound()?)?,
            exit: if from.has_exit() { Some(ExitStatus::read(from.get_exit().sound()?)?) } else { None },
            created_at: Timestamp(from.get_created_at()),
            started_at: read_time(from.get_started_at()),
            confirmed_at: read_time(from.get_confirmed_at()),
        })
    }
}

impl Wire for PidInfo {
    type Struct = wire::pid_info::Owned;

    fn write(&self, mut to: wire::pid_info::Builder<'_>) {
        to.set_pid(self.pid);
        if let Some(exec) = &self.exec {
            to.set_exec(exec.as_str());
        }
    }

    fn read(from: wire::pid_info::Reader<'_>) -> Result<Self> {
        Ok(Self { pid: from.get_pid(), exec: read_optional_parsed(from.has_exec(), from.get_exec())? })
    }
}

impl Wire for AttachRequest {
    type Struct = wire::attach_request::Owned;

    fn write(&self, mut to: wire::attach_request::Builder<'_>) {
        let mut from = to.reborrow().init_from();
        match self.from {
            AttachFrom::Replay(bytes) => from.set_replay_bytes(bytes),
            AttachFrom::Position(position) => from.set_position(position),
        }
        to.set_overflow(overflow_to_wire(self.overflow));
    }

    fn read(from: wire::attach_request::Reader<'_>) -> Result<Self> {
        use wire::attach_request::from::Which;
        Ok(Self {
            from: match from.get_from().which().sound()? {
                Which::ReplayBytes(bytes) => AttachFrom::Replay(bytes),
                Which::Position(position) => AttachFrom::Position(position),
            },
            overflow: overflow_from_wire(from.get_overflow().sound()?),
        })
    }
}

impl Wire for AttachRecord {
    type Struct = wire::attach_record::Owned;

    fn write(&self, mut to: wire::attach_record::Builder<'_>) {
        match self {
            Self::Output { stream: OutputStream::Stdout, bytes } => to.set_stdout(bytes),
            Self::Output { stream: OutputStream::Stderr, bytes } => to.set_stderr(bytes),
            Self::Missed(bytes) => to.set_missed(*bytes),
        }
    }

    fn read(from: wire::attach_record::Reader<'_>) -> Result<Self> {
        use wire::attach_record::Which;
        let output =
            |stream, bytes: capnp::Result<&[u8]>| Ok(Self::Output { stream, bytes: bytes.sound()?.to_vec() });
        match from.which().sound()? {
            Which::Stdout(bytes) => output(OutputStream::Stdout, bytes),
            Which::Stderr(bytes) => output(OutputStream::Stderr, bytes),
            Which::Missed(bytes) => Ok(Self::Missed(bytes)),
        }
    }
}

impl Wire for LogRequest {
    type Struct = wire::log_request::Owned;

    fn write(&self, mut to: wire::log_request::Builder<'_>) {
        to.set_follow(self.follow);
        if let Some(lines) = self.tail_lines {
            to.set_tail_lines(i64::try_from(lines).unwrap_or(i64::MAX));
        }
        to.set_since(write_time(self.since));
    }

    fn read(from: wire::log_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            follow: from.get_follow(),
            tail_lines: u64::try_from(from.get_tail_lines()).ok(),
            since: read_time(from.get_since()),
        })
    }
}

impl Wire for LogRecord {
    type Struct = wire::log_record::Owned;

    fn write(&self, mut to: wire::log_record::Builder<'_>) {
        to.set_at(self.at.0);
        to.set_stream(stream_to_wire(self.stream));
        to.set_bytes(&self.bytes);
    }

    fn read(from: wire::log_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            at: Timestamp(from.get_at()),
            stream: stream_from_wire(from.get_stream().sound()?),
            bytes: from.get_bytes().sound()?.to_vec(),
        })
    }
}

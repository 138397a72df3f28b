//! `access.capnp`: sockets of one namespace, reach, the audit log.

use bosun_types::access::{Access, AuditQuery, AuditRecord, AuditResult, Reach, SocketRecord};
use bosun_types::{Error, Result, Timestamp};

use super::common::enum_both_ways;
use super::{
    Sound, Wire, read_optional_parsed, read_optional_text, read_parsed, read_text, read_time, write_time,
};
use crate::access_capnp as wire;

enum_both_ways!(Access, wire::Access, access_to_wire, access_from_wire, [ReadWrite, ReadOnly]);

impl Wire for Reach {
    type Struct = wire::reach::Owned;

    fn write(&self, mut to: wire::reach::Builder<'_>) {
        if let Some(namespace) = &self.namespace {
            to.set_namespace(namespace.as_str());
        }
        to.set_access(access_to_wire(self.access));
        to.set_uid(self.uid);
        to.set_pid(self.pid);
    }

    fn read(from: wire::reach::Reader<'_>) -> Result<Self> {
        Ok(Self {
            namespace: read_optional_parsed(from.has_namespace(), from.get_namespace())?,
            access: access_from_wire(from.get_access().sound()?),
            uid: from.get_uid(),
            pid: from.get_pid(),
        })
    }
}

impl Wire for SocketRecord {
    type Struct = wire::socket_record::Owned;

    fn write(&self, mut to: wire::socket_record::Builder<'_>) {
        to.set_id(self.id.as_str());
        to.set_namespace(self.namespace.as_str());
        to.set_uid(self.uid);
        to.set_gid(self.gid);
        to.set_mode(self.mode);
        to.set_access(access_to_wire(self.access));
        to.set_created_at(self.created_at.0);
    }

    fn read(from: wire::socket_record::Reader<'_>) -> Result<Self> {
        Ok(Self {
            id: read_parsed(from.get_id())?,
            namespace: read_parsed(from.get_namespace())?,
            uid: from.get_uid(),
            gid: from.get_gid(),
            mode: from.get_mode(),
            access: access_from_wire(from.get_access().sound()?),
            created_at: Timestamp(from.get_created_at()),
        })
    }
}

impl Wire for AuditRecord {
    type Struct = wire::audit_record::Owned;

    fn write(&self, mut to: wire::audit_record::Builder<'_>) {
        to.set_sequence(self.sequence);
        to.set_at(self.at.0);
        to.set_uid(self.uid);
        to.set_pid(self.pid);
        if let Some(socket) = &self.socket {
            to.set_socket(socket.as_str());
        }
        to.set_call(self.call.as_str());
        to.set_subject(self.subject.as_str());
        if let AuditResult::Done { micros } | AuditResult::Refused { micros, .. } = &self.result {
            to.set_micros(*micros);
        }
        let mut result = to.init_result();
        match &self.result {
            AuditResult::Begun => result.set_begun(()),
            AuditResult::Done { .. } => result.set_done(()),
            AuditResult::Refused { error, .. } => error.write(result.init_refused()),
        }
    }

    fn read(from: wire::audit_record::Reader<'_>) -> Result<Self> {
        use wire::audit_record::result::Which;
        let micros = from.get_micros();
        let result = match from.get_result().which().sound()? {
            Which::Begun(()) => AuditResult::Begun,
            Which::Done(()) => AuditResult::Done { micros },
            Which::Refused(error) => AuditResult::Refused { error: Error::read(error.sound()?)?, micros },
        };
        Ok(Self {
            sequence: from.get_sequence(),
            at: Timestamp(from.get_at()),
            uid: from.get_uid(),
            pid: from.get_pid(),
            socket: read_optional_parsed(from.has_socket(), from.get_socket())?,
            call: read_text(from.get_call())?,
            subject: read_text(from.get_subject())?,
            result,
        })
    }
}

impl Wire for AuditQuery {
    type Struct = wire::audit_query::Owned;

    fn write(&self, mut to: wire::audit_query::Builder<'_>) {
        to.set_since(write_time(self.since));
        to.set_uid(self.uid.map_or(-1, i64::from));
        if let Some(subject) = &self.subject {
            to.set_subject(subject.as_str());
        }
        if let Some(call) = &self.call {
            to.set_call(call.as_str());
        }
        to.set_refused(self.refused);
    }

    fn read(from: wire::audit_query::Reader<'_>) -> Result<Self> {
        let uid = match from.get_uid() {
            ..0 => None,
            uid => Some(
                u32::try_from(uid).map_err(|_| Error::invalid_argument(format!("uid {uid} is too large")))?,
            ),
        };
        Ok(Self {
            since: read_time(from.get_since()),
            uid,
            subject: read_optional_text(from.has_subject(), from.get_subject())?,
            call: read_optional_text(from.has_call(), from.get_call())?,
            refused: from.get_refused(),
        })
    }
}

//! `common.capnp`: errors, payloads, descriptors, mounts, exit status.

use std::collections::BTreeMap;

use bosun_types::container::Any;
use bosun_types::content::Descriptor;
use bosun_types::mount::Mount;
use bosun_types::platform::Platform;
use bosun_types::task::{ExitCause, ExitStatus};
use bosun_types::{Error, ErrorClass, Result, Timestamp};
use capnp::struct_list;

use super::{Sound, Wire, length, read_optional_text, read_parsed, read_text, read_texts, write_texts};
use crate::common_capnp as wire;

/// Both directions of an enum whose variants carry the same names.
macro_rules! enum_both_ways {
    ($domain:ty, $wire:ty, $to:ident, $from:ident, [$($variant:ident),* $(,)?]) => {
        pub(crate) const fn $to(value: $domain) -> $wire {
            match value { $(<$domain>::$variant => <$wire>::$variant,)* }
        }
        pub(crate) const fn $from(value: $wire) -> $domain {
            match value { $(<$wire>::$variant => <$domain>::$variant,)* }
        }
    };
}
pub(crate) use enum_both_ways;

enum_both_ways!(
    ErrorClass,
    wire::ErrorClass,
    class_to_wire,
    class_from_wire,
    [
        Unknown,
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Unavailable,
        NotImplemented,
        OutOfRange,
        DataLoss,
        ResourceExhausted,
        DeadlineExceeded,
        Cancelled,
        Unauthenticated,
        PermissionDenied,
        Internal,
    ]
);

impl Wire for Error {
    type Struct = wire::error::Owned;

    fn write(&self, mut to: wire::error::Builder<'_>) {
        to.set_kind(class_to_wire(self.class));
        to.set_message(self.message.as_str());
        if let Some(hint) = &self.hint {
            to.set_hint(hint.as_str());
        }
    }

    fn read(from: wire::error::Reader<'_>) -> Result<Self> {
        // A class from a newer peer still has its message: never lose that.
        let class = from.get_kind().map_or(ErrorClass::Unknown, class_from_wire);
        let mut error = Self::new(class, read_text(from.get_message())?);
        error.hint = read_optional_text(from.has_hint(), from.get_hint())?;
        Ok(error)
    }
}

impl Wire for Any {
    type Struct = wire::any::Owned;

    fn write(&self, mut to: wire::any::Builder<'_>) {
        to.set_type_url(self.type_url.as_str());
        to.set_value(&self.value);
    }

    fn read(from: wire::any::Reader<'_>) -> Result<Self> {
        Ok(Self { type_url: read_text(from.get_type_url())?, value: from.get_value().sound()?.to_vec() })
    }
}

/// Fills a list of named payloads.
pub(super) fn write_named(
    items: &BTreeMap<String, Any>,
    mut to: struct_list::Builder<'_, wire::named_any::Owned>,
) {
    for (index, (key, value)) in (0..).zip(items) {
        let mut named = to.reborrow().get(index);
        named.set_key(key.as_str());
        value.write(named.init_value());
    }
}

/// Reads a list of named payloads; a key given twice is refused.
pub(super) fn read_named(
    from: capnp::Result<struct_list::Reader<'_, wire::named_any::Owned>>,
) -> Result<BTreeMap<String, Any>> {
    let mut items = BTreeMap::new();
    for named in from.sound()? {
        let key = read_text(named.get_key())?;
        if items.contains_key(&key) {
            return Err(Error::invalid_argument(format!("{key:?} is given twice")));
        }
        items.insert(key, Any::read(named.get_value().sound()?)?);
    }
    Ok(items)
}

impl Wire for Platform {
    type Struct = wire::platform::Owned;

    fn write(&self, mut to: wire::platform::Builder<'_>) {
        to.set_os(self.os.as_str());
        to.set_architecture(self.architecture.as_str());
        to.set_variant(self.variant.as_str());
    }

    fn read(from: wire::platform::Reader<'_>) -> Result<Self> {
        Ok(Self::new(
            &read_text(from.get_os())?,
            &read_text(from.get_architecture())?,
            &read_text(from.get_variant())?,
        ))
    }
}

impl Wire for Descriptor {
    type Struct = wire::descriptor::Owned;

    fn write(&self, mut to: wire::descriptor::Builder<'_>) {
        to.set_media_type(self.media_type.as_str());
        to.set_digest(self.digest.to_string().as_str());
        to.set_size(self.size);
    }

    fn read(from: wire::descriptor::Reader<'_>) -> Result<Self> {
        Ok(Self {
            media_type: read_text(from.get_media_type())?,
            digest: read_parsed(from.get_digest())?,
            size: from.get_size(),
        })
    }
}

impl Wire for Mount {
    type Struct = wire::mount::Owned;

    fn write(&self, mut to: wire::mount::Builder<'_>) {
        to.set_kind(self.kind.as_str());
        to.set_source(self.source.as_str());
        to.set_target(self.target.as_str());
        write_texts(&self.options, to.init_options(length(&self.options)));
    }

    fn read(from: wire::mount::Reader<'_>) -> Result<Self> {
        Ok(Self {
            kind: read_text(from.get_kind())?,
            source: read_text(from.get_source())?,
            target: read_text(from.get_target())?,
            options: read_texts(from.get_options())?,
        })
    }
}

impl Wire for ExitStatus {
    type Struct = wire::exit_status::Owned;

    fn write(&self, mut to: wire::exit_status::Builder<'_>) {
        to.set_exited_at(self.exited_at.0);
        let mut cause = to.init_cause();
        match &self.cause {
            ExitCause::Code(code) => cause.set_code(*code),
            ExitCause::Signal(signal) => cause.set_signal(*signal),
            ExitCause::Unknown(why) => cause.set_unknown(why.as_str()),
        }
    }

    fn read(from: wire::exit_status::Reader<'_>) -> Result<Self> {
        use wire::exit_status::cause::Which;
        let cause = match from.get_cause().which().sound()? {
            Which::Code(code) => ExitCause::Code(code),
            Which::Signal(signal) => ExitCause::Signal(signal),
            Which::Unknown(why) => ExitCause::Unknown(read_text(why)?),
        };
        Ok(Self { cause, exited_at: Timestamp(from.get_exited_at()) })
    }
}

//! `task.capnp`: what a checkpoint is asked for, and what a task is restored from.

use bosun_types::Result;
use bosun_types::checkpoint::{CheckpointRequest, DumpOptions, TaskCheckpoint};
use bosun_types::content::Descriptor;

use super::{
    Sound, Wire, length, read_optional_parsed, read_optional_text, read_parsed, read_texts, write_texts,
};
use crate::task_capnp as wire;

impl Wire for CheckpointRequest {
    type Struct = wire::checkpoint_request::Owned;

    fn write(&self, mut to: wire::checkpoint_request::Builder<'_>) {
        let Self { image, exit, dump } = self;
        if let Some(image) = image {
            to.set_image(image.as_str());
        }
        to.set_exit(*exit);
        to.set_open_tcp(dump.open_tcp);
        to.set_external_unix_sockets(dump.external_unix_sockets);
        to.set_terminal(dump.terminal);
        to.set_file_locks(dump.file_locks);
        if let Some(mode) = &dump.cgroups_mode {
            to.set_cgroups_mode(mode.as_str());
        }
        write_texts(&dump.empty_namespaces, to.init_empty_namespaces(length(&dump.empty_namespaces)));
    }

    fn read(from: wire::checkpoint_request::Reader<'_>) -> Result<Self> {
        Ok(Self {
            image: read_optional_parsed(from.has_image(), from.get_image())?,
            exit: from.get_exit(),
            dump: DumpOptions {
                open_tcp: from.get_open_tcp(),
                external_unix_sockets: from.get_external_unix_sockets(),
                terminal: from.get_terminal(),
                file_locks: from.get_file_locks(),
                empty_namespaces: read_texts(from.get_empty_namespaces())?,
                cgroups_mode: read_optional_text(from.has_cgroups_mode(), from.get_cgroups_mode())?,
            },
        })
    }
}

impl Wire for TaskCheckpoint {
    type Struct = wire::task_checkpoint::Owned;

    fn write(&self, mut to: wire::task_checkpoint::Builder<'_>) {
        match self {
            Self::Image(image) => to.set_image(image.as_str()),
            Self::Descriptor(descriptor) => descriptor.write(to.init_descriptor()),
        }
    }

    fn read(from: wire::task_checkpoint::Reader<'_>) -> Result<Self> {
        use wire::task_checkpoint::Which;
        Ok(match from.which().sound()? {
            Which::Image(image) => Self::Image(read_parsed(image)?),
            Which::Descriptor(descriptor) => Self::Descriptor(Descriptor::read(descriptor.sound()?)?),
        })
    }
}

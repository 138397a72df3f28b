//! `Bosun`: the bootstrap capability.

use std::rc::Rc;

use bosun_actors::daemon::Daemon;
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, read_pairs, read_parsed, write_list};
use bosun_protocol::daemon_capnp::bosun;
use bosun_protocol::limits::PROTOCOL_VERSION;
use bosun_types::{NamespaceName, OperationId};
use capnp_rpc::new_client;

use crate::connection::Held;
use crate::event::Events;
use crate::namespace::Namespace;
use crate::page::{Wanted, label_bytes, paged};
use crate::reply;

/// About what an operation takes in a message: its intent as JSON, its cause.
const OPERATION_BYTES: usize = 2048;

pub(crate) struct Root {
    held: Held,
    daemon: Daemon,
    version: String,
    revision: String,
}

impl Root {
    pub(crate) fn new(held: Held, daemon: Daemon, version: String, revision: String) -> Self {
        Self { held, daemon, version, revision }
    }
}

type Done = Result<(), capnp::Error>;

impl bosun::Server for Root {
    async fn version(self: Rc<Self>, _: bosun::VersionParams, mut results: bosun::VersionResults) -> Done {
        let mut out = results.get();
        out.set_protocol(PROTOCOL_VERSION);
        out.set_version(self.version.as_str());
        out.set_revision(self.revision.as_str());
        Ok(())
    }

    async fn status(self: Rc<Self>, _: bosun::StatusParams, mut results: bosun::StatusResults) -> Done {
        let daemon = self.daemon.clone();
        let outcome = self.held.call("daemon.status", async move { Ok(daemon.status().await?) }).await?;
        reply!(results, outcome, |status, out| status.write(out.init_status()))
    }

    async fn tree(self: Rc<Self>, _: bosun::TreeParams, mut results: bosun::TreeResults) -> Done {
        let daemon = self.daemon.clone();
        let outcome = self.held.call("daemon.tree", async move { Ok(daemon.tree().await?) }).await?;
        reply!(results, outcome, |tree, out| tree.write(out.init_root()))
    }

    async fn namespace(
        self: Rc<Self>,
        params: bosun::NamespaceParams,
        mut results: bosun::NamespaceResults,
    ) -> Done {
        let held = Held::new(&self.held)?;
        let daemon = self.daemon.clone();
        let named = read_parsed::<NamespaceName>(params.get()?.get_id());
        let outcome = named.map(|name| Namespace::new(held, daemon.namespace(name)));
        reply!(results, outcome, |namespace, out| out.set_namespace(new_client(namespace)))
    }

    async fn namespaces(
        self: Rc<Self>,
        params: bosun::NamespacesParams,
        mut results: bosun::NamespacesResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(
                daemon.namespaces().await,
                &wanted,
                |record| record.name.to_string(),
                |record| label_bytes(&record.labels) + 128,
            )
        };
        let outcome = self.held.call("namespace.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn create_namespace(
        self: Rc<Self>,
        params: bosun::CreateNamespaceParams,
        mut results: bosun::CreateNamespaceResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let params = params.get()?;
            let (name, labels) = (read_parsed(params.get_id())?, read_pairs(params.get_labels())?);
            Ok(daemon.create_namespace(name, labels).await?)
        };
        let outcome = self.held.call("namespace.create", work).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn update_namespace(
        self: Rc<Self>,
        params: bosun::UpdateNamespaceParams,
        mut results: bosun::UpdateNamespaceResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let params = params.get()?;
            let (name, labels) = (read_parsed(params.get_id())?, read_pairs(params.get_labels())?);
            Ok(daemon.update_namespace(name, labels, params.get_replace()).await?)
        };
        let outcome = self.held.call("namespace.update", work).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn delete_namespace(
        self: Rc<Self>,
        params: bosun::DeleteNamespaceParams,
        mut results: bosun::DeleteNamespaceResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let name = read_parsed(params.get()?.get_id())?;
            Ok(daemon.delete_namespace(name).await?)
        };
        let outcome = self.held.call("namespace.delete", work).await?;
        reply!(results, outcome)
    }

    async fn operations(
        self: Rc<Self>,
        params: bosun::OperationsParams,
        mut results: bosun::OperationsResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            let key = |record: &bosun_types::operation::OperationRecord| format!("{:020}", record.id.0);
            paged(daemon.operations().await, &wanted, key, |_| OPERATION_BYTES)
        };
        let outcome = self.held.call("operation.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn retry_operation(
        self: Rc<Self>,
        params: bosun::RetryOperationParams,
        mut results: bosun::RetryOperationResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let id = OperationId(params.get()?.get_id());
            Ok(daemon.retry_operation(id).await?)
        };
        let outcome = self.held.call("operation.retry", work).await?;
        reply!(results, outcome)
    }

    async fn events(self: Rc<Self>, _: bosun::EventsParams, mut results: bosun::EventsResults) -> Done {
        let events = Events::new(Held::new(&self.held)?, self.daemon.events(), None);
        results.get().set_events(new_client(events));
        Ok(())
    }
}

//! `Bosun`: the bootstrap capability.

use std::rc::Rc;
use std::sync::Arc;

use bosun_actors::daemon::Daemon;
use bosun_protocol::Wire;
use bosun_protocol::convert::{length, read_pairs, read_parsed, write_list};
use bosun_protocol::daemon_capnp::bosun;
use bosun_protocol::limits::PROTOCOL_VERSION;
use bosun_types::access::{AuditQuery, SocketRecord};
use bosun_types::{Error, NamespaceName, OperationId, SocketId};
use capnp_rpc::new_client;

use crate::connection::{Held, about, nothing};
use crate::event::Events;
use crate::namespace::Namespace;
use crate::page::{Wanted, label_bytes, paged};
use crate::reply;
use crate::server::Shared;

/// About what a socket's record takes in a message.
const SOCKET_BYTES: usize = 512;
/// Entries of the audit log in one answer; one of them takes a few hundred bytes.
const AUDIT_PAGE_MAX: usize = 1000;
/// About what an operation takes in a message: its intent as JSON, its cause.
const OPERATION_BYTES: usize = 2048;
/// About what a part takes.
const PART_BYTES: usize = 1024;

pub(crate) struct Root {
    held: Held,
    shared: Arc<Shared>,
    daemon: Daemon,
}

impl Root {
    pub(crate) fn new(held: Held, shared: Arc<Shared>) -> Self {
        let daemon = shared.daemon.clone();
        Self { held, shared, daemon }
    }
}

/// What the daemon says of itself to anybody who may connect.
pub(crate) fn write_version(shared: &Shared, mut out: bosun::version_results::Builder<'_>) {
    let options = &shared.options;
    let (older, newer) = shared.daemon.shims_of_other_releases();
    out.set_shims_older(older);
    out.set_shims_newer(newer);
    out.set_protocol(PROTOCOL_VERSION);
    out.set_version(options.version.as_str());
    out.set_revision(options.revision.as_str());
}

type Done = Result<(), capnp::Error>;

impl bosun::Server for Root {
    async fn version(self: Rc<Self>, _: bosun::VersionParams, mut results: bosun::VersionResults) -> Done {
        write_version(&self.shared, results.get());
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
        let outcome = named.map(|name| Namespace::new(held.about(&name), daemon.namespace(name)));
        reply!(results, outcome, |namespace, out| out.set_namespace(new_client(namespace)), else set_namespace)
    }

    async fn with_key(
        self: Rc<Self>,
        params: bosun::WithKeyParams,
        mut results: bosun::WithKeyResults,
    ) -> Done {
        let params = params.get()?;
        let outcome = self.held.keyed(params.get_key(), params.get_again())?;
        reply!(results, outcome, |held, out| {
            out.set_bosun(new_client(Root::new(held, Arc::clone(&self.shared))));
        }, else set_bosun)
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
        let made = read_parsed(params.get()?.get_id()).map(|name| self.daemon.namespace(name));
        let work = async move {
            let params = params.get()?;
            let (name, labels): (NamespaceName, _) =
                (read_parsed(params.get_id())?, read_pairs(params.get_labels())?);
            about(&name);
            Ok(daemon.create_namespace(name, labels).await?)
        };
        let outcome = self.held.once("namespace.create", work, async move |_| made?.record().await).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn update_namespace(
        self: Rc<Self>,
        params: bosun::UpdateNamespaceParams,
        mut results: bosun::UpdateNamespaceResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let made = read_parsed(params.get()?.get_id()).map(|name| self.daemon.namespace(name));
        let work = async move {
            let params = params.get()?;
            let (name, labels): (NamespaceName, _) =
                (read_parsed(params.get_id())?, read_pairs(params.get_labels())?);
            about(&name);
            Ok(daemon.update_namespace(name, labels, params.get_replace()).await?)
        };
        let outcome = self.held.once("namespace.update", work, async move |_| made?.record().await).await?;
        reply!(results, outcome, |record, out| record.write(out.init_record()))
    }

    async fn delete_namespace(
        self: Rc<Self>,
        params: bosun::DeleteNamespaceParams,
        mut results: bosun::DeleteNamespaceResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let name: NamespaceName = read_parsed(params.get()?.get_id())?;
            about(&name);
            Ok(daemon.delete_namespace(name).await?)
        };
        let outcome = self.held.once("namespace.delete", work, nothing).await?;
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

    async fn forget_operation(
        self: Rc<Self>,
        params: bosun::ForgetOperationParams,
        mut results: bosun::ForgetOperationResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let id = OperationId(params.get()?.get_id());
            about(id);
            Ok(daemon.forget_operation(id).await?)
        };
        let outcome = self.held.once("operation.forget", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn retry_operation(
        self: Rc<Self>,
        params: bosun::RetryOperationParams,
        mut results: bosun::RetryOperationResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let id = OperationId(params.get()?.get_id());
            about(id);
            Ok(daemon.retry_operation(id).await?)
        };
        let outcome = self.held.once("operation.retry", work, nothing).await?;
        reply!(results, outcome)
    }

    async fn events(self: Rc<Self>, _: bosun::EventsParams, mut results: bosun::EventsResults) -> Done {
        let events = Events::new(Held::new(&self.held)?, self.daemon.events(), None);
        results.get().set_events(new_client(events));
        Ok(())
    }

    async fn reach(self: Rc<Self>, _: bosun::ReachParams, mut results: bosun::ReachResults) -> Done {
        self.held.peer().reach().write(results.get().init_reach());
        Ok(())
    }

    async fn create_socket(
        self: Rc<Self>,
        params: bosun::CreateSocketParams,
        mut results: bosun::CreateSocketResults,
    ) -> Done {
        let (daemon, doors) = (self.daemon.clone(), self.shared.doors.clone());
        let wanted = SocketRecord::read(params.get()?.get_socket()?);
        let (made, id) = (self.shared.clone(), wanted.clone().map(|wanted| wanted.id));
        let known = async move |_| {
            let (id, places) = (id?, &made.doors);
            let record = made.daemon.sockets().list()?.into_iter().find(|record| record.id == id);
            let record =
                record.ok_or_else(|| Error::not_found(format!("socket {id} could not be opened")))?;
            let path = places.place(&record).path.to_string_lossy().into_owned();
            Ok((record, path))
        };
        let work = async move {
            let wanted = wanted?;
            about(format_args!("{}/{}", wanted.namespace, wanted.id));
            doors.place(&wanted).check().map_err(Error::from)?;
            let record = daemon.sockets().create(wanted).await?;
            if let Err(error) = doors.open(record.clone()).await {
                // The record says what is there, and it is not.
                daemon.sockets().remove(record.id).await?;
                return Err(error.into());
            }
            let path = doors.place(&record).path.to_string_lossy().into_owned();
            Ok((record, path))
        };
        let outcome = self.held.once("socket.create", work, known).await?;
        reply!(results, outcome, |(record, path), out| {
            record.write(out.reborrow().init_record());
            out.set_path(path.as_str());
        })
    }

    async fn sockets(
        self: Rc<Self>,
        params: bosun::SocketsParams,
        mut results: bosun::SocketsResults,
    ) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            paged(daemon.sockets().list(), &wanted, |record| record.id.to_string(), |_| SOCKET_BYTES)
        };
        let outcome = self.held.call("socket.list", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }

    async fn remove_socket(
        self: Rc<Self>,
        params: bosun::RemoveSocketParams,
        mut results: bosun::RemoveSocketResults,
    ) -> Done {
        let (daemon, doors) = (self.daemon.clone(), self.shared.doors.clone());
        let (id, closing) = (read_parsed::<SocketId>(params.get()?.get_id()), doors.clone());
        let gone = id.clone();
        let known = async move |_| closing.close(gone?).await;
        let work = async move {
            let id = id?;
            about(&id);
            daemon.sockets().remove(id.clone()).await?;
            Ok(doors.close(id).await?)
        };
        let outcome = self.held.once("socket.remove", work, known).await?;
        reply!(results, outcome)
    }

    async fn audit(self: Rc<Self>, params: bosun::AuditParams, mut results: bosun::AuditResults) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let params = params.get()?;
            let query = AuditQuery::read(params.get_query()?)?;
            let limit = match usize::try_from(params.get_limit()).unwrap_or(usize::MAX) {
                0 => AUDIT_PAGE_MAX,
                limit => limit.min(AUDIT_PAGE_MAX),
            };
            Ok(daemon.audit().query(query, params.get_before(), limit).await?)
        };
        let outcome = self.held.call("audit.list", work).await?;
        reply!(results, outcome, |records, out| {
            write_list(&records, out.init_records(length(&records)));
        })
    }

    async fn collect_garbage(
        self: Rc<Self>,
        params: bosun::CollectGarbageParams,
        mut results: bosun::CollectGarbageResults,
    ) -> Done {
        let dry_run = params.get()?.get_dry_run();
        let daemon = self.daemon.clone();
        let outcome = match dry_run {
            true => self.held.call("daemon.garbage", async move { Ok(daemon.find_garbage().await?) }).await?,
            false => {
                self.held.call("daemon.collect", async move { Ok(daemon.collect_garbage().await?) }).await?
            }
        };
        reply!(results, outcome, |collection, out| collection.write(out.init_collection()))
    }

    async fn parts(self: Rc<Self>, params: bosun::PartsParams, mut results: bosun::PartsResults) -> Done {
        let daemon = self.daemon.clone();
        let work = async move {
            let wanted = Wanted::read(params.get()?.get_page()?)?;
            // A space comes before every letter of a name: ordered by kind, then id.
            let key = |part: &bosun_types::tree::PartRecord| format!("{} {}", part.kind, part.id);
            paged(daemon.parts().await, &wanted, key, |_| PART_BYTES)
        };
        let outcome = self.held.call("daemon.parts", work).await?;
        reply!(results, outcome, |page, out| {
            write_list(&page.records, out.reborrow().init_records(length(&page.records)));
            page.write_next(out.init_page());
        })
    }
}

//! `Bosun` as a namespace's socket shows it: its version, one namespace, nothing else. Not a filter over the whole: what is not written here
//! cannot be reached.

use std::rc::Rc;
use std::sync::Arc;

use bosun_protocol::Wire;
use bosun_protocol::convert::read_text;
use bosun_protocol::daemon_capnp::bosun;
use bosun_types::{Error, NamespaceName};
use capnp_rpc::new_client;

use crate::connection::Held;
use crate::daemon::write_version;
use crate::event::Events;
use crate::namespace::Namespace;
use crate::reply;
use crate::server::Shared;

pub(crate) struct Confined {
    held: Held,
    shared: Arc<Shared>,
    namespace: NamespaceName,
}

impl Confined {
    pub(crate) fn new(held: Held, shared: Arc<Shared>, namespace: NamespaceName) -> Self {
        Self { held, shared, namespace }
    }

    fn refusal(&self, what: &str) -> Error {
        Error::permission_denied(format!("{what}: this socket yields namespace {} alone", self.namespace))
            .with_hint(format!("use namespace {}, or the daemon's own socket", self.namespace))
    }
}

type Done = Result<(), capnp::Error>;

/// The methods that a namespace's socket refuses, each with its own types.
macro_rules! refused {
    ($($method:ident: $params:ident, $results:ident;)*) => {
        $(
            async fn $method(self: Rc<Self>, _: bosun::$params, mut results: bosun::$results) -> Done {
                self.refusal(stringify!($method)).write(results.get().init_error());
                Ok(())
            }
        )*
    };
}

impl bosun::Server for Confined {
    async fn version(self: Rc<Self>, _: bosun::VersionParams, mut results: bosun::VersionResults) -> Done {
        write_version(&self.shared, results.get());
        Ok(())
    }

    async fn reach(self: Rc<Self>, _: bosun::ReachParams, mut results: bosun::ReachResults) -> Done {
        self.held.peer().reach().write(results.get().init_reach());
        Ok(())
    }

    async fn namespace(
        self: Rc<Self>,
        params: bosun::NamespaceParams,
        mut results: bosun::NamespaceResults,
    ) -> Done {
        let held = Held::new(&self.held)?.about(&self.namespace);
        let outcome = read_text(params.get()?.get_id()).and_then(|asked| {
            if asked == self.namespace.as_str() {
                Ok(Namespace::new(held, self.shared.daemon.namespace(self.namespace.clone())))
            } else {
                Err(self.refusal(&format!("namespace {asked:?}")))
            }
        });
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
            out.set_bosun(new_client(Self::new(held, Arc::clone(&self.shared), self.namespace.clone())));
        }, else set_bosun)
    }

    async fn events(self: Rc<Self>, _: bosun::EventsParams, mut results: bosun::EventsResults) -> Done {
        let outcome: Result<Events, Error> = Err(self.refusal("events"));
        reply!(results, outcome, |events, out| out.set_events(new_client(events)), else set_events)
    }

    refused! {
        status: StatusParams, StatusResults;
        tree: TreeParams, TreeResults;
        namespaces: NamespacesParams, NamespacesResults;
        create_namespace: CreateNamespaceParams, CreateNamespaceResults;
        update_namespace: UpdateNamespaceParams, UpdateNamespaceResults;
        delete_namespace: DeleteNamespaceParams, DeleteNamespaceResults;
        operations: OperationsParams, OperationsResults;
        retry_operation: RetryOperationParams, RetryOperationResults;
        forget_operation: ForgetOperationParams, ForgetOperationResults;
        create_socket: CreateSocketParams, CreateSocketResults;
        sockets: SocketsParams, SocketsResults;
        remove_socket: RemoveSocketParams, RemoveSocketResults;
        audit: AuditParams, AuditResults;
        collect_garbage: CollectGarbageParams, CollectGarbageResults;
        parts: PartsParams, PartsResults;
    }
}

#[cfg(test)]
mod tests {
    /// A method that nobody thought of here is refused all the same, but as one that the daemon does not know: a riddle for who meets it.
    #[test]
    fn each_method_of_the_daemon_is_given_or_refused_by_name() {
        let schema = include_str!("../../schema/daemon.capnp");
        let interface = schema.split("interface Bosun {").nth(1).and_then(|rest| rest.split("\n}").next());
        let methods: Vec<String> = interface
            .expect("there is one")
            .lines()
            .filter_map(|line| line.trim_start().split_once(" @"))
            .filter(|(method, _)| method.chars().all(char::is_alphanumeric))
            .map(|(method, _)| {
                let low =
                    |c: char| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.into() };
                method.chars().map(low).collect()
            })
            .collect();
        assert!(methods.len() >= 18, "{methods:?}");
        let written = include_str!("confined.rs").split("#[cfg(test)]").next().expect("it begins");
        for method in methods {
            let (given, refused) = (format!("async fn {method}("), format!("    {method}: "));
            assert!(written.contains(&given) || written.contains(&refused), "{method} is neither");
        }
    }
}

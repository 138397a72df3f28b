//! Who may reach what, and who did what: sockets that yield one namespace, and the audit log.

use std::path::PathBuf;

use bosun_filter::Filters;
use bosun_protocol::Wire;
use bosun_protocol::convert::{read_list, read_text};
use bosun_types::access::{AuditQuery, AuditRecord, Reach, SocketRecord};
use bosun_types::{Error, Result, SocketId};

use crate::daemon::{Client, all_pages};
use crate::failure::answer;

impl Client {
    /// What this connection may reach: everything through the daemon's own socket, one namespace through another.
    ///
    /// # Errors
    /// NotImplemented: the daemon is older than namespace sockets.
    pub async fn reach(&self) -> Result<Reach> {
        self.driver()
            .call(|session| async move {
                let unknown = || Error::not_implemented("this daemon does not say what a connection reaches");
                Ok(session.reach().cloned().ok_or_else(unknown)?)
            })
            .await
    }

    /// Makes a socket that yields one namespace alone; `created_at` is ignored. Gives the record and the socket's file.
    ///
    /// ```no_run
    #[doc = include_str!("../examples/tour/access.rs")]
    /// ```
    ///
    /// # Errors
    /// AlreadyExists: its name is taken. InvalidArgument: its mode, or a path that is too long. ResourceExhausted: there are too many.
    /// PermissionDenied: this connection is of a namespace socket itself.
    pub async fn create_socket(&self, socket: SocketRecord) -> Result<(SocketRecord, PathBuf)> {
        self.driver()
            .change(move |session| async move {
                let mut request = session.bosun().create_socket_request();
                socket.write(request.get().init_socket());
                answer!(results, request);
                let path = PathBuf::from(read_text(results.get_path())?);
                Ok((SocketRecord::read(results.get_record()?)?, path))
            })
            .await
    }

    /// Every socket that yields one namespace, ordered by name.
    pub async fn sockets(&self) -> Result<Vec<SocketRecord>> {
        self.driver()
            .call(|session| async move {
                all_pages!(session.bosun(), sockets_request, get_records, Filters::all())
            })
            .await
    }

    /// Revokes a socket: its connections end, and what they hold with them.
    ///
    /// # Errors
    /// NotFound.
    pub async fn remove_socket(&self, id: SocketId) -> Result<()> {
        self.driver()
            .change(move |session| async move {
                let mut request = session.bosun().remove_socket_request();
                request.get().set_id(id.as_str());
                answer!(_results, request);
                Ok(())
            })
            .await
    }

    /// At most `limit` entries of the audit log, newest first, older than the entry `before` (0: from the newest). `limit` 0: as many as
    /// fit in one answer. An empty list: there are no more.
    pub async fn audit(&self, query: AuditQuery, before: u64, limit: u32) -> Result<Vec<AuditRecord>> {
        self.driver()
            .call(move |session| async move {
                let mut request = session.bosun().audit_request();
                let mut params = request.get();
                params.set_before(before);
                params.set_limit(limit);
                query.write(params.init_query());
                answer!(results, request);
                Ok(read_list(results.get_records())?)
            })
            .await
    }
}

@0xf204d80da31d366d;
# The bootstrap capability of the daemon's socket: the daemon itself, and the way to each namespace.

using Common = import "common.capnp";
using Namespaces = import "namespace.capnp";
using Events = import "event.capnp";
using Access = import "access.capnp";
using Gc = import "gc.capnp";

interface Bosun {
  version @0 () -> (protocol :UInt32, version :Text, revision :Text, shimsOlder :UInt32, shimsNewer :UInt32);
  # Cannot fail. `protocol` grows when a client could notice a difference. `shims…`: tasks whose shim is of another release than the daemon.

  status @1 () -> (error :Common.Error, status :DaemonStatus);

  tree @2 () -> (error :Common.Error, root :TreeNode);
  # The live supervision tree.

  namespace @3 (id :Text) -> (error :Common.Error, namespace :Namespaces.Namespace);
  # Checks the form only; the namespace comes into being with its first write.

  namespaces @4 (page :Common.Page) -> (error :Common.Error, records :List(Namespaces.NamespaceRecord), page :Common.NextPage);

  createNamespace @5 (id :Text, labels :List(Common.Pair)) -> (error :Common.Error, record :Namespaces.NamespaceRecord);
  # Errors: alreadyExists, invalidArgument.

  updateNamespace @6 (id :Text, labels :List(Common.Pair), replace :Bool) -> (error :Common.Error, record :Namespaces.NamespaceRecord);

  deleteNamespace @7 (id :Text) -> (error :Common.Error);
  # Errors: failedPrecondition names what is still in it.

  operations @8 (page :Common.Page) -> (error :Common.Error, records :List(OperationRecord), page :Common.NextPage);
  # Open and parked.

  retryOperation @9 (id :UInt64) -> (error :Common.Error);

  events @10 () -> (error :Common.Error, events :Events.Events);
  # Of every namespace.

  reach @11 () -> (error :Common.Error, reach :Access.Reach);
  # What this connection may reach. A socket of one namespace answers this, `version`, and `namespace` for its own; the other
  # methods of this interface are refused there with permissionDenied.

  createSocket @12 (socket :Access.SocketRecord) -> (error :Common.Error, record :Access.SocketRecord, path :Text);
  # A socket that yields one namespace; it is there again after every start of the daemon until it is removed. Errors:
  # alreadyExists, invalidArgument (its mode, or a path that is too long), resourceExhausted.

  sockets @13 (page :Common.Page) -> (error :Common.Error, records :List(Access.SocketRecord), page :Common.NextPage);

  removeSocket @14 (id :Text) -> (error :Common.Error);
  # Revokes it: its connections end, and what they hold with them. Calls under way are finished. Errors: notFound.

  audit @15 (query :Access.AuditQuery, before :UInt64, limit :UInt32) -> (error :Common.Error, records :List(Access.AuditRecord));
  # Newest first, older than the entry `before` (0: from the newest); `limit` 0: as many as fit. An empty list: no more.

  collectGarbage @16 (dryRun :Bool) -> (error :Common.Error, collection :Gc.Collection);
  # Removes what nothing keeps, in all namespaces, now; answers when it is done. `dryRun`: says what it would remove.

  forgetOperation @17 (id :UInt64) -> (error :Common.Error);
  # Closes a parked operation without doing anything more for it; what it left on the host is removed when the daemon starts again. Errors:
  # notFound, failedPrecondition unless it is parked.

  withKey @18 (key :Text, again :Bool) -> (error :Common.Error, bosun :Bosun);
  # The same daemon for one call: what is called through it, and through what is got from it, has this idempotency key (docs/protocol/calls.md).
  # `key`: 1 to 76 letters, digits and `-`, random. `again`: the call was made before and its answer was lost; it waits for recovery.

  parts @19 (page :Common.Page) -> (error :Common.Error, records :List(PartRecord), page :Common.NextPage);
  # What the daemon is made of: snapshotters, runtimes, differs, services, with what each can do and why one cannot be used. Ordered by kind and id.
  # Filter fields: `type`, `id`.
}

struct DaemonStatus {
  version @0 :Text;
  revision @1 :Text;
  pid @2 :UInt32;
  startedAt @3 :Int64;
  recovering @4 :Bool;
  readOnly @5 :Text;
  # Why writes are refused; null: they are not.
  root @6 :Text;
  state @7 :Text;
  containers @8 :UInt64;
  tasksLive @9 :UInt64;
  operationsOpen @10 :UInt64;
  operationsParked @11 :UInt64;
  eventSequence @12 :UInt64;
}

struct TreeNode {
  id @0 :Text;
  kind @1 :NodeKind;
  state :union {
    running @2 :Void;
    restarting @3 :Void;
    parked @4 :Text;
    # The text is the cause.
    stopped @5 :Void;
  }
  detail @6 :Text;
  restarts @7 :UInt32;
  mailbox @8 :Int64 = -1;
  # Messages waiting; negative: not measured.
  startedAt @9 :Int64;
  children @10 :List(TreeNode);
}

enum NodeKind {
  supervisor @0;
  worker @1;
}

struct OperationRecord {
  id @0 :UInt64;
  namespace @1 :Text;
  kind @2 :Text;
  # Such as `create_task`.
  intent @3 :Text;
  # JSON: what it was meant to do.
  bootId @4 :Text;
  openedAt @5 :Int64;
  status :union {
    forward @6 :Void;
    undoing @7 :Common.Error;
    parked @8 :Common.Error;
  }
  attempts @9 :UInt32;
}

struct PartRecord {
  # What containerd calls a plugin.
  kind @0 :Text;
  # `snapshotter`, `runtime`, `differ`, `content`, `metadata`, `gc`, `service`.
  id @1 :Text;
  requires @2 :List(Text);
  # Kinds that it uses.
  platforms @3 :List(Common.Platform);
  exports @4 :List(Common.Pair);
  # Such as `root`: its directory.
  capabilities @5 :List(Text);
  failure @6 :Common.Error;
  # Why it cannot be used; null: it can.
}

@0xfd7c7c7a2c17b362;
# Who may reach what, and who did what: sockets that yield one namespace, and the audit log.

using Common = import "common.capnp";

enum Access {
  readWrite @0;
  readOnly @1;
  # Every call that changes something is refused with permissionDenied.
}

struct Reach {
  # What a connection may reach.
  namespace @0 :Text;
  # Null: everything.
  access @1 :Access;
  uid @2 :UInt32;
  pid @3 :Int32;
  # The peer, as the kernel says.
}

struct SocketRecord {
  # A socket that yields one namespace and nothing else.
  id @0 :Text;
  # Unique in the daemon; letters and digits joined by single `.`, `_`, `-`.
  namespace @1 :Text;
  uid @2 :UInt32;
  gid @3 :UInt32;
  mode @4 :UInt32;
  # Permission bits.
  access @5 :Access;
  createdAt @6 :Int64;
  # Ignored in a request.
}

struct AuditRecord {
  # One call that changed something, or was to.
  sequence @0 :UInt64;
  at @1 :Int64;
  uid @2 :UInt32;
  pid @3 :Int32;
  socket @4 :Text;
  # The namespace socket it came through; null: the daemon's own.
  call @5 :Text;
  subject @6 :Text;
  # `<namespace>/<container>/<exec>`, as far as known.
  result :union {
    begun @7 :Void;
    # It has not ended, or the daemon was killed meanwhile.
    done @8 :Void;
    refused @9 :Common.Error;
  }
  micros @10 :UInt64;
  # How long it took.
}

struct AuditQuery {
  since @0 :Int64;
  # 0: from the oldest.
  uid @1 :Int64 = -1;
  # Negative: anybody.
  subject @2 :Text;
  # This or below it; null: any.
  call @3 :Text;
  # This or below it: `container` finds `container.create`; null: any.
  refused @4 :Bool;
  # Only what was refused or failed.
}

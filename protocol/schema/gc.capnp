@0xd3f1a6b2c4e85907;
# What garbage collection is about: the things it removes and what keeps them.

using Common = import "common.capnp";

struct Object {
  # A blob or a snapshot of one namespace.
  which :union {
    blob @0 :Text;
    # Its digest.
    snapshot @1 :SnapshotName;
  }
}

struct SnapshotName {
  snapshotter @0 :Text;
  key @1 :Text;
}

struct Root {
  # Something that keeps an object by itself.
  kind @0 :Text;
  # `image`, `container`, `lease`, `label`, `operation` or `work`.
  id @1 :Text;
  until @2 :Int64;
  # When it ends by itself; 0: it does not.
}

struct Chain {
  root @0 :Root;
  objects @1 :List(Object);
  # Each refers to the next; the last is the one asked about.
}

struct Garbage {
  namespace @0 :Text;
  object @1 :Object;
}

struct Collection {
  # What a collection removed, or would. Sizes in bytes.
  blobs @0 :UInt64;
  blobBytes @1 :UInt64;
  snapshots @2 :UInt64;
  snapshotBytes @3 :UInt64;
  leases @4 :UInt64;
  # That had expired.
  ingests @5 :UInt64;
  # That nobody came back to.
  examined @6 :UInt64;
  objects @7 :List(Garbage);
  # The first thousand blobs and snapshots.
}

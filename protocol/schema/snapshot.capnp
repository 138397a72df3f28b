@0x96c5a944c447aea0;
# Snapshots of one snapshotter in one namespace.

using Common = import "common.capnp";

interface Snapshots {
  prepare @0 (key :Text, parent :Text, labels :List(Common.Pair)) -> (error :Common.Error, mounts :List(Common.Mount));
  # A writable snapshot. Errors: alreadyExists, notFound (parent), failedPrecondition (parent not committed).

  view @1 (key :Text, parent :Text, labels :List(Common.Pair)) -> (error :Common.Error, mounts :List(Common.Mount));
  # A read-only one.

  mounts @2 (key :Text) -> (error :Common.Error, mounts :List(Common.Mount));

  commit @3 (target :Text, key :Text, labels :List(Common.Pair)) -> (error :Common.Error);
  # Makes the active `key` immutable under the name `target`.

  remove @4 (key :Text) -> (error :Common.Error);
  # Errors: failedPrecondition while it has children.

  stat @5 (key :Text) -> (error :Common.Error, record :SnapshotRecord);

  list @6 (page :Common.Page) -> (error :Common.Error, records :List(SnapshotRecord), page :Common.NextPage);

  updateLabels @7 (key :Text, labels :List(Common.Pair), replace :Bool) -> (error :Common.Error, record :SnapshotRecord);

  usage @8 (key :Text) -> (error :Common.Error, usage :Usage);
}

enum SnapshotKind {
  view @0;
  active @1;
  committed @2;
}

struct Usage {
  sizeBytes @0 :UInt64;
  inodes @1 :UInt64;
}

struct SnapshotRecord {
  namespace @0 :Text;
  snapshotter @1 :Text;
  key @2 :Text;
  parent @3 :Text;
  kind @4 :SnapshotKind;
  directory @5 :UInt64;
  labels @6 :List(Common.Pair);
  usage @7 :Usage;
  # Null until committed.
  createdAt @8 :Int64;
  updatedAt @9 :Int64;
}

@0x96c5a944c447aea0;
# Snapshots of one snapshotter in one namespace.

using Common = import "common.capnp";
using Content = import "content.capnp";

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

  diff @9 (request :DiffRequest) -> (error :Common.Error, result :LayerDiff);
  # What a snapshot changed, as a layer blob in content. Goes on to its end when the client leaves; listed among the transfers, to be followed
  # and cancelled. Errors: notFound, notImplemented (a media type that is not made), failedPrecondition (what no layer can say), unavailable
  # (a file was cut while it was read), cancelled.

  apply @10 (key :Text, layer :Common.Descriptor) -> (error :Common.Error, result :Common.Descriptor);
  # A layer blob's files become those of an active snapshot without changes of its own: all of them, or on an error none. `result`: the
  # uncompressed bytes. Ask for the mounts after it, not before. Goes on to its end when the client leaves; listed among the transfers, to be
  # followed and cancelled. Errors: notFound, notImplemented (not a layer's media type), failedPrecondition (not active, in use, or with
  # changes), cancelled.

  verify @11 (key :Text, repair :Bool) -> (error :Common.Error, finding :Content.Finding);
  # Whether a layer's files are what its blob says. `repair`: those that are not are replaced one by one, also under running containers.
  # Errors: notFound (also when no image here explains it), failedPrecondition (not committed), dataLoss (wrong again after the repair).
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

struct DiffRequest {
  left @0 :Text;
  # Null: the parent of `right`.
  right @1 :Text;
  mediaType @2 :Text;
  # Null or empty: OCI layer, gzip.
  reference @3 :Text;
  # Of the ingest; it keeps its bytes on a failure. Null: the daemon's own.
  labels @4 :List(Common.Pair);
  freeze @5 :Text;
  # Container that is frozen while files are read, and goes on afterwards whatever happens, also when the daemon is killed meanwhile. Null: none.
}

struct LayerDiff {
  layer @0 :Common.Descriptor;
  diffId @1 :Text;
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

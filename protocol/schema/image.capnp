@0xbfe22685e6777fd4;
# Images: names that point at a manifest or index in the content store.

using Common = import "common.capnp";

interface Images {
  create @0 (image :ImageRecord) -> (error :Common.Error, record :ImageRecord);
  # Errors: alreadyExists, invalidArgument.

  get @1 (image :Text) -> (error :Common.Error, record :ImageRecord);

  list @2 (page :Common.Page) -> (error :Common.Error, records :List(ImageRecord), page :Common.NextPage);

  update @3 (image :ImageRecord, paths :List(Text)) -> (error :Common.Error, record :ImageRecord);
  # Replaces the fields that `paths` names (`labels`, `labels.<key>`, `target`); none: all that may change.

  delete @4 (image :Text, sync :Bool) -> (error :Common.Error);
  # `sync`: answers when the content that only it kept is gone.

  inspect @5 (image :Text, platform :Common.Platform, snapshotter :Text) -> (error :Common.Error, detail :ImageDetail);
  # What an image's documents say for one platform, and what of it is here. `platform` null: the host's; `snapshotter` null or empty: the default.
  # What is missing is told, not an error. Errors: notFound (the image; an index without that platform), invalidArgument.

  unpack @6 (image :Text, snapshotter :Text) -> (error :Common.Error);
  # Its layers become snapshots, for the host's platform; those that are snapshots already are left. Goes on to its end when the client leaves.
  # Idempotent. Errors: notFound (image, content), invalidArgument (snapshotter).
}

struct ImageRecord {
  namespace @0 :Text;
  id @1 :Text;
  # Its name.
  target @2 :Common.Descriptor;
  labels @3 :List(Common.Pair);
  createdAt @4 :Int64;
  updatedAt @5 :Int64;
}

struct ImageDetail {
  record @0 :ImageRecord;
  platforms @1 :List(Common.Platform);
  # Of the index, or of the config when none is declared; each once.
  manifest @2 :Common.Descriptor;
  # For the platform; null when a document on the way to it, or it itself, is not here.
  config @3 :Common.Descriptor;
  # Null without a manifest.
  configJson @4 :Data;
  # Null when it is not here.
  diffIds @5 :List(Text);
  # Of the layers, lowest first; none without the config.
  chainId @6 :Text;
  # The key of the topmost layer's snapshot; null without layers.
  layers @7 :List(Common.Descriptor);
  size @8 :UInt64;
  # What all descriptors from the target on say, for the platform.
  missing @9 :List(Common.Descriptor);
  # What is named and not in this namespace.
  unpacked @10 :Bool;
  # The topmost layer is a snapshot of the snapshotter.
}

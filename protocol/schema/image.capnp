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

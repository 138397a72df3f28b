@0xb85e89683ae60def;
# Transfers: pulls and imports that run in the daemon and go on when the client leaves.

using Common = import "common.capnp";
using Image = import "image.capnp";

interface Transfers {
  pull @0 (request :PullRequest) -> (error :Common.Error, transfer :Transfer, id :UInt64);
  # Begins, or joins an equal pull under way. The transfer goes on without the client.

  importArchive @1 (request :ImportRequest) -> (error :Common.Error, transfer :Transfer, sink :Common.ByteSink, id :UInt64);
  # Write the archive to the sink, then `end`. A sink dropped before its end fails the import.

  list @2 (page :Common.Page) -> (error :Common.Error, transfers :List(TransferProgress), page :Common.NextPage);

  get @3 (id :UInt64) -> (error :Common.Error, transfer :Transfer);
}

interface Transfer {
  progress @0 () -> (error :Common.Error, progress :TransferProgress);

  watch @1 () -> (error :Common.Error, cursor :ProgressCursor);

  wait @2 () -> (error :Common.Error, images :List(Image.ImageRecord));
  # Answers when it is done; `error` is the transfer's own failure. A disconnect ends only this wait.

  cancel @3 () -> (error :Common.Error);
  # What was fetched stays and is taken up again by the next try.
}

interface ProgressCursor {
  next @0 () -> (error :Common.Error, progress :TransferProgress, end :Bool);
  # The first answer is what is now, each further one waits for a change and skips to the newest. `end`: this was the last.
}

struct PullRequest {
  reference @0 :Text;
  platform @1 :Common.Platform;
  # Null: the host's.
  unpack @2 :Text;
  # Snapshotter; null: fetch only.
  plainHttp @3 :Bool;
  labels @4 :List(Common.Pair);
}

struct ImportRequest {
  baseId @0 :Text;
  # Base name for images whose archive gives only a tag, or nothing.
  platform @1 :Common.Platform;
  unpack @2 :Text;
}

enum PartStatus {
  waiting @0;
  downloading @1;
  unpacking @2;
  done @3;
  exists @4;
}

struct PartProgress {
  key @0 :Text;
  # `manifest-`, `index-`, `layer-`, `config-` and the digest.
  digest @1 :Text;
  status @2 :PartStatus;
  offset @3 :UInt64;
  total @4 :UInt64;
}

struct TransferProgress {
  id @0 :UInt64;
  subject @1 :Text;
  parts @2 :List(PartProgress);
  state :union {
    running @3 :Void;
    done @4 :List(Image.ImageRecord);
    failed @5 :Common.Error;
  }
}

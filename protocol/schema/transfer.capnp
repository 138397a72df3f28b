@0xb85e89683ae60def;
# Transfers: pulls, pushes and imports that run in the daemon and go on when the client leaves.

using Common = import "common.capnp";
using Image = import "image.capnp";

interface Transfers {
  pull @0 (request :PullRequest) -> (error :Common.Error, transfer :Transfer, id :UInt64);
  # Begins, or joins an equal pull under way. The transfer goes on without the client.

  importArchive @1 (request :ImportRequest) -> (error :Common.Error, transfer :Transfer, sink :Common.ByteSink, id :UInt64);
  # Write the archive to the sink, then `end`. A sink dropped before its end fails the import.

  list @2 (page :Common.Page) -> (error :Common.Error, transfers :List(TransferProgress), page :Common.NextPage);

  get @3 (id :UInt64) -> (error :Common.Error, transfer :Transfer);

  push @4 (request :PushRequest) -> (error :Common.Error, transfer :Transfer, id :UInt64);
  # Sends an image with everything that it names. Errors: failedPrecondition when some of that is not here.

  fetchObject @5 (request :ObjectRequest) -> (error :Common.Error, transfer :Transfer, id :UInt64);
  # One blob or manifest into content, without what it names.

  pushObject @6 (request :ObjectRequest) -> (error :Common.Error, transfer :Transfer, id :UInt64);
  # One blob or manifest out of content.

  exportArchive @7 (request :ExportRequest, sink :Common.ByteSink) -> (error :Common.Error, transfer :Transfer, id :UInt64);
  # Writes an archive of images into the caller's sink. Its end is told to the sink only if every byte of it was right; an export ends with
  # its reader. Errors: notFound (an image, a blob of it), failedPrecondition (docker's form for several platforms).
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
  platforms @1 :List(Common.Platform);
  # Of an index; none: the host's.
  unpack @2 :Text;
  # Snapshotter; null: fetch only.
  plainHttp @3 :Bool;
  labels @4 :List(Common.Pair);
  allPlatforms @5 :Bool;
  # Everything that the index names.
  convertSchema1 @6 :Bool;
  # Into an OCI image; without it an image in docker's schema 1 form is refused.
  credential @7 :Credential;
}

struct PushRequest {
  reference @0 :Text;
  # With a tag, without a digest.
  image @1 :Text;
  # Ours; null: the one of the reference's name.
  platform @2 :Common.Platform;
  # Only the manifest for it; null: the whole index.
  plainHttp @3 :Bool;
  credential @4 :Credential;
  nonDistributable @5 :Bool;
  # Layers too whose type says that they may not be given on.
}

struct ObjectRequest {
  reference @0 :Text;
  # The repository.
  digest @1 :Text;
  mediaType @2 :Text;
  # Of what is sent; null: a blob.
  plainHttp @3 :Bool;
  credential @4 :Credential;
}

struct Credential {
  # For the registry that the reference names. The daemon never logs it and never writes it to a disk.
  user @0 :Text;
  # Empty: the secret is an identity token.
  secret @1 :Text;
}

enum TransferKind {
  pull @0;
  push @1;
  fetchObject @2;
  pushObject @3;
  importArchive @4;
  exportArchive @5;
  diff @6;
  # No transfer, but followed and cancelled like one.
  apply @7;
  # The same of a layer that becomes a snapshot's files.
}

struct ImportRequest {
  baseId @0 :Text;
  # Base name for images whose archive gives only a tag, or nothing.
  platform @1 :Common.Platform;
  unpack @2 :Text;
  allPlatforms @3 :Bool;
  # Everything of an index that the archive holds.
  digests @4 :Bool;
  # The name `<name>@<digest>` for each image too.
}

struct ExportRequest {
  images @0 :List(Text);
  platforms @1 :List(Common.Platform);
  # Of an index; none: the host's.
  allPlatforms @2 :Bool;
  docker @3 :Bool;
  # With a manifest.json for docker.
  skipNonDistributable @4 :Bool;
  # Without layers whose type says that they may not be given on.
}

enum PartStatus {
  waiting @0;
  downloading @1;
  unpacking @2;
  done @3;
  exists @4;
  uploading @5;
  mounted @6;
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
  kind @6 :TransferKind;
  bytes @7 :UInt64;
  # Of what is not in parts: read out of its archive by an import, uncompressed; of files compared by a diff.
}

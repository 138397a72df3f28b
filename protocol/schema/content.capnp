@0xb33dbdee30f80f4d;
# Content: blobs by digest, unfinished writes by reference.

using Common = import "common.capnp";

interface Content {
  info @0 (digest :Text) -> (error :Common.Error, record :ContentRecord);

  list @1 (page :Common.Page) -> (error :Common.Error, records :List(ContentRecord), page :Common.NextPage);

  updateLabels @2 (digest :Text, labels :List(Common.Pair), replace :Bool) -> (error :Common.Error, record :ContentRecord);
  # Sets each given label, an empty value removes it; `replace`: these labels and no others.

  delete @3 (digest :Text) -> (error :Common.Error);

  read @4 (digest :Text, offset :UInt64, size :UInt64, sink :Common.ByteSink) -> (error :Common.Error, bytes :UInt64);
  # Writes the bytes into the caller's sink and answers when all were taken. `size` 0: to the end. Errors: notFound, outOfRange.
  # Dropping the call stops it.

  writer @5 (reference :Text, total :UInt64, expected :Text) -> (error :Common.Error, writer :ContentWriter, status :IngestStatus);
  # Opens or resumes an ingest; write from `status.offset` on. `total` 0 and `expected` null: not known. When another namespace has the
  # expected blob, `status.offset` is its size: commit at once. Errors: unavailable while another writer has it open; alreadyExists when
  # the expected blob is here: the ingest is gone.

  statuses @6 (filters :List(Text)) -> (error :Common.Error, statuses :List(IngestStatus));
  # Unfinished writes; the filters' field is `ref`.

  abort @7 (reference :Text) -> (error :Common.Error);

  status @8 (reference :Text) -> (error :Common.Error, status :IngestStatus);
  # One unfinished write.

  verify @9 (digest :Text, repair :Bool) -> (error :Common.Error, finding :Finding);
  # Whether the blob's bytes are what was committed. `repair`: a damaged one is fetched again from where it came from and replaced at once.
  # Errors: notFound, failedPrecondition (nothing says where it came from), those of the registry.
}

struct Finding {
  # What a scrub found.
  damage @0 :List(Text);
  # What is wrong, or was; empty: nothing. The first hundred.
  repaired @1 :Bool;
}

interface ContentWriter {
  # Dropping it, or a disconnect, keeps what was written for a later resume.

  write @0 (offset :UInt64, bytes :Data) -> stream;
  # At most 1 MiB each, at the current offset, or at 0 to begin again. After a failed write the rest are ignored and `status` and `commit` give the failure.

  status @1 () -> (error :Common.Error, status :IngestStatus);

  commit @2 (size :UInt64, expected :Text, labels :List(Common.Pair)) -> (error :Common.Error, record :ContentRecord);
  # Verifies and publishes the blob. `size` 0, `expected` null: not checked. A wrong digest removes the ingest.

  abort @3 () -> (error :Common.Error);
}

struct ContentRecord {
  namespace @0 :Text;
  digest @1 :Text;
  size @2 :UInt64;
  labels @3 :List(Common.Pair);
  createdAt @4 :Int64;
  updatedAt @5 :Int64;
}

struct IngestStatus {
  reference @0 :Text;
  offset @1 :UInt64;
  total @2 :UInt64;
  expected @3 :Text;
  startedAt @4 :Int64;
  updatedAt @5 :Int64;
  digest @6 :Text;
  # Of the bytes so far; from an open writer alone.
}

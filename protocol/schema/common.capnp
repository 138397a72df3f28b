@0x98cf1b4575df0a92;
# Words that several nouns share: the error, typed payloads, labels, descriptors, mounts, exit status, paging.
#
# Rules of this schema (docs/protocol/README.md has them in full):
#  - Every method answers a domain failure in its `error` field; null means success. RPC exceptions are left for bugs,
#    overload and disconnects. The fields beside `error` are null or zero when it is set; a capability may be there, broken:
#    what was pipelined on it fails with an exception that holds the same refusal.
#  - A null Text or struct pointer means "not given"; where 0 or a negative number means that, the field says so.
#  - Times are UTC nanoseconds since the epoch; 0 means "not set". Sizes are bytes.
#  - No parameter is called `name`, no field or method by a word that Python reserves: bindings take them for themselves.
#  - Fields and methods are only ever added; a retired one keeps its number and gets the suffix `Old`.

struct Error {
  kind @0 :ErrorClass;
  message @1 :Text;
  # Names the thing and the cause.
  hint @2 :Text;
  # What the caller can do; null when there is nothing to say.
}

enum ErrorClass {
  unknown @0;
  invalidArgument @1;
  notFound @2;
  alreadyExists @3;
  failedPrecondition @4;
  unavailable @5;
  notImplemented @6;
  outOfRange @7;
  dataLoss @8;
  resourceExhausted @9;
  deadlineExceeded @10;
  cancelled @11;
  unauthenticated @12;
  permissionDenied @13;
  internal @14;
}

struct Any {
  # A typed payload. OCI types are JSON.
  typeUrl @0 :Text;
  value @1 :Data;
}

struct Pair {
  # One label, one extension's key and value.
  key @0 :Text;
  value @1 :Text;
}

struct NamedAny {
  key @0 :Text;
  value @1 :Any;
}

struct Platform {
  os @0 :Text;
  architecture @1 :Text;
  variant @2 :Text;
}

struct Descriptor {
  mediaType @0 :Text;
  digest @1 :Text;
  # `sha256:` and 64 lower-case hexadecimal digits.
  size @2 :UInt64;
}

struct Mount {
  kind @0 :Text;
  source @1 :Text;
  target @2 :Text;
  options @3 :List(Text);
}

struct ExitStatus {
  # How and when a process ended.
  cause :union {
    code @0 :UInt8;
    signal @1 :UInt8;
    unknown @2 :Text;
    # Nobody saw it end; the text says why.
  }
  exitedAt @3 :Int64;
}

struct Page {
  # Which part of a list is wanted. Lists are ordered by key.
  after @0 :Text;
  # `next` of the part before; null or empty: from the start.
  limit @1 :UInt32;
  # Most items; 0: as many as fit in one message. The daemon may give fewer.
  filters @2 :List(Text);
  # Only items that one of these matches, in containerd's grammar (docs/protocol/filters.md); none: all. The same with each page.
  # Errors: invalidArgument, with the place marked.
}

struct NextPage {
  next @0 :Text;
  # Hand this to `Page.after` for the part that follows; null: this was the last.
}

interface ByteSink {
  # Takes bulk bytes, in order. The receiver's pace reaches the sender through the stream's window.

  write @0 (bytes :Data) -> stream;
  # At most 1 MiB each; 64 to 256 KiB is best. A failure ends the stream; the call that handed out or was given this sink
  # reports it.

  end @1 () -> (error :Error);
  # No more bytes follow. Dropping the sink without it means that the sender gave up.
}

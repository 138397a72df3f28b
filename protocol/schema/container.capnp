@0x9c318a2f68ea4725;
# Containers: metadata, and the way to their tasks.

using Common = import "common.capnp";
using Task = import "task.capnp";

interface Containers {
  create @0 (request :ContainerRequest) -> (error :Common.Error, record :ContainerRecord, container :Container);
  # Makes the snapshot and the record as one step: all of it or nothing. Errors: alreadyExists, notFound (image, snapshot),
  # invalidArgument. After a disconnect it may have happened: look with `get`.

  list @1 (page :Common.Page) -> (error :Common.Error, records :List(ContainerRecord), page :Common.NextPage);

  get @2 (id :Text) -> (error :Common.Error, container :Container);
  # Checks the id's form only; whether it exists shows at the first use, so that this costs no look-up.

  buildSpec @3 (id :Text, options :SpecOptions) -> (error :Common.Error, spec :Data);
  # The OCI spec, JSON, that a container of this id gets by these options, without an image: its root is `rootfs`. Nothing is made.
}

interface Container {
  record @0 () -> (error :Common.Error, record :ContainerRecord);

  update @1 (record :ContainerRecord, paths :List(Text)) -> (error :Common.Error, record :ContainerRecord);
  # Replaces the fields that `paths` names (`labels`, `labels.<key>`, `image`, `spec`, `extensions`, `snapshotKey`); none: all that may change.

  delete @2 (snapshot :Bool) -> (error :Common.Error);
  # Removes the record, and its snapshot if asked. Errors: failedPrecondition while a task exists.

  createTask @3 (request :Task.TaskRequest) -> (error :Common.Error, info :Task.ProcessInfo, task :Task.Task);
  # Makes the process, held before exec. Errors: alreadyExists when there is one.

  task @4 () -> (error :Common.Error, task :Task.Task);
  # The task, resolved at the first use.

  start @5 () -> (error :Common.Error, pid :UInt32);
  # Starts it unless it runs: an ended task makes room for a new one with the same streams. Idempotent. Errors: failedPrecondition while it is
  # being stopped.

  stop @6 (request :StopRequest) -> (error :Common.Error, exit :Common.ExitStatus);
  # Ends it unless it has ended: by a signal, after the time-out by SIGKILL. Its restart policy takes it for a person's wish. Answers when it
  # has ended; `exit` is null if it never ran. A disconnect does not take it back. Idempotent.

  restart @7 (request :StopRequest) -> (error :Common.Error, pid :UInt32);
  # Stop, then start.

  relaunch @8 () -> (error :Common.Error, info :RelaunchInfo);
  # Its restart policy, and where that is; null: it never had one.

  setRestartPolicy @9 (policy :RestartPolicy) -> (error :Common.Error);
  # Errors: invalidArgument. A container that has ended already is left as it is.

  statPath @10 (path :Text, follow :Bool) -> (error :Common.Error, info :FileInfo);
  # What is at a path of its root, running or not. `follow`: behind a symbolic link at its end. Errors: notFound.

  copyOut @11 (request :CopyOut, sink :Common.ByteSink) -> (error :Common.Error, copy :Copy);
  # Writes what is at a path into the caller's sink, as a tar stream. Its end is told to the sink only if all of it was right. Errors: notFound,
  # resourceExhausted (too many copies at once).

  copyIn @12 (request :CopyIn) -> (error :Common.Error, sink :Common.ByteSink, copy :Copy);
  # Write a tar stream to the sink, then `end`. What was unpacked before a failure stays. Errors: notFound (the directory), resourceExhausted.
}

interface Copy {
  wait @0 () -> (error :Common.Error, copied :Copied);
  # Answers when it is done; `error` is the copy's own failure.
}

enum FileKind {
  file @0;
  directory @1;
  symlink @2;
  other @3;
}

struct FileInfo {
  kind @0 :FileKind;
  size @1 :UInt64;
  mode @2 :UInt32;
  modifiedAt @3 :Int64;
  link @4 :Text;
  # Of a symbolic link.
}

struct CopyOut {
  path @0 :Text;
  rename @1 :Text;
  # What it is called in the stream; empty: of a directory only what it holds.
  follow @2 :Bool;
}

struct CopyIn {
  directory @0 :Text;
  keepOwners @1 :Bool;
  # As the stream says; else everything belongs to the container's root.
}

struct Copied {
  entries @0 :UInt64;
  bytes @1 :UInt64;
  skipped @2 :UInt64;
  # Sockets on the way out, devices on the way in.
}

struct StopRequest {
  signal @0 :UInt32;
  # 0: the image's, else SIGTERM.
  timeoutMs @1 :Int64 = -1;
  # Before it is killed; negative: 10 000. 0: at once.
}

struct RestartPolicy {
  when @0 :Text;
  # `no`, `on-failure`, `on-failure:<n>`, `always`, `unless-stopped`.
  restartsMax @1 :UInt32;
  # Within `periodMs`; one more, and it is given up. Without a period: no limit.
  periodMs @2 :UInt64;
  backoffFirstMs @3 :UInt64;
  # Before the first relaunch, then doubled; 0 here and in the next two: the default.
  backoffMostMs @4 :UInt64;
  healthyMs @5 :UInt64;
  # A life this long lets the back-off begin anew.
}

enum RelaunchStatus {
  idle @0;
  waiting @1;
  # In back-off.
  relaunching @2;
  stopping @3;
  givenUp @4;
}

struct RelaunchInfo {
  container @0 :Text;
  policy @1 :RestartPolicy;
  status @2 :RelaunchStatus;
  count @3 :UInt32;
  # Relaunches by the policy since a person started it last.
  stopped @4 :Bool;
  # By a person.
  nextAt @5 :Int64;
  # End of the back-off, or when a stop becomes a kill; 0: neither.
  cause @6 :Text;
  # Why it was given up.
  lastExit @7 :Common.ExitStatus;
}

struct RuntimeChoice {
  id @0 :Text;
  # `bosun`, `runc`, `crun`, or an absolute path.
  options @1 :Common.Any;
}

struct ContainerRecord {
  namespace @0 :Text;
  id @1 :Text;
  labels @2 :List(Common.Pair);
  image @3 :Text;
  runtime @4 :RuntimeChoice;
  spec @5 :Data;
  # OCI runtime spec, JSON.
  snapshotter @6 :Text;
  snapshotKey @7 :Text;
  extensions @8 :List(Common.NamedAny);
  createdAt @9 :Int64;
  updatedAt @10 :Int64;
}

struct ContainerRequest {
  id @0 :Text;
  labels @1 :List(Common.Pair);
  image @2 :Text;
  snapshotter @3 :Text;
  # Null: the default.
  root @4 :RootRequest;
  runtime @5 :RuntimeChoice;
  spec @6 :SpecRequest;
  extensions @7 :List(Common.NamedAny);
  restart @8 :RestartPolicy;
  # Null: what the labels say, else none.
  checkpoint @9 :Text;
  # Image of a checkpoint that it is made from; null: none. `image` is then that of the checkpointed container, and a root that is an
  # image gets what that container had written; a snapshot that is there under its key is taken as it is.
}

struct RootRequest {
  union {
    image @0 :Text;
    # A new writable snapshot of the image; the text is its key, null: the container's id.
    snapshot @1 :Text;
    # A snapshot that exists.
    directory @2 :Text;
    # A directory of the host.
    fromSpec @3 :Void;
    # Whatever the given spec says.
    imageView @4 :Text;
    # As `image`, without a writable layer: a view.
  }
}

struct SpecRequest {
  union {
    json @0 :Data;
    # Whole.
    build @1 :SpecOptions;
    # Built by the daemon from its defaults, the image's config and these options.
    checkpoint @2 :Void;
    # That of the checkpointed container.
  }
}

struct SpecOptions {
  args @0 :List(Text);
  entrypoint @1 :List(Text);
  # Null: the image's.
  env @2 :List(Text);
  cwd @3 :Text;
  user @4 :Text;
  terminal @5 :Bool;
  hostname @6 :Text;
  mounts @7 :List(Common.Mount);
  readOnlyRoot @8 :Bool;
  privileged @9 :Bool;
  hostNetwork @10 :Bool;
  joinNamespaces @11 :List(Common.Pair);
  # Linux namespace type to path; `host`: the one that the daemon is in.
  memoryBytesMax @12 :UInt64;
  # 0: no limit; so with the two below.
  cpuMillis @13 :UInt64;
  pidsMax @14 :UInt64;
  capabilitiesAdd @15 :List(Text);
  # `CAP_NET_ADMIN`, `net_admin` or `ALL`; so with the next.
  capabilitiesDrop @16 :List(Text);
  mayGainPrivileges @17 :Bool;
  # Clears no_new_privileges.
  seccomp @18 :Seccomp;
  # Null: the default profile.
  apparmorProfile @19 :Text;
  selinuxLabel @20 :Text;
  rlimits @21 :List(Rlimit);
  # Replace those of the same kind.
  maskedPaths @22 :List(Text);
  # Further ones; so with the next.
  readOnlyPaths @23 :List(Text);
  unmaskPaths @24 :List(Text);
  # Taken from both defaults; `ALL`: every one.
  devices @25 :List(Text);
  # Host devices: `/dev/fuse`, or `/dev/x:/dev/y:rwm`.
  userNamespace @26 :UserNamespace;
  # Null: the host's users.
  annotations @27 :List(Common.Pair);
  # Of the OCI spec.
  cpuShares @28 :UInt64;
  # Weight against others, 1024 is ordinary; 0: ordinary.
  cpuQuota @29 :UInt64;
  # Microseconds of processor time in each `cpuPeriod`, exactly; 0: `cpuMillis` says.
  cpuPeriod @30 :UInt64;
  # Microseconds; 0: 100 ms.
}

struct UserNamespace {
  uids @0 :List(IdRange);
  gids @1 :List(IdRange);
  # Empty: as uids.
  ownership @2 :Ownership;
}

struct IdRange {
  # `size` ids from `container` on inside are those from `host` on outside.
  container @0 :UInt32;
  host @1 :UInt32;
  size @2 :UInt32;
}

enum Ownership {
  # How a new snapshot's files come to belong to the mapped users.
  auto @0;
  # By the mount where it can, else on disk.
  idmap @1;
  copy @2;
}

struct Seccomp {
  union {
    standard @0 :Void;
    unconfined @1 :Void;
    json @2 :Data;
    # A profile in Docker's or OCI's form.
  }
}

struct Rlimit {
  kind @0 :Text;
  # `RLIMIT_NOFILE` or `nofile`.
  soft @1 :UInt64;
  hard @2 :UInt64;
}

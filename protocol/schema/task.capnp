@0x85d58d117a7e37b9;
# A task is a running container: init and its execs.

using Common = import "common.capnp";
using Image = import "image.capnp";

interface Process {
  # One process: init (as part of Task) or an exec. Holding it keeps nothing alive; dropping it stops nothing.

  info @0 () -> (error :Common.Error, info :ProcessInfo);
  # State from the last known record; never waits for the shim. Errors: notFound.

  start @1 () -> (error :Common.Error, pid :UInt32);
  # Starts what was created. Errors: failedPrecondition names the state it is in. A disconnect does not undo a start under way.

  wait @2 () -> (error :Common.Error, exit :Common.ExitStatus);
  # Answers when it has ended, at once if it has. May be called before start. Any number may wait. A disconnect ends only this wait.

  kill @3 (signal :UInt32, all :Bool) -> (error :Common.Error);
  # Sends a signal; `all`: to every process of the container (init only). Errors: notFound when it has ended.

  delete @4 () -> (error :Common.Error, exit :Common.ExitStatus);
  # Removes an ended process; for init the whole task. `exit` is null if it was never started. Errors: failedPrecondition while it runs.

  resize @5 (width :UInt32, height :UInt32) -> (error :Common.Error);
  # New size of its terminal, in characters. Errors: failedPrecondition without a terminal.

  closeStdin @6 () -> (error :Common.Error);
  # The process reads end-of-file once what was written is consumed.

  attach @7 (request :AttachRequest) -> (error :Common.Error, cursor :AttachCursor, position :UInt64);
  # Reads its output from here on, after what is kept of it: the last 64 KiB while nobody reads, so of an exec, which can be attached to only once it is started,
  # what it wrote beyond that before its first reader is told as missed. FIFOs lose nothing. Any number may read, up to 8 at once; each gets everything. Dropping
  # the cursor detaches, which stops nothing. `position`: how many bytes the process had written before the first record. Errors: notFound, failedPrecondition before it is made or when its output goes
  # nowhere, resourceExhausted.

  writeStdin @8 (bytes :Data) -> (error :Common.Error);
  # Writes to its standard input, if that is `attach:`; answers when the process's pipe has taken them. At most 64 KiB each. Not
  # idempotent. Errors: failedPrecondition when it is closed, or not `attach:`.
}

interface Task extends(Process) {
  # The methods of Process speak of init.

  exec @0 (request :ExecRequest) -> (error :Common.Error, process :Process);
  # Registers a further process; start it through the capability, in the same round trip if you like. Errors: alreadyExists,
  # failedPrecondition when the task does not run.

  process @1 (exec :Text) -> (error :Common.Error, process :Process);
  # An exec that exists; resolved at the first use.

  execs @2 () -> (error :Common.Error, infos :List(ProcessInfo));

  pause @3 () -> (error :Common.Error);
  # Freezes every process. Errors: failedPrecondition names the state.

  resume @4 () -> (error :Common.Error);

  pids @5 () -> (error :Common.Error, pids :List(PidInfo));
  # Every process of the container's cgroup, with the exec it is.

  logs @6 (request :LogRequest) -> (error :Common.Error, cursor :LogCursor);
  # Reads the log file. Dropping the cursor ends the reading.

  update @7 (resources :Data) -> (error :Common.Error);
  # Applies OCI LinuxResources JSON to the live cgroup: only what it gives changes. Errors: failedPrecondition when it has ended,
  # invalidArgument, notImplemented for a controller that the host has not.

  metrics @8 () -> (error :Common.Error, metrics :Metrics);
  # What its cgroup has used, read now. After its end: the last sample. Errors: notFound when there is none.

  checkpoint @9 (request :CheckpointRequest) -> (error :Common.Error, record :Image.ImageRecord);
  # Stores it as an image: its processes (by CRIU), its spec, what it has written. It goes on as it was, or with `exit` ends once the
  # image is recorded. A disconnect does not undo a checkpoint under way. Errors: alreadyExists (image), failedPrecondition when it
  # does not run, or when execs do.
}

struct CheckpointRequest {
  image @0 :Text;
  # Null: `containerd.io/checkpoint/<container>:<MM-DD-YYYY-HH:MM:SS>`.
  exit @1 :Bool;
  openTcp @2 :Bool;
  # Established TCP connections may be part of it; so for the next ones.
  externalUnixSockets @3 :Bool;
  terminal @4 :Bool;
  # One that is shared with the outside, as a shell's job.
  fileLocks @5 :Bool;
  emptyNamespaces @6 :List(Text);
  # Linux namespaces that are made anew at a restore: `network`.
  cgroupsMode @7 :Text;
  # ignore, none, props, soft, full or strict; null: ignore.
}

struct TaskCheckpoint {
  union {
    image @0 :Text;
    # An image that is a checkpoint.
    descriptor @1 :Common.Descriptor;
    # A blob of CRIU's files.
  }
}

struct AttachRequest {
  from :union {
    replayBytes @0 :UInt32;
    # As much of the output before now as is kept, at most this. 64 KiB are kept while nobody reads.
    position @1 :UInt64;
    # Where somebody who was attached before has stopped reading. What is no longer kept is told as missed.
  }
  overflow @2 :Overflow;
  # What happens when this reader falls behind what the shim keeps for it.
}

enum Overflow {
  dropOldest @0;
  # Output goes on; this reader is told how many bytes it missed.
  block @1;
  # The process waits until this reader has read.
  spill @2;
  # What this reader missed it gets from the log file. Without a log: as dropOldest.
}

interface AttachCursor {
  next @0 (max :UInt32) -> (error :Common.Error, records :List(AttachRecord), end :Bool);
  # Answers as soon as there is at least one record; `end`: the process ended and everything was read. `max` 0: as many as fit.
  # One call at a time.
}

struct AttachRecord {
  union {
    stdout @0 :Data;
    # And everything of a terminal.
    stderr @1 :Data;
    missed @2 :UInt64;
    # Bytes that are gone for this reader.
  }
}

interface LogCursor {
  next @0 (max :UInt32) -> (error :Common.Error, records :List(LogRecord), end :Bool);
  # Answers as soon as there is at least one record; `end`: nothing will follow. `max` 0: as many as fit. One call at a time.
}

struct Metrics {
  # Absent numbers are those that the host's cgroup does not give. Times are nanoseconds of CPU, sizes bytes.
  container @0 :Text;
  sampledAt @1 :Int64;
  cgroupVersion @2 :UInt8;
  # 1, or 2.
  cpu @3 :CpuMetrics;
  memory @4 :MemoryMetrics;
  pids @5 :PidsMetrics;
  blkio @6 :List(BlkioMetrics);
  hugetlb @7 :List(HugetlbMetrics);
}

struct CpuMetrics {
  total @0 :UInt64;
  user @1 :UInt64;
  kernel @2 :UInt64;
  perCpu @3 :List(UInt64);
  # cgroup v1 only.
  periods @4 :UInt64;
  throttledPeriods @5 :UInt64;
  throttled @6 :UInt64;
}

struct MemoryMetrics {
  usage @0 :UInt64;
  limit @1 :UInt64;
  # 0: none.
  max @2 :UInt64;
  # Highest usage so far.
  limitHits @3 :UInt64;
  swapUsage @4 :UInt64;
  swapLimit @5 :UInt64;
  kernelUsage @6 :UInt64;
  oomKills @7 :UInt64;
  stat @8 :List(Counter);
  # Each line of memory.stat under the kernel's own word.
}

struct Counter {
  key @0 :Text;
  value @1 :UInt64;
}

struct PidsMetrics {
  current @0 :UInt64;
  limit @1 :UInt64;
  # 0: none.
}

struct BlkioMetrics {
  major @0 :UInt32;
  minor @1 :UInt32;
  readBytes @2 :UInt64;
  writtenBytes @3 :UInt64;
  reads @4 :UInt64;
  writes @5 :UInt64;
}

struct HugetlbMetrics {
  pageBytes @0 :UInt64;
  usage @1 :UInt64;
  max @2 :UInt64;
  limitHits @3 :UInt64;
}

struct Stdio {
  # All null and no log: /dev/null.
  stdin @0 :Text;
  # FIFO that the client made, or `attach:`: what clients write by writeStdin.
  stdout @1 :Text;
  # FIFO that the client made, or existing file. For a task also `binary:///program?key=value`: a program that gets stdout as descriptor 3
  # and stderr as 4, and closes 5 once it is ready.
  stderr @2 :Text;
  # Null with a terminal.
  terminal @3 :Bool;
  log @4 :LogTarget;
}

struct LogTarget {
  path @0 :Text;
  # Empty with logToFile: the daemon's place.
  bytesMax @1 :UInt64;
  # Rotated above this; 0: never.
  filesMax @2 :UInt32;
  # The newest included; at least one.
}

struct TaskRequest {
  stdio @0 :Stdio;
  logToFile @1 :Bool;
  # The daemon keeps a rotated log file of the output.
  noPivotRoot @2 :Bool;
  onShimDeath @3 :OnShimDeath;
  checkpoint @4 :TaskCheckpoint;
  # What `start` restores; null: the container's process is run. Until the start no exec is taken.
}

enum OnShimDeath {
  # What becomes of a running container whose monitor died.
  kill @0;
  adopt @1;
  # A new shim takes it over. Not with a terminal.
}

struct ExecRequest {
  id @0 :Text;
  process :union {
    json @1 :Data;
    # A whole OCI Process.
    inherit @2 :InheritedProcess;
    # Built from the container's own process.
  }
  stdio @3 :Stdio;
}

struct InheritedProcess {
  args @0 :List(Text);
  env @1 :List(Text);
  cwd @2 :Text;
  user @3 :Text;
}

enum ProcessStatus {
  creating @0;
  created @1;
  running @2;
  pausing @3;
  paused @4;
  stopped @5;
  recovering @6;
  # The daemon started and has not heard from the shim yet; the last known record stands.
}

struct ProcessInfo {
  container @0 :Text;
  exec @1 :Text;
  # Null for init.
  pid @2 :UInt32;
  # 0 before it is made.
  status @3 :ProcessStatus;
  stdio @4 :Stdio;
  exit @5 :Common.ExitStatus;
  # Set when stopped.
  createdAt @6 :Int64;
  startedAt @7 :Int64;
  confirmedAt @8 :Int64;
  # When the shim last confirmed this; 0: never since the daemon started.
}

struct PidInfo {
  pid @0 :UInt32;
  exec @1 :Text;
}

struct LogRequest {
  follow @0 :Bool;
  tailLines @1 :Int64 = -1;
  # Negative: everything.
  since @2 :Int64;
}

enum OutputStream {
  stdout @0;
  stderr @1;
}

struct LogRecord {
  at @0 :Int64;
  stream @1 :OutputStream;
  bytes @2 :Data;
  # Ends with a newline unless the line goes on in the next record.
}

@0xf6b8ef0324fb94bb;
# Events: durable facts in one sequence. A subscriber asks for the next ones; what it has not asked for costs the daemon a
# position, not memory.

using Common = import "common.capnp";
using Tasks = import "task.capnp";

interface Events {
  subscribe @0 (filter :EventFilter, start :EventStart, until :UInt64) -> (error :Common.Error, cursor :EventCursor, next :UInt64);
  # After a disconnect subscribe again from the sequence that follows the last one seen: nothing is lost. `until`: the cursor ends
  # behind this position; 0: it goes on. `next`: the first position that is looked at; who loses the connection before the first delivery asks for
  # that one again. Errors: invalidArgument (a filter).

  publish @1 (namespace :Text, topic :Text, payload :Common.Any) -> (error :Common.Error, sequence :UInt64);
  # Durable when it returns; `sequence` is its position. Errors: invalidArgument (namespace, a payload of more than 256 KiB, a topic that is none or
  # that is one of the daemon's own).

  forward @2 (namespace :Text, topic :Text, at :Int64, payload :Common.Any) -> (error :Common.Error, sequence :UInt64);
  # As `publish`, for what was published elsewhere at the time `at`, which must not be 0. Under any topic: what is forwarded has `publishedAt` and a
  # payload, so that nobody takes it for this daemon's own.

  createCursor @3 (id :Text, start :EventStart) -> (error :Common.Error, record :CursorRecord);
  # A named place in the log, which outlives its subscribers and the daemon: subscribe from `record.position` + 1, and acknowledge what is
  # done. One that is there already is given as it is. Each namespace has cursors of its own, and so have all together. Errors:
  # resourceExhausted: there are 1024.

  ackCursor @4 (id :Text, sequence :UInt64) -> (error :Common.Error, record :CursorRecord);
  # Everything up to `sequence` is done; durable when it returns. A position that was acknowledged already changes nothing. Errors: notFound,
  # invalidArgument: there is no such event yet.

  cursors @5 (page :Common.Page) -> (error :Common.Error, records :List(CursorRecord), page :Common.NextPage);

  removeCursor @6 (id :Text) -> (error :Common.Error);
}

struct CursorRecord {
  namespace @0 :Text;
  # Null: it is of all namespaces.
  id @1 :Text;
  position @2 :UInt64;
  # The last that was acknowledged.
  createdAt @3 :Int64;
  updatedAt @4 :Int64;
}

interface EventCursor {
  next @0 (max :UInt32) -> (error :Common.Error, deliveries :List(EventDelivery), end :Bool);
  # Answers as soon as there is at least one; `end`: the daemon stops. `max` 0: as many as fit. One call at a time. Dropping the
  # cursor ends the subscription.
}

struct EventFilter {
  namespaces @0 :List(Text);
  # Null: all that the capability reaches.
  topics @1 :List(Text);
  # Prefixes; none: every topic.
  filters @2 :List(Text);
  # One must match, in containerd's grammar (docs/protocol/filters.md): fields `namespace`, `topic`, `event.<field>`; none: all.
}

struct EventStart {
  union {
    now @0 :Void;
    sequence @1 :UInt64;
    # This one first; 0: the oldest kept.
    time @2 :Int64;
  }
}

struct EventDelivery {
  union {
    event @0 :EventRecord;
    missed @1 :Missed;
  }
}

struct Missed {
  # These positions are no longer kept.
  first @0 :UInt64;
  last @1 :UInt64;
}

struct EventRecord {
  # One struct for all topics, so that a filter and an older client can read fields of topics they do not know. Each topic
  # uses the fields it has words for; the rest stay null or 0.
  sequence @0 :UInt64;
  at @1 :Int64;
  namespace @2 :Text;
  topic @3 :Text;
  labels @4 :List(Common.Pair);
  # namespaces/*, containers/update, images/*
  container @5 :Text;
  # containers/*, tasks/*
  process @6 :Text;
  # tasks/exit: the container's id for init, else the exec's; tasks/exec-*: the exec's
  pid @7 :UInt32;
  exit @8 :Common.ExitStatus;
  # tasks/exit, tasks/delete
  image @9 :Text;
  # images/*, containers/*
  runtime @10 :Text;
  # containers/create
  bundle @11 :Text;
  # tasks/create
  digest @12 :Text;
  # content/*
  size @13 :UInt64;
  snapshotter @14 :Text;
  # snapshot/*
  key @15 :Text;
  # snapshot/*, containers/update: the snapshot's key
  parent @16 :Text;
  # snapshot/prepare
  committed @17 :Text;
  # snapshot/commit: the name it got
  checkpoint @18 :Text;
  # tasks/checkpointed
  payload @19 :Common.Any;
  # Topics published by clients.
  count @20 :UInt32;
  # containers/relaunched, containers/given-up: relaunches by the policy since a person started it last
  cause @21 :Text;
  # containers/given-up, groups/restarting, groups/failed
  publishedAt @22 :Int64;
  # What was passed on by `forward`: when it was published. `at` is when it came.
  stdio @23 :Tasks.Stdio;
  # tasks/create
  group @24 :Text;
  # groups/*
}

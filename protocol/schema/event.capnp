@0xf6b8ef0324fb94bb;
# Events: durable facts in one sequence. A subscriber asks for the next ones; what it has not asked for costs the daemon a
# position, not memory.

using Common = import "common.capnp";

interface Events {
  subscribe @0 (filter :EventFilter, start :EventStart, until :UInt64) -> (error :Common.Error, cursor :EventCursor);
  # After a disconnect subscribe again from the sequence that follows the last one seen: nothing is lost. `until`: the cursor ends
  # behind this position; 0: it goes on. Errors: invalidArgument (a filter).

  publish @1 (namespace :Text, topic :Text, payload :Common.Any) -> (error :Common.Error);
  # Durable when it returns. Errors: invalidArgument (topic, namespace).
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
  # containers/given-up
}

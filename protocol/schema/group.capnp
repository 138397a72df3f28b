@0xc3d5a1f08e6b2947;
# Groups: containers, and other groups, supervised together.

using Common = import "common.capnp";

interface Groups {
  create @0 (spec :GroupSpec) -> (error :Common.Error, info :GroupInfo, group :Group);
  # Makes a group of what there is, stopped. Errors: alreadyExists, notFound (a member), invalidArgument, failedPrecondition (a member is in
  # another group, or has a restart policy of its own).

  list @1 (page :Common.Page) -> (error :Common.Error, infos :List(GroupInfo), page :Common.NextPage);

  get @2 (id :Text) -> (error :Common.Error, group :Group);
  # Checks the id's form only; whether it exists shows at the first use.
}

interface Group {
  info @0 () -> (error :Common.Error, info :GroupInfo);

  start @1 () -> (error :Common.Error);
  # Starts its members in order, those that run already excepted; answers when all were started. Idempotent. A disconnect does not take it
  # back. Errors: failedPrecondition names why it failed, or that it is being stopped.

  stop @2 () -> (error :Common.Error);
  # Stops its members in reverse order, each with its own time; answers when all have ended. Idempotent. A disconnect does not take it back.

  delete @3 () -> (error :Common.Error);
  # Removes it; its members stay. Errors: failedPrecondition unless it is down and in no other group.
}

enum GroupStrategy {
  oneForOne @0;
  oneForAll @1;
  restForOne @2;
}

enum MemberRestart {
  permanent @0;
  transient @1;
  # After an abnormal end: another code than 0, a signal, or unseen.
  temporary @2;
}

struct GroupMember {
  name :union {
    container @0 :Text;
    group @1 :Text;
  }
  restart @2 :MemberRestart;
  shutdownMs @3 :Int64 = -1;
  # Before it is killed; negative: 10 000.
}

struct GroupSpec {
  id @0 :Text;
  strategy @1 :GroupStrategy;
  restartsMax @2 :UInt32;
  # Within `periodMs`; one more, and the group fails. Without a period: 3 in a minute.
  periodMs @3 :UInt64;
  members @4 :List(GroupMember);
  # In the order in which they are started; stopped in reverse.
}

enum GroupStatus {
  stopped @0;
  starting @1;
  up @2;
  stopping @3;
  failed @4;
}

struct GroupInfo {
  spec @0 :GroupSpec;
  status @1 :GroupStatus;
  cause @2 :Text;
  # Why it failed, or is about to.
  restarts @3 :UInt32;
  # Of members, since a person started it.
  createdAt @4 :Int64;
  members @5 :List(Text);
  # What is known of each, in the spec's order: a process's state or a group's status; `-`: there is none.
}

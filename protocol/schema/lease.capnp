@0xa94c0d7be1f52836;
# Leases: what a client works on stays while its lease does.

using Common = import "common.capnp";

interface Leases {
  create @0 (lease :Text, labels :List(Common.Pair)) -> (error :Common.Error, record :LeaseRecord);
  # Null or empty: an id of its own. The label `containerd.io/gc.expire` (RFC 3339) ends it, `containerd.io/gc.flat` has it hold only its
  # resources. Errors: alreadyExists, invalidArgument.

  delete @1 (lease :Text, sync :Bool) -> (error :Common.Error);
  # Its absence is success. `sync`: answers when what it alone held is gone.

  list @2 (page :Common.Page) -> (error :Common.Error, records :List(LeaseRecord), page :Common.NextPage);

  resources @3 (lease :Text, page :Common.Page) -> (error :Common.Error, records :List(LeaseResource), page :Common.NextPage);
  # Errors: notFound.

  add @4 (lease :Text, resource :LeaseResource) -> (error :Common.Error);
  # Errors: notFound (lease, blob or snapshot).

  remove @5 (lease :Text, resource :LeaseResource) -> (error :Common.Error);
  # The resource's absence is success. Errors: notFound (lease).
}

struct LeaseRecord {
  namespace @0 :Text;
  id @1 :Text;
  labels @2 :List(Common.Pair);
  createdAt @3 :Int64;
}

struct LeaseResource {
  kind @0 :Text;
  # `content`, `snapshots/<snapshotter>` or `ingests`.
  id @1 :Text;
  # A digest, a key or a ref.
}

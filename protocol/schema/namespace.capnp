@0xdf797dc7c5921f72;
# One namespace as a capability: who holds it reaches everything in it and nothing outside.

using Common = import "common.capnp";
using Containers = import "container.capnp";
using Groups = import "group.capnp";
using Images = import "image.capnp";
using Transfers = import "transfer.capnp";
using Content = import "content.capnp";
using Snapshots = import "snapshot.capnp";
using Events = import "event.capnp";
using Tasks = import "task.capnp";
using Leases = import "lease.capnp";
using Gc = import "gc.capnp";

interface Namespace {
  record @0 () -> (error :Common.Error, record :NamespaceRecord);
  # Errors: notFound until the first write or an explicit create.

  containers @1 () -> (error :Common.Error, containers :Containers.Containers);

  tasks @2 (page :Common.Page) -> (error :Common.Error, infos :List(Tasks.ProcessInfo), page :Common.NextPage);
  # The init of each task.

  images @3 () -> (error :Common.Error, images :Images.Images);

  transfers @4 () -> (error :Common.Error, transfers :Transfers.Transfers);

  content @5 () -> (error :Common.Error, content :Content.Content);

  snapshots @6 (snapshotter :Text) -> (error :Common.Error, snapshots :Snapshots.Snapshots);
  # Null or empty: the default snapshotter. Errors: notFound for one that the daemon does not have.

  events @7 () -> (error :Common.Error, events :Events.Events);
  # This namespace's alone, whatever the filter says.

  relaunches @8 (page :Common.Page) -> (error :Common.Error, infos :List(Containers.RelaunchInfo), page :Common.NextPage);
  # The restart policy of each container that has one.

  leases @9 () -> (error :Common.Error, leases :Leases.Leases);

  withLease @10 (lease :Text) -> (error :Common.Error, namespace :Namespace);
  # The same namespace: what is made or found through it is held by the lease until that ends. Errors: notFound; every call that would add to the
  # lease answers that too when it is gone or has expired.

  why @11 (object :Gc.Object) -> (error :Common.Error, chains :List(Gc.Chain));
  # What keeps a blob or a snapshot: the shortest chain from each root, shortest first, at most a hundred. None: the next collection takes it.
  # Errors: notFound.

  groups @12 () -> (error :Common.Error, groups :Groups.Groups);

  withKey @13 (key :Text, again :Bool) -> (error :Common.Error, namespace :Namespace);
  # The same namespace for one call, as `Bosun.withKey`.
}

struct NamespaceRecord {
  id @0 :Text;
  labels @1 :List(Common.Pair);
  createdAt @2 :Int64;
  updatedAt @3 :Int64;
}

"""A foreign client, through the published schema alone: pulls an image, runs a container of it, waits, and follows what happens.

    pip install pycapnp
    python docs/protocol/example.py /run/bosun/bosun.sock registry.local:5000/library/busybox:latest
"""

import asyncio
import os
import sys

import capnp

SCHEMA = os.path.join(os.path.dirname(__file__), "..", "..", "protocol", "schema")
# Holds /capnp/stream.capnp, which schemas with `-> stream` import.
IMPORTS = [os.path.dirname(os.path.dirname(capnp.__file__))]
daemon = capnp.load(os.path.join(SCHEMA, "daemon.capnp"), imports=IMPORTS)


def checked(answer):
    """Domain errors are values."""
    if answer._has("error"):
        raise RuntimeError(f"{answer.error.message}: {answer.error.kind}")
    return answer


async def pull(namespace, reference):
    """Begins a pull, or joins the one under way, and shows each part as it comes in."""
    transfers = namespace.transfers().transfers
    transfer = checked(await transfers.pull(request={"reference": reference, "unpack": "overlayfs"})).transfer
    cursor = checked(await transfer.watch()).cursor
    while True:
        step = checked(await cursor.next())
        parts = step.progress.parts
        print(f"pull: {sum(part.status in ('done', 'exists') for part in parts)} of {len(parts)} parts")
        if step.end:
            break
    return checked(await transfer.wait()).images[0].id


async def run(namespace, image):
    """Creates, starts and waits in one round trip: nothing is awaited on the way in."""
    create = namespace.containers().containers.create_request()
    create.request.id = "from-python"
    create.request.image = image
    # A new snapshot of the image under the container's own id: what an untouched root says.
    create.request.init("root")
    create.request.spec.init("build").args = ["/bin/sh", "-c", "exit 42"]
    created = create.send()
    made = created.container.createTask(request={"stdio": {}})
    started, waited = made.task.start(), made.task.wait()

    # The answers in order: the first failure is the cause of those behind it.
    checked(await created)
    task = checked(await made).task
    print(f"pid {checked(await started).pid}")
    print(f"exit code {checked(await waited).exit.cause.code}")
    return task


async def main(socket, reference):
    stream = await capnp.AsyncIoStream.create_unix_connection(path=socket)
    bosun = capnp.TwoPartyClient(stream).bootstrap().cast_as(daemon.Bosun)
    version = await bosun.version()
    print(f"daemon {version.version}, protocol {version.protocol}")

    namespace = bosun.namespace("default").namespace
    events = checked(await namespace.events().events.subscribe(start={"now": None})).cursor
    task = await run(namespace, await pull(namespace, reference))

    topics = []
    while "/tasks/exit" not in topics:
        topics += [delivery.event.topic for delivery in checked(await events.next()).deliveries]
    print(" ".join(topics))

    checked(await task.delete())
    container = namespace.containers().containers.get("from-python").container
    checked(await container.delete(snapshot=True))
    # A refusal is the same error wherever in a pipeline it is met.
    refused = await namespace.containers().containers.get("from-python").container.record()
    print(f"afterwards: {refused.error.kind}")


asyncio.run(capnp.run(main(*sys.argv[1:3])))

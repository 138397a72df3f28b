"""A foreign client: runs a container through the published schema and follows what happens.

    pip install pycapnp
    python docs/protocol/example.py /run/bosun/bosun.sock /srv/rootfs
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


async def main(socket, rootfs):
    stream = await capnp.AsyncIoStream.create_unix_connection(path=socket)
    bosun = capnp.TwoPartyClient(stream).bootstrap().cast_as(daemon.Bosun)
    version = await bosun.version()
    print(f"daemon {version.version}, protocol {version.protocol}")

    # Nothing is awaited on the way in: the calls pipeline.
    namespace = bosun.namespace("default").namespace
    events = checked(await namespace.events().events.subscribe(start={"now": None})).cursor

    create = namespace.containers().containers.create_request()
    create.request.id = "from-python"
    create.request.root.directory = rootfs
    create.request.spec.init("build").args = ["/bin/sh", "-c", "exit 42"]
    created = create.send()
    made = created.container.createTask(request={"stdio": {}})
    started, waited = made.task.start(), made.task.wait()

    # The answers in order: the first failure is the cause of those behind it.
    checked(await created)
    task = checked(await made).task
    print(f"pid {checked(await started).pid}")
    print(f"exit code {checked(await waited).exit.cause.code}")

    topics = []
    while "/tasks/exit" not in topics:
        topics += [delivery.event.topic for delivery in checked(await events.next()).deliveries]
    print(" ".join(topics))

    checked(await task.delete())
    container = namespace.containers().containers.get("from-python").container
    checked(await container.delete(snapshot=True))


asyncio.run(capnp.run(main(*sys.argv[1:3])))

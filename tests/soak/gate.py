"""A gate in the network: passes TCP connections on to a broker, and can be shut, as a cable that is pulled.

Shut, it passes nothing, in neither direction, and closes nothing: what is sent waits, as packets do that are sent again
until the cable is back. Whoever connects meanwhile is accepted and hears nothing. It knows nothing of what passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from cluster.ports import HOST


class Gate:
    """Listens on one port and passes on to another of 127.0.0.1."""

    def __init__(self, port: int, onward: int, host: str = HOST) -> None:
        self._host, self._port, self._onward = host, port, onward
        self._loop = asyncio.new_event_loop()
        self._open: asyncio.Event
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._listening = threading.Event()

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(10), "the gate does not listen"

    def shut(self) -> None:
        self._loop.call_soon_threadsafe(lambda: self._open.clear())

    def open(self) -> None:
        self._loop.call_soon_threadsafe(lambda: self._open.set())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._listening.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _listen(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        await asyncio.start_server(self._accept, self._host, self._port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            onward_reader, onward_writer = await asyncio.open_connection(HOST, self._onward)
            await asyncio.gather(self._pump(reader, onward_writer), self._pump(onward_reader, writer))
        writer.close()

    def _passing(self, way: asyncio.StreamWriter, data: bytes) -> None:
        """What goes on its way; nobody looks at it here."""

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = await reader.read(1 << 16)
                await self._open.wait()
                if not data:
                    break
                self._passing(writer, data)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def gate(port: int, onward: int, host: str = HOST) -> Iterator[Gate]:
    """A gate that listens, and is closed at the end."""
    made = Gate(port, onward, host)
    made.start()
    try:
        yield made
    finally:
        made.close()

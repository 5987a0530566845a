"""One socket to one broker, in a client's event loop: what is to be sent goes out, what comes is handed over.

A link attaches to one broker at a time and, when that one is lost, to the next. ZeroMQ's descriptors tell of an event
once, at the edge, so everything that there is to do is done at each. What the socket has no room for waits here; what
was under way when the connection broke is the link's to send again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Union

import zmq

from common.finding.addresses import BrokerAddress
from common.link.connection import Change, Silence
from common.link.sockets import ConnectionMonitor, make_dealer
from common.membership.identity import KeyPair
from common.process.running_time import RunningTime
from common.protocol.operations import Role

Payload = Union[bytes, bytearray, memoryview, Any]  # anything with a buffer, such as a numpy array


@dataclass(eq=False)
class Pending:
    """A request that has no answer yet."""

    frames: list[Payload]
    answer: asyncio.Future[list[zmq.Frame]]


class Attachment:
    """A socket that connects to `broker`; `accept` gets each message, `changed` each change of the connection."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        pair: KeyPair,
        broker: BrokerAddress,
        accept: Callable[[list[zmq.Frame]], None],
        changed: Callable[[Change], None],
    ) -> None:
        self.broker = broker
        self._accept = accept
        self._changed = changed
        self._unsent: deque[Pending] = deque()
        self._closed = False
        self._silence = Silence()
        self._time = RunningTime()
        self._socket = make_dealer(context, pair, broker.public_key, heartbeats=True)
        self._monitor = ConnectionMonitor(self._socket)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.FD, self._on_event)
        loop.add_reader(self._monitor.socket.FD, self._watch)
        try:
            self._socket.connect(broker.endpoint(Role.CLIENT))
        except zmq.ZMQError:
            return  # no address at all: then nothing ever comes, as from one where nobody is
        loop.call_soon(self._watch)

    def send(self, pending: Pending) -> None:
        """Send a request as soon as there is room, unless it is answered before."""
        if pending not in self._unsent:
            self._unsent.append(pending)
        self._on_event()

    def drop_unsent(self) -> None:
        self._unsent.clear()

    def is_silent(self) -> bool:
        """Whether the connection stands, and nobody is at its other end; to be asked at least every half second."""
        return self._silence.is_over(self._time(), self._time.woke)

    def close(self) -> None:
        self._closed = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.FD)
        loop.remove_reader(self._monitor.socket.FD)
        self._monitor.close()
        self._socket.close()

    def _on_event(self) -> None:
        """Send what waits and take what has come; the socket's descriptor tells of both, once, at the edge.

        Any call on the socket may swallow the event that announces the other kind, so it goes on until neither is left.
        """
        while True:
            self._send_waiting()
            self._receive()
            events = int(self._socket.getsockopt(zmq.EVENTS))
            if not events & zmq.POLLIN and not (self._unsent and events & zmq.POLLOUT):
                return

    def _send_waiting(self) -> None:
        while self._unsent:
            if not self._unsent[0].answer.done():
                try:
                    self._socket.send_multipart(self._unsent[0].frames, zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    return  # full, or the connection is down: then all is sent again when there is one
            self._unsent.popleft()

    def _receive(self) -> None:
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._silence.heard(self._time())
            self._accept(frames)

    def _watch(self) -> None:
        if self._closed:
            return
        for change in self._monitor.changes():
            if change is Change.UP:
                self._silence.begin(self._time())
            elif change is Change.DOWN:
                self._silence.end()
            self._changed(change)

"""Somebody on the wire of a lane, who sees the token, cannot open a frame, and passes messages on as a test has them.

PLAIN (RFC 24) goes in clear, so this one ends the connection and begins another with the same token.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

import zmq

from broker.authentication import ZAP_ENDPOINT
from common.link.sockets import make_lane_dealer, make_lane_router

Message = list[bytes]
Meddling = Callable[[Message], list[Message]]  # what is passed on in the place of a message


def honestly(message: Message) -> list[Message]:
    return [message]


class LaneRelay:
    def __init__(self, port: int) -> None:
        """Stands before a broker's `port` for lanes."""
        self.to_broker: Meddling = honestly
        self.to_peer: Meddling = honestly
        self.tokens: list[tuple[bytes, bytes]] = []  # lane id and token, as they passed
        self._broker_port = port
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind(ZAP_ENDPOINT)
        self._router = make_lane_router(self._context)
        self.port = self._router.bind_to_random_port("tcp://127.0.0.1")
        self._dealers: dict[bytes, zmq.Socket[bytes]] = {}  # by the peer's routing id
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            poller = zmq.Poller()
            for socket in (self._zap, self._router, *self._dealers.values()):
                poller.register(socket, zmq.POLLIN)
            ready = dict(poller.poll(20))
            if self._zap in ready:
                self._admit()
            if self._router in ready:
                self._pass_to_broker()
            for routing_id, dealer in list(self._dealers.items()):
                if dealer in ready:
                    self._pass_to_peer(routing_id, dealer)

    def _admit(self) -> None:
        request = self._zap.recv_multipart()
        lane_id, token = request[6], request[7]
        self.tokens.append((bytes.fromhex(lane_id.decode()), bytes.fromhex(token.decode())))
        self._zap.send_multipart([b"1.0", request[1], b"200", b"", lane_id + token, b""])

    def _pass_to_broker(self) -> None:
        frames = self._router.recv_multipart(copy=False)
        routing_id = frames[0].bytes
        if routing_id not in self._dealers:
            credentials = bytes.fromhex(str(frames[-1].get("User-Id")))
            dealer = make_lane_dealer(self._context, credentials[:16], credentials[16:])
            dealer.immediate = 0
            dealer.connect(f"tcp://127.0.0.1:{self._broker_port}")
            self._dealers[routing_id] = dealer
        for message in self.to_broker([frame.bytes for frame in frames[1:]]):
            self._dealers[routing_id].send_multipart(message)

    def _pass_to_peer(self, routing_id: bytes, dealer: zmq.Socket[bytes]) -> None:
        for message in self.to_peer(dealer.recv_multipart()):
            try:
                self._router.send_multipart([routing_id, *message])
            except zmq.ZMQError:
                return  # the peer is gone


@contextmanager
def relayed(port: int) -> Iterator[LaneRelay]:
    """A relay before this port."""
    relay = LaneRelay(port)
    try:
        yield relay
    finally:
        relay.stop()

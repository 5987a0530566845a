"""The sockets of a link and a broker: a peer that leaves in the middle of what it sends takes nobody with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from common.link.sockets import make_dealer
from common.membership.identity import KeyPair
from tests import ROOT

PATIENCE = 60  # seconds
SENT = 200  # messages, more than any client has under way

# A broker that is busy elsewhere, or was stopped, while a client sends and leaves; then it takes what has come.
_BUSY_BROKER = """
import zmq
from zmq.auth.thread import ThreadAuthenticator
from common.membership.identity import KeyPair
from common.link.sockets import make_router
context = zmq.Context()
authenticator = ThreadAuthenticator(context)
authenticator.start()
authenticator.configure_curve(domain="*", location=zmq.auth.CURVE_ALLOW_ANY)
pair = KeyPair.generate()
router = make_router(context, pair, "clients")
left = router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
left.rcvtimeo = 20000
print(router.bind_to_random_port("tcp://127.0.0.1"), pair.public.hex(), flush=True)
left.recv_multipart()
router.rcvtimeo = 1000
taken = 0
try:
    while True:
        router.recv_multipart()
        taken += 1
except zmq.Again:
    print(taken, flush=True)
authenticator.stop()
context.destroy(linger=0)
"""


@contextmanager
def busy_broker() -> Iterator[tuple[subprocess.Popen[str], int, bytes]]:
    """The process, its port and its public key."""
    command = [sys.executable, "-c", _BUSY_BROKER]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port, key = process.stdout.readline().split()
            yield process, int(port), bytes.fromhex(key)
        finally:
            process.kill()


def test_a_client_that_leaves_with_too_much_under_way_does_not_abort_the_broker() -> None:
    """libzmq aborts the process where a heartbeat falls due on a connection that broke while its pipe was full."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with busy_broker() as (process, port, key):
        dealer = make_dealer(context, KeyPair.generate(), key, heartbeats=True)
        dealer.sndtimeo = PATIENCE * 1000
        dealer.linger = PATIENCE * 1000
        dealer.connect(f"tcp://127.0.0.1:{port}")
        for _ in range(SENT):
            dealer.send(b"message")
        dealer.close()
        context.term()  # all of it is on its way now
        out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert out.split() == [str(SENT)]

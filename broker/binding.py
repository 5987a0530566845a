"""Has a broker's socket listen, and says in words why it cannot."""

from __future__ import annotations

import errno

import zmq

from broker.listening import ALL, Listening
from common.errors import UsageError
from common.finding.addresses import endpoint, own_addresses

_NOT_OURS = frozenset({zmq.EADDRNOTAVAIL, errno.ENODEV, zmq.EINVAL, zmq.EAFNOSUPPORT})


def bind(router: zmq.Socket[bytes], listening: Listening, port: int) -> None:
    """Listen at all that `listening` says, at this port; UsageError where that cannot be.

    A name or an interface may have addresses that cannot be had, as of IPv6 where it is off: one that can is enough.
    """
    unavailable = 0
    addresses = listening.bound()
    for address in addresses:
        try:
            router.bind(endpoint(address, port))
        except zmq.ZMQError as error:
            if error.errno not in _NOT_OURS:
                raise _refusal(address, port, error) from None
            unavailable += 1
    if unavailable == len(addresses):
        ours = ", ".join(own_addresses()) or "none but its own loopback"
        raise UsageError(
            f"cannot listen at {listening.host}: that is no address of this machine, or of none of its networks now",
            advice=f"it has {ours}; leave --host out to listen at all addresses, also at those that come later",
        )


def _refusal(address: str, port: int, error: zmq.ZMQError) -> UsageError:
    what = f"cannot listen at port {port} of {'this machine' if address == ALL else address}"
    if error.errno == zmq.EADDRINUSE:
        return UsageError(
            f"{what}: another broker or another program listens there",
            advice="stop that one, or choose --client-port and --worker-port",
        )
    if error.errno == errno.EACCES:  # on Windows also where another program has it for itself alone
        return UsageError(
            f"{what}: this account may not",
            advice="choose --client-port and --worker-port, above 1023 for most accounts",
        )
    return UsageError(f"{what}: {error.strerror}")

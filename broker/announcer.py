"""Has the broker announced on the LAN, by a process of its own (`mdns`).

Whoever takes part in mDNS reads what any machine of the LAN sends, and keeps much of it. So that is done in a process
that has no key and little memory, and whose end, by whatever cause, costs the broker nothing: it is started again.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from broker.listening import Listening
from broker.supervisor import supervise

_ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT = 5.0  # seconds for taking the announcement back


class Announcer:
    def __init__(self, listening: Listening, public_key: bytes) -> None:
        """Announce the broker with this public key until closed."""
        ports = [str(listening.client_port), str(listening.worker_port)]
        command = [sys.executable, "-m", "broker.mdns", listening.host, *ports, public_key.hex()]
        # It needs no invite and no passphrase that this process was given.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
        self._stopping = threading.Event()

        def serve() -> None:
            supervise(command, self._stopping, what="the announcer", folder=_ROOT, environment=environment)

        self._thread = threading.Thread(target=serve, name="announcer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Have it take the announcement back, and end."""
        self._stopping.set()
        self._thread.join(_TIMEOUT)

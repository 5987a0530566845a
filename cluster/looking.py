"""How one of several brokers sees the cluster: asked by a client that knows no other broker.

A client goes to the next broker where one does not answer, so what it is told may be anybody's word. Here it is lent to
a home that names one broker only, made anew for every question, since a program that is told of the others keeps them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from common.errors import NotFoundError
from common.home import load_brokers, save_brokers


def lend_client(owner: Path, borrower: Path, client_port: int) -> None:
    """Let the programs whose TESSERA_HOME is ``borrower`` be the client of ``owner``, at one broker only.

    Raises `NotFoundError` where the client knows no broker at this port.
    """
    known = [broker for broker in load_brokers(owner / "client" / "brokers.json") if broker.client_port == client_port]
    if not known:
        raise NotFoundError(f"the client of {owner} knows no broker at port {client_port}")
    (borrower / "client").mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy2(owner / "client" / "client.key", borrower / "client" / "client.key")
    save_brokers(borrower / "client" / "brokers.json", known)

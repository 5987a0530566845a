"""What a snapshot says of its run beside the trees: who ran it, where, and of which source it is a revision."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import socket
from collections.abc import Sequence
from typing import Optional

from common.text import valid_unicode
from common.vault.snapshot import MAX_PATHS, MAX_SNAPSHOT, Snapshot
from producer.sources import STDIN
from producer.trees import Trees

_MAX_LABEL = 200  # characters, of one that is made up here


def new_snapshot(
    arguments: Sequence[str], label: Optional[str], trees: Trees, taken_at: int, k: int, n: int
) -> Snapshot:
    """The snapshot of a run of this machine and user; its trees are stored. `taken_at`: ns since 1970."""
    paths = [argument for argument in arguments if argument != STDIN]
    host = valid_unicode(socket.gethostname())[:255]
    return Snapshot(
        taken_at=taken_at,
        host=host,
        user=_user(),
        label=label or default_label(host, paths),
        paths=_first_of(paths),
        root=trees.root or b"",
        k=k,
        n=n,
        files=trees.files,
        folders=trees.folders,
        size=trees.size,
        failed=trees.failed,
        skipped=trees.skipped,
        nonce=secrets.token_bytes(16),
    )


def _first_of(paths: Sequence[str]) -> list[bytes]:
    """As many paths as a snapshot names."""
    named: list[bytes] = []
    room = MAX_SNAPSHOT // 2
    for path in map(os.fsencode, paths[:MAX_PATHS]):
        room -= len(path)
        if room < 0:
            break
        named.append(path)
    return named


def default_label(host: str, paths: Sequence[str]) -> str:
    """Host and paths: the same again where the same is stored again."""
    absolute = sorted(map(os.path.abspath, paths))
    label = f"{host}:{valid_unicode(', '.join(absolute))}"
    if len(label) <= _MAX_LABEL:
        return label
    digest = hashlib.sha256(os.fsencode("\0".join(absolute))).hexdigest()[:16]
    first = valid_unicode(absolute[0])[: _MAX_LABEL // 2]
    return (
        f"{host}:{first} and {len(absolute) - 1} more ({digest})" if len(absolute) > 1 else f"{host}:{first} ({digest})"
    )


def _user() -> str:
    try:
        return valid_unicode(getpass.getuser())[:255]
    except (KeyError, OSError, ImportError):  # none has this user's number
        return ""

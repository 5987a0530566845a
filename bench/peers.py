"""Which contenders a run has beside Tessera. Whatever cannot be had here is left out by name, with the reason."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Optional

from bench.by_hand import CIPHERS, by_hand
from bench.by_hand import NEEDED as BY_HAND_NEEDS
from bench.contenders import COMMANDS, Contender, OverSsh, Restic, ssh_server
from bench.gluster import NEEDED as GLUSTER_NEEDS
from bench.gluster import gluster
from bench.sandbox import Site
from bench.swift import NEEDED as SWIFT_NEEDS
from bench.swift import swift
from bench.tahoe import NEEDED as TAHOE_NEEDS
from bench.tahoe import tahoe
from common.errors import TesseraError
from common.process.program import warn

_SSH = ("sshd", "ssh", "ssh-keygen")


@contextmanager
def peers(place: Path, asked: Collection[str]) -> Iterator[list[Contender]]:
    """Start those that can be had; all of them end with the block.

    `asked`: those of "tahoe", "zfec", "gluster" and "swift" that take part, beside scp, rsync and restic.
    """
    found: list[Contender] = []
    with ExitStack() as stack:
        start = partial(_start, found, stack)
        server = stack.enter_context(ssh_server(place)) if not _missing(_SSH) else None
        for tool in ("scp", "rsync"):
            if _all_here(tool, [*_SSH, tool]) and server is not None:
                found.append(OverSsh(tool, server))
        for cipher in CIPHERS if "zfec" in asked else ():
            if server is not None:
                start(f"{cipher} with zfec", [cipher, *BY_HAND_NEEDS], by_hand(cipher, server, place / cipher))
            else:
                warn(f"{cipher} with zfec is left out: there is no sshd")
        if _all_here("restic", ["restic"]):
            found.append(Restic(place))
        found += stack.enter_context(with_servers(place, asked))
        yield found


@contextmanager
def with_servers(place: Path, asked: Collection[str], site: Optional[Site] = None) -> Iterator[list[Contender]]:
    """Of "tahoe", "gluster" and "swift" those that are asked for and can be had. `site`: where; None for sandboxes."""
    found: list[Contender] = []
    with ExitStack() as stack:
        start = partial(_start, found, stack)
        if "tahoe" in asked:
            start("Tahoe-LAFS", TAHOE_NEEDS, tahoe(place / "tahoe", site))
        if "gluster" in asked:
            start("GlusterFS", GLUSTER_NEEDS, gluster(place / "gluster", site))
        if "swift" in asked:
            start("OpenStack Swift", SWIFT_NEEDS, swift(place / "swift", site))
        yield found


def _start(
    found: list[Contender],
    stack: ExitStack,
    name: str,
    needs: Sequence[str],
    contenders: AbstractContextManager[Sequence[Contender]],
) -> None:
    if _all_here(name, needs):
        try:
            found.extend(stack.enter_context(contenders))
        except TesseraError as error:
            warn(f"{name} is left out: {error}")
            if error.advice:
                warn(f"  {error.advice}")


def _all_here(name: str, needs: Sequence[str]) -> bool:
    missing = _missing(needs)
    if missing:
        warn(f"{name} is left out: {', '.join(missing)} is not installed here")
    return not missing


def _missing(needs: Sequence[str]) -> list[str]:
    return [need for need in needs if shutil.which(need, path=COMMANDS) is None]

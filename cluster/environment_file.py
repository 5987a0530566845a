"""The file `env` of a cluster's folder: what a shell, or the cluster's next start, needs to use it.

Lines `NAME=value` that a POSIX shell reads with `set -a; . DIR/env`; values are quoted for it. The file
holds the vault's passphrase: it is made for its owner alone, and complete or not at all.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from common.errors import IntegrityError


def write_environment_file(path: Path, variables: Mapping[str, str]) -> None:
    """Write `variables` to `path`, mode 0600."""
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    # surrogateescape: a folder's name may hold bytes that are no UTF-8. newline: a shell would keep a CR.
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(text)
    draft.replace(path)


def read_environment_file(path: Path) -> dict[str, str]:
    """What `write_environment_file` wrote. Raises `IntegrityError` if it is anything else."""
    try:
        words = shlex.split(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: {error}") from error
    if not all("=" in word for word in words):
        raise IntegrityError(f"{path} is damaged: not every line is NAME=value")
    return dict(word.split("=", 1) for word in words)

"""Many uploads or downloads by one `curl`, a few at a time: what a client of a web API costs at least."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

Transfer = tuple[str, Path, Optional[Path]]  # URL, where the answer goes, what is sent


def curl(settings: Path, transfers: Iterable[Transfer], at_once: int, *options: str) -> list[str]:
    """The command that does them. They stand in the file `settings`, since a URL may be a secret."""
    lines = []
    for url, answer, sent in transfers:
        lines += [f'url = "{url}"', f'output = "{answer}"']
        lines += [f'upload-file = "{sent}"'] if sent is not None else []
    settings.write_text("\n".join(lines) + "\n")
    said = ["-q", "-sS", "--fail-early", "--fail", "--noproxy", "*"]
    parallel = ["--parallel", "--parallel-immediate", "--parallel-max", str(at_once)]
    # "Expect:" spares each upload the wait for a "100 Continue".
    return ["curl", *said, *parallel, "-H", "Expect:", *options, "--config", os.fspath(settings)]

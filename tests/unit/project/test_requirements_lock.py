"""The locks: what each requirements file asks for, one release each, by hash, for every Python and platform."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PYTHONS = ("3.9.2", "3.10.0", "3.11.0", "3.12.0", "3.13.0", "3.14.0")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64"))
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def pins() -> dict[str, list[str]]:
    """Each pinned requirement, and its hashes."""
    lines = [line for line in LOCK.splitlines() if not line.lstrip().startswith("#")]
    entries = re.split(r"\n(?=\S)", "\n".join(lines))
    return {entry.partition("\\")[0].strip(): HASH.findall(entry) for entry in entries if entry.strip()}


def wanted() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def environment(python: str, platform: str, machine: str) -> dict[str, str]:
    """What markers ask about, beside what is the same everywhere."""
    return {
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": platform,
        "platform_machine": machine,
        "platform_system": "Windows" if platform == "win32" else "Linux",
        "os_name": "nt" if platform == "win32" else "posix",
    }


def test_every_line_of_the_lock_is_one_release_with_hashes_and_nothing_else() -> None:
    assert len(pins()) > 10
    for pin, hashes in pins().items():
        assert hashes, pin
        assert re.fullmatch(r"==[^*,]+", str(Requirement(pin).specifier)), pin
    rest = re.sub(r"(?m)^\s*#.*$", "", HASH.sub("", LOCK))
    assert "--" not in rest, "an option, which may name an index"
    assert "://" not in LOCK


@pytest.mark.parametrize(("python", "platform"), list(itertools.product(PYTHONS, PLATFORMS)))
def test_the_lock_satisfies_the_requirements_on_every_python_and_platform(
    python: str, platform: tuple[str, str]
) -> None:
    where: Any = environment(python, *platform)
    pinned = [Requirement(pin) for pin in pins()]
    chosen = [each for each in pinned if each.marker is None or each.marker.evaluate(where)]
    names = [canonicalize_name(each.name) for each in chosen]
    assert len(names) == len(set(names)), "two releases of one package"
    releases = dict(zip(names, (str(each.specifier)[2:] for each in chosen)))
    for requirement in wanted():
        if requirement.marker is None or requirement.marker.evaluate(where):
            assert requirement.specifier.contains(releases[canonicalize_name(requirement.name)]), requirement

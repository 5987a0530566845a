"""The locks: what each requirements file asks for, one release each, by hash, for every Python and platform."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

KINDS = ("requirements", "requirements-desktop", "requirements-keyring", "requirements-heic")
PYTHONS = ("3.9.2", "3.10.0", "3.11.0", "3.12.0", "3.13.0", "3.14.0")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64"))
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def lock(kind: str) -> str:
    return (ROOT / f"{kind}.lock").read_text(encoding="utf-8")


def pins(kind: str) -> dict[str, list[str]]:
    """Each pinned requirement, and its hashes."""
    lines = [line for line in lock(kind).splitlines() if not line.lstrip().startswith("#")]
    entries = re.split(r"\n(?=\S)", "\n".join(lines))
    return {entry.partition("\\")[0].strip(): HASH.findall(entry) for entry in entries if entry.strip()}


def wanted(kind: str) -> list[Requirement]:
    lines = (ROOT / f"{kind}.txt").read_text(encoding="utf-8").splitlines()
    others = [wanted(line[3:-4]) for line in lines if line.startswith("-r ")]
    return [Requirement(line) for line in lines if line and line[0] not in "#-"] + [each for o in others for each in o]


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_of_a_lock_is_one_release_with_hashes_and_nothing_else(kind: str) -> None:
    assert len(pins(kind)) > 10
    for pin, hashes in pins(kind).items():
        assert hashes, pin
        assert re.fullmatch(r"==[^*,]+", str(Requirement(pin).specifier)), pin
    rest = re.sub(r"(?m)^\s*#.*$", "", HASH.sub("", lock(kind)))
    assert "--" not in rest, "an option, which may name an index"
    assert "://" not in lock(kind)


def releases(kind: str, where: Any) -> dict[str, str]:
    """The release of each package that is installed there."""
    pinned = [Requirement(pin) for pin in pins(kind)]
    chosen = [each for each in pinned if each.marker is None or each.marker.evaluate(where)]
    names = [canonicalize_name(each.name) for each in chosen]
    assert len(names) == len(set(names)), "two releases of one package"
    return dict(zip(names, (str(each.specifier)[2:] for each in chosen)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("python", "platform"), list(itertools.product(PYTHONS, PLATFORMS)))
def test_a_lock_satisfies_its_requirements_on_every_python_and_platform(
    python: str, platform: tuple[str, str], kind: str
) -> None:
    where: Any = environment(python, *platform)
    found = releases(kind, where)
    assert releases("requirements", where).items() <= found.items(), "the same of what all need"
    for requirement in wanted(kind):
        if requirement.marker is None or requirement.marker.evaluate(where):
            assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), requirement

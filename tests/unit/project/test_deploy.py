"""The files of `deploy/`: each names programs that exist, restarts them, caps memory, and gives them time to end."""

from __future__ import annotations

import configparser
import re
from xml.etree import ElementTree

import pytest

from tests import ROOT

PROGRAMS = ("broker", "worker")


def unit(program: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names are told apart by case
    assert parser.read(ROOT / "deploy" / "systemd" / f"tessera-{program}.service")
    return parser


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_unit_starts_a_program_of_the_checkout_and_starts_it_again(program: str) -> None:
    service = unit(program)["Service"]
    script = re.fullmatch(r"/opt/tessera/\.venv/bin/python /opt/tessera/(.+)", service["ExecStart"])
    assert script is not None
    assert (ROOT / script[1]).is_file()
    assert service["Restart"] == "always"
    assert int(service["RestartSec"]) <= 2
    assert unit(program)["Unit"]["StartLimitIntervalSec"] == "0", "or systemd gives up after five tries"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_unit_does_not_start_again_what_is_not_admitted(program: str) -> None:
    assert unit(program)["Service"]["RestartPreventExitStatus"] == "6"


@pytest.mark.parametrize(("program", "most"), [("broker", 384 + 96), ("worker", 256)])
def test_a_unit_caps_memory(program: str, most: int) -> None:
    assert unit(program)["Service"]["MemoryMax"] == f"{most}M"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_windows_service_starts_a_program_of_the_checkout_and_starts_it_again(program: str) -> None:
    # A file of ours, not a stranger's.
    service = ElementTree.parse(ROOT / "deploy" / "windows" / f"tessera-{program}.xml").getroot()  # noqa: S314
    arguments = service.findtext("arguments") or ""
    script = re.fullmatch(r'"%BASE%\\(.+)"', arguments)
    assert script is not None
    assert (ROOT / script[1].replace("\\", "/")).is_file()
    failure = service.find("onfailure")
    assert failure is not None
    assert failure.get("action") == "restart"
    assert service.findtext("stoptimeout") == "20 sec"

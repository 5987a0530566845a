"""Names and messages that others chose do nothing to a terminal, and stay on the line that they were put on."""

from __future__ import annotations

import io
import json
import logging
import random
import sys
from pathlib import Path

import msgspec
import pytest

from admin.device_commands import show
from admin.status import Status, to_json
from broker.members import MemberList
from common.link.replies import DeclinedError
from common.process.program import warn
from common.process.streams import LineFormatter
from common.protocol.messages import Answer, Code, Device, Health
from common.protocol.operations import Role
from common.repository.images import ListedImage
from common.text import printable
from common.vault.index_rows import Described
from consumer.command import _Printer as ConsumerPrinter
from consumer.events import Restored
from consumer.snapshot_commands import described, line
from producer.command import _Printer as ProducerPrinter
from producer.events import StoredImage
from tests.support.mutation import valid_message
from tests.support.sample_images import encode

# A window's title, a cleared screen, a line's end, text from right to left, a C1 control, NUL, DEL, half a character
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\nname\u202egpj\x9b31m\x00\x7f\ud800"
LEFT = "name"  # of what is harmless in it


def harmless(text: str) -> bool:
    """Nothing in it is acted upon by a terminal, but for lines' ends."""
    return all(character.isprintable() or character == "\n" for character in text)


@pytest.fixture
def image() -> ListedImage:
    mapping = msgspec.structs.replace(encode(b"content").trusted().mapping, name=HOSTILE)
    return ListedImage(Described.of(mapping, bytes(16), is_named_by_lookup=False), True, bytes(32))


def test_the_check_of_these_tests_would_notice() -> None:
    for character in HOSTILE.replace("\n", ""):
        if not character.isprintable():
            assert not harmless(character)
    assert not harmless(HOSTILE)
    assert harmless(printable(HOSTILE))


def test_a_hostile_name_in_the_list_of_a_vault_stays_on_its_line(image: ListedImage) -> None:
    text = line(image, [])
    assert harmless(text)
    assert "\n" not in text
    assert LEFT in text


def test_a_hostile_name_in_the_list_as_json_is_escaped(image: ListedImage) -> None:
    text = json.dumps(described(image, []))
    assert text.isascii()
    assert "\x1b" not in text
    assert "\n" not in text
    assert json.loads(text)["name"] == HOSTILE


def test_a_hostile_name_of_a_device_is_made_printable_when_it_is_admitted() -> None:
    members = MemberList([])
    members.invite(bytes(32), Role.WORKER, 0)
    member = members.admit(bytes(32), bytes([1] * 32), HOSTILE, 1)
    assert harmless(member.name)
    assert "\n" not in member.name


def test_a_hostile_name_of_a_device_in_the_status_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """As a broker would give it that lies, since an honest one has made it printable."""
    health = msgspec.msgpack.decode(valid_message(Health, random.Random(1)), type=Health)  # noqa: S311
    hostile = Status([Device(bytes(16), HOSTILE + "[bold red]", True)], "tcp://127.0.0.1:5570", health, [])
    show(hostile)
    shown = capsys.readouterr().out
    assert harmless(shown)
    assert LEFT in shown
    assert json.dumps(to_json(hostile)).isascii()


def test_what_a_device_says_is_made_printable_where_it_becomes_an_error() -> None:
    error = DeclinedError(Answer(Code.FAULT, HOSTILE), bytes(16))
    assert harmless(str(error))
    assert "\n" not in str(error)


def test_a_complaint_and_a_line_of_a_log_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    warn(f"{HOSTILE}: is damaged")
    assert harmless(capsys.readouterr().err)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(levelname)s %(message)s", tracebacks=False))
    handler.handle(logging.makeLogRecord({"levelname": "WARNING", "msg": "%s: %s", "args": (HOSTILE, HOSTILE)}))
    assert harmless(stream.getvalue())
    assert stream.getvalue().count("\n") == 1, "one record, one line: nobody forges another"


def test_a_stored_image_told_as_json_is_escaped() -> None:
    stored = StoredImage(bytes(32), HOSTILE, 1, 2, 3, [HOSTILE, None, None], False, 0.1, True)
    assert json.dumps(stored.as_json()).isascii()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stdout", [_Terminal, io.StringIO])
def test_a_path_is_printable_on_a_terminal_and_itself_to_a_program(
    stdout: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `sha256sum --check` needs it: its lines are those of sha256sum, with line ends escaped."""
    monkeypatch.setattr("sys.stdout", stdout())
    path = "a/" + HOSTILE.replace("\x00", "").replace("\r\n", "")
    ProducerPrinter(False)(StoredImage(bytes(32), path, 1, 2, 3, ["a", "b", "c"], False, 0.1, True))
    ConsumerPrinter(None, False)(Restored("0" * 64, "name", 1, Path(path), 0.1))
    lines = sys.stdout.getvalue().splitlines() if isinstance(sys.stdout, io.StringIO) else []
    shown = printable(path) if sys.stdout.isatty() else path
    assert lines == [f"{'0' * 64}  {shown}"] * 2

"""stdout and stderr take every text, in whatever encoding, and tell in the end what the system did not take."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Union

import pytest

from common.process.streams import fault_of, prepare_streams

NAMES = {
    "写真.png": {
        "utf-8": "写真.png",
        "ascii": r"\u5199\u771f.png",
        "iso-8859-1": r"\u5199\u771f.png",
        "euc_jp": "写真.png",
    },
    "été 😀.png": {
        "utf-8": "été 😀.png",
        "ascii": r"\xe9t\xe9 \U0001f600.png",
        "iso-8859-1": r"été \U0001f600.png",
        "euc_jp": r"été \U0001f600.png",
    },
}


class Broken(io.RawIOBase):
    """Takes so many bytes, and then nothing."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = b""
        self.refusals = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)[: self.room]  # type: ignore[call-overload]
        if not piece:
            self.refusals += 1
            raise OSError(28, "No space left on device")
        self.room -= len(piece)
        self.taken += piece
        return len(piece)


def prepared(monkeypatch: pytest.MonkeyPatch, raw: Union[io.RawIOBase, io.BytesIO], encoding: str = "utf-8") -> None:
    """Have this be the process's stdout."""
    buffer = raw if isinstance(raw, io.BytesIO) else io.BufferedWriter(raw)
    stream = io.TextIOWrapper(buffer, encoding)
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.__stdout__", stream)  # which keeps it open
    monkeypatch.setattr("sys.stderr", None)
    prepare_streams()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso-8859-1", "euc_jp"])
@pytest.mark.parametrize("name", NAMES)
def test_a_character_that_the_encoding_lacks_is_escaped_and_the_next_line_comes(
    name: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    prepared(monkeypatch, out, encoding)
    print(name)
    print("next", flush=True)
    assert out.getvalue().decode(encoding) == f"{NAMES[name][encoding]}\nnext\n"
    assert fault_of(sys.stdout) is None


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso-8859-1", "euc_jp", "gb18030"])
def test_bytes_of_a_name_that_are_no_text_are_written_as_they_are(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    prepared(monkeypatch, out, encoding)
    print("caf\udce9\udcff.png", flush=True)
    assert out.getvalue() == b"caf\xe9\xff.png\n"


def test_half_of_a_pair_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    prepared(monkeypatch, out)
    print("\ud83d.png", flush=True)
    assert out.getvalue() == rb"\ud83d.png" + b"\n"


@pytest.mark.parametrize("room", [0, 10, 5000])
def test_what_a_stream_refuses_is_remembered_and_nothing_more_is_tried(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Broken(room)
    prepared(monkeypatch, raw)
    for _ in range(3000):
        print("0123456", flush=True)
    fault = fault_of(sys.stdout)
    assert fault is not None
    assert fault.errno == 28
    assert raw.taken == (b"0123456\n" * 3000)[:room]
    assert raw.refusals == 1
    raw.room = 10_000  # or the stream, at its end, tries what it still holds


def test_what_is_still_in_the_buffer_when_it_is_asked_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Broken(0)
    prepared(monkeypatch, raw)
    print("result")
    assert fault_of(sys.stdout) is not None
    raw.room = 10_000  # or the stream, at its end, tries what it still holds


@pytest.mark.skipif(os.name == "nt", reason="a program may have no streams there")
def test_a_closed_stream_takes_nothing_and_says_so_where_something_was_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    prepare_streams()
    assert fault_of(sys.stdout) is None
    print("result")
    assert fault_of(sys.stdout) is not None

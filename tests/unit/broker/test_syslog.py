"""A syslog gets every line of the audit log; one that is slow, away or unheard of holds up nobody, and is told of."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from pathlib import Path

import pytest

from broker.syslog import Syslog, parse_place
from common.errors import UsageError

LINE = b'{"previous": "00", "event": "joined"}'
HEADER = r"<86>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 \S+ tessera-broker \d+ audit - "  # RFC 5424, section 6


def test_by_udp_each_line_is_a_message_of_rfc_5424() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        syslog = Syslog(parse_place(f"127.0.0.1:{listening.getsockname()[1]}"))
        for _ in range(2):
            syslog.send(LINE)
        for _ in range(2):
            message = listening.recv(9000).decode()
            header = re.match(HEADER, message)
            assert header, message
            assert json.loads(message[header.end() :])["event"] == "joined"
        syslog.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such sockets")
def test_a_local_socket_gets_each_line_also_after_the_syslog_was_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    syslog = Syslog(parse_place(str(path)))
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(path))
            listening.settimeout(10)
            syslog.send(LINE)
            message = listening.recv(9000).decode()
            assert re.fullmatch(r"<86>tessera-broker\[\d+\]: " + re.escape(LINE.decode()), message)
        path.unlink()
    syslog.close()


def test_a_syslog_that_is_not_there_holds_up_nobody_and_is_told_of_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    syslog = Syslog(parse_place(f"{tmp_path}/nobody") if sys.platform != "win32" else ("nobody.invalid", 514))
    begun = time.monotonic()
    for _ in range(5000):
        syslog.send(LINE)
    assert time.monotonic() - begun < 2
    syslog.close()
    assert len([record for record in caplog.records if "did not reach the syslog" in record.message]) == 1


@pytest.mark.parametrize("text", ["", "host", "host:", ":514", "host:0", "host:65536", "host:port"])
def test_what_is_no_syslog_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="no syslog"):
        parse_place(text)


def test_places_are_read(tmp_path: Path) -> None:
    assert parse_place("[::1]:514") == ("::1", 514)
    assert parse_place("log.lan:1514") == ("log.lan", 1514)

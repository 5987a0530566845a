"""A log's record is one line; a traceback comes with --debug only, whatever a library logs."""

from __future__ import annotations

import asyncio
import io
import logging

import pytest

from common.process.streams import LineFormatter


@pytest.mark.parametrize("tracebacks", [False, True])
def test_what_asyncio_logs_of_a_lost_network_has_a_traceback_only_with_debug(tracebacks: bool) -> None:
    log, stream = logging.getLogger("asyncio"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(levelname)s %(message)s", tracebacks=tracebacks))

    async def lose_the_network() -> None:
        try:
            raise OSError(101, "Network is unreachable")
        except OSError as error:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "Fatal error\non transport", "exception": error}
            )

    log.addHandler(handler)
    try:
        asyncio.run(lose_the_network())
    finally:
        log.removeHandler(handler)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "ERROR Fatal error on transport (OSError: [Errno 101] Network is unreachable)" or tracebacks
    assert ("Traceback" in stream.getvalue()) == tracebacks
    assert tracebacks or len(lines) == 1

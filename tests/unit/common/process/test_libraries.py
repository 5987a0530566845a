"""Too old a libzmq or OpenSSL is told before anything is done, with what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest
import zmq
from cryptography.hazmat.backends.openssl.backend import backend

from common.errors import TesseraError
from common.membership.identity import KeyPair
from common.process.libraries import require_libzmq, require_openssl
from common.vault.folder import VaultFolder


def test_the_libraries_that_these_tests_run_with_will_do() -> None:
    require_libzmq()
    require_openssl()


@pytest.mark.parametrize("version", [(4, 3, 3), (4, 2, 9), (3, 9, 9)])
def test_a_libzmq_that_is_too_old_is_refused_where_a_key_is_first_used(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: version)
    for use in (KeyPair.generate, lambda: KeyPair.from_secret(bytes(range(32)))):
        with pytest.raises(TesseraError, match=r"libzmq \d\.\d\.\d is too old, Tessera needs 4\.3\.4") as raised:
            use()
        assert "pip install --upgrade" in (raised.value.advice or "")
        assert raised.value.exit_code == 1


@pytest.mark.parametrize("version", [(4, 3, 4), (4, 3, 5), (4, 4, 0), (5, 0, 0)])
def test_libzmq_from_4_3_4_on_will_do(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]) -> None:
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: version)
    require_libzmq()


def test_a_libzmq_without_curve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "has", lambda capability: capability != "curve")
    with pytest.raises(TesseraError, match="without CURVE"):
        KeyPair.generate()


@pytest.mark.parametrize(("number", "text"), [(0x1010117F, "1.1"), (0x20000000, "2.0")])
@pytest.mark.parametrize("first", [lambda folder: VaultFolder(folder), lambda _: KeyPair.generate()])
def test_an_openssl_that_is_too_old_is_refused_where_a_key_is_first_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, text: str, first: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(type(backend), "openssl_version_number", lambda _self: number)
    with pytest.raises(TesseraError, match=f"OpenSSL {re.escape(text)} is too old, Tessera needs 3.0") as raised:
        first(tmp_path)
    assert "cryptography" in (raised.value.advice or "")


@pytest.mark.parametrize("number", [0x30000000, 0x30500040, 0x40000000])
def test_openssl_from_3_0_on_will_do(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(type(backend), "openssl_version_number", lambda _self: number)
    require_openssl()

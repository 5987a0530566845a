"""The oldest versions of libzmq and OpenSSL that are accepted.

    libzmq   4.3.4    with CURVE: earlier ones have known vulnerabilities, and without CURVE nothing is encrypted
    OpenSSL  3.0      as `cryptography` has it: earlier ones get no security fixes any more

The wheels that requirements.txt asks for bring newer ones. These checks, for other installations, take microseconds.
They are made before a program does anything with a key: a CURVE key pair (`identity`), the vault's folder
(`vault.folder`). So `--help` needs neither.
"""

from __future__ import annotations

import zmq
from cryptography.hazmat.backends.openssl.backend import backend

from common.errors import TesseraError

_LIBZMQ = (4, 3, 4)
_OPENSSL = (3, 0)


def require_libzmq() -> None:
    """TesseraError, with what to do, unless libzmq is new enough and was built with CURVE."""
    version = zmq.zmq_version_info()
    if version < _LIBZMQ:
        raise _too_old("libzmq", version, _LIBZMQ, "pyzmq")
    if not zmq.has("curve"):
        raise TesseraError(
            "this libzmq was built without CURVE, so it cannot encrypt",
            advice="take the wheel of pyzmq: python -m pip install --force-reinstall --only-binary :all: pyzmq",
        )


def require_openssl() -> None:
    """TesseraError, with what to do, unless OpenSSL is new enough."""
    number = backend.openssl_version_number()  # 0xMNN00PP0: major, minor, patch
    version = (number >> 28, number >> 20 & 0xFF)
    if version < _OPENSSL:
        raise _too_old("OpenSSL", version, _OPENSSL, "cryptography")


def _too_old(library: str, found: tuple[int, ...], least: tuple[int, ...], package: str) -> TesseraError:
    versions = [".".join(str(part) for part in version) for version in (found, least)]
    return TesseraError(
        f"{library} {versions[0]} is too old, Tessera needs {versions[1]} or newer",
        advice=f"python -m pip install --upgrade --only-binary :all: {package}",
    )

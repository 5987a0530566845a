"""Opens a vault beside other work.

Deriving a key from a passphrase takes 0.1 s and more by design, and releases the interpreter: the program imports
meanwhile what it needs for the rest.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future

from common.vault.folder import VaultFolder
from common.vault.keys import VaultKey


class Unlocking:
    """Unlocks a vault in a thread."""

    def __init__(self, vault: VaultFolder, passphrase: str) -> None:
        self._vault = vault
        self._outcome: Future[VaultKey] = Future()
        threading.Thread(target=self._unlock, args=(passphrase,), name="unlocking", daemon=True).start()

    def key(self) -> VaultKey:
        """The vault key, once it is there; raises what `VaultFolder.unlock` does."""
        return self._outcome.result()

    def _unlock(self, passphrase: str) -> None:
        try:
            self._outcome.set_result(self._vault.unlock(passphrase))
        except BaseException as error:  # raised where the key is asked for
            self._outcome.set_exception(error)

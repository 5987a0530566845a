"""Writes the vectors of the vault's formats: python -m tests.vectors.vault.generate

The formats are frozen: a vector may be added, none changed. A test holds the files to what this makes.
"""

from __future__ import annotations

import json

from tests.vectors.vault import FOLDER
from tests.vectors.vault.key_file_vectors import key_files
from tests.vectors.vault.key_vectors import keys
from tests.vectors.vault.mapping_vectors import mappings
from tests.vectors.vault.segment_vectors import segments


def contents() -> dict[str, str]:
    """File name → its text, for every file of vectors."""
    kinds = {"keys": keys(), "key_file": key_files(), "segments": segments(), "mapping": mappings()}
    return {f"{kind}.json": json.dumps(vectors, indent=1) + "\n" for kind, vectors in kinds.items()}


if __name__ == "__main__":
    for file_name, text in contents().items():
        (FOLDER / file_name).write_bytes(text.encode("ascii"))

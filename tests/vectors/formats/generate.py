"""Writes the vectors of what must be refused: python -m tests.vectors.formats.generate"""

from __future__ import annotations

import json

from tests.vectors.formats import FILE
from tests.vectors.formats.approver_rows import approver_rows
from tests.vectors.formats.commitment_rows import commitment_rows
from tests.vectors.formats.contact_rows import contact_rows
from tests.vectors.formats.index_rows import index_rows
from tests.vectors.formats.rows import Row
from tests.vectors.formats.stored_rows import stored_rows
from tests.vectors.formats.tree_rows import tree_rows
from tests.vectors.formats.vault_rows import vault_rows
from tests.vectors.formats.wire_rows import wire_rows


def rows() -> list[Row]:
    """All of them."""
    others = [*wire_rows(), *contact_rows(), *commitment_rows(), *tree_rows(), *index_rows(), *approver_rows()]
    return [*vault_rows(), *stored_rows(), *others]


def content() -> str:
    return json.dumps(rows(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_bytes(content().encode("ascii"))

"""Packed arrays arrive as the values that they were made of, NULLs and emptiness included."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from runtime.settings import Database
from storage import arrays
from storage.pool import open_pool

NOON = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        ("bools", "bool[]", [True, None, False]),
        ("int2s", "smallint[]", [-(2**15), None, 2**15 - 1]),
        ("int4s", "int[]", [-(2**31), None, 2**31 - 1]),
        ("int8s", "bigint[]", [-(2**63), None, 2**63 - 1]),
        (
            "timestamps",
            "timestamptz[]",
            [NOON, None, datetime(1970, 1, 1, tzinfo=UTC), NOON + timedelta(days=9999)],
        ),
        ("chars", '"char"[]', ["e", None, "o"]),
        ("texts", "text[]", ["", None, 'a "b" \\ {c},', "é☀"]),
        ("byteas", "bytea[]", [b"", None, b"\x00\xff" * 64]),
        ("uuids", "uuid[]", [UUID(int=0), None, UUID("0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6a")]),
        ("jsonbs", "jsonb[]", [{"a": [1, 2.5, True]}, None, {"é": '"'}]),
        ("int4s", "int[]", []),
        ("texts", "text[]", []),
    ],
)
@pytest.mark.parametrize("nulls", [True, False])
async def test_what_is_packed_is_what_the_database_reads(
    database: Database, column: str, kind: str, values: list[Any], *, nulls: bool
) -> None:
    """Where nothing is NULL all are packed at once; the same value twice, side by side, too."""
    values = values if nulls else [value for value in values for _ in range(2) if value is not None]
    packed = getattr(arrays, column)(values)

    async with open_pool(database) as pool, pool.transaction() as conn:
        cursor = await conn.execute(
            f"SELECT coalesce(array_agg(v ORDER BY n), '{{}}') AS found"  # noqa: S608 - types of this file
            f" FROM unnest(%s::{kind}) WITH ORDINALITY AS given (v, n)",
            [packed],
        )
        row = await cursor.fetchone()

    assert row is not None
    assert row["found"] == values
    assert len(packed) == len(values)


async def test_a_number_that_does_not_fit_is_refused_before_it_is_sent() -> None:

    with pytest.raises(struct.error):
        arrays.int2s([2**15])


@pytest.mark.parametrize("values", [["é"], ["ab", ""]])
async def test_what_is_not_one_plain_character_is_refused_before_it_is_sent(values: list[str]) -> None:
    with pytest.raises((ValueError, TypeError), match="character"):
        arrays.chars(values)

"""Every promise of docs/reliability.md, tried for a short while; `make test-faults` tries them for long."""

from __future__ import annotations

import pytest

from tests.nemesis.promises import PROMISES
from tests.nemesis.rows import CannotTry, Size

SEED = 20261122


@pytest.mark.timeout(240)
@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_holds_under_faults(promise: str) -> None:
    try:
        row = PROMISES[promise](SEED, Size.SHORT, print)
    except CannotTry as lacking:
        pytest.skip(str(lacking))

    assert row.promise == promise
    assert row.n > 0
    assert row.holds, row

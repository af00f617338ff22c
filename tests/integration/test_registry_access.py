"""Accounts, tokens and idempotency keys, against a real database."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from registry import accounts, audit, entities, idempotency, tokens
from registry.accounts import AccountDisabled, AccountExists, AccountNotFound, NotAnEmail
from registry.audit import Deed
from registry.entities import EntityNotFound
from registry.idempotency import Answer, IdempotencyKeyInUse, IdempotencyKeyReused, Request
from registry.permissions import Caller, Level, LevelTooLow, Scope, ScopeTooNarrow
from registry.tokens import (
    BadLifetime,
    BeyondAccount,
    Terms,
    TokenNotAccepted,
    TokenNotFound,
    TokenRevoked,
)
from registry.wording import BadText
from runtime.settings import Database
from storage.pool import Pool, open_pool
from storage.sql import Connection, value
from tests.builders import NOON, a_caller, a_deed
from tests.integration.test_gateway_ingest import lock_waits

DAY = timedelta(days=1)
BOB = "bob@example.com"


@pytest.fixture
async def kivu(conn: Connection) -> int:
    return (await entities.add(conn, "Kivu Energy", a_deed())).id


async def show(conn: Connection, secret: str, *, days: int = 0) -> Caller:
    return await tokens.caller(conn, secret, origin="api:127.0.0.1", now=NOON + days * DAY)


async def a_token(
    conn: Connection, level: Level = Level.ADMIN, scope: Scope = None, terms: Terms | None = None
) -> str:
    await accounts.add(conn, BOB, level, scope, a_deed())
    secret, _ = await tokens.issue(conn, BOB, terms or Terms(name="crm"), a_deed())
    return secret


# --- accounts


async def test_an_account_is_known_by_its_address_in_lower_case(conn: Connection) -> None:
    made = await accounts.add(conn, " Bob@Example.COM ".strip(), Level.ADMIN, None, a_deed())

    assert made.email == BOB
    assert await accounts.get(conn, "BOB@example.com") == made
    assert await accounts.page(conn) == [made]
    assert await accounts.page(conn, after=made.id) == []
    [entry] = await audit.of_object(conn, "account", made.id)
    assert entry.after == {"email": BOB, "level": "admin", "scope": None}


async def test_a_second_account_of_the_same_address_is_a_conflict(conn: Connection) -> None:
    await accounts.add(conn, BOB, Level.ADMIN, None, a_deed())

    with pytest.raises(AccountExists):
        await accounts.add(conn, "BOB@example.com", Level.OVERVIEW, None, a_deed())


@pytest.mark.parametrize(
    "address", ["", "bob", "bob@", "@example.com", "b ob@example.com", "b\0@example.com"]
)
async def test_what_is_no_address_is_told_so(conn: Connection, address: str) -> None:
    with pytest.raises(NotAnEmail) as refused:
        await accounts.add(conn, address, Level.ADMIN, None, a_deed())

    assert refused.value.facts["field"] == "email"


async def test_an_account_reaches_only_entities_that_exist_for_its_maker(conn: Connection, kivu: int) -> None:
    narrow = a_deed(by=a_caller(Level.SYSTEM, frozenset({kivu})))

    made = await accounts.add(conn, BOB, Level.ADMIN, frozenset({kivu}), narrow)

    assert made.scope == frozenset({kivu})
    for unseen in (1, 99):
        with pytest.raises(EntityNotFound):
            await accounts.add(conn, "eve@example.com", Level.ADMIN, frozenset({kivu, unseen}), narrow)
    with pytest.raises(ScopeTooNarrow):
        await accounts.add(conn, "eve@example.com", Level.ADMIN, None, narrow)
    by_admin = a_deed(by=a_caller(Level.ADMIN))
    with pytest.raises(LevelTooLow):
        await accounts.add(conn, "eve@example.com", Level.SYSTEM, None, by_admin)


async def test_rights_change_only_by_somebody_who_holds_the_old_and_the_new(
    conn: Connection, kivu: int
) -> None:
    await accounts.add(conn, BOB, Level.FACTORY, None, a_deed())

    changed = await accounts.change(conn, BOB, Level.TECHNICAL, frozenset({kivu}), a_deed())

    assert (changed.level, changed.scope) == (Level.TECHNICAL, frozenset({kivu}))
    assert await accounts.get(conn, BOB) == changed
    [_, entry] = await audit.of_object(conn, "account", changed.id)
    assert entry.before == {"email": BOB, "level": "factory", "scope": None}
    assert entry.after == {"email": BOB, "level": "technical", "scope": [kivu]}
    elsewhere = a_deed(by=a_caller(scope=frozenset({1})))
    with pytest.raises(ScopeTooNarrow):
        await accounts.change(conn, BOB, Level.OVERVIEW, frozenset({1}), elsewhere)
    lower = a_deed(by=a_caller(Level.OVERVIEW))
    with pytest.raises(LevelTooLow):
        await accounts.change(conn, BOB, Level.OVERVIEW, None, lower)
    with pytest.raises(LevelTooLow):
        await accounts.disable(conn, BOB, lower)


async def test_a_disabled_account_is_kept_and_disabled_once(conn: Connection) -> None:
    await accounts.add(conn, BOB, Level.ADMIN, None, a_deed())

    barred = await accounts.disable(conn, BOB, a_deed(reason="left"))

    assert barred.disabled_at == NOON
    assert await accounts.get(conn, BOB) == barred
    with pytest.raises(AccountDisabled):
        await accounts.disable(conn, BOB, a_deed())
    with pytest.raises(AccountDisabled):
        await tokens.issue(conn, BOB, Terms(name="crm"), a_deed())
    with pytest.raises(AccountNotFound):
        await accounts.disable(conn, "eve@example.com", a_deed())


# --- tokens


async def test_a_token_opens_the_door_for_its_account(conn: Connection) -> None:
    secret = await a_token(conn, Level.ADMIN)

    caller = await show(conn, secret)

    assert secret.startswith("hg_")
    assert (caller.email, caller.level, caller.scope) == (BOB, Level.ADMIN, None)
    assert caller.origin == "api:127.0.0.1"
    assert caller.account_id == (await accounts.get(conn, BOB)).id


async def test_a_token_is_kept_as_a_hash_only(conn: Connection) -> None:
    secret = await a_token(conn)

    stored = await value(
        conn, "SELECT string_agg(api_token::text || audit::text, ' ') FROM api_token CROSS JOIN audit"
    )

    assert secret not in stored
    assert secret.removeprefix("hg_") not in stored


@pytest.mark.parametrize("secret", ["", "hg_", "hg_unknown", "\0", "\udcff"])
async def test_an_unknown_token_is_not_accepted(conn: Connection, secret: str) -> None:
    await a_token(conn)

    with pytest.raises(TokenNotAccepted) as refused:
        await show(conn, secret)

    assert refused.value.facts == {"why": "unknown"}


async def test_a_token_ends_at_its_hour(conn: Connection) -> None:
    secret = await a_token(conn, terms=Terms(name="crm", days=2))

    await show(conn, secret, days=1)

    with pytest.raises(TokenNotAccepted) as refused:
        await show(conn, secret, days=2)
    assert refused.value.facts == {"why": "expired"}


async def test_a_revoked_token_is_not_accepted_and_revoked_once(conn: Connection) -> None:
    secret = await a_token(conn)
    [token] = await tokens.page(conn)

    await tokens.revoke(conn, token.id, a_deed(now=NOON + DAY))

    with pytest.raises(TokenNotAccepted) as refused:
        await show(conn, secret)
    assert refused.value.facts == {"why": "revoked"}
    [token] = await tokens.page(conn)
    assert token.revoked_at == NOON + DAY
    with pytest.raises(TokenRevoked):
        await tokens.revoke(conn, token.id, a_deed())
    with pytest.raises(TokenNotFound):
        await tokens.revoke(conn, token.id + 1, a_deed())


async def test_what_a_token_issues_while_its_line_is_revoked_ends_with_it_or_is_not_issued(
    pool: Pool,
) -> None:
    async with pool.transaction() as conn:
        thief = await show(conn, await a_token(conn))
    first, second = Deed(by=thief, now=NOON, reason=""), a_deed(now=NOON)
    assert thief.token_id is not None

    async def revoke() -> frozenset[int]:
        async with pool.transaction() as conn:
            return await tokens.revoke(conn, thief.token_id or 0, second, with_issued=True)

    async with pool.transaction() as conn:
        _, child = await tokens.issue(conn, BOB, Terms(name="child"), first)
        revoking = asyncio.create_task(revoke())
        while not await lock_waits(pool):
            await asyncio.sleep(0.01)

    assert await revoking == {thief.token_id, child.id}
    async with pool.transaction() as conn:
        with pytest.raises(TokenNotAccepted):
            await tokens.issue(conn, BOB, Terms(name="late"), first)


async def test_a_disabled_account_s_token_is_not_accepted(conn: Connection) -> None:
    secret = await a_token(conn)

    await accounts.disable(conn, BOB, a_deed())

    with pytest.raises(TokenNotAccepted) as refused:
        await show(conn, secret)
    assert refused.value.facts == {"why": "account_disabled"}


async def test_a_token_may_be_less_than_its_account_and_never_more(conn: Connection, kivu: int) -> None:
    scope = frozenset({1, kivu})
    secret = await a_token(
        conn, Level.ADMIN, scope, Terms(name="kiosk", level=Level.OVERVIEW, scope=frozenset({kivu}))
    )

    caller = await show(conn, secret)

    assert (caller.level, caller.scope) == (Level.OVERVIEW, frozenset({kivu}))
    with pytest.raises(BeyondAccount):
        await tokens.issue(conn, BOB, Terms(name="x", level=Level.FACTORY), a_deed())
    with pytest.raises(BeyondAccount):
        await tokens.issue(conn, BOB, Terms(name="x", scope=frozenset({99})), a_deed())
    with pytest.raises(LevelTooLow):
        await tokens.issue(conn, BOB, Terms(name="x"), a_deed(by=a_caller(Level.TECHNICAL)))


async def test_a_lowered_account_lowers_its_tokens_and_a_raised_one_does_not_raise_them(
    conn: Connection, kivu: int
) -> None:
    secret = await a_token(conn, Level.ADMIN, frozenset({1, kivu}))

    await accounts.change(conn, BOB, Level.TECHNICAL, frozenset({kivu}), a_deed())
    lowered = await show(conn, secret)
    await accounts.change(conn, BOB, Level.SYSTEM, None, a_deed())
    raised = await show(conn, secret)

    assert (lowered.level, lowered.scope) == (Level.TECHNICAL, frozenset({kivu}))
    assert (raised.level, raised.scope) == (Level.ADMIN, frozenset({1, kivu}))


async def test_a_token_whose_account_was_moved_elsewhere_sees_nothing(conn: Connection, kivu: int) -> None:
    secret = await a_token(conn, Level.ADMIN, frozenset({1}))

    await accounts.change(conn, BOB, Level.ADMIN, frozenset({kivu}), a_deed())

    caller = await show(conn, secret)
    assert caller.scope == frozenset()
    assert not caller.sees(1)
    assert not caller.sees(kivu)


@pytest.mark.parametrize("days", [0, -1, 367, 10**9])
async def test_a_token_lives_from_a_day_to_a_year(conn: Connection, days: int) -> None:
    with pytest.raises(BadLifetime):
        await a_token(conn, terms=Terms(name="crm", days=days))


async def test_a_token_has_a_name(conn: Connection) -> None:
    with pytest.raises(BadText):
        await a_token(conn, terms=Terms(name=" "))


async def test_use_is_noted_once_a_minute_and_never_waited_for(pool: Pool) -> None:
    async with pool.transaction() as conn:
        secret = await a_token(conn)

    async def last_used(conn: Connection) -> object:
        return await value(conn, "SELECT last_used_at FROM api_token")

    async with pool.transaction() as slow:
        await show(slow, secret)
        async with asyncio.timeout(2), pool.transaction() as other:
            await show(other, secret)
            assert await last_used(other) is None
    async with pool.transaction() as conn:
        await tokens.caller(conn, secret, origin="x", now=NOON + timedelta(seconds=59))
        assert await last_used(conn) == NOON
        await tokens.caller(conn, secret, origin="x", now=NOON + timedelta(seconds=61))
        assert await last_used(conn) == NOON + timedelta(seconds=61)


# --- idempotency


ASK = Request(key="k-1", route="POST /v1/entities", body=b'{"name":"Kivu"}')


@pytest.fixture
async def bob(pool: Pool) -> Caller:
    async with pool.transaction() as conn:
        account = await accounts.add(conn, BOB, Level.ADMIN, None, a_deed())
    return Caller(account_id=account.id, email=BOB, level=account.level, scope=None, origin="api:127.0.0.1")


async def test_the_same_request_gets_the_answer_of_the_first(pool: Pool, bob: Caller) -> None:
    async with pool.transaction() as conn:
        assert await idempotency.claim(conn, bob, ASK) is None
        await idempotency.keep(conn, bob, ASK, Answer(status=201, body={"id": 7}))

    async with pool.transaction() as conn:
        assert await idempotency.claim(conn, bob, ASK) == Answer(status=201, body={"id": 7})


@pytest.mark.parametrize(
    "other",
    [
        Request(key="k-1", route="POST /v1/entities", body=b'{"name":"Goma"}'),
        Request(key="k-1", route="POST /v1/tokens", body=b'{"name":"Kivu"}'),
    ],
)
async def test_a_key_is_good_for_one_request(pool: Pool, bob: Caller, other: Request) -> None:
    async with pool.transaction() as conn:
        await idempotency.claim(conn, bob, ASK)
        await idempotency.keep(conn, bob, ASK, Answer(status=201, body=None))

    with pytest.raises(IdempotencyKeyReused):
        async with pool.transaction() as conn:
            await idempotency.claim(conn, bob, other)


async def test_keys_of_different_accounts_are_different(pool: Pool, bob: Caller) -> None:
    async with pool.transaction() as conn:
        await idempotency.keep(conn, bob, ASK, Answer(status=201, body=None))
        eve = await accounts.add(conn, "eve@example.com", Level.ADMIN, None, a_deed())

        other = Caller(account_id=eve.id, email=eve.email, level=eve.level, scope=None, origin="x")
        assert await idempotency.claim(conn, other, ASK) is None


async def test_a_request_that_failed_leaves_its_key_free(pool: Pool, bob: Caller) -> None:
    async def fail() -> None:
        async with pool.transaction() as conn:
            await idempotency.claim(conn, bob, ASK)
            await idempotency.keep(conn, bob, ASK, Answer(status=201, body=None))
            raise LookupError

    with pytest.raises(LookupError):
        await fail()

    async with pool.transaction() as conn:
        assert await idempotency.claim(conn, bob, ASK) is None


async def test_of_many_calls_at_once_one_works_and_the_others_get_its_answer(pool: Pool, bob: Caller) -> None:
    worked = 0

    async def call() -> Answer:
        nonlocal worked
        async with pool.transaction() as conn:
            kept = await idempotency.claim(conn, bob, ASK)
            if kept is not None:
                return kept
            worked += 1
            answer = Answer(status=201, body={"worker": worked})
            await idempotency.keep(conn, bob, ASK, answer)
            return answer

    answers = await asyncio.gather(*(call() for _ in range(6)))

    assert worked == 1
    assert answers == [Answer(status=201, body={"worker": 1})] * 6


async def test_a_call_that_waits_too_long_for_the_first_is_told(
    pool: Pool, bob: Caller, database: Database
) -> None:
    impatient = database.model_copy(update={"database_lock_timeout_s": 0.05})

    async def second_call() -> None:
        async with open_pool(impatient) as other, other.transaction() as conn:
            await idempotency.claim(conn, bob, ASK)

    async with pool.transaction() as conn:
        await idempotency.claim(conn, bob, ASK)

        with pytest.raises(IdempotencyKeyInUse):
            await second_call()


@pytest.mark.parametrize("key", ["", " ", "k" * 201, "k\0"])
async def test_a_key_is_short_and_printable(conn: Connection, key: str) -> None:
    with pytest.raises(BadText):
        await idempotency.claim(conn, a_caller(), Request(key=key, route="x", body=b""))

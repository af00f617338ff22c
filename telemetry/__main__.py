"""`python -m telemetry`: look at what could not be taken from units, and decide about it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import typer

from protocol import reasons
from protocol.identity import Imei
from registry.audit import Deed
from registry.entities import BIGINT_MAX
from registry.terminal import AsJson, Record, tell, tell_all, transact
from runtime.settings import Keeping, read
from storage.sql import Connection
from telemetry import autopsy, dead_letters, fates
from telemetry.autopsy import Autopsy
from telemetry.dead_letters import DeadLetter, Filter, State
from telemetry.fates import Decided, NothingChosen

PREVIEW = 2_000
"""Characters of a body that people are shown; programs get all of it."""

app = typer.Typer(add_completion=False, no_args_is_help=True)
letters = typer.Typer(no_args_is_help=True, help="What could not be taken from units.")
app.add_typer(letters, name="dead-letters")


@app.callback()
def main() -> None:
    """Look at what units said."""


Number = Annotated[int, typer.Argument(metavar="ID", min=1, max=BIGINT_MAX)]
MaybeNumber = Annotated[
    int | None, typer.Argument(metavar="[ID]", min=1, max=BIGINT_MAX, help="One; otherwise say which.")
]
OfReason = Annotated[reasons.Reason | None, typer.Option("--reason", help="Those with this reason.")]
OfImei = Annotated[str | None, typer.Option("--imei", help="Those of this IMEI.")]
After = Annotated[datetime | None, typer.Option(help="Those that came first then or later (UTC).")]
Before = Annotated[datetime | None, typer.Option(help="Those that came first before (UTC).")]
Everything = Annotated[bool, typer.Option("--all", help="Every open one.")]
Why = Annotated[str, typer.Option(help="Why; the audit keeps it.")]


class Meant(NamedTuple):
    """Which dead letters the words of a command mean."""

    number: int | None
    narrowed: tuple[reasons.Reason | None, str | None, datetime | None, datetime | None]
    everything: bool


@letters.command("list")
def list_letters(
    *,
    state: Annotated[State | None, typer.Option(help="Those that stand so.")] = None,
    reason: OfReason = None,
    imei: OfImei = None,
    after: After = None,
    before: Before = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest first."""

    async def work(conn: Connection, _deed: Deed) -> list[DeadLetter]:
        which = _filter(reason, imei, after, before)
        return await dead_letters.page(conn, limit=limit, state=state, which=which)

    found = transact(work, as_json=as_json)
    tell_all([_told(_line(letter), as_json=as_json) for letter in found], as_json=as_json)


@letters.command()
def show(number: Number, *, as_json: AsJson = False) -> None:
    """Show one as far as it can be read, and whether it could be today."""
    found = transact(lambda conn, deed: autopsy.perform(conn, number, _oldest(deed)), as_json=as_json)
    tell(_told(_opened(found), as_json=as_json), as_json=as_json)


@letters.command()
def replay(
    number: MaybeNumber = None,
    *,
    why: Why,
    reason: OfReason = None,
    imei: OfImei = None,
    after: After = None,
    before: Before = None,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Mark one, or the open ones that fit, for a gateway to take in once more."""
    _decide(
        lambda conn, number, deed: fates.mark(conn, number, deed, _oldest(deed)),
        lambda conn, which, deed: fates.mark_all(conn, which, deed, _oldest(deed)),
        Meant(number, (reason, imei, after, before), everything),
        why,
        as_json=as_json,
    )


@letters.command()
def discard(
    number: MaybeNumber = None,
    *,
    why: Why,
    reason: OfReason = None,
    imei: OfImei = None,
    after: After = None,
    before: Before = None,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Close one, or the open ones that fit; what comes again is open again."""
    meant = Meant(number, (reason, imei, after, before), everything)
    _decide(fates.discard, fates.discard_all, meant, why, as_json=as_json)


@letters.command()
def overflow(*, as_json: AsJson = False) -> None:
    """Tell what is only counted, by IMEI and reason."""

    async def work(conn: Connection, _deed: Deed) -> list[dead_letters.Overflow]:
        found: list[dead_letters.Overflow] = []
        while more := await dead_letters.overflow(
            conn, limit=1_000, after=(found[-1].imei, found[-1].reason) if found else ("", "")
        ):
            found += more
        return found

    tell_all([one._asdict() for one in transact(work, as_json=as_json)], as_json=as_json)


def _decide(
    one: Callable[[Connection, int, Deed], Awaitable[DeadLetter]],
    many: Callable[[Connection, Filter, Deed], Awaitable[Decided]],
    meant: Meant,
    why: str,
    *,
    as_json: bool,
) -> None:
    """Decide about one or about many, whichever is meant, and tell how it stands now."""

    async def work(conn: Connection, deed: Deed) -> Record:
        which = _filter(*meant.narrowed)
        if meant.number is None:
            return asdict(await many(conn, fates.chosen(which, everything=meant.everything), deed))
        if which.narrows or meant.everything:
            raise NothingChosen("Give the ID of one, or say which are meant; not both.", id=meant.number)
        return _line(await one(conn, meant.number, deed))

    tell(_told(transact(work, as_json=as_json, reason=why), as_json=as_json), as_json=as_json)


def _filter(
    reason: reasons.Reason | None, imei: str | None, after: datetime | None, before: datetime | None
) -> Filter:
    return Filter(
        reason=reason,
        imei=None if imei is None else Imei(imei),
        after=after and after.replace(tzinfo=UTC),
        before=before and before.replace(tzinfo=UTC),
    )


def _oldest(deed: Deed) -> datetime:
    return fates.oldest(read(Keeping), deed.now)


def _line(letter: DeadLetter) -> dict[str, object]:
    """Tell of a dead letter what fits on a line; what came of a replay stands behind its state."""
    fate = letter.fate
    came_of_it = f" ({fate.verdict})" if fate and fate.verdict and letter.state is State.REPLAYED else ""
    return {
        "id": letter.id,
        "state": f"{letter.state}{came_of_it}",
        "reason": str(letter.reason),
        "imei": letter.imei,
        "path": letter.path,
        "times": letter.times,
        "first_at": letter.first_at,
        "last_at": letter.last_at,
        "detail": letter.detail,
    }


def _opened(found: Autopsy) -> dict[str, object]:
    """Tell everything that is known of one."""
    letter, seen = found.letter, found.inspection
    return {
        **_line(letter),
        "state": str(letter.state),
        "topic": letter.topic,
        "gateway": letter.gateway,
        "size": len(letter.body),
        "fate": None if letter.fate is None else asdict(letter.fate),
        "document": seen.document,
        "complete": seen.complete,
        "findings": [asdict(finding) for finding in seen.findings],
        "refusal": None if found.refusal is None else asdict(found.refusal),
        "obstacle": found.obstacle,
        "text": found.text,
        "hex": letter.body.hex() if found.text is None else None,
    }


def _told(record: Record, *, as_json: bool) -> Record:
    """Leave a record to programs as it is, and write it for people."""
    return record if as_json else {name: _readable(value) for name, value in record.items()}


def _readable(value: Any) -> object:
    """Write out what is nested, as much as one reads; nothing that a unit sent reaches the terminal raw."""
    if isinstance(value, dict | list):
        value = json.dumps(value, default=str, ensure_ascii=True)
    if isinstance(value, str):
        value = "".join(one if one.isprintable() else repr(one)[1:-1] for one in value)
        return value if len(value) <= PREVIEW else f"{value[:PREVIEW]}… ({len(value)} characters)"
    return value


if __name__ == "__main__":
    app()

"""Commands: one is ordered, and followed until the unit itself has confirmed it (S1.17, S1.18)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import JSONResponse

from api import forecasts
from api.auth import CanCommand, CanDisable, CanRead
from api.connection import Transaction
from api.forecasts import ForecastView
from api.once import OnlyOnce
from api.paging import Page, PageQuery, Place, behind, page
from api.problems import documented
from api.routes.units import UnitName
from api.shapes import Reason, Shape, Word
from commands import ledger, policy
from commands.docket import Command, Origin
from commands.ledger import CommandNotFound, Event
from commands.policy import Wish
from commands.states import State
from protocol.identity import Imei, SerialNumber
from protocol.messages import CommandKind, Mode
from registry import units
from registry.audit import Deed
from registry.permissions import Caller
from registry.units import Unit
from runtime import clock
from runtime.settings import Commands
from storage.sql import Connection

router = APIRouter(prefix="/v1", tags=["commands"])


async def settings_of(request: Request) -> Commands:
    """Give the deadlines of commands."""
    settings: Commands = request.app.state.commands
    return settings


Deadlines = Annotated[Commands, Depends(settings_of)]


class BeforeCommand(Place):
    """The last command of a page."""

    id: UUID


class NewCommand(Shape):
    """What is wanted of a unit, and why."""

    kind: CommandKind
    mode: Mode | None = None
    after_s: Annotated[
        int, Field(strict=True, description="0 = off now; from 86400 = off after so long without contact.")
    ] = 0
    reason: Reason

    @property
    def wish(self) -> Wish:
        """The wish itself; `WishMakesNoSense` when the fields do not fit each other."""
        return Wish(kind=self.kind, mode=self.mode, after_s=self.after_s)


class CommandView(Shape):
    """One command; `attempt` counts the sendings, `refusal` is the unit's own reason."""

    id: UUID
    imei: Imei
    serial_number: SerialNumber
    kind: CommandKind
    mode: Mode | None
    after_s: int
    epoch: int
    state: State
    reason: str
    ordered_by: str
    ordered_at: datetime
    expires_at: datetime
    attempt: int
    attempted_at: datetime | None
    acknowledged_at: datetime | None
    finished_at: datetime | None
    refusal: str | None
    origin: Origin
    plan_id: UUID | None
    approved_by: str | None
    approved_at: datetime | None

    @classmethod
    def of(cls, command: Command, unit: Unit, **further: object) -> Self:
        """Show a command of a unit."""
        names = cls.model_fields.keys() - {"imei", "serial_number", *further}
        told = {name: getattr(command, name) for name in names}
        return cls.model_validate(told | further | {"imei": unit.imei, "serial_number": unit.serial_number})


class EventView(Shape):
    """One thing that happened to a command, with its evidence."""

    at: datetime
    event: str
    from_state: State | None
    to_state: State
    attempt: int
    actor: str
    evidence: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> Self:
        """Show an event."""
        return cls.model_validate({name: getattr(event, name) for name in cls.model_fields})


class OrderedView(CommandView):
    """What an order came to; not `new` when the same wish was under way, or held, already."""

    new: bool


class CommandStory(CommandView):
    """One command and everything that happened to it, oldest first; a forecast while it is under way."""

    forecast: ForecastView | None
    events: list[EventView]


@router.post(
    "/units/{unit}/commands",
    status_code=202,
    response_model=OrderedView,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503) | {200: {"model": OrderedView}},
)
async def order_command(
    unit: UnitName,
    wanted: NewCommand,
    caller: CanCommand,
    conn: Transaction,
    once: OnlyOnce,
    settings: Deadlines,
) -> JSONResponse:
    """Queue a command; it leaves when the unit next listens. An offline-disable needs the admin level.

    200 instead of 202 gives the command that carries out the same wish already: under way, or by which
    it holds. Where two units are suspected under one IMEI, an offline-disable waits for approval.
    """
    wish = wanted.wish
    found = await units.by_identity(conn, unit, scope=caller.scope)
    caller.require(policy.needed_level(wish))

    async def work() -> OrderedView:
        deed = Deed(by=caller, now=clock.now(), reason=wanted.reason)
        ordered = await ledger.order(conn, found, wish, deed, settings)
        return OrderedView.of(ordered.command, found, new=ordered.new)

    return await once.answer(lambda made: 202 if made.new else 200, work, under="/v1/commands")


@router.get("/units/{unit}/commands", responses=documented(401, 404, 422, 503))
async def list_commands(
    unit: UnitName, query: Annotated[PageQuery, Query()], caller: CanRead, conn: Transaction
) -> Page[CommandView]:
    """List a unit's commands, newest first."""
    last = behind(BeforeCommand, query.cursor)
    found = await units.by_identity(conn, unit, scope=caller.scope)
    ordered = await ledger.of_unit(conn, found.id, limit=query.limit + 1, before=last.id if last else None)
    shown = [CommandView.of(command, found) for command in ordered]
    return page(
        shown,
        query.limit,
        lambda command: BeforeCommand(id=command.id),
    )


@router.get("/commands/{command_id}", responses=documented(401, 404, 422, 503))
async def show_command(command_id: UUID, caller: CanRead, conn: Transaction) -> CommandStory:
    """Show one command with its events."""
    command, unit = await _within(conn, command_id, caller)
    events = [EventView.of(event) for event in await ledger.events(conn, command_id)]
    forecast = await forecasts.of_command(conn, command, unit)
    return CommandStory.of(command, unit, forecast=forecast, events=events)


@router.post(
    "/commands/{command_id}/cancel",
    response_model=CommandView,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def cancel_command(
    command_id: UUID, word: Word, caller: CanCommand, conn: Transaction, once: OnlyOnce
) -> JSONResponse:
    """Take back a command that is under way; what was sent is overruled at the unit's next contact."""
    _, unit = await _within(conn, command_id, caller)

    async def work() -> CommandView:
        deed = Deed(by=caller, now=clock.now(), reason=word.reason)
        return CommandView.of(await ledger.cancel(conn, command_id, deed), unit)

    return await once.answer(200, work)


@router.post(
    "/commands/{command_id}/approve",
    response_model=CommandView,
    responses=documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
)
async def approve_command(
    command_id: UUID, word: Word, caller: CanDisable, conn: Transaction, once: OnlyOnce, settings: Deadlines
) -> JSONResponse:
    """Let a command go that waits for a second person. Admin level, and not who ordered it."""
    _, unit = await _within(conn, command_id, caller)

    async def work() -> CommandView:
        deed = Deed(by=caller, now=clock.now(), reason=word.reason)
        return CommandView.of(await ledger.approve(conn, unit, command_id, deed, settings), unit)

    return await once.answer(200, work)


async def _within(conn: Connection, command_id: UUID, caller: Caller) -> tuple[Command, Unit]:
    """Give a command and its unit; one outside the caller's scope is not there."""
    command = await ledger.by_id(conn, command_id)
    unit = await units.by_id(conn, command.unit_id)
    if unit is None or not caller.sees(unit.entity_id):
        raise CommandNotFound("There is no command with this id.", id=str(command_id))
    return command, unit

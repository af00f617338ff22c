"""What units and backend say to each other: the fields and ranges of the wire contract.

Unknown fields are kept (`extra`), and every model is strict: `true`, `"7"` and `1.0` are no integers.
"""

from __future__ import annotations

from enum import StrEnum
from operator import not_
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from protocol.flaws import flaw
from protocol.readings import Readings

_UINT32 = 2**32 - 1
_LAST_SECOND = 4_102_444_800  # 2100-01-01: a unit's clock beyond it is absurd
MAX_BACKLOG = 500  # entries


class Mode(StrEnum):
    """What a unit was told to be; not the state of its output."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    OFFLINE_DISABLED = "offline_disabled"


class CommandKind(StrEnum):
    """What a command is about; further kinds may come."""

    SET_MODE = "set_mode"
    PING = "ping"


class AckResult(StrEnum):
    """What a unit did with a command."""

    APPLIED = "applied"
    REFUSED = "refused"


class PresenceState(StrEnum):
    """Whether a unit says that it is connected, or its will says that it is not."""

    ONLINE = "online"
    OFFLINE = "offline"


def _sound(value: Any) -> Any:
    if reason := flaw(value):
        raise PydanticCustomError(reason, "The value is not one that the wire allows")
    return value


def _zero_if_null(value: Any) -> Any:
    return 0 if value is None else value


def _bounded(entries: Any) -> Any:
    if entries is None:
        return ()
    # Counted before the entries are checked: faulty ones count too.
    if isinstance(entries, list | tuple) and len(entries) > MAX_BACKLOG:
        raise PydanticCustomError("too_long", "A backlog has at most 500 entries")
    return entries


def _canonical(value: Any) -> Any:
    """Take the text of a UUID in its one canonical form; anything else is left to be refused."""
    if isinstance(value, str):
        try:
            uuid = UUID(value)
        except ValueError:
            return value
        return uuid if str(uuid) == value else value
    return value


def _version_7(value: UUID) -> UUID:
    if value.version != 7:  # noqa: PLR2004  the number is the version's name
        raise PydanticCustomError("uuid_version", "A command is named by a UUID of version 7")
    return value


def _absent(value: Any) -> bool:
    return value is None


T = TypeVar("T")
Maybe = Annotated[T | None, Field(exclude_if=_absent)]
Lax = Annotated[T, Field(strict=False)]  # an enum given by its value, as JSON gives it
_KNOWN_FIRST = Field(union_mode="left_to_right")
Version = Annotated[int, Field(ge=1, le=1)]
Uint32 = Annotated[int, Field(ge=0, le=_UINT32)]
Ordinal = Annotated[int, Field(ge=1, le=_UINT32)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Seconds = Annotated[int, Field(ge=0, le=2**63 - 1)]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Word = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
Life = Annotated[Uint32, BeforeValidator(_zero_if_null), Field(exclude_if=not_)]
CommandId = Annotated[UUID, BeforeValidator(_canonical)]


class Message(BaseModel):
    """What every object on the wire has in common."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[Annotated[str, AfterValidator(_sound)], Annotated[Any, AfterValidator(_sound)]]

    @property
    def extra(self) -> dict[str, Any]:
        """The fields that this version does not know, as they came."""
        return self.__pydantic_extra__ or {}


class Report(Message):
    """What a unit says of one moment, live or from its backlog."""

    seq: Ordinal
    ts: Maybe[Int64] = None
    mode: Lax[Mode]
    epoch: Uint32
    output: Maybe[bool] = None
    readings: Readings = Field(default_factory=dict, exclude_if=not_)

    @property
    def ts_absurd(self) -> bool:
        """Whether the unit's clock shows a time that no unit lives in."""
        return self.ts is not None and not 0 <= self.ts <= _LAST_SECOND


class BacklogEntry(Report):
    """An earlier heartbeat that could not be sent; without `boot` it is of the heartbeat's own."""

    boot: Maybe[Uint32] = None


class Heartbeat(Report):
    """What a unit says regularly; (imei, life, boot, seq) names it for ever."""

    v: Version = 1
    life: Life = 0
    boot: Uint32
    next_s: Maybe[Uint32] = None
    fw: Maybe[Annotated[Text, Field(max_length=32)]] = None
    backlog: Annotated[
        tuple[BacklogEntry, ...], Field(strict=False, exclude_if=not_), BeforeValidator(_bounded)
    ] = ()


class Presence(Message):
    """A unit's word that it is connected, or its will's that it is not."""

    v: Version = 1
    state: Lax[PresenceState]
    life: Life = 0
    boot: Uint32
    conn: Maybe[Uint32] = None


class Ack(Message):
    """A unit's answer to a command; `epoch` and `mode` are its own after handling."""

    v: Version = 1
    command_id: CommandId
    attempt: Maybe[Ordinal] = None
    epoch: Uint32
    result: Lax[AckResult]
    reason: Maybe[Text] = None
    mode: Lax[Mode]
    life: Life = 0
    boot: Maybe[Uint32] = None
    ts: Maybe[Int64] = None

    @model_validator(mode="after")
    def _refusal_has_a_reason(self) -> Self:
        if self.result is AckResult.REFUSED and self.reason is None:
            raise PydanticCustomError("reason_missing", "A refusal gives its reason")
        return self


class Command(Message):
    """What the backend tells a unit. Kinds and modes to come are read, so that they can be refused."""

    v: Version = 1
    id: Annotated[CommandId, AfterValidator(_version_7)]
    kind: Annotated[Lax[CommandKind] | Word, _KNOWN_FIRST]
    mode: Maybe[Annotated[Lax[Mode] | Word, _KNOWN_FIRST]] = None
    after_s: Maybe[Uint32] = None
    epoch: Uint32 = 0
    attempt: Ordinal
    args: Maybe[Text] = None
    issued_at: Seconds
    expires_at: Seconds
    mac: Maybe[Text] = None

    @model_validator(mode="after")
    def _mode_commands_have_mode_and_epoch(self) -> Self:
        if self.kind == CommandKind.SET_MODE and (self.mode is None or self.epoch == 0):
            raise PydanticCustomError("mode_command", "A set_mode has a mode and an epoch from 1 up")
        if self.kind == CommandKind.PING and self.epoch != 0:
            raise PydanticCustomError("ping_epoch", "A ping has the epoch 0")
        return self

"""Every reason why a message, or a piece of one, is kept as a dead letter, and the two forms that takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from runtime.errors import Invalid


class Reason(StrEnum):
    """Why something is a dead letter; `meaning` is its line in the documentation."""

    meaning: str

    def __new__(cls, name: str, meaning: str = "") -> Self:
        """Make a member of its name on the wire and its meaning."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member

    TOO_LARGE = "too_large", "The body is longer than 64 KiB."
    UNSUPPORTED_ENCODING = "unsupported_encoding", "The body does not start with `{`."
    NOT_UTF8 = "not_utf8", "The body is not valid UTF-8."
    NOT_JSON = "not_json", "The body is not one JSON object, or is nested too deeply."
    DUPLICATE_KEY = "duplicate_key", "An object has the same key twice."
    NUL_CHARACTER = "nul_character", "A string or a key contains the character U+0000."
    NOT_FINITE = "not_finite", "A number is NaN, infinite, or too large to be represented."
    INVALID_FIELD = "invalid_field", "A field of the message is missing, of the wrong type or out of range."
    INVALID_READING = "invalid_reading", "A reading has a wrong name or a wrong type; only it is lost."
    INVALID_BACKLOG_ENTRY = "invalid_backlog_entry", "A backlog entry has a wrong field; only it is lost."
    BAD_TOPIC = "bad_topic", "The topic is not one on which units speak."
    BAD_IMEI = "bad_imei", "The topic does not name a well-formed IMEI."
    WRONG_PARTITION = "wrong_partition", "The partition in the topic is not the last two digits of the IMEI."
    MALFORMED_PACKET = "malformed_packet", "The MQTT packet could not be read."
    UNEXPECTED_RETAINED = "unexpected_retained", "A message other than presence was retained by the broker."
    UNKNOWN_UNIT = "unknown_unit", "No unit with this IMEI is registered."
    TOO_OLD = "too_old", "The heartbeat is of a boot too far behind the newest to be counted singly."
    COUNTER_JUMP = "counter_jump", "The boot or sequence number leaps further than a unit can count."
    TOO_MANY_LIVES = "too_many_lives", "The unit has drawn more lives than are told apart."
    UNKNOWN_COMMAND = "unknown_command", "The ack is for a command that does not exist."
    FOREIGN_COMMAND = "foreign_command", "The ack is for a command of another unit."
    REFUSED_BY_DATABASE = "refused_by_database", "The database does not accept what the message says."


class Unreadable(Invalid):
    """The message cannot be read."""

    def __init__(self, message: str, /, *, reason: Reason, path: str = "", imei: str | None = None) -> None:
        super().__init__(message, reason=str(reason), path=path)
        self.reason = reason
        self.path = path  # JSON pointer of the field at fault; "" is the whole message
        self.imei = imei  # None when the topic did not give one


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A piece of a message that was lost, while the rest was read."""

    reason: Reason
    path: str  # JSON pointer of the piece in the message as it was sent
    detail: str
    piece: Any  # what was lost, in a form that JSON and the database can carry

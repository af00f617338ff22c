"""Every setting of every process: name, default, unit and meaning.

Values come from the environment (`HELIOGRAPH_…`) or, for secrets above all, from a file of the
same lower-case name in the folder that `HELIOGRAPH_SECRETS_DIR` names. Settings are built in a
room's `__main__` only and passed down; `python -m runtime settings` prints them all.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import from_json
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from runtime import addresses
from runtime.errors import Invalid

PREFIX = "HELIOGRAPH_"
SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
MASTER_SECRET_BYTES = 32
CENTURY_DAYS = 36_500
UINT32 = 2**32 - 1
GENERATIONS = 2**31 - 1


class BadSetting(Invalid):
    """A setting is missing or not valid."""


class Settings(BaseSettings):
    """One concern's settings; frozen, read from the environment and the secrets folder."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        secrets_dir = os.environ.get(SECRETS_DIR)
        if secrets_dir and not Path(secrets_dir).is_dir():
            raise BadSetting(f"{SECRETS_DIR} names a folder that is not there.", given=secrets_dir)
        super().__init__(_secrets_dir=secrets_dir, **values)


def _json(given: Any) -> Any:
    """Read JSON here, where what is none is refused like every other value."""
    try:
        return from_json(given) if isinstance(given, str) else given
    except ValueError:
        raise ValueError("this is not JSON") from None


def _master_secret(secret: SecretStr) -> SecretStr:
    try:
        raw = bytes.fromhex(secret.get_secret_value())
    except ValueError:
        raise ValueError("a master secret is written in hexadecimal digits") from None
    if len(raw) != MASTER_SECRET_BYTES:
        raise ValueError(f"a master secret has {MASTER_SECRET_BYTES} bytes")
    return secret


DatabaseUrl = Annotated[SecretStr, AfterValidator(addresses.database)]
MasterSecret = Annotated[SecretStr, AfterValidator(_master_secret)]
Generation = Annotated[int, Field(ge=1, le=GENERATIONS)]


class Database(Settings):
    """PostgreSQL, with or without TimescaleDB."""

    database_url: DatabaseUrl = Field(
        description="where the application's role connects: postgresql://heliograph_app:…@host/db"
    )
    database_owner_url: DatabaseUrl | None = Field(
        default=None,
        description="where migrations and packing connect, as the schema's owner; absent = DATABASE_URL",
    )
    database_pool: int = Field(default=8, ge=1, le=200, description="connections at most, per process")
    database_deadline_s: float = Field(
        default=15.0,
        gt=0,
        le=3600,
        description="seconds that one transaction may take before its connection is cut",
    )
    database_lock_timeout_s: float = Field(
        default=4.0, gt=0, le=3600, description="seconds to wait for a lock"
    )

    @property
    def url(self) -> str:
        """Where the application's role connects, in clear."""
        return self.database_url.get_secret_value()

    @property
    def owner_url(self) -> str:
        """Where migrations and packing connect, in clear."""
        return (self.database_owner_url or self.database_url).get_secret_value()


class Broker(Settings):
    """The MQTT broker, and how the backend logs in there."""

    broker_url: Annotated[str, AfterValidator(addresses.broker)] = Field(
        default="mqtt://127.0.0.1:1883", description="mqtt://host:port (loopback only) or mqtts://host:port"
    )
    broker_ca_file: FilePath | None = Field(
        default=None, description="certificate authority that is trusted (TLS)"
    )

    @property
    def host(self) -> str:
        """Name or address of the broker."""
        return urlsplit(self.broker_url).hostname or ""

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.broker_url).scheme == "mqtts"

    @property
    def port(self) -> int:
        """TCP port of the broker; 1883, or 8883 with TLS, when not given."""
        return urlsplit(self.broker_url).port or (8883 if self.tls else 1883)

    @property
    def trust(self) -> ssl.SSLContext | None:
        """Whom the broker must prove to be, with TLS; `BadSetting` for a file without certificates."""
        try:
            return ssl.create_default_context(cafile=self.broker_ca_file) if self.tls else None
        except OSError as error:
            raise BadSetting(
                f"{PREFIX}BROKER_CA_FILE: {self.broker_ca_file} is not read as certificates (PEM).",
                why=str(error),
            ) from None


class Gateway(Settings):
    """Uplink, ingest and downlink of one gateway."""

    broker_uplink_password: SecretStr = Field(description="password of the gateway's broker login")
    broker_downlink_password: SecretStr = Field(description="password of the downlink's broker login")
    gateway_window: int = Field(
        default=20_000,
        ge=1,
        le=65_535,
        description="unacknowledged messages held at most, each KiB counting as one; then reading stops",
    )
    gateway_batch_rows: int = Field(
        default=5_000,
        ge=1,
        description="heartbeats and losses in one transaction, about; each KiB counts as one",
    )
    gateway_batch_ms: int = Field(
        default=20,
        ge=0,
        le=200,
        description="milliseconds that a message waits for others to share its transaction",
    )
    gateway_keepalive_s: int = Field(
        default=6,
        ge=5,
        le=1200,
        description="MQTT keepalive in seconds; a dead broker is noticed after two of them",
    )
    gateway_hang_s: float = Field(
        default=10.0,
        ge=1,
        le=3600,
        description="seconds that the event loop may hang before the process ends itself",
    )
    gateway_session_expiry_s: int = Field(
        default=7 * 86_400,
        ge=60,
        le=UINT32,
        description="seconds that the broker keeps messages for a gateway that is away",
    )


class Keeping(Settings):
    """How long heartbeats and dead letters are kept, and in which form."""

    keep_heartbeats_days: int = Field(
        default=400, ge=60, le=CENTURY_DAYS, description="days that every single heartbeat is kept"
    )
    keep_hours_days: int = Field(
        default=3653,
        ge=60,
        le=CENTURY_DAYS,
        description="days that the sums of hours are kept; at least as long as heartbeats",
    )
    compress_after_days: int = Field(
        default=53,
        ge=53,
        le=CENTURY_DAYS,
        description="days after which TimescaleDB compresses heartbeats: 45 of late ones and a chunk of 7",
    )
    keep_dead_letters_days: int = Field(
        default=90,
        ge=1,
        le=CENTURY_DAYS,
        description="days that a dead letter is kept after it was replayed or discarded",
    )
    keep_open_dead_letters_days: int = Field(
        default=400,
        ge=1,
        le=CENTURY_DAYS,
        description="days that an open dead letter is kept after it last came; then its number",
    )

    @field_validator("keep_hours_days")
    @classmethod
    def _outlive(cls, hours: int, known: ValidationInfo) -> int:
        """Let a long period always be answered from hours."""
        if hours < known.data.get("keep_heartbeats_days", hours):
            raise ValueError("hours outlive heartbeats: give at least KEEP_HEARTBEATS_DAYS")
        return hours


class Commands(Settings):
    """Deadlines of a command's way; design 4."""

    command_lease_s: float = Field(default=30.0, gt=0, description="seconds a dispatcher may hold a command")
    command_ack_s: float = Field(default=60.0, gt=0, description="seconds to wait for a unit's ack")
    command_attempts: int = Field(default=10, ge=1, description="attempts before waiting for contact only")
    command_pause_s: float = Field(default=20.0, ge=0, description="seconds between two attempts at least")
    command_pause_max_s: float = Field(
        default=900.0, gt=0, description="seconds between two attempts at most"
    )
    command_contact_s: float = Field(
        default=8.0, gt=0, description="seconds after a contact in which a unit is expected to listen"
    )
    command_rate: float = Field(
        default=5_000.0,
        gt=0,
        description="commands per second that a gateway sends at most, also when very many are due at once",
    )
    command_evidence_intervals: float = Field(
        default=2.0, gt=0, description="expected intervals to wait for the heartbeat that proves an ack"
    )
    command_life_disable_s: int = Field(
        default=72 * 3600, gt=0, description="life in seconds of an undelivered offline-disable"
    )
    command_life_enable_s: int = Field(
        default=30 * 86_400, gt=0, description="life in seconds of an undelivered enable"
    )
    command_life_ping_s: int = Field(default=3600, gt=0, description="life in seconds of an undelivered ping")
    command_drift_sendings: int = Field(
        default=3, ge=0, description="times that a wish is sent again for one drift; then a person is needed"
    )
    command_drift_memory_s: float = Field(
        default=86_400.0, ge=0, description="seconds of accord after which a contradiction is a new one"
    )


class Plans(Settings):
    """How many units a plan may tell something, and who must agree."""

    plan_units_max: int = Field(default=1_000_000, ge=1, description="lines of a plan's selection at most")
    plan_life_s: int = Field(default=3600, gt=0, description="seconds in which a plan must be executed")
    plan_approval_life_s: int = Field(
        default=86_400, gt=0, description="seconds in which a second person must approve an executed plan"
    )
    plan_second_person_above: int = Field(
        default=100, ge=0, description="units that a plan may switch off without a second person"
    )
    plan_disables_per_day: int = Field(
        default=5_000,
        ge=0,
        description="units told to switch off within 24 hours, by anybody, beyond which plans wait",
    )


class Keys(Settings):
    """Master secrets, from which every unit's key and password are derived."""

    master_secrets: Annotated[dict[Generation, MasterSecret], NoDecode, BeforeValidator(_json)] = Field(
        min_length=1, description='JSON map of key generation to 64 hexadecimal digits: {"1": "…"}'
    )

    @property
    def newest(self) -> int:
        """The generation that new units get."""
        return max(self.master_secrets)

    def master(self, generation: int) -> bytes:
        """Give the master secret of one generation; `BadSetting` when it is not configured."""
        secret = self.master_secrets.get(generation)
        if secret is None:
            raise BadSetting(
                f"{PREFIX}MASTER_SECRETS holds no generation {generation}.", generation=generation
            )
        return bytes.fromhex(secret.get_secret_value())


class Http(Settings):
    """Where the API listens."""

    http_host: str = Field(default="127.0.0.1", description="address to listen on")
    http_port: int = Field(default=8080, ge=0, le=65_535, description="TCP port; 0 = any free one")


class Health(Settings):
    """Where a process without an API tells how it is."""

    health_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="TCP port on 127.0.0.1 for /healthz, /readyz, /metrics; 0 = none",
    )


class Operator(Settings):
    """How a program goes in at the API, as scenarios do."""

    api_url: Annotated[str, AfterValidator(addresses.api)] = Field(
        default="http://127.0.0.1:8080",
        description="where the API answers: https://host:port, or http:// on loopback",
    )
    api_token: SecretStr = Field(
        min_length=1,
        description="API token of an administrator, as `python -m registry token issue` shows it",
    )
    approver_token: SecretStr | None = Field(
        default=None, description="API token of a second administrator, who approves what the first may not"
    )


CONCERNS: tuple[type[Settings], ...] = (
    Database,
    Broker,
    Gateway,
    Keeping,
    Commands,
    Plans,
    Keys,
    Http,
    Health,
    Operator,
)

S = TypeVar("S", bound=Settings)


def read(kind: type[S]) -> S:
    """Build one concern's settings; `BadSetting` names the variable and never echoes its value."""
    try:
        return kind()
    except (SettingsError, OSError, UnicodeDecodeError) as error:
        raise BadSetting(
            f"A file in the folder that {SECRETS_DIR} names cannot be read as text.", why=str(error)
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0]).upper()
        name = name if name.startswith(PREFIX) else PREFIX + name
        field = kind.model_fields.get(name.removeprefix(PREFIX).lower())
        meaning = f" ({field.description})" if field else ""
        raise BadSetting(
            f"{name}: {first['msg']}{meaning}. `python -m runtime settings` lists them.", setting=name
        ) from None

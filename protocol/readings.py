"""What a unit measures: the named readings with their types, and what else may stand beside them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError
from pydantic_core.core_schema import (
    bool_schema,
    float_schema,
    no_info_after_validator_function,
    nullable_schema,
    typed_dict_field,
    typed_dict_schema,
    union_schema,
)

_NUMBER = float_schema(strict=True, allow_inf_nan=False)
_SWITCH = bool_schema(strict=True)
# SI units in the name; `battery_a` is positive while charging, `energy_wh` is a lifetime counter.
NAMED: dict[str, CoreSchema] = {
    "battery_v": _NUMBER,
    "battery_a": _NUMBER,
    "panel_v": _NUMBER,
    "panel_a": _NUMBER,
    "load_a": _NUMBER,
    "energy_wh": _NUMBER,
    "soc_pct": _NUMBER,
    "temp_c": _NUMBER,
    "rssi_dbm": _NUMBER,
    "tamper": _SWITCH,
    "lvd": _SWITCH,  # low-voltage disconnect
}
_NAMES = frozenset(NAMED)
_WELL_NAMED = re.compile(r"[a-z0-9_]{1,32}")


def _settled(readings: dict[str, float | bool | None] | None) -> dict[str, float | bool | None]:
    """Refuse misnamed readings and drop absent ones; most heartbeats have neither."""
    if readings is None:
        return {}
    if _NAMES.issuperset(readings) and None not in readings.values():
        return readings
    misnamed = [name for name in readings if not _WELL_NAMED.fullmatch(name)]
    if misnamed:
        error = PydanticCustomError("reading_name", "A reading's name is 1 to 32 of a-z, 0-9 and _")
        raise ValidationError.from_exception_data(
            "readings", [InitErrorDetails(type=error, loc=(name,), input=name) for name in misnamed]
        )
    return {name: value for name, value in readings.items() if value is not None}


class _Schema:
    """Gives pydantic the table above; a plain dict stays a plain dict."""

    @staticmethod
    def __get_pydantic_core_schema__(_source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        table = typed_dict_schema(
            {name: typed_dict_field(nullable_schema(kind), required=False) for name, kind in NAMED.items()},
            extra_behavior="allow",
            extras_schema=nullable_schema(union_schema([_NUMBER, _SWITCH])),
        )
        return no_info_after_validator_function(_settled, nullable_schema(table))


Readings = Annotated[dict[str, float | bool], _Schema]

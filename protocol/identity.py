"""The two names a unit carries: what its modem says, and what is printed on its back."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function, str_schema, to_string_ser_schema

from runtime.errors import Invalid

_ECHOED = 60  # characters of what was given that an error repeats
_FIFTEEN_DIGITS = re.compile(r"[0-9]{15}")
_DOUBLED = str.maketrans("0123456789", "0246813579")  # and the two digits of a sum added up
# ASCII, or the long s and the Kelvin sign would pass as letters.
_LABEL = re.compile(r"(?=.{3,40}\Z)[A-Z0-9]+(?:-[A-Z0-9]+)*", re.IGNORECASE | re.ASCII)


class NotAnImei(Invalid):
    """This is not an IMEI."""


class NotASerialNumber(Invalid):
    """This is not a serial number."""


class Checked(str):
    """A string that cannot exist unchecked."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic take it as a field type: a string in, checked, a string out."""
        return no_info_after_validator_function(cls, str_schema(), serialization=to_string_ser_schema())


class Imei(Checked):
    """Fifteen digits, the last one a Luhn check. People may write spaces and hyphens between them."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the digits and keep nothing else."""
        digits = text.replace("-", "").replace(" ", "")
        if not _FIFTEEN_DIGITS.fullmatch(digits):
            raise NotAnImei("An IMEI has fifteen digits.", given=text[:_ECHOED])
        if not digits.strip("0"):
            raise NotAnImei("An IMEI is not all zeros.", given=text[:_ECHOED])
        if not _luhn(digits):
            raise NotAnImei("The check digit does not fit.", given=text[:_ECHOED])
        return super().__new__(cls, digits)

    @property
    def partition(self) -> str:  # type: ignore[override]  # the wire's word; no IMEI is ever split
        """The last two digits: they divide the fleet between gateways."""
        return self[-2:]


def _luhn(digits: str) -> bool:
    """Tell whether fifteen digits check; our own, because every topic of a fleet is asked this."""
    # The digits are added as ASCII: what fifteen times "0" is more, 720, ends in a zero too.
    return sum((digits[::2] + digits[1::2].translate(_DOUBLED)).encode()) % 10 == 0


class SerialNumber(Checked):
    """Three to forty capitals and digits in words joined by hyphens.

    Makers differ in their check digits, so none is computed here.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the label and write it in capitals."""
        label = text.strip()
        if not _LABEL.fullmatch(label):
            raise NotASerialNumber(
                "A serial number is 3 to 40 characters of A-Z, 0-9 and single hyphens between them.",
                given=text[:_ECHOED],
            )
        return super().__new__(cls, label.upper())

"""The names of a unit, checked once and for good."""

from __future__ import annotations

import copy
import pickle
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from pydantic import BaseModel, ValidationError
from stdnum import luhn

from protocol.identity import Checked, Imei, NotAnImei, NotASerialNumber, SerialNumber
from runtime.errors import Invalid

PRINTED = ["BB17SMART-150127-0608", "HB000501-084032-G", "BX0020-417157-M"]


class Label(BaseModel):
    imei: Imei
    serial: SerialNumber


def test_people_may_write_spaces_and_hyphens_in_an_imei() -> None:
    assert Imei(" 35-209900-176148-1 ") == "352099001761481"


def test_the_partition_is_the_last_two_digits() -> None:
    assert Imei("352099001761481").partition == "81"


@given(st.integers(min_value=1, max_value=10**14 - 1))
def test_an_imei_accepts_one_check_digit_of_ten(number: int) -> None:
    stem = f"{number:014}"
    right = luhn.calc_check_digit(stem)

    assert Imei(stem + right) == stem + right
    for wrong in set("0123456789") - {right}:
        with pytest.raises(NotAnImei, match="check digit"):
            Imei(stem + wrong)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "fifteen"),
        ("35209900176148", "fifteen"),
        ("3520990017614810", "fifteen"),
        ("000000000000000", "zeros"),
        ("352099001761482", "check digit"),
        ("٣٥٢٠٩٩٠٠١٧٦١٤٨١", "fifteen"),
        ("35209900176148¹", "fifteen"),
        ("352099001761481\n", "fifteen"),
        ("35209900176148x", "fifteen"),
    ],
)
def test_what_is_no_imei_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(NotAnImei, match=complaint):
        Imei(text)


@pytest.mark.parametrize("printed", PRINTED)
def test_the_printed_forms_of_serial_numbers_pass(printed: str) -> None:
    """S1.5: the unique identifier of the unit, as it is printed on its back."""
    assert SerialNumber(printed) == printed
    assert SerialNumber(f"  {printed.lower()}\n") == printed


@pytest.mark.parametrize("text", ["ABC", "A-1", "7" * 40, "A-B-C-D"])
def test_serial_numbers_of_every_length_pass(text: str) -> None:
    assert SerialNumber(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "SMART UNKNOWN",
        "",
        "AB",
        "A" * 41,
        "-ABC",
        "ABC-",
        "A--B",
        "A_B",
        "AB/C",
        "AB\0C",
        "straße",
        "\N{LATIN SMALL LETTER DOTLESS I}-123",
        "\N{KELVIN SIGN}-123",
        "\N{LATIN SMALL LETTER LONG S}-123",
        "=CMD()",
        "AB\nC",
    ],
)
def test_what_is_no_serial_number_is_refused(text: str) -> None:
    """S0.12: SMART UNKNOWN says that the serial number is not known; it is not one."""
    with pytest.raises(NotASerialNumber):
        SerialNumber(text)


@given(st.text())
def test_any_text_is_an_identifier_or_invalid(text: str) -> None:
    for kind in (Imei, SerialNumber):
        with suppress(Invalid):
            assert kind(kind(text)) == kind(text)


def test_an_error_repeats_little_of_what_was_given() -> None:
    with pytest.raises(NotAnImei) as caught:
        Imei("9" * 100_000)

    assert len(str(caught.value)) < 120


def test_pydantic_takes_and_gives_identifiers_as_strings() -> None:
    label = Label.model_validate_json('{"imei": "352099001761481", "serial": "bx0020-417157-m"}')

    assert type(label.imei) is Imei
    assert type(label.serial) is SerialNumber
    assert label.model_dump_json() == '{"imei":"352099001761481","serial":"BX0020-417157-M"}'
    assert Label.model_json_schema()["properties"]["imei"]["type"] == "string"


def test_pydantic_names_the_field_that_is_wrong() -> None:
    with pytest.raises(ValidationError) as caught:
        Label.model_validate({"imei": "1", "serial": 7})

    assert [error["loc"] for error in caught.value.errors()] == [("imei",), ("serial",)]


def test_psycopg_sends_an_identifier_as_text() -> None:
    imei: Checked = Imei("352099001761481")

    assert Transformer().get_dumper(imei, PyFormat.TEXT).dump(imei) == b"352099001761481"


def test_copies_and_pickles_stay_identifiers() -> None:
    imei = Imei("352099001761481")

    for twin in (copy.deepcopy(imei), pickle.loads(pickle.dumps(imei))):  # noqa: S301  our own bytes
        assert (type(twin), twin) == (Imei, imei)

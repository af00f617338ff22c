"""The CSV of newcomers: what is let in, and what each bad line is told."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.identity import Imei, SerialNumber
from registry.intervals import BadInterval
from registry.newcomers import (
    Announced,
    BadHeader,
    Newcomer,
    Outcome,
    Verdict,
    read,
)
from registry.wording import BadText
from tests.builders import a_serial, an_imei

GOOD = "352099001761481"
SERIAL = "BB17SMART-150127-0608"
FULL_WIDTH = "".join(chr(0xFF10 + int(digit)) for digit in GOOD)
HEADER = "imei,serial_number,entity_id,product_type,expected_interval_s\n"


def read_text(text: str) -> list[Announced | Verdict]:
    return list(read(io.StringIO(text, newline="")))


def test_columns_are_found_by_name_in_any_order() -> None:
    [line] = read_text(f"product_type, IMEI ,serial_number\nHub2,{GOOD},{SERIAL}\n")

    assert line == Announced(
        line=2,
        newcomer=Newcomer(imei=Imei(GOOD), serial_number=SerialNumber(SERIAL), product_type="Hub2"),
    )


def test_empty_optional_cells_mean_the_defaults() -> None:
    [line] = read_text(HEADER + f"{GOOD},{SERIAL},,,\n")

    assert isinstance(line, Announced)
    assert line.newcomer == Newcomer(imei=Imei(GOOD), serial_number=SerialNumber(SERIAL))
    assert (line.newcomer.entity_id, line.newcomer.expected_interval_s) == (1, None)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_marks_and_every_line_end_are_taken(mark: str, end: str) -> None:
    text = f'{mark}"imei","serial_number"{end or chr(10)}"{GOOD}","{SERIAL}"{end}'

    [line] = read_text(text)

    assert isinstance(line, Announced)
    assert line.newcomer.imei == GOOD


def test_line_numbers_count_the_file_s_lines_also_across_blank_ones() -> None:
    found = read_text(HEADER + f'\n{GOOD},"{SERIAL}",1,,\n\nx,y,1,,\n')

    assert [(line.line, type(line)) for line in found] == [(3, Announced), (5, Verdict)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_that_is_left_open_costs_its_own_line_only(end: str) -> None:
    rows = [f"{an_imei(number)},{a_serial(number)}" for number in range(1, 1001)]
    rows[0] = f'{an_imei(1)},"{a_serial(1)}'
    rows[500] = f'"{an_imei(501)},{a_serial(501)}'

    found = read_text(end.join(["imei,serial_number", *rows, ""]))

    assert [line.line for line in found] == list(range(2, 1002))
    refused = [line for line in found if isinstance(line, Verdict)]
    assert [line.line for line in refused] == [2, 502]
    assert all("unexpected end" in (line.reason or "") for line in refused)


def test_a_header_with_an_open_quote_does_not_swallow_the_file() -> None:
    with pytest.raises(BadHeader, match="well-formed"):
        read_text(f'imei,"serial_number\n{GOOD},{SERIAL}\n"')


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (f"35209900176148,{SERIAL},1,,", "imei", "fifteen digits"),
        (f"352099001761480,{SERIAL},1,,", "imei", "check digit"),
        (f"000000000000000,{SERIAL},1,,", "imei", "zeros"),
        (f"{FULL_WIDTH},{SERIAL},1,,", "imei", "fifteen digits"),
        (f",{SERIAL},1,,", "imei", "fifteen digits"),
        (f"3.52099E+14,{SERIAL},1,,", "imei", "fifteen digits"),
        (f"{GOOD},,1,,", "serial_number", "3 to 40"),
        (f"{GOOD},=cmd(),1,,", "serial_number", "A-Z"),
        (f"{GOOD},@SUM(A1),1,,", "serial_number", "A-Z"),
        (f"{GOOD},BB17\0SMART,1,,", "serial_number", "A-Z"),
        (f"{GOOD},SÉRIE-1,1,,", "serial_number", "A-Z"),
        (f"{GOOD},BB17\udcff,1,,", "serial_number", "A-Z"),
        (f"{GOOD},{SERIAL},one,,", "entity_id", "digits"),
        (f"{GOOD},{SERIAL},-1,,", "entity_id", "digits"),
        (f"{GOOD},{SERIAL},٣,,", "entity_id", "digits"),
        (f"{GOOD},{SERIAL},9999999999999999999,,", "entity_id", "digits"),
        (f"{GOOD},{SERIAL},1,Hub\0,", "product_type", "printed"),
        (f"{GOOD},{SERIAL},1,{'H' * 65},", "product_type", "64"),
        (f"{GOOD},{SERIAL},1,,0", "expected_interval_s", "from 1"),
        (f"{GOOD},{SERIAL},1,,2592001", "expected_interval_s", "2592000"),
        (f"{GOOD},{SERIAL},1,,4h", "expected_interval_s", "digits"),
        (f"{GOOD},{SERIAL},1", None, "3 cells"),
        (f"{GOOD},{SERIAL},1,,,,", None, "7 cells"),
        (f'{GOOD},"{SERIAL}"x,1,,', None, "CSV"),
        (f"{GOOD},{'S' * 200_000},1,,", None, "longer than 65536 bytes"),
    ],
)
def test_a_bad_line_is_told_with_number_field_and_reason_and_the_next_goes_on(
    row: str, field: str | None, reason: str
) -> None:
    found = read_text(HEADER + row + f"\n{GOOD},{SERIAL},1,,\n")

    bad, good = found
    assert isinstance(bad, Verdict)
    assert (bad.line, bad.outcome, bad.field) == (2, Outcome.REFUSED, field)
    assert reason in (bad.reason or "")
    assert isinstance(good, Announced)
    assert good.line == 3


def test_an_open_quote_at_the_end_is_told() -> None:
    [bad] = read_text(HEADER + f'{GOOD},"{SERIAL}')

    assert isinstance(bad, Verdict)
    assert bad.line == 2
    assert "unexpected end" in (bad.reason or "")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "\n",
        "imei\n",
        "serial_number,entity_id\n",
        "imei;serial_number\n",
        "imei,serial_number,imei\n",
        "imei,serial_number,colour\n",
        '"imei"x,serial_number\n',
        f"{GOOD},{SERIAL}\n",
        "i\0m\0e\0i\0",
    ],
)
def test_a_header_that_does_not_name_the_columns_stops_the_file(header: str) -> None:
    with pytest.raises(BadHeader):
        read_text(header + f"{GOOD},{SERIAL}\n")


def test_a_newcomer_s_free_values_are_checked_wherever_it_comes_from() -> None:
    with pytest.raises(BadText):
        Newcomer(imei=an_imei(1), serial_number=a_serial(1), product_type=" ")
    with pytest.raises(BadInterval):
        Newcomer(imei=an_imei(1), serial_number=a_serial(1), expected_interval_s=0)


@given(st.text())
def test_no_text_whatever_breaks_the_reader(text: str) -> None:
    for line in read(io.StringIO(HEADER + text, newline="")):
        assert line.line >= 2


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(1, 9))))
def test_what_a_csv_writer_wrote_is_read(units: list[tuple[int, int]]) -> None:
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(["imei", "serial_number", "entity_id"])
    table.writerows([an_imei(number), a_serial(number), entity] for number, entity in units)
    file.seek(0)

    found = [line.newcomer for line in read(file) if isinstance(line, Announced)]

    assert [(unit.imei, unit.entity_id) for unit in found] == [(an_imei(n), entity) for n, entity in units]

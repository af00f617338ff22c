"""How a file of newcomers is read and told of at the terminal: line by line, memory flat."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import typer
from rich.console import Console
from rich.progress import Progress

from registry import enrolment
from registry.audit import Deed
from registry.enrolment import Begin
from registry.newcomers import LINE_MAX, Outcome, Verdict
from registry.permissions import shell
from runtime import clock
from runtime.errors import Conflict, Invalid
from runtime.settings import Database, Keys, read
from storage.pool import open_pool

TOO_LONG = "?" * (LINE_MAX + 1)
"""Stands for a line of more bytes, of which nothing is kept."""

WHOLE_DEADLINE_S = 3600.0  # for a file that is enrolled in one transaction


class NothingEnrolled(Conflict):
    """A line was refused, so no line was enrolled."""


class FileNotRead(Invalid):
    """The file could not be read."""


async def take_in(file: str, *, all_or_nothing: bool, as_json: bool) -> Counter[Outcome]:
    """Enrol the units of a CSV (`-` is standard input), print each line that was not enrolled, count all."""
    keys, counts = read(Keys), Counter[Outcome]()
    deed = Deed(by=shell(), now=clock.now(), reason="imported from a CSV")

    async def enrol(begin: Begin) -> None:
        with _lines(file) as lines:
            async for verdicts in enrolment.import_csv(begin, lines, keys, deed):
                counts.update(verdict.outcome for verdict in verdicts)
                _tell(verdicts, as_json=as_json)

    async with open_pool(read(Database)) as pool:
        if not all_or_nothing:
            await enrol(pool.transaction)
            return counts
        async with pool.transaction(deadline_s=WHOLE_DEADLINE_S) as conn:
            await enrol(lambda: nullcontext(conn))
            if counts[Outcome.REFUSED]:
                raise NothingEnrolled(
                    "Lines were refused, so nothing was enrolled; correct them and import again.",
                    refused=counts[Outcome.REFUSED],
                )
    return counts


@contextmanager
def _lines(file: str) -> Iterator[Iterator[str]]:
    """Lend the lines of a file, with a bar of progress for whoever watches."""
    with (
        _opened(file) as source,
        Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress,
    ):
        task = progress.add_task("importing", total=None if file == "-" else Path(file).stat().st_size)

        def lines() -> Iterator[str]:
            while line := source.readline(LINE_MAX + 1):
                taken = size = len(line)
                while size > LINE_MAX and not line.endswith(b"\n") and (line := source.readline(LINE_MAX)):
                    taken += len(line)
                progress.advance(task, taken)
                # What is not UTF-8 comes through as a character that no field admits: the line is refused.
                yield line.decode(errors="surrogateescape") if size <= LINE_MAX else TOO_LONG

        yield lines()


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    try:
        return nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb")
    except OSError as error:
        raise FileNotRead(f"{file} could not be read: {error.strerror}.", file=file) from error


def _tell(verdicts: Sequence[Verdict], *, as_json: bool) -> None:
    for verdict in verdicts:
        if verdict.outcome is Outcome.ENROLLED:
            continue
        if as_json:
            typer.echo(json.dumps(asdict(verdict)))
        else:
            parts = (f"line {verdict.line}", verdict.outcome.replace("_", " "), verdict.field, verdict.reason)
            typer.echo(": ".join(part for part in parts if part))

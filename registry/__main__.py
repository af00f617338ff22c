"""`python -m registry`: enrol units, name entities, let people and programs in, tell the broker."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from protocol.identity import Imei, SerialNumber
from registry import (
    access,
    enrolment,
    entities,
    intake,
    intervals,
    lifecycle,
    logins,
    ownership,
    product_types,
    units,
)
from registry.access_list import NotAGatewayName, access_list
from registry.audit import Deed
from registry.enrolment import Credentials
from registry.entities import BIGINT_MAX
from registry.lifecycle import Lifecycle
from registry.newcomers import Newcomer, Outcome
from registry.product_types import ProductType
from registry.terminal import AsJson, Reason, Record, run, tell, tell_all, transact, whole
from registry.units import Unit
from runtime.settings import Keys, read
from storage.sql import Connection

app = typer.Typer(add_completion=False, no_args_is_help=True)
entity = typer.Typer(no_args_is_help=True, help="The companies that own units.")
app.add_typer(access.account, name="account")
app.add_typer(access.token, name="token")
app.add_typer(entity, name="entity")
Name = Annotated[str, typer.Argument(metavar="UNIT", help="Its IMEI or serial number.")]
EntityId = Annotated[int, typer.Option("--entity", min=1, max=BIGINT_MAX, help="Who owns it.")]


@app.command()
def enrol(
    imei: str,
    serial_number: str,
    *,
    entity_id: EntityId = entities.UNKNOWN,
    product_type: str | None = None,
    expected_interval_s: int | None = None,
    as_json: AsJson = False,
) -> None:
    """Enrol one unit; its password and key are shown this once."""

    async def work(conn: Connection, deed: Deed) -> Credentials:
        newcomer = Newcomer(
            imei=Imei(imei),
            serial_number=SerialNumber(serial_number),
            entity_id=entity_id,
            product_type=product_type,
            expected_interval_s=expected_interval_s,
        )
        return await enrolment.enrol(conn, newcomer, read(Keys), deed)

    tell(_credentials(transact(work, as_json=as_json)), as_json=as_json)


@app.command("import")
def import_file(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A CSV with a header; - is standard input.")],
    *,
    all_or_nothing: Annotated[
        bool, typer.Option("--all-or-nothing", help="Enrol nothing when a line is refused.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Enrol the units of a CSV: imei,serial_number[,entity_id][,product_type][,expected_interval_s].

    Every line that was not enrolled is told with its number; exit 1 when one was refused.
    """
    counts = run(intake.take_in(file, all_or_nothing=all_or_nothing, as_json=as_json), as_json=as_json)
    tell({outcome.value: counts[outcome] for outcome in Outcome}, as_json=as_json)
    if counts[Outcome.REFUSED]:
        raise typer.Exit(1)


@app.command()
def move(
    unit: Name,
    state: Annotated[Lifecycle, typer.Argument(case_sensitive=False)],
    *,
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Move a unit to another state of its life."""

    async def work(conn: Connection, deed: Deed) -> Unit:
        found = await units.by_identity(conn, unit, scope=None)
        await lifecycle.move(conn, found.id, found.lifecycle, state, deed)
        return await units.by_identity(conn, unit, scope=None)

    tell(asdict(transact(work, as_json=as_json, reason=reason)), as_json=as_json)


@app.command()
def reassign(
    unit: Name,
    *,
    entity_id: EntityId,
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Give a unit to another entity."""

    async def work(conn: Connection, deed: Deed) -> Unit:
        await ownership.reassign(conn, await units.by_identity(conn, unit, scope=None), entity_id, deed)
        return await units.by_identity(conn, unit, scope=None)

    tell(asdict(transact(work, as_json=as_json, reason=reason)), as_json=as_json)


@app.command()
def rekey(unit: Name, *, reason: Reason, as_json: AsJson = False) -> None:
    """Give a unit the newest generation of key; its password and key are shown this once."""

    async def work(conn: Connection, deed: Deed) -> Credentials:
        found = await units.by_identity(conn, unit, scope=None)
        return await enrolment.rekey(conn, found, read(Keys), deed)

    tell(_credentials(transact(work, as_json=as_json, reason=reason)), as_json=as_json)


@app.command("expected-interval")
def expect_of_unit(
    unit: Name,
    *,
    expected_interval_s: Annotated[int | None, typer.Option(help="Seconds between two contacts.")] = None,
    as_product_type: Annotated[bool, typer.Option(help="Let that of its product type hold again.")] = False,
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Give a unit an expected interval of its own, or take it back."""
    if (expected_interval_s is None) is not as_product_type:
        raise typer.BadParameter("Give one of --expected-interval-s and --as-product-type.")

    async def work(conn: Connection, deed: Deed) -> Unit:
        found = await units.by_identity(conn, unit, scope=None)
        await intervals.expect(conn, found.id, expected_interval_s, deed)
        return await units.by_identity(conn, unit, scope=None)

    tell(asdict(transact(work, as_json=as_json, reason=reason)), as_json=as_json)


@app.command("product-types")
def list_product_types(*, as_json: AsJson = False) -> None:
    """List the product types of whose units something is expected."""
    every = transact(lambda conn, _deed: product_types.page(conn), as_json=as_json)
    tell_all([asdict(one) for one in every], as_json=as_json)


@app.command("product-type")
def expect_of_product_type(
    name: str,
    *,
    expected_interval_s: Annotated[int, typer.Option(help="Seconds between two contacts.")],
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """Say at which interval the units of a product type make contact; a unit's own interval holds on."""

    async def work(conn: Connection, deed: Deed) -> ProductType:
        wanted = ProductType(name=name, expected_interval_s=expected_interval_s)
        await product_types.expect(conn, wanted, deed)
        return wanted

    tell(asdict(transact(work, as_json=as_json, reason=reason)), as_json=as_json)


@app.command()
def broker_logins(
    *,
    file: Annotated[Path, typer.Option(help="The broker's password file.")],
    owner: Annotated[str | None, typer.Option(help="The account under which the broker runs.")] = None,
    first: Annotated[Path | None, typer.Option("--with", help="A file of logins that come first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the broker's password file anew; then tell the broker to read it (SIGHUP)."""
    written = transact(
        lambda conn, _deed: logins.write(conn, file, owner=owner, first=first), as_json=as_json
    )
    tell({"file": str(file), "units": written}, as_json=as_json)


@app.command()
def broker_access(
    gateways: Annotated[list[str], typer.Argument(metavar="GATEWAY...", help="Names of gateways.")],
) -> None:
    """Print the broker's access list for these gateways and every unit; it does not change with the fleet."""
    try:
        typer.echo(access_list(gateways), nl=False)
    except NotAGatewayName as wrong:
        raise typer.BadParameter(wrong.message) from wrong


@entity.command("add")
def add_entity(name: str, *, as_json: AsJson = False) -> None:
    """Add an entity."""
    added = transact(lambda conn, deed: entities.add(conn, name, deed), as_json=as_json)
    tell(asdict(added), as_json=as_json)


@entity.command("list")
def list_entities(*, as_json: AsJson = False) -> None:
    """List every entity."""
    every = transact(
        lambda conn, _deed: whole(lambda after: entities.page(conn, scope=None, after=after)), as_json=as_json
    )
    tell_all([asdict(one) for one in every], as_json=as_json)


def _credentials(shown: Credentials) -> Record:
    return {"login": shown.login, "password": shown.password, "key": shown.key.hex()}


if __name__ == "__main__":
    app()

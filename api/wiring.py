"""The application: its routes, its door, its problems, and the document that describes them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from api import problems
from api.door import Door
from api.problems import Problem
from api.routes import (
    alerts,
    commands,
    dead_letters,
    drifts,
    entities,
    health,
    heartbeats,
    holes,
    plans,
    product_types,
    reliability,
    series,
    tokens,
    units,
)
from api.routes import problems as problem_pages
from runtime.settings import Commands, Keeping, Plans
from storage.pool import Pool

ABOUT = (
    "Device management for solar control units. Lists are pages: `next` of one is `cursor` of the following. "
    "What goes wrong is told as problem details (RFC 9457)."
)


class Api(FastAPI):
    """A FastAPI whose document tells what a problem looks like."""

    def openapi(self) -> dict[str, Any]:
        """Describe every route."""
        described = super().openapi()
        described["components"]["schemas"].setdefault("Problem", Problem.model_json_schema())
        return described


def application(pool: Pool, deadlines: Commands, keeping: Keeping, bounds: Plans) -> Api:
    """Give the application, ready to serve."""
    app = bare()
    app.state.pool = pool
    app.state.commands = deadlines
    app.state.keeping = keeping
    app.state.plans = bounds
    return app


def bare() -> Api:
    """Give the application without what it stands on: enough to describe it."""
    app = Api(
        title="Heliograph",
        version="1",
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_name,
    )
    app.add_middleware(Door)
    problems.install(app)
    for part in (
        units,
        heartbeats,
        series,
        holes,
        reliability,
        alerts,
        commands,
        drifts,
        plans,
        entities,
        product_types,
        tokens,
        dead_letters,
        problem_pages,
        health,
    ):
        app.include_router(part.router)
    return app


def _name(route: APIRoute) -> str:
    return route.name

"""From which moment on every single heartbeat is kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Depends, Request

from runtime import clock
from runtime.settings import Keeping


async def kept_since(request: Request) -> datetime:
    """Give the moment that the settings say; what stands before it may be gone."""
    keeping: Keeping = request.app.state.keeping
    return clock.now() - timedelta(days=keeping.keep_heartbeats_days)


KeptSince = Annotated[datetime, Depends(kept_since)]

"""The model in service on this host, for what makes the next one."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from config.settings import registry_directory
from models.bundle import SCHEMA, BundleError, read_manifest, read_verified
from models.schema import Schema
from models.serving_plan import PlanError, read_plan


class Champion(Struct, frozen=True):
    version: str
    schema: Schema


def champion_in_service() -> Champion | None:
    """By the serving plan alone; None when nothing serves, or its bundle cannot be read."""
    try:
        plan = read_plan(registry_directory())
        if plan is None or plan.champion is None:
            return None
        directory = registry_directory() / plan.champion.version
        manifest, _ = read_manifest(directory)
        schema = msgspec.json.decode(read_verified(directory, manifest, SCHEMA), type=Schema)
    except (PlanError, BundleError, msgspec.MsgspecError):
        return None
    return Champion(plan.champion.version, schema)

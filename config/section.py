"""What every section of the configuration is: frozen, by name only, and without unknown keys."""

from __future__ import annotations

from msgspec import Struct


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass

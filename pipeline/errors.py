"""Errors that end a command.

InputError      the table, or what was asked of it, is wrong: exit code 2, one sentence, no traceback
"""

from __future__ import annotations

from config.errors import ProductError


class InputError(ProductError):
    """The input cannot be used; the message says what, where, and what to do, in one sentence."""

    exit_code = 2

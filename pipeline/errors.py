"""Errors that end a command.

InputError      the table, or what was asked of it, is wrong: exit code 2, one sentence, no traceback
"""

from __future__ import annotations


class InputError(Exception):
    """The input cannot be used; the message says what, where, and what to do, in one sentence."""

"""Headers of every reply."""

from __future__ import annotations

#: No browser guesses a type, keeps a reply, or runs, frames or fetches anything because of one; a page of ours sets a
#: Content-Security-Policy of its own.
SECURITY_HEADERS: tuple[tuple[str, str], ...] = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
)

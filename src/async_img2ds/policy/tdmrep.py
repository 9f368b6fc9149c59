"""``/.well-known/tdmrep.json``: which paths of a site are reserved against text and data mining.

TDM Reservation Protocol (W3C Community Group report, 2024), 6.1: an array of objects with a ``location``, a pattern
as robots.txt has it, and a ``tdm-reservation``; the first one that matches counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from async_img2ds.policy.robots import PathPattern, normal

__all__ = ["TDMREP_BYTES_MAX", "Reservations", "parse"]

# As for robots.txt, for which RFC 9309 names it; the protocol names no bound.
TDMREP_BYTES_MAX: Final = 500 * 1024
RULES_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Reservations:
    """What a tdmrep.json says, in its order."""

    _rules: tuple[tuple[PathPattern, bool], ...] = ()

    def __len__(self) -> int:
        """Return how many rules there are."""
        return len(self._rules)

    def reserves(self, path: str) -> bool:
        """Whether *path* is reserved."""
        octets = normal(path)
        return next((reserved for pattern, reserved in self._rules if pattern.matches(octets)), False)


def parse(content: bytes) -> Reservations:
    """Read a tdmrep.json; what is not understood says nothing."""
    try:
        said = json.loads(content[:TDMREP_BYTES_MAX].decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return Reservations()
    rules = []
    for rule in said[:RULES_MAX] if isinstance(said, list) else ():
        if not isinstance(rule, dict):
            continue
        location, reserved = rule.get("location"), rule.get("tdm-reservation")
        if isinstance(location, str) and location and reserved in (0, 1, "0", "1") and not isinstance(reserved, bool):
            written = location if location.startswith(("/", "*")) else f"/{location}"
            rules.append((PathPattern.parse(written), int(reserved) == 1))
    return Reservations(tuple(rules))

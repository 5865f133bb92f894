"""Which tensors to observe, with which observer, for which codes."""

from __future__ import annotations

from typing import Any

import attrs

from qsdk.interfaces import Observer, Site
from qsdk.registry import registry
from qsdk.scheme import Scheme


@attrs.frozen(kw_only=True)
class Watch:
    """One site and what looks at it.

    observer : a name in the registry; options : its own
    scheme : of the codes that the site is to have
    """

    site: Site
    observer: str
    options: dict[str, Any] = attrs.field(factory=dict)
    scheme: Scheme

    @property
    def name(self) -> str:
        return self.site.name

    def new(self) -> Observer:
        """An observer that has seen nothing. Raises what finding or building it raises."""
        full = self.observer if "observer:" in self.observer else f"observer:{self.observer}"
        observer: Observer = registry.get(full, **self.options)
        return observer

    def to_dict(self) -> dict[str, Any]:
        """What statistics depend on: those of another scheme would be the same."""
        return {
            "observer": self.observer,
            "options": self.options,
            "watched": list(self.site.watched),
        }

"""A saved state that doesn't fit: all differences in one error, before anything is loaded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from adamite.errors import StateDictError
from adamite.storage import choice


class Problems:
    """What of a saved state doesn't fit an optimizer, and which states fit once they are converted."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.listed: list[str] = []
        self._converted: defaultdict[tuple[str, str], set[Hashable]] = defaultdict(set)  # parameters, by formats

    def add(self, problem: str) -> None:
        """List a difference."""
        self.listed.append(problem)

    def refuse(self) -> None:
        """Raise if there are any."""
        if self.listed:
            lines = "".join(f"\n  {problem}" for problem in self.listed[:8])
            more = f"\n  and {len(self.listed) - 8} more" if self.listed[8:] else ""
            raise StateDictError(f"the state doesn't fit this {self.owner}, nothing was loaded:{lines}{more}")

    def convert(self, there: str, here: str, parameter: Hashable) -> None:
        """A state of a parameter has one format in the saved state and another here."""
        self._converted[there, here].add(parameter)

    def tell(self) -> None:
        """Warn of what was converted."""
        for (there, here), parameters in self._converted.items():
            choice.tell_converted(self.owner, there, here, len(parameters))

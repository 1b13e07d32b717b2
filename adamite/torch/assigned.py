"""Which parameters hold what our last step wrote: what was lost of one number isn't added to another, assigned since.

Most assignments are told by the number alone, to which the compensation doesn't belong. One nearer to an assigned
number than half its last place may be anybody's, so torch's counter of changes is asked too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor


class Compensated(NamedTuple):
    """A parameter, what of it lies in this process, and what that couldn't hold."""

    parameter: Tensor
    part: Tensor
    place: int  # where it lies
    compensation: Tensor


class Written:
    """Parameters as our steps left them.

    Nothing is known of a compensation that was loaded, or put there by hand: it belongs to what is beside it.
    """

    def __init__(self) -> None:
        self._left: dict[int, tuple[Compensated, int]] = {}

    def remember(self, rows: Iterable[Compensated]) -> None:
        """These are as they should be now."""
        for row in rows:
            self._left[id(row.parameter)] = row, row.parameter._version

    def assigned(self, row: Compensated) -> bool:
        """Whether somebody has assigned to a parameter since."""
        if id(row.parameter) not in self._left:
            return False
        left, version = self._left[id(row.parameter)]
        changed = version != row.parameter._version or left.place != row.place
        return changed and left.compensation is row.compensation

    def forget(self, rows: Iterable[Compensated]) -> None:
        """What was lost of numbers that somebody has assigned over since is nobody's."""
        for row in rows:
            if self.assigned(row):
                row.compensation.zero_()

    def unassigned(self, parameters: Iterable[Tensor]) -> list[Compensated]:
        """Those of these that nobody has assigned to."""
        rows = [self._left[id(p)][0] for p in parameters if id(p) in self._left]
        return [row for row in rows if not self.assigned(row._replace(place=row.part.data_ptr()))]


def alone(x: Tensor) -> bool:
    """Whether a tensor has its memory to itself. Parts of one have one counter, which steps on other parts move."""
    whole: bool = x.untyped_storage().nbytes() == x.nbytes
    return whole

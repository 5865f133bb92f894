"""What a kernel adds products up in, and the most that real weights can bring there."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Accumulator:
    """A sum inside of a kernel, over the inputs that are worst for these weights.

    bits : of the signed register; its ``limit`` is the largest number that it holds
    worst : the largest magnitude that the sum reaches, in products of codes
    adds : what is added up there, for people: "pairs", "all"
    """

    bits: int
    worst: int
    adds: str = "all"

    @property
    def limit(self) -> int:
        return int(2 ** (self.bits - 1)) - 1

    @property
    def fits(self) -> bool:
        """Whether no input whatever can overflow it."""
        return self.worst <= self.limit

    def __str__(self) -> str:
        return f"{self.adds} {self.worst} of {self.limit} in {self.bits} bits"

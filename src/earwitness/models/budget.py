"""What a run over a paid server may cost, and what it has cost so far: tokens as the replies report them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from earwitness.records import Item

MARGIN = 2  # by which the media of a request in flight may be dearer than any before
FEW, MANY = 2, 8  # letters of a prompt that make a token: no fewer, and no more


class Usage(NamedTuple):
    """Tokens that a reply was billed for."""

    prompt: int = 0
    completion: int = 0

    def plus(self, other: Usage) -> Usage:
        """Both together: for an item that takes several requests."""
        return Usage(self.prompt + other.prompt, self.completion + other.completion)


NOTHING = Usage()


class BudgetSpent(ValueError):
    """The budget is used up; all answers that were paid for have been given out before."""


@dataclass
class Budget:
    """What a run may cost: money, tokens, both or (as made by default) neither. Counts what replies report.

    Parameters
    ----------
    max_cost : US dollars.
    price_in, price_out : US dollars a million tokens of prompt and of completion; needed for ``max_cost``.
    max_tokens : tokens, prompt and completion together.
    before, before_tokens : dollars and tokens that earlier calls spent on the same run.

    Raises ValueError for a limit that cannot be kept.
    """

    max_cost: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    max_tokens: int | None = None
    before: float = 0.0
    before_tokens: int = 0
    used: Usage = NOTHING
    largest: Usage | None = None  # the dearest request so far: what one in flight may still cost

    def __post_init__(self) -> None:
        for name in ("max_cost", "price_in", "price_out", "max_tokens"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be at least 0, got {value}")
        lacking = [name for name in ("price_in", "price_out") if getattr(self, name) is None]
        if self.max_cost is not None and lacking:
            raise ValueError(
                f"a budget of {self.max_cost:g} USD needs the model's prices: --set {' and --set '.join(lacking)} "
                "(USD per million tokens, as in --set price_in=0.30 --set price_out=2.50)"
            )

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.max_cost is not None or self.max_tokens is not None

    @property
    def cost(self) -> float:
        """US dollars spent by this process (0 where no prices are known)."""
        return self.price(self.used)

    def price(self, usage: Usage) -> float:
        """US dollars of so many tokens."""
        return (usage.prompt * (self.price_in or 0.0) + usage.completion * (self.price_out or 0.0)) / 1e6

    def count(self, usage: Usage) -> None:
        """Add what a reply was billed for."""
        self.used = self.used.plus(usage)
        if usage != NOTHING:
            a, b = self.largest or NOTHING, usage
            self.largest = Usage(max(a.prompt, b.prompt), max(a.completion, b.completion))

    def reserve(self, item: Item) -> Usage:
        """What a request in flight is counted for: MARGIN times the dearest so far, and its own words."""
        seen = self.largest or NOTHING
        return Usage(MARGIN * seen.prompt + len(item.prompt) // FEW, max(seen.completion, item.decode))

    def allows(self, item: Item, in_flight: Sequence[Usage]) -> bool:
        """Whether a request for ``item`` may start beside others, given what they were reserved for.

        Near the limit, and until a first reply has told what a request costs, one runs at a time, and it may start
        where the dearest so far would fit: the limit is overshot by one request at most.
        """
        if not self.limited:
            return True
        seen = self.largest or NOTHING
        if not in_flight:
            return not self._over(Usage(max(seen.prompt, len(item.prompt) // MANY), seen.completion))
        reserved = self.reserve(item)
        for other in in_flight:
            reserved = reserved.plus(other)
        return self.largest is not None and not self._over(reserved)

    def spent(self) -> str:
        """What was spent of what, in words."""
        parts = []
        if self.max_cost is not None:
            earlier = f" (of which {self.before:.4f} earlier)" if self.before else ""
            parts.append(f"{self.before + self.cost:.4f}{earlier} of {self.max_cost:g} USD")
        if self.max_tokens is not None:
            earlier = f" (of which {self.before_tokens} earlier)" if self.before_tokens else ""
            parts.append(f"{self.before_tokens + sum(self.used)}{earlier} of {self.max_tokens} tokens")
        return ", ".join(parts)

    def _over(self, reserved: Usage) -> bool:
        """Whether what is spent and reserved passes a limit; a limit of which nothing is left is passed."""
        cost, tokens = self.before + self.cost, self.before_tokens + sum(self.used)
        if self.max_cost is not None and (cost >= self.max_cost or cost + self.price(reserved) > self.max_cost):
            return True
        most = self.max_tokens
        return most is not None and (tokens >= most or tokens + sum(reserved) > most)

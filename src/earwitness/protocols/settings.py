"""What an audit may choose about the protocols; the defaults are the papers'."""

from __future__ import annotations

from typing import Literal

import msgspec

from earwitness.records import Fill

MMA_CONDITIONS = (
    "aligned", "sham", "audio_swapped", "misleading_caption", "long_context", "frames_zeroed", "audio_removed",
)  # fmt: skip
THUD_CONDITIONS = ("original", "shift", "ladder", "mute", "swap", "hush", "unseen", "dark", "mute_room")
CONFUSE_CONDITIONS = ("full", "muted", "modified")
BENCHMARK_CONDITIONS = ("original", "mute", "black")
BENCHMARK_KNOWN = (*BENCHMARK_CONDITIONS, "sham", "no_track", "no_frames")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Choices of all protocols. A protocol reads those that are its own, and ``seed`` and ``classes``.

    ``seed`` draws everything random (option orders, donors, shifts, false captions); ``seeds`` are MMA's
    option-order repetitions, ``extra_seeds`` those of its abstention and step-by-step styles. ``classes`` is the
    class list (empty: all classes that the clips have). Times are seconds, ``shift_fill`` is what a shift
    puts where there is no sound, ``long_context_tokens`` counts words.
    ``clip_limit`` asks each condition of that many clips at most (the same ones, so that conditions stay paired).

    Raises ValueError on values that no protocol can use, with the likely slip.
    """

    seed: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    extra_seeds: tuple[int, ...] = (0,)
    classes: tuple[str, ...] = ()
    mma_conditions: tuple[str, ...] = MMA_CONDITIONS
    mma_styles: tuple[str, ...] = ("standard", "abstention", "cot")
    thud_conditions: tuple[str, ...] = THUD_CONDITIONS
    thud_styles: tuple[str, ...] = ("neutral", "direct")
    confuse_conditions: tuple[str, ...] = CONFUSE_CONDITIONS
    confuse_styles: tuple[str, ...] = ("leading", "neutral")
    benchmark_conditions: tuple[str, ...] = BENCHMARK_CONDITIONS
    backgrounds: tuple[str, ...] = ()  # empty: all five
    long_context_tokens: int = 10_000
    context_position: Literal["before", "after"] = "before"
    shift_band: tuple[float, float] = (1.8, 2.5)
    ladder: tuple[float, ...] = (1.6, 1.2, 0.8, 0.4)
    shift_fill: Fill = "room"
    donor_uses: int = 2
    clip_limit: int | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("mma_conditions", MMA_CONDITIONS),
            ("mma_styles", ("standard", "abstention", "cot")),
            ("thud_conditions", THUD_CONDITIONS),
            ("thud_styles", ("neutral", "direct")),
            ("confuse_conditions", CONFUSE_CONDITIONS),
            ("confuse_styles", ("leading", "neutral")),
            ("benchmark_conditions", BENCHMARK_KNOWN),
        ):
            unknown = [v for v in getattr(self, name) if v not in known]
            if unknown:
                raise ValueError(f"Settings.{name}: {unknown[0]!r} is not known; known: {', '.join(known)}")
        low, high = self.shift_band
        if not 0 < low <= high:
            raise ValueError(f"Settings.shift_band: got {self.shift_band}, wants 0 < low <= high in seconds")
        times = [*self.shift_band, *self.ladder]
        if any(not 0 < t < 60 for t in times):
            raise ValueError(f"Settings: shifts must lie in 0-60 s, got {times} (did you pass milliseconds?)")
        if self.donor_uses < 1:
            raise ValueError(f"Settings.donor_uses: got {self.donor_uses}, wants 1 or more")
        if self.long_context_tokens < 0 or (self.clip_limit is not None and self.clip_limit < 1):
            raise ValueError("Settings: long_context_tokens must not be negative, clip_limit must be 1 or more")
        if not self.seeds or not self.extra_seeds:
            raise ValueError("Settings: seeds and extra_seeds need at least one seed each")

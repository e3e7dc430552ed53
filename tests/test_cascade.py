"""The cascade: what its dial does, item by item; and that an audit's figures follow it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from earwitness import audit, foley, scoring
from earwitness import run as runs
from earwitness.curate.starter import building, sounding, table
from earwitness.curate.starter.table import Source
from earwitness.models.cascade import Cascade, Named, make, read_words, squares
from earwitness.models.cascade_lag import lag
from earwitness.models.load import load_model
from earwitness.protocols import Settings, load
from earwitness.records import Clip, Event, Intervention, Item, Judged, Media, View, Wave
from nearest_witnesses import fitted

ROOT = Path(__file__).parent.parent
DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)
NAMES = ("cow", "dog", "pig")
WORDS = {n: Named((n,), (n,)) for n in NAMES}


class Fixed:
    """A witness that always says the same."""

    id = "fixed"
    labels = NAMES

    def __init__(self, *scores: float) -> None:
        self.scores = np.array(scores, dtype=np.float32)

    def hear(self, wave: Any, rate: int) -> Any:
        return self.scores

    def see(self, frames: Any) -> Any:
        return self.scores


def media(*, loud: bool = True, bright: bool = True, key: int = 0) -> Media:
    frames = np.full((4, 8, 8, 3), 90 + key if bright else 0, dtype=np.uint8)
    wave = np.full((1, 1600), 0.1 + 0.001 * key if loud else 0.0, dtype=np.float32)
    return Media(frames, np.arange(4) / 4, wave, 1600, 1.0)


def item(question: str = "audio", **more: Any) -> Item:
    base = {
        "id": "i", "protocol": "mma", "condition": "aligned", "question": question, "clip": "c", "source": "c",
        "group": "g", "intervention": Intervention(), "prompt": "?", "choices": NAMES, "target": None,
    }  # fmt: skip
    return Item(**{**base, **more})


def cascade(ear: Fixed, eye: Fixed, dial: float) -> Cascade:
    return Cascade(ear, eye, dial, words=WORDS)


def says(model: Cascade, asked: Item, shown: Media) -> str:
    return model.answer([asked], [shown])[0].text or ""


def test_it_hears_at_one_end_and_sees_at_the_other() -> None:
    ear, eye = Fixed(0.9, 0.05, 0.05), Fixed(0.05, 0.9, 0.05)
    assert [says(cascade(ear, eye, d), item(), media()) for d in (0.0, 1.0)] == ["cow", "dog"]
    assert {says(cascade(ear, eye, d), item("visual"), media()) for d in DIALS} == {"dog"}


def test_silence_is_noticed_by_who_listens_and_black_by_all_who_look() -> None:
    ear, eye = Fixed(0.9, 0.05, 0.05), Fixed(0.05, 0.9, 0.05)
    quiet, black = media(loud=False), media(bright=False)
    assert says(cascade(ear, eye, 0.0), item(), quiet) == "There is no sound in this video."
    assert says(cascade(ear, eye, 1.0), item(), quiet) == "dog"
    assert says(cascade(ear, eye, 0.5), item("visual"), black) == "There is no picture in this video."
    assert says(cascade(ear, eye, 1.0), item(), black) == "There is no sound in this video."
    offered = item(choices=(*NAMES, "None of the above"), style="abstention")
    assert says(cascade(ear, eye, 0.0), offered, quiet) == "None of the above"


def test_choices_have_log_probabilities_below_one() -> None:
    answer = cascade(Fixed(0.9, 0.05, 0.05), Fixed(0.1, 0.8, 0.1), 0.4).answer([item()], [media()])[0]
    assert answer.logprobs is not None
    assert set(answer.logprobs) == set(NAMES)
    assert 0.9 < sum(np.exp(list(answer.logprobs.values()))) < 1
    assert max(answer.logprobs, key=lambda k: answer.logprobs[k]) == answer.text  # type: ignore[index]


score = st.floats(0, 1, width=32)


@given(ear=st.tuples(score, score, score), eye=st.tuples(score, score, score), loud=st.booleans())
def test_whatever_is_guessed_at_one_dial_is_guessed_at_every_higher_one(
    ear: tuple[float, ...], eye: tuple[float, ...], loud: bool
) -> None:
    shown = media(loud=loud)
    models = [cascade(Fixed(*ear), Fixed(*eye), d) for d in DIALS]
    seen = says(models[0], item("visual"), shown)
    follows = [says(m, item(), shown) == seen for m in models]
    assert follows == sorted(follows)
    tell = [
        [says(m, item(q, protocol="thud", choices=(), style="direct"), shown) for m in models]
        for q in ("mute", "swap")
    ]
    for answers, guess in zip(tell, ("sound", "yes"), strict=True):
        hits = [a == guess for a in answers]
        assert hits == sorted(hits), answers


@given(st.integers(-25, 25), st.integers(0, 5))
def test_a_lag_is_found_and_believed_the_less_the_higher_the_dial(steps: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    at = 40
    frames = np.full((100, 16, 16, 3), 60, dtype=np.uint8)
    frames[at : at + 6] = 200
    wave = np.zeros((1, 100 * 128), dtype=np.float32)
    heard = (at + steps) * 128
    wave[:, heard : heard + 6 * 128] = dice.normal(0, 0.2, 6 * 128)
    found = [lag(frames, wave, 1600, 12.5, d) for d in DIALS]
    assert abs(found[0] - steps / 12.5) <= 0.081
    assert found[-1] == 0.0
    in_step = [abs(f) < 0.2 for f in found]
    assert in_step == sorted(in_step)


def test_wide_pictures_are_looked_at_in_squares() -> None:
    wide = np.zeros((9, 20, 40, 3), dtype=np.uint8)
    assert [s.shape for s in squares(wide)] == [(4, 20, 20, 3)] * 2
    assert [s.shape for s in squares(wide[:, :, :20])] == [(4, 20, 20, 3)]


@pytest.mark.parametrize("dial", ["2", "-0.1", "half", "nan"])
def test_a_dial_is_a_number_from_0_to_1(dial: str) -> None:
    with pytest.raises(ValueError, match="the dial is a number"):
        load_model(f"cascade:{dial}")


def test_without_weights_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from earwitness.models import cascade as module

    monkeypatch.setenv("EARWITNESS_CACHE", str(tmp_path))
    module._opened.cache_clear()
    with pytest.raises(ValueError, match="witnesses_fetch"):
        make("0.5")
    with pytest.raises(ValueError, match="takes no batch"):
        load_model("cascade:0.5", batch=2)


def test_every_class_of_the_starter_set_is_a_word() -> None:
    words = read_words()
    lacking = {s.what for s in table.read() if not s.out} - set(words) - {"donkey"}
    assert not lacking


def test_it_passes_the_ear_and_eye_check() -> None:
    clip = foley.media(foley.scene(11), load_model("fake:hears").view)
    report = audit.check_model(cascade(Fixed(0.9, 0, 0), Fixed(0, 0.9, 0), 1.0), clip)
    assert {row["organ"] for row in report} == {"audio", "visual"}


# --- the dial and the audit's figures, on the committed photos and recordings


LOOK = View(fps=12.5, max_pixels=112 * 112)


class Made:
    """Clips as the starter set renders them, one a source, and scenes of two, without going through files."""

    def __init__(self, sources: Sequence[Source]) -> None:
        held, _ = building._files(sources, Path(), print)
        self.kept: dict[str, Media] = {}
        self.parts: dict[str, dict[str, Wave]] = {}
        self.clips: list[Clip] = []
        for source in sources:
            pair = building._pair(source, held, Path(tempfile.gettempdir()), 0)
            pair.sounds.append(sounding.sound(pair.recording, 0, pair.key, long=False))
            frames = np.ascontiguousarray(pair.frames(0, every=2)[:, 1::3, 1::3])
            wave = soxr.resample(pair.sounds[0].wave[0], sounding.RATE, 16_000)
            seconds = len(frames) / LOOK.fps
            wave = np.pad(wave, (0, 16_000))[: round(seconds * 16_000)].astype(np.float32)[None]
            self.kept[source.id] = Media(frames, np.arange(len(frames)) / LOOK.fps, wave, 16_000, seconds)
            events = tuple(Event(source.what, t, t) for t in pair.sounds[0].onsets)
            self.clips.append(
                Clip(id=source.id, end=seconds, seen=(source.what,), heard=(source.what,), events=events)
            )
        for first, other in zip(self.clips[::2], self.clips[1::2], strict=True):
            self._scene(first, other)

    def _scene(self, first: Clip, other: Clip) -> None:
        one, two = self.kept[first.id], self.kept[other.id]
        assert one.frames is not None
        assert two.frames is not None
        assert one.wave is not None
        assert two.wave is not None
        count = min(len(one.frames), len(two.frames))
        frames = np.concatenate([one.frames[:count], two.frames[:count]], axis=2)
        size = round(count / LOOK.fps * 16_000)
        waves = {c.heard[0]: w[:, :size] / 2 for c, w in ((first, one.wave), (other, two.wave))}
        name = f"{first.id}+{other.id}"
        self.parts[name] = waves
        self.kept[name] = Media(frames, np.arange(count) / LOOK.fps, sum(waves.values()), 16_000, count / LOOK.fps)  # type: ignore[arg-type]
        things = (*first.seen, *other.seen)
        self.clips.append(Clip(id=name, end=count / LOOK.fps, seen=things, heard=things, stems=things))

    def media(self, clip: Clip, view: View) -> Media:
        return self.kept[clip.id]

    def stems(self, clip: Clip, view: View) -> Mapping[str, Wave]:
        return self.parts.get(clip.id, {})

    def file(self, clip: Clip, folder: Path) -> Path:
        raise ValueError("in memory")


@pytest.fixture(scope="module")
def curves(conditions_once: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every measure at five dials, of an ear and an eye fitted by nearest neighbours on the committed sources."""
    sys.path.append(str(ROOT))
    try:
        from benchmarks.dose_response import courses
    finally:
        sys.path.remove(str(ROOT))
    folder = tmp_path_factory.mktemp("dose")
    some = [s for s in table.read() if s.id in ("cow", "dog", "duck", "bata")]
    ear, eye = fitted(some)
    words = {s.what: Named((s.what,), (s.what,)) for s in some}
    clips = Made(some)
    settings = Settings(
        seeds=(0,),
        mma_conditions=("aligned", "audio_swapped", "frames_zeroed", "audio_removed"),
        thud_styles=("neutral",), thud_conditions=("original", "shift", "mute", "swap"),
        confuse_styles=("neutral",), confuse_conditions=("full", "muted"),
    )  # fmt: skip
    asked = [i for name in ("mma", "thud", "av_confuse") for i in load(name).items(clips.clips, settings)]
    judged = []
    for dial in DIALS:
        at = folder / f"{dial:g}"
        at.mkdir()
        audit.ask(Cascade(ear, eye, dial, words=words, view=LOOK), clips, asked, at)
        answers = runs.read_answers(at)
        judged.append([Judged(i, answers[i.id], scoring.score(i, answers[i.id])) for i in asked])
    return {f"{c.panel}: {c.label}": c for c in courses(judged, DIALS, draws=100)}


@pytest.mark.parametrize(
    "name",
    [
        "conflict: names what is heard", "conflict: names what is seen", "sound muted: names what is seen (leak)",
        "sound muted: describes a sound (Mute Hallucination)", "sound muted: may abstain: abstains",
        "sound swapped: finds that they match (Swap False-Match)",
        "sound moved: finds it in step (Offset Blindness)",
        "sound moved: direction right", "picture black: names what is heard",
    ],
)  # fmt: skip
def test_the_audit_s_figures_follow_the_dial(curves: dict[str, Any], name: str) -> None:
    curve = curves[name]
    shares = [e.value for e in curve.shares]
    assert curve.against <= 1e-9, shares
    assert curve.way * (shares[-1] - shares[0]) >= 0.5, shares
    assert curve.way * curve.rho > 0.7


def test_what_is_seen_is_answered_alike_at_every_dial(curves: dict[str, Any]) -> None:
    shares = [e.value for e in curves["conflict: asked what is seen: right"].shares]
    assert len(set(shares)) == 1
    assert shares[0] > 0.6


def test_a_figure_that_goes_the_wrong_way_is_seen() -> None:
    sys.path.append(str(ROOT))
    try:
        from benchmarks.dose_response import monotone
    finally:
        sys.path.remove(str(ROOT))
    rising = np.tile([0.0, 0.2, 0.5, 0.7, 1.0], (8, 1))
    rho, p, against = monotone(rising, np.array(DIALS), 1)
    assert (rho, against) == (pytest.approx(1.0), 0.0)
    assert p < 0.01
    wrong = monotone(rising, np.array(DIALS), -1)
    assert wrong[1] > 0.5
    assert wrong[2] == pytest.approx(0.3)

"""Controls and model names: fakes say what their wiring implies, in words that parse, from the media they get."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earwitness.models import Model
from earwitness.models.fake import KINDS, control, describe
from earwitness.models.load import known, load_model
from earwitness.questions import (
    answer_choices,
    content_prompt,
    describe_prompt,
    instrument_prompt,
    judge_mute,
    judge_shift,
    judge_swap,
    parse_choice,
    parse_letter,
    parse_yes_no,
    recall,
    thud_prompt,
)
from earwitness.records import NONE_OF_THE_ABOVE, REFUSED, UNPARSED, Answer, Item, Media, View

CLASSES = ("bell", "drum", "acoustic_guitar")
LETTER = {"A": "SYNC", "B": "DELAY", "C": "EARLY"}


def clip(seed: int = 0) -> Media:
    rng = np.random.default_rng(seed)
    wave = (0.1 * rng.standard_normal((1, 32_000))).astype(np.float32)
    frames = rng.integers(0, 255, (4, 28, 28, 3), dtype=np.uint8)
    return Media(frames=frames, times=np.arange(4) / 2, wave=wave, rate=16_000, duration=2.0)


def silenced(media: Media) -> Media:
    return media.with_wave(np.zeros_like(media.wave))


def make(question: str, prompt: str, **kw: Any) -> Item:
    fields: dict[str, Any] = {
        "id": f"{question}-{prompt}-{sorted(kw.items())}", "protocol": "p", "condition": "original", "clip": "c",
        "source": "c", "group": "g", "target": None, "seen": ("bell",), "heard": ("bell",),
    }  # fmt: skip
    return Item(question=question, prompt=prompt, **{**fields, **kw})


def say(kind: str, item: Item, media: Media | None = None) -> str:
    (answer,) = control(kind).answer([item], [media or clip()])
    assert answer.error is None
    return answer.text or ""


def content(kind: str, question: str, media: Media, style: str = "standard", none: bool = False, **kw: Any) -> str:
    choices = (*CLASSES, NONE_OF_THE_ABOVE) if none else CLASSES
    modality: Any = question
    item = make(question, content_prompt(modality, choices, style), choices=choices, style=style, **kw)
    return parse_choice(say(kind, item, media), choices, modality=modality, reasoned=style == "cot")


@pytest.mark.parametrize("style", ["standard", "cot"])
def test_listener_hears_the_sound_and_watcher_sees_it(style: str) -> None:
    swapped = {"seen": ("bell",), "heard": ("drum",)}
    for kind, heard in (("hears", "drum"), ("sees", "bell")):
        assert content(kind, "audio", clip(), style, **swapped) == heard
        assert content(kind, "visual", clip(), style, **swapped) == "bell"
    named = content("hears", "audio", clip(), style, heard=("Acoustic guitar",))
    assert named == "acoustic_guitar", "the option as the item spells it"


def test_absence_is_answered_from_the_media_really_given() -> None:
    """The item still says heard=bell; the wave is silent: a control that believed the item would hallucinate."""
    quiet, dark = silenced(clip()), clip().with_frames(np.zeros((4, 28, 28, 3), np.uint8))
    for media in (quiet, clip().with_wave(None)):
        assert content("hears", "audio", media, none=True) == NONE_OF_THE_ABOVE
        assert content("hears", "audio", media) == REFUSED
        assert content("sees", "audio", media, none=True) == "bell", "it hears what it sees"
    assert content("hears", "visual", dark, none=True) == NONE_OF_THE_ABOVE
    assert content("sees", "audio", dark, none=True) == NONE_OF_THE_ABOVE
    assert content("hears", "audio", dark, none=True) == "bell"


def test_thud_answers_of_the_controls() -> None:
    mute, swap = thud_prompt("mute"), thud_prompt("swap")
    assert judge_mute(say("hears", make("mute", mute))).label == "SOUND_DESCRIBED"
    assert judge_mute(say("hears", make("mute", mute), silenced(clip()))).label == "SILENT"
    assert judge_mute(say("sees", make("mute", mute), silenced(clip()))).label == "SOUND_DESCRIBED"
    donor = make("swap", swap, heard=("drum",))
    assert judge_swap(say("hears", make("swap", swap)), CLASSES).label == "MATCH"
    assert judge_swap(say("hears", donor), CLASSES).label == "MISMATCH"
    for kind in ("sees", "synced"):
        assert judge_swap(say(kind, donor), CLASSES).label == "MATCH"
    closed = make("swap", thud_prompt("swap", "direct"), style="direct", heard=("drum",))
    assert (say("hears", closed), say("sees", closed)) == ("no", "yes")


@pytest.mark.parametrize("offset", [-2.1, -0.4, 0.0, 0.8, 2.5])
def test_shift_answers_state_direction_and_seconds(offset: float) -> None:
    label = "SYNC" if offset == 0 else "DELAY" if offset > 0 else "EARLY"
    open_, letters = thud_prompt("shift"), thud_prompt("shift", "direct")
    verdict = judge_shift(say("hears", make("shift", open_, offset=offset)))
    assert verdict.label == label
    if offset:
        assert verdict.offset == pytest.approx(offset, abs=0.051)
    direct = make("shift", letters, style="direct", choices=answer_choices("shift", "direct"), offset=offset)
    assert LETTER[parse_letter(say("hears", direct))] == label
    for kind in ("sees", "synced"):
        assert judge_shift(say(kind, make("shift", open_, offset=offset))).label == "SYNC"
        assert parse_letter(say(kind, direct)) == "A"


def test_av_confuse_answers() -> None:
    def muted(kind: str, **kw: Any) -> str:
        item = make("muted", instrument_prompt("acoustic_guitar"), asked="acoustic_guitar", **kw)
        return parse_yes_no(say(kind, item), "acoustic_guitar")

    there, gone = ("bell", "Acoustic guitar"), ("bell",)
    assert (muted("hears", heard=there), muted("hears", heard=gone)) == ("yes", "no")
    assert muted("sees", seen=there, heard=gone) == "yes"
    assert muted("synced", seen=gone, heard=gone) == "yes"
    assert (muted("yes"), muted("no")) == ("yes", "no")
    item = make("modified", describe_prompt(), seen=("bell",), heard=("wind",))
    assert recall(say("hears", item), ("wind",)) == 1
    assert recall(say("sees", item), ("wind",)) == 0


def test_prior_only_controls_look_at_nothing() -> None:
    items = [make("audio", content_prompt("audio", CLASSES), choices=CLASSES, id=f"i{n}") for n in range(300)]
    answers = control("random").answer(items, [clip()] * 300)
    counts = [sum(a.text == c for a in answers) for c in CLASSES]
    assert sum(counts) == 300
    assert min(counts) > 60
    assert {a.text for a in control("common").answer(items, [clip()] * 300)} == {"bell"}
    assert parse_letter(say("common", make("shift", thud_prompt("shift", "direct"), style="direct"))) == "B"
    assert say("parrot", items[0]) == items[0].prompt
    assert parse_choice(say("parrot", items[0]), CLASSES, modality="audio") == UNPARSED


def test_silent_is_an_error_and_crashes_raises_on_every_third_item() -> None:
    items = [make("audio", content_prompt("audio", CLASSES), choices=CLASSES, id=f"i{n}") for n in range(7)]
    for answer in control("silent").answer(items, [clip()] * 7):
        assert (answer.text, bool(answer.error)) == (None, True)
    crasher = control("crashes")
    with pytest.raises(RuntimeError, match="every third item"):
        crasher.answer(items, [clip()] * 7)
    failed = []
    for item in items:  # one by one, as an audit retries
        try:
            crasher.answer([item], [clip()])
        except RuntimeError:
            failed.append(item.id)
    assert failed == ["i2", "i5"]


def check_item(organ: str) -> Item:
    return make(organ, f"Describe the {organ}.", protocol="check")


def check(model: Model, organ: str) -> list[Answer]:
    """Answers to the ear or eye check, as audit.check_model asks them."""
    media, tone = clip(), np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)[None].astype(np.float32) * 0.1
    black = media.with_frames(np.zeros_like(media.frames))
    given = {"audio": (media, media.with_wave(tone), silenced(media)), "visual": (media, black)}[organ]
    return [model.answer([check_item(organ)], [m])[0] for m in given]


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("deaf", "blind", "stuck")])
def test_every_other_control_passes_the_ear_and_eye_check(kind: str) -> None:
    for organ, track in (("audio", "audio_hash"), ("visual", "video_hash")):
        answers = check(control(kind), organ)
        assert len({getattr(a.fed, track) for a in answers}) == len(answers)
        assert len({a.text for a in answers}) == len(answers)
        assert all(a.error is None for a in answers)


def test_deaf_blind_and_stuck_wrappers_show_in_text_and_receipts() -> None:
    deaf = check(control("deaf"), "audio")
    assert {a.fed.audio_hash for a in deaf if a.fed} == {None}
    assert {a.fed.audio_rms for a in deaf if a.fed} == {None}
    stuck = check(control("stuck"), "audio")
    assert {a.fed.audio_hash for a in stuck if a.fed} == {clip().audio_hash}
    blind = check(control("blind"), "visual")
    assert {a.fed.video_hash for a in blind if a.fed} == {None}
    for answers in (deaf, stuck, blind):
        assert len({a.text for a in answers}) == 1


def test_descriptions_come_from_the_arrays() -> None:
    wave = (0.1 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000))[None].astype(np.float32)
    assert describe("audio", clip().with_wave(wave)) == "I hear a sound of -23.0 dB, strongest at 440 Hz."
    assert "no audio track" in describe("audio", clip().with_wave(None))
    assert describe("visual", clip().with_frames(np.zeros((4, 28, 28, 3), np.uint8))) == "I see a black screen."


def test_receipts_of_controls_are_measured() -> None:
    (answer,) = control("hears").answer([make("mute", thud_prompt("mute"))], [clip()])
    fed = answer.fed
    assert fed is not None
    assert (fed.frames, fed.height, fed.width, fed.audio_seconds) == (4, 28, 28, 2.0)
    assert fed.audio_rms == pytest.approx(0.1, rel=0.02)
    assert (fed.video_hash, fed.audio_hash) == (clip().video_hash, clip().audio_hash)


# --- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_fake_loads_by_name_and_keeps_the_protocol(kind: str) -> None:
    model = load_model(f"fake:{kind}", fps=4.0)
    assert model.name == f"fake:{kind}"
    assert model.view == View(size=(112, 112), fps=4.0)
    answers = model.answer([check_item("audio"), check_item("visual")], [clip(), clip()])
    assert [a.item for a in answers] == [check_item("audio").id, check_item("visual").id]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt", "known: hans, hans-cured, fake:KIND, cascade:DIAL, qwen2.5-omni:"),
        ("", "unknown model ''"),
        ("fake:listens", "there are fake:hears, fake:sees"),
        ("qwen2.5-omni:", "say qwen2.5-omni:PATH-OR-HUB-ID"),
        ("nowhere.models:make", "there is no module nowhere"),
        ("earwitness.models.fake:listen", "has no listen"),
        ("builtins.str:x", "no module"),
    ],
)
def test_wrong_names_say_what_exists(name: str, message: str) -> None:
    for refuses in (load_model, known):  # and none of these needs a model to be made
        with pytest.raises(ValueError, match=message):
            refuses(name)


def test_what_may_be_there_is_not_refused_unopened() -> None:
    for name in (
        "hans",
        "fake:hears",
        "cascade:0.5",
        "qwen3-omni:Lab/Model",
        "openai:http://127.0.0.1:9#m",
        "gemini:x",
    ):
        known(name)
    for name, says in (("cascade:2", "from 0"), ("vllm:/nowhere", "no folder"), ("qwen2.5-omni:./no", "no folder")):
        with pytest.raises(ValueError, match=says):
            known(name)
    with pytest.raises(ValueError, match="takes no parts"):
        known("hans", parts="video")


def test_a_third_partys_factory_gets_the_options_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "__init__.py").write_text("")
    (tmp_path / "my_lab" / "models.py").write_text(
        "from earwitness.models.fake import control\n"
        "def ears(**options):\n    made = control('hears')\n    made.options = options\n    return made\n"
        "def broken():\n    return object()\n"
        "def needy():\n    import package_that_is_not_there\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model: Any = load_model("my_lab.models:ears", device="cpu", batch=3)
    assert model.options == {"device": "cpu", "batch": 3}
    with pytest.raises(ValueError, match="without name, revision, view, abilities, answer"):
        load_model("my_lab.models:broken")
    with pytest.raises(ValueError, match="needs the package package_that_is_not_there"):
        load_model("my_lab.models:needy")


def test_missing_local_extra_is_one_clear_line() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from earwitness.models.load import known, load_model\n"
        "try:\n    load_model('qwen3-omni:somewhere')\n"
        "except ValueError as error:\n    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == (
        "qwen3-omni:somewhere runs on this machine and needs torch: pip install 'earwitness[local]'"
    )


def test_names_and_controls_load_no_torch() -> None:
    code = (
        "import sys; from earwitness.models.load import known, load_model; load_model('fake:hears');"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="no folder"):
        load_model(f"qwen2.5-omni:{tmp_path / 'nothing'}")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="holds a 'bert' model"):
        load_model(f"qwen2.5-omni:{tmp_path}")
    with pytest.raises(ValueError, match="attention 'flash' is not known"):
        load_model(f"qwen2.5-omni:{tmp_path}", attn="flash")

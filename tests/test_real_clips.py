"""Real AudioSet clips: looked at, rendered, and audited with Hans and with a tiny random Qwen3-Omni."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from earwitness import media, session
from earwitness import run as runs
from earwitness.media.look import look
from earwitness.records import View

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "clips"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not SHARED.is_dir(), reason="no real clips: set EARWITNESS_SHARED to the folder that holds data/clips"
    ),
]
# What the pictures show, by eye; the swapped clips' names carry what they sound like.
TRUTH: dict[str, tuple[str, str]] = {
    "Y9ivV2chJLa4_repDiff_Cat_0.mp4": ("French horn", "cat"),
    "YRz7RBslEAG0_repDiff_Frog_0.mp4": ("accordion", "frog"),
    "YkX4-OMWCdCc_repDiff_Didgeridoo_0.mp4": ("cello", "didgeridoo"),
    "canidae_aligned.mp4": ("dog", "dog"),
    "no_audio_track.mp4": ("teddy bear", ""),
}
QUICK = {"seeds": "0", "long_context_tokens": "30", "mma_styles": "standard", "thud_styles": "direct"}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    rows = [
        {"path": str((SHARED / name).resolve()), "seen": [seen], "heard": [heard] if heard else []}
        for name, (seen, heard) in TRUTH.items()
    ]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("path", sorted(SHARED.glob("*.mp4")), ids=lambda p: p.stem)
def test_every_clip_can_be_looked_at_and_changed(path: Path, tmp_path: Path) -> None:
    seen = look(path)
    silent = path.stem == "no_audio_track"
    assert (seen.probe.sound is None) == silent
    assert media.strip_png(path, tmp_path / "strip.png").probe.duration == seen.probe.duration
    for kind, more in (("mute", {}), ("shift", {"by": 0.4}), ("black", {}), ("freeze", {})):
        out = tmp_path / f"{kind}.mp4"
        if silent and kind == "shift":
            with pytest.raises(ValueError, match="no audio track"):
                session.render(kind, [path], out, **more)
            continue
        assert session.render(kind, [path], out, **more).added_track == (silent and kind == "mute")
        got = media.load(out, View(size=(36, 64)))
        assert got.duration == pytest.approx(seen.probe.duration, abs=0.05)
        if kind == "mute":
            assert got.wave is not None
            assert not got.wave.any()


def _audit(model: str, clips: Path, out: Path, protocols: tuple[str, ...]) -> None:
    job = session.prepare(model=model, clips=str(clips), protocols=protocols, settings={**QUICK, "clip_limit": "2"})
    result = session.run(job, out)
    answers = runs.read_answers(out)
    assert set(answers) == {item.id for item in job.items}
    failed = {a.error for a in answers.values() if a.error}
    assert result.failed_share == 0, failed
    heard = [a.fed for a in answers.values() if a.fed and a.fed.audio_tokens]
    assert heard
    assert (out / "report.html").exists()


@pytest.mark.usefixtures("few_media")
def test_hans_is_audited_on_real_clips(labelled: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    _audit("hans", labelled, tmp_path / "run", ("mma", "thud", "av-confuse"))


@pytest.mark.usefixtures("few_media")
def test_a_tiny_random_qwen3_omni_is_audited_on_real_clips(labelled: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tiny_thinkers import save

    checkpoint = save("qwen3-omni", tmp_path / "tiny", view={"view": {"fps": 1.0, "size": [64, 64]}})
    _audit(f"qwen3-omni:{checkpoint}", labelled, tmp_path / "run", ("mma",))

"""A folder of clips with labels: what is right is read, each mistake a person would make is named with its line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from earwitness import foley, media
from earwitness.datasets import folder
from earwitness.datasets.labels import LabelsError
from earwitness.protocols import NAMES, Settings, load
from earwitness.records import Event, View

CLIPS = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "clips"
VIEW = View(fps=4, size=(24, 32), rate=8000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two 4 s clips, dog.mp4 and cat.mp4, and mum.mp4 without a sound track."""
    at = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for name in ("dog", "cat", "mum"):
        frames = rng.integers(0, 255, (16, 24, 32, 3)).astype(np.uint8)
        wave = (0.1 * rng.standard_normal((1, 32_000))).astype(np.float32)
        media.write_clip(frames, 4.0, None if name == "mum" else wave, 8000, at / f"{name}.mp4")
    return at


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    for file in made.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def write(home: Path, text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    (home / name).write_bytes(text.encode(encoding))
    return home


def test_csv_and_jsonl_say_the_same(home: Path) -> None:
    table = (
        "path,seen,heard,events,source,licence\n"
        "# a comment\n"
        'dog.mp4,dog,"Male speech, man speaking|dog",bark@2.0/2.1|fall@-/3,walk,CC0\n'
        "\n"
        "cat.mp4,cat,cat,meow@1.5,,\n"
    )
    csv = folder.read(write(home, table))
    lines = (
        '{"path": "dog.mp4", "seen": ["dog"], "heard": ["Male speech, man speaking", "dog"], "source": "walk", '
        '"licence": "CC0", "events": [{"what": "bark", "seen": 2.0, "heard": 2.1}, {"what": "fall", "heard": 3}]}\n'
        '{"path": "cat.mp4", "seen": ["cat"], "heard": ["cat"], '
        '"events": [{"what": "meow", "seen": 1.5, "heard": 1.5}]}\n'
    )
    jsonl = folder.read(write(home, lines, "other.jsonl") / "other.jsonl")
    assert csv.clips == jsonl.clips
    dog, cat = csv.clips
    assert (dog.id, dog.source, dog.heard) == ("dog", "walk", ("Male speech, man speaking", "dog"))
    assert dog.events == (Event("bark", 2.0, 2.1), Event("fall", None, 3.0))
    assert cat.cluster == "cat"
    assert cat.end == pytest.approx(4.0, abs=0.01)


def test_media_crops_and_files(home: Path, tmp_path: Path) -> None:
    text = "path,id,seen,start,end\ndog.mp4,whole,dog,,\ndog.mp4,part,dog,1.0,3.0\n"
    clips = folder.read(write(home, text))
    whole, part = (clips.media(c, VIEW) for c in clips.clips)
    assert whole.wave is not None
    assert part.wave is not None
    assert whole.wave.shape == (1, 32_000)
    assert part.wave.shape == (1, 16_000)
    assert part.frames is not None
    assert part.frames.shape == (8, 24, 32, 3)
    np.testing.assert_allclose(part.wave, whole.wave[:, 8000:24_000], atol=2e-3)
    assert clips.file(clips.clips[0], tmp_path) == home / "dog.mp4"
    cut = clips.file(clips.clips[1], tmp_path / "cut")
    assert media.probe(cut).duration == pytest.approx(2.0, abs=0.05)
    assert dict(clips.stems(clips.clips[0], VIEW)) == {}


def test_foley_written_and_read_is_the_same(tmp_path: Path) -> None:
    there = foley.clip_set(2, seed=4, sources=2, duration=1.0)
    foley.write(tmp_path, there)
    back = folder.read(tmp_path)
    for one, other in zip(there.clips, back.clips, strict=True):
        assert (one.id, one.seen, one.events, one.stems) == (other.id, other.seen, other.events, other.stems)
        view = View(fps=2, size=(48, 64), rate=48_000)
        wave, stems = back.media(other, view).wave, back.stems(other, view)
        assert set(stems) == set(one.stems)
        assert wave is not None
        np.testing.assert_allclose(sum(stems.values()), wave, atol=2e-3)
    assert all(load(name).items(back.clips, Settings(long_context_tokens=10)) for name in ("thud", "av_confuse"))


SLIPS = [
    ("path,seen\ndgo.mp4,dog\n", r"line 2: path 'dgo.mp4'.*did you mean 'dog.mp4'"),
    ("path,sean\ndog.mp4,dog\n", r"line 1: unknown column 'sean' \(did you mean 'seen'\?\)"),
    ("file,seen\ndog.mp4,dog\n", r"line 1: unknown column 'file'"),
    ("seen,heard\ndog,dog\n", r"line 1: has no column path"),
    ("path,seen,seen\ndog.mp4,dog,dog\n", r"line 1: column 'seen' stands there twice"),
    ("dog.mp4\ncat.mp4\n", r"line 1: .*no header line"),
    ("path,seen\ndog.mp4,dog,extra\n", r"line 2: has 3 fields, the header has 2 .*quoted"),
    ("path,seen,heard\ndog.mp4,dog\n", r"line 2: has 2 fields, the header has 3"),
    ("path,seen\ndog.mp4,dog\n\n# x\ndog.mp4,cat\n", r"line 5: path 'dog.mp4' stands on line 2 already"),
    ("path,id\ndog.mp4,a\ncat.mp4,a\n", r"line 3: id 'a' stands on line 2 already"),
    ("path,start,end\ndog.mp4,0,2\ndog.mp4,2,4\n", r"line 3: id 'dog' .*crops of one file"),
    ("path,seen\nC:\\clips\\dog.mp4,dog\n", r"line 2: path .* is a Windows path"),
    ("path,seen\n.,dog\n", r"line 2: path '.' is a folder"),
    ("path,seen\n,dog\n", r"line 2: path is missing"),
    ("path,seen\ndog.mp4,dog||cat\n", r"line 2: seen has an empty name"),
    ("path,seen\ndog.mp4,dog|Dog\n", r"line 2: seen names something twice"),
    ("path,events\ndog.mp4,bark\n", r"line 2: events: 'bark' is not what@seen/heard"),
    ("path,events\ndog.mp4,bark@2100\n", r"line 2: event 'bark' is seen at 2100 s.*milliseconds\? 2.1 s would fit"),
    ("path,events\ndog.mp4,bark@-2.1\n", r"line 2: event 'bark' is seen at -2.1 s.*wrong sign"),
    ("path,events\ndog.mp4,bark@3/1\n", r"line 2: .*2.00 s apart \(seen and heard swapped"),
    ("path,events\ndog.mp4,bark@1/3\n", r"line 2: .*2.00 s apart \(a shifted clip"),
    ("path,events\ndog.mp4,bark@5\n", r"line 2: event 'bark' is seen at 5 s, outside of the clip's 4.00 s"),
    ("path,start,end,events\ndog.mp4,2,4,bark@3.5\n", r"line 2: .*uncut file\? 1.5 s would fit"),
    ("path,start,end\ndog.mp4,3,1\n", r"line 2: end=1 is not after start=3"),
    ("path,start,end\ndog.mp4,-1,1\n", r"line 2: start=-1 .*wrong sign"),
    ("path,end\ndog.mp4,3000\n", r"line 2: end=3000 s is beyond the file's 4.00 s; milliseconds\? 3 s"),
    ("path,end\ndog.mp4,2.5s\n", r"line 2: end wants seconds, got '2.5s' \(leave the unit out\)"),
    ("path;end\ndog.mp4;2,5\n", r"line 2: end: '2,5' has a decimal comma; write 2.5"),
    ("path,end\ndog.mp4,0:03\n", r"line 2: end: '0:03' is minutes and seconds"),
    ("path,end\ndog.mp4,nan\n", r"line 2: end wants finite seconds"),
    ("path,heard\nmum.mp4,dog\n", r"line 2: heard is dog, but the file has no sound track"),
    ("path,stems\ndog.mp4,violin\n", r"line 2: stem 'violin': there is no stems/dog/violin.wav"),
    ("path,seen\n\n", r"holds no clips"),
    ("", r"is empty"),
    ('path,seen\ndog.mp4,"dog\n', r"line 2: cannot be read as CSV.*unclosed"),
]


@pytest.mark.parametrize(("text", "message"), SLIPS)
def test_slips_are_named_with_their_line(home: Path, text: str, message: str) -> None:
    with pytest.raises(LabelsError, match=r"(?s)labels.csv.*" + message):
        folder.read(write(home, text))


JSON_SLIPS = [
    ('{"path": "dog.mp4", "herd": ["dog"]}\n', r"line 1: unknown column 'herd' \(did you mean 'heard'\?\)"),
    ('{"path": "dog.mp4"}\n{"path": "cat.mp4",}\n', r"line 2: is no JSON"),
    ('[{"path": "dog.mp4"}]', r"line 1: is one JSON array"),
    ('"dog.mp4"\n', r"line 1: wants an object"),
    ('{"path": "dog.mp4", "seen": [1]}\n', r"line 1: seen wants names"),
    ('{"path": "dog.mp4", "end": true}\n', r"line 1: end wants seconds, got True"),
    ('{"path": "dog.mp4", "id": 7}\n', r"line 1: id wants text, got 7"),
    ('{"path": "dog.mp4", "events": [{"what": "x", "saw": 1}]}\n', r"line 1: events: unknown field 'saw'"),
    ('{"path": "dog.mp4", "events": [{"seen": 1}]}\n', r"line 1: events wants"),
]


@pytest.mark.parametrize(("text", "message"), JSON_SLIPS)
def test_slips_in_jsonl_too(home: Path, text: str, message: str) -> None:
    with pytest.raises(LabelsError, match=r"(?s)labels.jsonl.*" + message):
        folder.read(write(home, text, "labels.jsonl"))


def test_all_mistakes_are_told_at_once(home: Path) -> None:
    text = "path,seen\n" + "".join(f"gone{i}.mp4,dog\n" for i in range(12))
    with pytest.raises(LabelsError) as error:
        folder.read(write(home, text))
    assert str(error.value).count("no such file") == 10
    assert "and 2 more" in str(error.value)


def test_spreadsheets_are_read(home: Path) -> None:
    clips = folder.read(write(home, "\ufeffpath;seen;heard\r\ndog.mp4;dog;dog\r\n", encoding="utf-8"))
    assert clips.clips[0].seen == ("dog",)
    (home / "sub").mkdir()
    (home / "sub" / "dog.mp4").symlink_to((home / "dog.mp4").resolve())
    back = folder.read(write(home, "path,seen\nsub\\dog.mp4,dog\n"))
    assert back.clips[0].path == "sub/dog.mp4"
    with pytest.raises(LabelsError, match="UTF-16"):
        folder.read(write(home, "path,seen\ndog.mp4,dog\n", encoding="utf-16"))
    with pytest.raises(LabelsError, match="line 2: is not UTF-8"):
        folder.read(write(home, "path,seen\ndog.mp4,Fr\u00f6sche\n", encoding="latin-1"))


def test_the_class_list_is_kept_to(home: Path) -> None:
    (home / "classes.txt").write_text("Dog\nCat\n")
    write(home, "path,seen\ndog.mp4,dog\ncat.mp4,cta\n")
    with pytest.raises(LabelsError, match=r"line 3: seen: 'cta' is not in the class list \(did you mean 'Cat'\?\)"):
        folder.read(home)
    with pytest.raises(LabelsError, match=r"line 2: .*'dog' is not in the class list"):
        folder.read(home, classes=("cta",))


def test_a_broken_file_is_a_mistake_with_a_line(home: Path) -> None:
    (home / "bad.mp4").write_bytes(b"no media at all" * 100)
    with pytest.raises(LabelsError, match=r"line 2: .*bad\.mp4"):
        folder.read(write(home, "path,seen\nbad.mp4,dog\n"))


def test_what_is_no_folder_of_clips(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        folder.read(tmp_path / "gone")
    with pytest.raises(ValueError, match="nothing says what they show"):
        folder.read(home)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no media files"):
        folder.read(tmp_path / "empty")
    with pytest.raises(ValueError, match="CSV or JSONL"):
        folder.read(home / "dog.mp4")
    write(home, "path\n", "annotations.csv")
    with pytest.raises(ValueError, match=r"annotations.csv: name it"):
        folder.read(home)
    write(home, "path\n", "labels.csv")
    write(home, "", "clips.jsonl")
    with pytest.raises(ValueError, match="name the one to read"):
        folder.read(home)


def test_names_of_the_release_are_read(home: Path) -> None:
    (home / "Y9ivV2chJLa4_repDiff_Water_tap_3.mp4").symlink_to((home / "dog.mp4").resolve())
    clips = folder.read(home)
    named = next(c for c in clips.clips if c.heard)
    assert (named.heard, named.seen, named.source) == (("Water tap",), (), "9ivV2chJLa4")
    assert len(clips.clips) == 4


def test_stems_come_in_the_clips_time(home: Path) -> None:
    (home / "stems" / "part").mkdir(parents=True)
    wave = np.linspace(-0.5, 0.5, 32_000, dtype=np.float32)
    scipy.io.wavfile.write(home / "stems" / "part" / "dog.wav", 8000, wave)
    clips = folder.read(write(home, "path,id,heard,stems,start,end\ndog.mp4,part,dog,dog,1,3\n"))
    stem = clips.stems(clips.clips[0], VIEW)["dog"]
    np.testing.assert_allclose(stem[0], wave[8000:24_000], atol=1e-3)


@pytest.mark.real
def test_real_clips_by_their_names() -> None:
    if not CLIPS.is_dir():
        pytest.skip("no real clips at hand (set EARWITNESS_SHARED)")
    clips = folder.read(CLIPS)
    heard = {c.heard[0] for c in clips.clips if c.heard}
    assert heard == {"Cat", "Clapping", "Frog", "Didgeridoo"}
    silent = next(c for c in clips.clips if c.id == "no_audio_track")
    assert clips.media(silent, VIEW).wave is None
    questions = {(i.protocol, i.question) for n in NAMES for i in load(n).items(clips.clips, Settings())}
    assert questions == {("mma", "audio"), ("thud", "mute")}

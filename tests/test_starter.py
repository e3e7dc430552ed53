"""The starter set: files out of packages, clips whose photo moves as its sound does, and what they are labelled."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import lzma
import struct
import subprocess
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earwitness import media
from earwitness import run as runs
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.starter import building, packages, qt_resources, rendering, sounding, table, vouching
from earwitness.curate.starter.table import Source
from earwitness.datasets.folder import read as read_folder
from earwitness.models.cascade_lag import correlations
from earwitness.protocols import Settings, load
from earwitness.records import View

SOME = ("cow", "dog", "duck", "bata")


def core() -> list[Source]:
    return [s for s in table.read() if s.core and not s.out]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> building.Started:
    some = [s for s in table.read() if s.id in SOME or s.id == "pig-sardin"]
    home = tmp_path_factory.mktemp("starter") / "set"
    return building.build(home, sources=some, per_source=1, command="earwitness curate starter")


# --- the table


def test_core_sources_are_free_and_their_files_are_the_table_s() -> None:
    assert len(core()) >= 9
    total = 0
    for source in core():
        for kind, origin in (("photo", source.photo), ("sound", source.sound)):
            raw = source.committed(kind).read_bytes()  # type: ignore[arg-type]
            assert hashlib.sha256(raw).hexdigest() == origin.sha256, source.id
            assert origin.free
            assert "CC0" in origin.note or "Public Domain" in origin.note, origin.note
            total += len(raw)
    assert total < 6_000_000


def test_nothing_is_committed_beside_the_core() -> None:
    known = {s.committed(k) for s in core() for k in ("photo", "sound")}  # type: ignore[arg-type]
    beside = {p for p in table.MEDIA.iterdir() if p.name != "CREDITS.md"}
    assert beside == known


def test_credits_of_committed_files_are_those_of_the_table() -> None:
    assert (table.MEDIA / "CREDITS.md").read_text("utf-8") == building.credits_of(core())


def test_what_the_witnesses_found_wrong_is_out_with_its_reason() -> None:
    rows = {s.id: s for s in table.read()}
    for name, word in (
        ("cat-sardin", "rooster"), ("beaver-stamp", "badger"), ("mountain-goat-stamp", "ram"),
        ("rhea-stamp", "silent"),
        ("iguana-stamp", "silent"), ("giraffe-stamp", "silent"), ("wombat-stamp", "silent"),
    ):  # fmt: skip
        assert word in rows[name].out, name


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("motion", "spin", "motion 'spin'"),
        ("crop", "1,2", "crop wants x,y,side"),
        ("part", "8", "part wants from-until"),
        ("photo_sha256", "12", "SHA-256"),
        ("sound_licence", "GPL-3", "not both notes say"),
        ("id", "dog", "in two rows"),
    ],
)
def test_a_row_that_cannot_be_right_is_refused(tmp_path: Path, column: str, value: str, said: str) -> None:
    with table.SOURCES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    rows[0][column] = value
    with (tmp_path / "s.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
    with pytest.raises(ValueError, match=said):
        table.read(tmp_path / "s.csv")


# --- packages


def resource(files: dict[str, bytes]) -> bytes:
    """A resource file of format 3 with one folder, as Qt's rcc writes it; every other file is packed."""
    names, name_at = b"", {}
    for name in ["pictures", *files]:
        name_at[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    data, nodes = b"", struct.pack(">IHIIQ", 0, 2, 1, 1, 0) + struct.pack(">IHIIQ", 0, 2, len(files), 2, 0)
    for n, (name, raw) in enumerate(files.items()):
        packed = n % 2 == 1
        held = struct.pack(">I", len(raw)) + zlib.compress(raw) if packed else raw
        nodes += struct.pack(">IHHHIQ", name_at[name], int(packed), 0, 0, len(data), 0)
        data += struct.pack(">I", len(held)) + held
    tree = 24
    at = tree + len(nodes)
    return b"qres" + struct.pack(">5I", 3, tree, at, at + len(data), 0) + nodes + data + names


def debian(files: dict[str, bytes]) -> bytes:
    """A .deb: an ar archive with a packed tar in it."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, raw in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    out = b"!<arch>\n"
    for name, raw in (("debian-binary", b"2.0\n"), ("data.tar.xz", lzma.compress(held.getvalue()))):
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(raw):<10}`\n".encode() + raw + b"\n" * (len(raw) % 2)
    return out


def origin(inside: str, raw: bytes) -> table.Origin:
    sha = hashlib.sha256(raw).hexdigest()
    return table.Origin(
        package="farm", inside=tuple(inside.split("!")), sha256=sha, licence="CC0-1.0", credit="", note=""
    )


def test_a_file_is_found_in_a_resource_file_in_a_package(tmp_path: Path) -> None:
    cow, pig = b"moo" * 50, b"oink" * 50
    deb = debian({"usr/share/a.rcc": resource({"cow.ogg": cow, "pig.ogg": pig}), "usr/share/plain": b"plain"})
    (tmp_path / "farm_1.2_all.deb").write_bytes(deb)
    wanted = [
        origin("usr/share/a.rcc!pictures/cow.ogg", cow), origin("usr/share/a.rcc!pictures/pig.ogg", pig),
        origin("usr/share/plain", b"plain"),
    ]  # fmt: skip
    found, lost = packages.taken(wanted, tmp_path)
    assert not lost
    assert [found[o.sha256] for o in wanted] == [cow, pig, b"plain"]


def test_another_file_than_the_table_s_is_refused(tmp_path: Path) -> None:
    (tmp_path / "farm_1.2_all.deb").write_bytes(debian({"a": b"other"}))
    wanted = [origin("a", b"mine"), origin("b", b"gone")]
    found, lost = packages.taken(wanted, tmp_path)
    assert not found
    assert "SHA-256" in lost[wanted[0].sha256]
    assert "another version" in lost[wanted[1].sha256]


def test_without_apt_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    with pytest.raises(ValueError, match=r"no apt-get: bring farm_\*\.deb"):
        packages.brought("farm", tmp_path / "p")


def test_a_client_that_fails_is_named_with_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **more: object) -> subprocess.CompletedProcess[str]:
        assert more["cwd"] == tmp_path.resolve()
        return subprocess.CompletedProcess(command, 1, "", "WARNING: old\nERROR: No matching distribution\nnotice")

    monkeypatch.setattr(packages.subprocess, "run", fail)
    with pytest.raises(ValueError, match=r"farm==1 could not be fetched \(ERROR: No matching.*a wheel of it"):
        packages.brought("farm==1", tmp_path)


@pytest.mark.parametrize(
    "raw", [b"", b"qres" + b"\xff" * 40, b"qres" + struct.pack(">5I", 3, 20, 20, 20, 0) + b"\0" * 9]
)
def test_broken_resource_files_are_errors(raw: bytes) -> None:
    with pytest.raises(ValueError, match="resource file"):
        qt_resources.files(raw)


def test_a_loop_in_a_resource_file_ends() -> None:
    looped = b"qres" + struct.pack(">5I", 3, 24, 100, 100, 0) + struct.pack(">IHIIQ", 0, 2, 1, 0, 0) + b"\0" * 100
    with pytest.raises(ValueError, match="resource file"):
        qt_resources.files(looped)


# --- sound and picture


def test_a_call_can_be_shifted_and_a_long_one_lasts() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 48_000 * 6)).astype(np.float32)
    call, long = (sounding.sound(noise, n, "k", long=bool(n)) for n in range(2))
    assert 6.9 < call.seconds < 9.6
    assert 5.9 < long.seconds < 6.1
    assert abs(float(np.abs(call.wave).max()) - sounding.PEAK) < 1e-3
    assert not call.wave[:, : round(2.8 * 48_000)].any()
    assert call.onsets
    assert 2.85 < call.onsets[0] < call.seconds - 2.9
    with pytest.raises(ValueError, match="silent"):
        sounding.sound(np.zeros((1, 48_000), np.float32), 0, "k", long=False)


def test_the_picture_moves_when_it_sounds() -> None:
    curve = np.zeros(100)
    curve[50:60] = 1.0
    spots = np.random.default_rng(1).integers(0, 160, (16, 16, 3), dtype=np.uint8)
    photo = Image.fromarray(spots).resize((376, 376), Image.Resampling.BICUBIC)
    for motion in ("zoom", "hop", "shake"):
        shown = rendering.frames(photo, curve, (2.0,), motion, 0, "k")  # type: ignore[arg-type]
        change = np.abs(np.diff(shown[:, ::4, ::4].astype(float), axis=0)).mean(axis=(1, 2, 3))
        # Frame 50 is the first that differs from the one before by more than the drift.
        assert int(np.flatnonzero(change > 4 * np.median(change))[0]) + 1 == 50, motion
        assert shown[55].mean() > 1.1 * shown[40].mean()


def test_a_crop_outside_of_the_photo_is_an_error() -> None:
    held = io.BytesIO()
    Image.new("RGB", (64, 64)).save(held, "PNG")
    with pytest.raises(ValueError, match="outside"):
        rendering.opened(held.getvalue(), (0, 0, 100))
    with pytest.raises(ValueError, match="no picture"):
        rendering.opened(b"text", None)


# --- the set


def test_the_set_is_read_as_any_labels_file_is(built: building.Started) -> None:
    clips = read_folder(built.folder)
    singles = [c for c in clips.clips if len(c.seen) == 1]
    assert {c.source for c in singles} == set(SOME)
    assert all(c.seen == c.heard and "GPL" not in c.licence for c in singles)
    assert all(e.seen == e.heard for c in singles for e in c.events)
    credits = (built.folder / "CREDITS.md").read_text()
    assert "Joseph SARDIN" in credits
    assert "pig" not in credits
    with (built.folder / "left_out.csv").open() as file:
        assert {r["pair"]: r["why"] for r in csv.DictReader(file)}["pig-sardin"].startswith("not a pig")


def test_what_is_seen_is_heard_in_the_written_files(built: building.Started) -> None:
    clips = read_folder(built.folder)
    for clip in clips.clips:
        if len(clip.seen) > 1:
            continue
        one = clips.media(clip, View(fps=25.0, rate=16_000))
        assert one.frames is not None
        assert one.wave is not None
        lags, r = correlations(one.frames, one.wave, one.rate, 25.0)
        assert abs(lags[int(np.argmax(r))]) <= 0.081, clip.id  # within two frames


def test_a_cow_s_call_can_be_shifted_both_ways(built: building.Started) -> None:
    clips = [c for c in built.clips if c.source == "cow"]
    asked = load("thud").items(clips, Settings())
    assert {i.condition for i in asked} >= {"shift", "ladder"}


def test_mates_lend_each_other_their_sounds(built: building.Started) -> None:
    by_id = {c.id: c for c in built.clips}
    for clip in (c for c in built.clips if len(c.seen) == 1):
        (donor,) = (by_id[d] for d in clip.donors)
        assert donor.heard != clip.heard
        assert donor.donors == (clip.id,)


def test_scenes_have_stems_that_add_up(built: building.Started) -> None:
    clips = read_folder(built.folder)
    scenes = [c for c in clips.clips if len(c.seen) > 1]
    assert len(scenes) == 2
    for clip in scenes:
        view = View(fps=1.0, size=(32, 64), rate=16_000)
        stems, whole = clips.stems(clip, view), clips.media(clip, view).wave
        assert whole is not None
        assert set(stems) == set(clip.heard)
        assert np.abs(sum(stems.values()) - whole).max() < 2e-3  # type: ignore[operator]


def test_the_same_command_goes_on_and_another_one_does_not(built: building.Started) -> None:
    some = [s for s in table.read() if s.id == "cow"]
    path = built.folder / "clips" / "cow-1.mp4"
    before = path.stat().st_mtime_ns
    again = building.build(built.folder, sources=some, per_source=1)
    assert path.stat().st_mtime_ns == before
    assert [c.id for c in again.clips] == ["cow-1"]
    assert json.loads((built.folder / "starter.json").read_text())["command"] == "earwitness curate starter"
    with pytest.raises(runs.RunError, match="another clips"):
        building.build(built.folder, sources=some, per_source=2)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(runs.RunError, match="not empty"):
        building.build(tmp_path)


# --- witnesses


def test_a_pair_that_a_witness_contradicts_is_left_out() -> None:
    def told(check: str, passed: bool | None) -> Verdict:
        return Verdict(clip="c", check=check, passed=passed, value=0.05, why="dog at 0.9", by="w")

    no_word = Verdict(clip="c", check="classifier", passed=None, why="no word", by="w")
    assert vouching.left_out([told("tagger", True), told("classifier", True)], "") == ""
    assert vouching.left_out([told("tagger", True), no_word], "") == ""
    assert "does not vouch" in vouching.left_out([told("tagger", True), told("classifier", None)], "")
    assert "does not vouch" in vouching.left_out([told("tagger", None), told("classifier", True)], "")
    against = [told("tagger", True), told("classifier", False)]
    assert "w contradicts: dog" in vouching.left_out(against, "")
    assert vouching.left_out(against, "it is a white duck") == ""
    assert "no witness" in vouching.left_out([], "")


def test_every_core_pair_has_the_verdicts_that_came_with_the_table() -> None:
    known = building._known()
    for source in core():
        assert {v.check for v in known[source.id]} == {"tagger", "classifier"}
        assert vouching.left_out(known[source.id], source.overruled) == ""


def test_the_committed_recordings_are_decodable() -> None:
    for source in core():
        wave = media.load(source.committed("sound"), View(rate=16_000)).wave
        assert wave is not None
        assert np.abs(wave).max() > 0.05

"""A training set for other trainers: rows in their formats, one video per clip and intervention, and commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave as riff
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from earwitness import export, media
from earwitness.align.pairs import training_set
from earwitness.cli import app
from earwitness.export import training_commands, training_media
from earwitness.interventions import files as rendering
from earwitness.records import Clip, Intervention, Item, Media, Pair, View, Wave

NOTHING = Intervention()
MUTE, BLACK, SWAP = Intervention(kind="mute"), Intervention(kind="black"), Intervention(kind="swap", donor="b")
SECONDS, RATE = 1.0, 16_000


class Few:
    """Three clips of a second, 64 x 64 at 8 frames per second; "quiet" has no sound track."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clips: Sequence[Clip] = [Clip(id=name) for name in ("a", "b", "quiet")]
        rng = np.random.default_rng(0)
        for n, clip in enumerate(self.clips):
            frames = np.full((8, 64, 64, 3), 60 * (n + 1), np.uint8)
            noise = (0.1 * (n + 1) * rng.standard_normal((1, RATE))).astype(np.float32)
            media.write_clip(frames, 8.0, None if clip.id == "quiet" else noise, RATE, folder / f"{clip.id}.mp4")

    def media(self, clip: Clip, view: View) -> Media:
        return media.load(self.file(clip, self.folder), view)

    def stems(self, clip: Clip, view: View) -> Mapping[str, Wave]:
        return {}

    def file(self, clip: Clip, folder: Path) -> Path:
        return self.folder / f"{clip.id}.mp4"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Few:
    return Few(tmp_path_factory.mktemp("clips"))


def pair(name: str, clip: str = "a", iv: Intervention = NOTHING, **kw: Any) -> Pair:
    item = Item(
        id=kw.pop("item", f"i-{name}"), protocol="mma", condition="aligned", question="audio", clip=clip,
        source=clip, group="g", intervention=iv, prompt=kw.pop("prompt", "What do you hear?"),
        choices=("bell", "drum"), target=kw.pop("target", "bell"),
    )  # fmt: skip
    return Pair(id=name, item=item, chosen="bell", rejected=kw.pop("rejected", "drum"), part="mma", **kw)


def rows(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)


# media


def test_every_file_has_a_sound_track_and_is_what_was_asked_for(clips: Few, tmp_path: Path) -> None:
    wanted = [
        ("a", NOTHING), ("a", MUTE), ("a", BLACK), ("a", SWAP), ("a", NOTHING), ("quiet", BLACK),
        ("quiet", NOTHING), ("quiet", MUTE),
    ]  # fmt: skip
    told: list[tuple[int, int]] = []
    assert not training_media.write_clips(clips, wanted, tmp_path, progress=lambda n, of: told.append((n, of)))
    assert sorted(p.name for p in tmp_path.glob("*")) == [
        "a--black.mp4", "a--mute.mp4", export.media_name("a", SWAP), "a.mp4",
        "quiet--black.mp4", "quiet--mute.mp4", "quiet.mp4", "sources",
    ]  # fmt: skip
    assert told[0] == (0, 7)
    assert told[-1] == (7, 7)
    got = {p.stem: media.load(p, View(fps=4.0, rate=RATE)) for p in tmp_path.glob("*.mp4")}
    for name, one in got.items():
        assert one.wave is not None, name
        assert one.wave.shape == (1, RATE), name
        assert one.frames is not None, name
        silent = name.startswith("quiet") or "mute" in name
        assert (not one.wave.any()) == silent, name
        assert (not one.frames.any()) == ("black" in name), name
    assert got["a"].audio_hash == got["a--black"].audio_hash != got[export.media_name("a", SWAP)[:-4]].audio_hash
    assert got["a"].video_hash == got["a--mute"].video_hash == got[export.media_name("a", SWAP)[:-4]].video_hash


def test_what_is_there_is_kept_and_a_broken_export_leaves_no_half_file(
    clips: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not training_media.write_clips(clips, [("a", MUTE)], tmp_path)
    before = (tmp_path / "a--mute.mp4").stat().st_mtime_ns
    real = rendering._measured

    def stopped(*args: Any) -> Any:
        if args[1].kind == "black":
            raise media.MediaError("the disk is full")
        return real(*args)

    with monkeypatch.context() as broken:
        broken.setattr(rendering, "_measured", stopped)
        missing = training_media.write_clips(clips, [("a", MUTE), ("a", BLACK)], tmp_path)
    assert missing == {"a--black.mp4": "the disk is full"}
    assert {p.name for p in tmp_path.iterdir()} == {"a--mute.mp4", "sources"}
    assert not training_media.write_clips(clips, [("a", MUTE), ("a", BLACK)], tmp_path)
    assert (tmp_path / "a--mute.mp4").stat().st_mtime_ns == before


def test_the_wav_holds_the_videos_own_samples(clips: Few, tmp_path: Path) -> None:
    training_media.write_clips(clips, [("a", Intervention()), ("a", MUTE)], tmp_path)
    training_media.write_wavs(tmp_path, ["a.mp4", "a--mute.mp4"])
    for name in ("a", "a--mute"):
        native = media.load_native(tmp_path / f"{name}.mp4")
        assert native.wave is not None
        with riff.open(str(tmp_path / f"{name}.wav")) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (native.rate, 1, 2)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert np.array_equal(samples, media.sixteen_bit(native.wave)[0])


# rows


def test_ms_swift_rows(clips: Few, tmp_path: Path) -> None:
    pairs = {"train": [pair("p0"), pair("p1", iv=MUTE, reference="I hear nothing.", target=None)], "valid": []}
    for stage in ("sft", "dpo", "grpo"):
        done = export.to_trainer("ms-swift", pairs, clips, tmp_path, stage=stage)  # type: ignore[arg-type]
        assert (done.rows, done.files, done.left_out) == ({"train": 2, "valid": 0}, 2, {})
    video = [str(tmp_path.resolve() / "media" / name) for name in ("a.mp4", "a--mute.mp4")]
    asked = {"role": "user", "content": "<video>What do you hear?"}
    said = {"role": "assistant", "content": "bell"}
    assert rows(tmp_path / "sft_train.jsonl") == [{"messages": [asked, said], "videos": [v]} for v in video]
    assert rows(tmp_path / "dpo_train.jsonl")[1] == {
        "messages": [asked, said], "rejected_response": "drum", "videos": [video[1]],
    }  # fmt: skip
    first, second = rows(tmp_path / "grpo_train.jsonl")
    assert (first["solution"], second["solution"], second["a_ref"]) == ("bell", "", "I hear nothing.")
    assert first["messages"] == [asked]
    assert msgspec.json.decode(second["item"], type=Item) == pairs["train"][1].item
    assert set(first) == {"messages", "videos", "solution", "item", "a_ref"}
    assert not list(tmp_path.glob("*valid*"))
    assert json.loads((tmp_path / "export_dpo.json").read_text())["rows"]["train"] == 2


def test_llama_factory_rows_and_its_list_of_data_sets(clips: Few, tmp_path: Path) -> None:
    pairs = {"train": [pair("p0", iv=SWAP), pair("p1", clip="", prompt="What is a bell?")], "valid": [pair("p2")]}
    for stage in ("sft", "dpo"):
        export.to_trainer("llama-factory", pairs, clips, tmp_path, stage=stage, relative=True)  # type: ignore[arg-type]
    name = export.media_name("a", SWAP).removesuffix(".mp4")
    assert rows(tmp_path / "dpo_train.json") == [
        {
            "messages": [{"role": "user", "content": "<video><audio>What do you hear?"}],
            "chosen": {"role": "assistant", "content": "bell"},
            "rejected": {"role": "assistant", "content": "drum"},
            "videos": [f"media/{name}.mp4"],
            "audios": [f"media/{name}.wav"],
        },
        {
            "messages": [{"role": "user", "content": "What is a bell?"}],
            "chosen": {"role": "assistant", "content": "bell"},
            "rejected": {"role": "assistant", "content": "drum"},
            "videos": [],
            "audios": [],
        },
    ]
    for row in rows(tmp_path / "sft_train.json") + rows(tmp_path / "sft_valid.json"):
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
        assert all((tmp_path / path).is_file() for path in row["videos"] + row["audios"])
    listed = json.loads((tmp_path / "dataset_info.json").read_text())
    assert set(listed) == {"sft_train", "sft_valid", "dpo_train", "dpo_valid"}
    assert listed["dpo_train"]["ranking"] is True
    assert listed["dpo_train"]["columns"]["rejected"] == "rejected"
    assert "ranking" not in listed["sft_train"]
    assert all((tmp_path / one["file_name"]).is_file() for one in listed.values())


def test_what_has_no_row_is_named(clips: Few, tmp_path: Path) -> None:
    train = [
        pair("good"), pair("dropped", iv=Intervention(kind="no_track")), pair("alone", rejected=None),
        pair("marked", prompt="What is <audio>?"), pair("stranger", clip="z"),
        pair("donor", iv=Intervention(kind="swap", donor="quiet")),
        pair("blind", iv=Intervention(kind="no_frames")),
    ]  # fmt: skip
    done = export.to_trainer("ms-swift", {"train": train}, clips, tmp_path, stage="dpo")
    assert done.rows == {"train": 1}
    why = done.left_out
    assert set(why) == {"dropped", "alone", "marked", "stranger", "donor", "blind"}
    assert "mute is a track of zeros" in why["dropped"]
    assert "black is a track of black pictures" in why["blind"]
    assert "no rejected answer" in why["alone"]
    assert "<audio>" in why["marked"]
    assert "clip 'z' is not among the clips given" in why["stranger"]
    assert "it has no sound to give" in why["donor"]
    with pytest.raises(ValueError, match="no pair can be exported to ms-swift for dpo: it has no rejected"):
        export.to_trainer("ms-swift", {"train": [pair("alone", rejected=None)]}, clips, tmp_path, stage="dpo")


def test_grpo_asks_each_item_once(clips: Few, tmp_path: Path) -> None:
    train = [pair("p0", item="same"), pair("p1", item="same", rejected="horn"), pair("p2")]
    done = export.to_trainer("ms-swift", {"train": train}, clips, tmp_path, stage="grpo")
    assert (done.rows, done.repeated) == ({"train": 2}, 1)


# commands


def test_what_these_tools_cannot_train_is_refused(clips: Few, tmp_path: Path) -> None:
    def to(tool: Any, **kw: Any) -> None:
        export.to_trainer(tool, {"train": [pair("p")]}, clips, tmp_path / "out", **kw)

    with pytest.raises(ValueError, match="llama-factory trains sft, dpo; for grpo export to ms-swift"):
        to("llama-factory", stage="grpo")
    three = tmp_path / "three"
    three.mkdir()
    (three / "config.json").write_text('{"model_type": "qwen3_omni_moe"}')
    for base in ("Qwen/Qwen3-Omni-30B-A3B-Instruct", f"qwen3-omni:{three}", str(three)):
        with pytest.raises(ValueError, match=r"Qwen2.5-Omni's chunks of two seconds.* export to ms-swift"):
            to("llama-factory", base=base)
    assert training_commands.model_of("ms-swift", f"qwen3-omni:{three}") == str(three)
    (three / "config.json").write_text('{"model_type": "qwen2_5_omni_thinker"}')
    with pytest.raises(ValueError, match=r"is a thinker's own checkpoint.* --to full"):
        to("ms-swift", base=str(three))
    with pytest.raises(ValueError, match=r"no folder \./nowhere"):
        to("ms-swift", base="./nowhere")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_the_script_calls_ms_swift_with_what_it_must_be_told(clips: Few, tmp_path: Path, stage: Any) -> None:
    """Run with a stand-in that writes down how it was called."""
    out = tmp_path / "ex port"
    view = View(fps=1.0, max_pixels=50_176)
    export.to_trainer(
        "ms-swift", {"train": [pair("p")], "valid": [pair("q")]}, clips, out, stage=stage, view=view, relative=True
    )
    stand_in = tmp_path / "bin" / "swift"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))\n"
    )
    stand_in.chmod(0o755)
    env = {"PATH": f"{stand_in.parent}:{os.environ['PATH']}", "MODEL": "/models/my own"}
    command = ["sh", str(out / f"run_{stage}.sh"), "--learning_rate", "1"]
    called, seen, where = json.loads(
        subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=True).stdout
    )
    assert called[0] == ("sft" if stage == "sft" else "rlhf")
    assert called[called.index("--model") + 1] == "/models/my own"
    assert called[-2:] == ["--learning_rate", "1"]
    assert r"^thinker\.model\.layers\..*\.(q|k|v|o)_proj$" in called
    assert (seen["USE_AUDIO_IN_VIDEO"], seen["FPS"], seen["VIDEO_MAX_PIXELS"]) == ("True", "1", "50176")
    assert int(seen["VIDEO_MIN_PIXELS"]) * 1.05 <= 50_176  # else ms-swift ignores the largest
    assert Path(where) == out
    data = called[called.index("--dataset") + 1]
    assert (Path(where) / rows(Path(where) / data)[0]["videos"][0]).is_file()
    if stage != "sft":
        assert called[1:3] == ["--rlhf_type", stage]
    if stage == "grpo":
        first = called.index("--reward_funcs") + 1
        assert called[first : first + 2] == ["earwitness_correct", "earwitness_abstains"]
        assert (out / called[called.index("--external_plugins") + 1]).is_file()


def test_rl_comms_rewards_are_asked_for_where_answers_have_its_three_parts(clips: Few, tmp_path: Path) -> None:
    from earwitness.align.tags import policy_prompt

    train = [pair("p", prompt=policy_prompt("What do you hear?"))]
    export.to_trainer("ms-swift", {"train": train}, clips, tmp_path, stage="grpo")
    text = (tmp_path / "run_grpo.sh").read_text()
    assert "--reward_funcs earwitness_format earwitness_arr earwitness_avc " in text


def test_llama_factorys_settings_are_yaml_and_say_what_it_must_be_told(clips: Few, tmp_path: Path) -> None:
    import yaml

    view = View(fps=4.0, size=(224, 448))
    export.to_trainer("llama-factory", {"train": [pair("p")]}, clips, tmp_path, stage="dpo", view=view)
    told = yaml.safe_load((tmp_path / "train_dpo.yaml").read_text())
    assert told["model_name_or_path"] == training_commands.MODEL
    assert (told["use_audio_in_video"], told["template"], told["video_fps"]) == (True, "qwen2_omni", 4.0)
    assert told["video_max_pixels"] == 224 * 448
    assert told["learning_rate"] == 5e-6
    assert told["freeze_vision_tower"]
    assert "eval_dataset" not in told
    assert subprocess.run(["sh", "-n", str(tmp_path / "run_dpo.sh")], check=False).returncode == 0


def test_the_plug_in_judges_as_an_audit_does(clips: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the one name that it takes from ms-swift."""
    known: dict[str, Any] = {}
    stand_in = ModuleType("swift.rewards")
    stand_in.orms = known  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift", ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.rewards", stand_in)
    export.to_trainer("ms-swift", {"train": [pair("p", reference="A bell.")]}, clips, tmp_path, stage="grpo")
    code = compile((tmp_path / "earwitness_rewards.py").read_text(), "earwitness_rewards.py", "exec")
    exec(code, {"__name__": "earwitness_rewards"})
    (row,) = rows(tmp_path / "grpo_train.jsonl")
    right = "<a-think>A bell.</a-think><v-think>A drum.</v-think><answer>bell</answer>"
    said = [right, right.replace(">bell<", ">drum<"), "bell"]
    columns = {k: [row[k]] * 3 for k in ("item", "a_ref", "solution")}
    got = {name: reward(args=None)(said, trainer_state=None, **columns) for name, reward in known.items()}
    assert got["earwitness_format"] == [1.0, 1.0, 0.0]
    assert got["earwitness_arr"] == [1.0, 0.0, 0.0]
    assert got["earwitness_avc"] == [1.0, 0.0, 0.0]  # words: a bell is no drum; no tags, no answer
    assert got["earwitness_correct"] == [1.0, 0.0, 1.0]
    assert got["earwitness_abstains"] == [None] * 3
    del columns["a_ref"]
    assert known["earwitness_arr"]()(said, **columns) == [None] * 3


# the verb


def run(*args: object) -> Any:
    return CliRunner().invoke(app, ["export", *map(str, args)])


def test_the_verb_sees_what_a_folder_is(clips: Few, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_set, "clips_of", lambda info: clips)
    info = training_set.Info(
        sources=(training_set.Source(clips="foley"),), mixture="by hand", seed=0, view=View(fps=1.0)
    )
    train = (pair("p"), pair("dropped", iv=Intervention(kind="no_track")))
    training_set.write(tmp_path / "set", training_set.TrainingSet(info, train, (pair("q", clip="b"),)))
    done = run(tmp_path / "set", "--to", "ms-swift", "--stage", "dpo", "--out", tmp_path / "swift", "--relative")
    assert done.exit_code == 0, done.output
    assert "rows: 1 in train, 1 in valid; 2 videos; sh" in done.output
    assert "not written: dropped: a clip without its sound track" in done.stderr
    assert (tmp_path / "swift" / "dpo_train.jsonl").is_file()
    assert "FPS=1 " in (tmp_path / "swift" / "run_dpo.sh").read_text()
    wrong = run(tmp_path / "set", "--to", "parquet", "--out", tmp_path / "x")
    assert wrong.exit_code == 2
    assert "is not exported to parquet, only to ms-swift, llama-factory" in wrong.stderr
    for folder, what in ((tmp_path, "holds no run"), (tmp_path / "nowhere", "no folder")):
        wrong = run(folder, "--to", "ms-swift", "--out", tmp_path / "x")
        assert wrong.exit_code == 2
        assert what in wrong.stderr


def test_the_verb_takes_checkpoints_to_servers(tmp_path: Path) -> None:
    thinker = tmp_path / "thinker"
    thinker.mkdir()
    (thinker / "config.json").write_text('{"model_type": "qwen2_5_omni_thinker"}')
    save_file({"lm_head.weight": np.ones((4, 2), np.float32)}, thinker / "model.safetensors")
    assert run(tmp_path / "thinker", "--to", "full", "--out", tmp_path / "full").exit_code == 0
    assert set(load_file(tmp_path / "full" / "model.safetensors")) == {"thinker.lm_head.weight"}
    wrong = run(tmp_path / "thinker", "--to", "merged", "--out", tmp_path / "x")
    assert "is not exported to merged, only to full" in wrong.stderr
    again = run(tmp_path / "thinker", "--to", "full", "--out", tmp_path / "full")
    assert again.exit_code == 2
    assert "exists already" in again.stderr

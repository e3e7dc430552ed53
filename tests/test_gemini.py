"""Gemini over a loopback server: what is sent, what is uploaded and deleted, every fault by name, no key told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("google.genai", reason="google-genai is not installed: pip install 'earwitness[api]'")

from ctrl_c import hears_ctrl_c
from earwitness import audit, foley, protocols, scoring
from earwitness import run as runs
from earwitness.audit.bank import Bank
from earwitness.models import gemini_files
from earwitness.models.budget import BudgetSpent
from earwitness.models.gemini import GeminiModel
from earwitness.models.load import load_model
from earwitness.models.served import Fatal
from earwitness.records import Answer, Item, Judged, Media
from gemini_server import KEY, GeminiServer, serving, sound_key, wave

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_API_KEY", "GEMINI_BASE_URL", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_API_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with serving() as state:
        yield state


def model_of(server: GeminiServer, **options: Any) -> GeminiModel:
    options = {"upload": "never", "audio_codec": "flac", "poll": 0.01, "backoff": 0.02, "retries": 3} | options
    return GeminiModel(server.model, base_url=server.url, **options)


def clip(hz: float = 300.0, seconds: float = 1.0) -> Media:
    """Two grey pictures and a tone."""
    frames = np.full((2, 32, 32, 3), 90, dtype=np.uint8)
    return Media(frames, np.array([0.0, 0.5]), wave(seconds, hz), 16_000, seconds)


def question(server: GeminiServer, media: Media, what: str = "dog", *, number: int = 0) -> Item:
    """A question that the server answers with "dog" if the clip arrives whole."""
    item = Item(
        id=f"q{number}-{what}", protocol="mma", condition="aligned", question="audio", clip=f"c{sound_key(media)}",
        source="s", group="g", prompt=f"What do you hear? Options: {what}, cat. ({number})", choices=(what, "cat"),
        target=what, seen=(what,), heard=(what,),
    )  # fmt: skip
    server.knows([(item, media)])
    return item


def ask(model: GeminiModel, pairs: Sequence[tuple[Item, Media]]) -> dict[str, Answer]:
    return {a.item: a for a in model.stream(list(pairs))}


# --- an audit ---
def test_an_audit_over_the_wire(server: GeminiServer, tmp_path: Path) -> None:
    """A listener behind the server is found to be one: so picture and sound of each condition travelled whole."""
    model = model_of(server, upload="always")
    clips = foley.clip_set(4, seed=0)
    settings = protocols.Settings(
        seeds=(0,), classes=foley.CLASSES,  # twelve: no two questions have the same prompt
        mma_conditions=("aligned", "audio_swapped", "audio_removed", "frames_zeroed"),
        mma_styles=("standard",),
    )  # fmt: skip
    items = protocols.load("mma").items(clips.clips, settings)
    bank = Bank(clips, model.view)
    server.knows((i, bank.condition(i.clip, i.intervention)) for i in items)
    counts = audit.ask(model, clips, items, tmp_path)
    answers = runs.read_answers(tmp_path)
    assert counts["failed"] == 0
    assert len(answers) == len(items) == 4 * 4 * 2
    judged = [Judged(i, answers[i.id], scoring.score(i, answers[i.id])) for i in items]
    graded = [j for j in judged if j.item.target is not None]
    assert len(graded) == 24
    assert [(j.item.condition, j.item.question, j.answer.text) for j in graded if not j.score.correct] == []

    distinct = {(i.clip, i.intervention.key) for i in items}
    assert server.seen["uploads"] == len(distinct) == 16 == model.counts["uploads"]
    assert server.files == {}
    assert len(server.deleted) == 16
    for item in items:
        fed = answers[item.id].fed
        assert fed is not None
        assert fed.measured == "sent"
        assert fed.video_tokens == 258 * (fed.frames or 0) > 0
        assert fed.audio_tokens == 32 * 4
        assert fed.prompt_tokens == fed.video_tokens + fed.audio_tokens + len(item.prompt.split())
        assert answers[item.id].logprob == -0.25 * len((answers[item.id].text or "").split(" "))
        assert (fed.audio_rms == 0.0) == (item.condition == "audio_removed")
    assert KEY not in "".join(p.read_text() for p in tmp_path.iterdir() if p.is_file())


def test_the_request_is_greedy_and_says_how_to_look(server: GeminiServer) -> None:
    model = model_of(server, fps=4.0, thinking=None)
    media = clip()
    answer = ask(model, [(question(server, media), media)])["q0-dog"]
    assert answer.text == "dog"  # and not "Let me think.dog": thoughts are no part of it
    body = server.requests[0]
    assert body["generationConfig"] == {
        "temperature": 0.0, "seed": 0, "candidateCount": 1, "maxOutputTokens": 32, "responseLogprobs": True,
        "thinkingConfig": {"thinkingBudget": 0},
    }  # fmt: skip
    part, text = body["contents"][0]["parts"]
    assert part["videoMetadata"] == {"fps": 4.0}
    assert part["inlineData"]["mimeType"] == "video/mp4"
    assert text == {"text": "What do you hear? Options: dog, cat. (0)"}
    assert model.revision == "gemini-test version 001"
    assert "temperature 0, seed 0; thinking 0" in model.decoding
    assert model.counts["model version gemini-test-001"] == 1
    assert server.seen["uploads"] == 0


def test_the_loader_finds_it(server: GeminiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_BASE_URL", server.url)
    model = load_model("gemini:gemini-test", concurrency=2, fps=1.0)
    assert model.name == "gemini:gemini-test"
    assert model.view.fps == 1.0


# --- what travels how ---
def test_a_clip_is_uploaded_from_its_second_question_on(server: GeminiServer) -> None:
    model = model_of(server, upload="auto", concurrency=1)
    one, two = clip(300), clip(500)
    pairs = [(question(server, one, number=n), one) for n in range(3)] + [(question(server, two, number=9), two)]
    answers = ask(model, pairs)
    assert {a.text for a in answers.values()} == {"dog"}
    ways = ["fileData" in r["contents"][0]["parts"][0] for r in server.requests]
    assert ways == [False, True, True, False]
    assert server.seen["uploads"] == 1
    assert server.files == {}


def test_a_retry_is_no_second_question(server: GeminiServer) -> None:
    model = model_of(server, upload="auto", concurrency=1)
    media = clip()
    server.faults = ["500", "500"]
    assert ask(model, [(question(server, media), media)])["q0-dog"].text == "dog"
    assert server.seen["uploads"] == 0


def test_many_threads_share_one_upload(server: GeminiServer) -> None:
    server.looks = 3
    model = model_of(server, upload="always", concurrency=8)
    model.line.limit = 8
    media = clip()
    answers = ask(model, [(question(server, media, number=n), media) for n in range(8)])
    assert {a.text for a in answers.values()} == {"dog"}
    assert server.seen["uploads"] == 1
    assert server.seen["GET files"] == 3  # looked at until it was ready, by one of them


def test_large_clips_are_uploaded_or_refused(server: GeminiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earwitness.models.gemini.INLINE", 1000)
    media = clip()
    item = question(server, media)
    assert ask(model_of(server, upload="auto"), [(item, media)])[item.id].text == "dog"
    assert server.seen["uploads"] == 1
    error = ask(model_of(server, upload="never"), [(item, media)])[item.id].error
    assert error is not None
    assert error.startswith("clip too large: 0 MB do not fit into a request")


def test_sound_alone_and_text_alone(server: GeminiServer) -> None:
    model = model_of(server)
    heard = clip().with_frames(None)
    nothing = Media(frames=None, times=None, wave=None, rate=16_000, duration=0.0)
    silent = clip(700).with_wave(None)
    items = [question(server, m, number=n) for n, m in enumerate((heard, nothing, silent))]
    answers = ask(model, list(zip(items, (heard, nothing, silent), strict=True)))
    assert answers["q0-dog"].text == "dog"
    sent = {r["contents"][0]["parts"][-1]["text"][-3:]: r["contents"][0]["parts"] for r in server.requests}
    assert sent["(0)"][0]["inlineData"]["mimeType"] == "audio/wav"
    assert "videoMetadata" not in sent["(0)"][0]
    assert [list(p) for p in sent["(1)"]] == [["text"]]
    fed = answers["q1-dog"].fed
    assert fed is not None
    assert (fed.frames, fed.audio_seconds, fed.video_hash) == (None, None, None)
    assert sent["(2)"][0]["inlineData"]["mimeType"] == "video/mp4"
    without = answers["q2-dog"].fed
    assert without is not None
    assert (without.audio_tokens, without.video_tokens) == (0, 516)


# --- faults ---
@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("429 RetryInfo", "HTTP 429 RESOURCE_EXHAUSTED"), ("429 Retry-After", "HTTP 429 RESOURCE_EXHAUSTED"),
        ("500", "HTTP 500 INTERNAL"), ("503", "HTTP 503 UNAVAILABLE"), ("cut", "connection"),
        ("not json", "unreadable reply"), ("empty", "empty reply"), ("OTHER", "stopped"), ("STOP", "empty reply"),
    ],
)  # fmt: skip
def test_passing_faults_are_named_and_tried_again(server: GeminiServer, fault: str, name: str) -> None:
    model = model_of(server)
    media = clip()
    server.faults = [fault]
    start = time.monotonic()
    answer = ask(model, [(question(server, media), media)])["q0-dog"]
    assert (answer.text, answer.error) == ("dog", None)
    assert model.counts[f"fault: {name}"] == 1
    assert model.counts["requests"] == 2
    assert (time.monotonic() - start > 0.4) == fault.startswith("429")  # as long as it asked to wait


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("blocked", "blocked: SAFETY"), ("SAFETY", "stopped: SAFETY"), ("RECITATION", "stopped: RECITATION"),
        ("MAX_TOKENS", "no text: all 40 tokens were used up before an answer began"),
        ("PROHIBITED_CONTENT", "stopped: PROHIBITED_CONTENT"),
        ("400", "HTTP 400 INVALID_ARGUMENT: the service says 400"),
    ],
)  # fmt: skip
def test_faults_of_one_item_are_its_error_and_no_answer(server: GeminiServer, fault: str, says: str) -> None:
    model = model_of(server, price_in=1.0, price_out=1.0)
    media = clip()
    server.bad_prompts = {"(1)": fault}
    answers = ask(model, [(question(server, media, number=n), media) for n in range(3)])
    bad = answers["q1-dog"]
    assert bad.text is None
    assert (bad.error or "").startswith(says)
    assert [answers[f"q{n}-dog"].text for n in (0, 2)] == ["dog", "dog"]
    assert server.seen["POST generateContent"] == 3
    billed = sum(model.budget.used)
    good = 2 * (516 + 32 + 8 + 1 + 3)
    assert billed == good + (0 if fault == "400" else 140)  # what failed and was billed counts too


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("bad key", r"refuses the key in GEMINI_API_KEY or GOOGLE_API_KEY .*API key not valid: \[key\]"),
        ("404", "has no such model"), ("abroad", "cannot be used from here"),
        ("429 day", "quota of the day is used up .* goes on tomorrow"),
    ],
)  # fmt: skip
def test_what_fails_for_all_ends_the_run(server: GeminiServer, fault: str, says: str) -> None:
    model = model_of(server, concurrency=1)
    media = clip()
    server.faults = ["", fault]
    got: list[Answer] = []
    with pytest.raises(Fatal, match=says) as told:
        got.extend(model.stream([(question(server, media, number=n), media) for n in range(20)]))
    assert [a.text for a in got] == ["dog"]
    assert KEY not in str(told.value)
    assert server.seen["POST generateContent"] == 2


def test_a_clip_that_cannot_be_processed_is_named_and_deleted(server: GeminiServer) -> None:
    model = model_of(server, upload="always", concurrency=1)
    one, two = clip(300), clip(500)
    server.upload_faults = ["FAILED"]
    pairs = [(question(server, one, number=0), one), (question(server, two, number=1), two)]
    answers = ask(model, pairs)
    says = "upload failed: the service could not process the clip (no video stream)"
    assert answers["q0-dog"].error == says
    assert answers["q1-dog"].text == "dog"
    assert server.files == {}


def test_an_upload_that_fails_in_passing_is_made_again(server: GeminiServer) -> None:
    model = model_of(server, upload="always")
    media = clip()
    server.upload_faults = ["503", "cut"]
    answers = ask(model, [(question(server, media), media)])
    assert answers["q0-dog"].text == "dog"
    assert model.counts["fault: HTTP 503 UNAVAILABLE"] == 1
    assert model.counts["uploads"] == 1
    assert server.files == {}


def test_a_clip_that_is_never_ready_is_given_up(server: GeminiServer) -> None:
    server.looks = 10**6
    model = model_of(server, upload="always", timeout=0.3, retries=0)
    media = clip()
    error = ask(model, [(question(server, media), media)])["q0-dog"].error or ""
    assert "upload slow" in error or error.startswith("timeout")
    model.close()
    assert server.files == {}


def test_files_that_are_gone_or_old_are_uploaded_anew(server: GeminiServer) -> None:
    model = model_of(server, upload="always", concurrency=1)
    media = clip()
    first, second, third = (question(server, media, number=n) for n in range(3))
    assert model.answer([first], [media])[0].text == "dog"
    server.files.clear()  # as after 48 hours
    assert model.answer([second], [media])[0].text == "dog"
    assert model.counts["fault: file gone"] == 1
    assert server.seen["uploads"] == 2
    model.close()
    server.lifetime = gemini_files.EARLY / 2  # the service says that it expires soon
    assert [a.text for a in model.answer([second, third], [media, media])] == ["dog", "dog"]
    assert server.seen["uploads"] == 4
    model.close()
    assert server.files == {}


# --- what a model refuses ---
def test_parameters_that_are_refused_are_left_out_once(server: GeminiServer) -> None:
    server.refuses_logprobs = server.needs_thoughts = True
    model = model_of(server, concurrency=1)
    media = clip()
    answers = ask(model, [(question(server, media, number=n), media) for n in range(3)])
    assert {a.text for a in answers.values()} == {"dog"}
    assert {a.logprob for a in answers.values()} == {None}
    assert server.seen["POST generateContent"] == 2 + 3
    last = server.requests[-1]["generationConfig"]
    assert "responseLogprobs" not in last
    assert "thinkingConfig" not in last
    assert last["maxOutputTokens"] == 32 + 8192  # thoughts count as output: without room there is no answer
    assert model.counts["refused and left out: thinking 0"] == 1
    assert model.counts["refused and left out: response_logprobs"] == 1
    assert "thinking as the model likes; gives no log-probabilities" in model.decoding


def test_thinking_that_was_asked_for_is_not_given_up(server: GeminiServer) -> None:
    server.needs_thoughts = True
    media = clip()
    item = question(server, media)
    error = ask(model_of(server, thinking=0), [(item, media)])[item.id].error or ""
    assert "This model only works in thinking mode" in error
    assert ask(model_of(server, thinking="128"), [(item, media)])[item.id].text == "dog"
    assert server.requests[-1]["generationConfig"]["maxOutputTokens"] == 32 + 128
    assert ask(model_of(server, thinking="low"), [(item, media)])[item.id].text == "dog"
    assert server.requests[-1]["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "LOW"}


# --- the ear and eye check ---
def test_the_check_passes_a_server_that_hears_and_sees(server: GeminiServer) -> None:
    report = audit.check_model(model_of(server), clip())
    texts = {(str(r["organ"]), str(r["condition"])): str(r["text"]) for r in report}
    assert texts["audio", "original"] == "I hear a sound of -13.5 dB, strongest at 300 Hz."
    assert texts["audio", "tone"].endswith("strongest at 440 Hz.")
    assert texts["audio", "mute"] == "I hear silence."
    assert texts["visual", "black"] == "I see a black screen."


def test_the_check_catches_a_server_that_drops_the_sound(server: GeminiServer) -> None:
    server.deaf = True
    with pytest.raises(audit.EarCheckError, match="deaf: the sound does not reach the model"):
        audit.check_model(model_of(server), clip())


def test_the_check_catches_a_server_that_drops_the_picture(server: GeminiServer) -> None:
    server.blind = True
    with pytest.raises(audit.EarCheckError, match="blind: the picture does not reach the model"):
        audit.check_model(model_of(server), clip())


# --- nothing is left behind ---
def test_old_files_are_deleted_as_it_goes(server: GeminiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemini_files, "HELD", 2)
    model = model_of(server, upload="always", concurrency=1)
    media = [clip(200 + 50 * n) for n in range(6)]
    items = [question(server, m, number=n) for n, m in enumerate(media)]
    assert {a.text for a in model.answer(items, media)} == {"dog"}
    assert len(server.files) == 2
    model.close()
    assert server.files == {}
    model.close()  # again: nothing to do


def test_files_that_cannot_be_deleted_are_told(server: GeminiServer) -> None:
    model = model_of(server, upload="always")
    media = clip()
    item = question(server, media)
    server.keeps_files = True
    with pytest.warns(UserWarning, match="gemini:gemini-test: 1 uploaded file could not be deleted"):
        assert ask(model, [(item, media)])[item.id].text == "dog"
    assert model.counts["files not deleted"] == 1
    server.keeps_files = False
    model.close()
    assert server.files == {}


def test_a_stream_that_is_left_in_the_middle_cleans_up(server: GeminiServer) -> None:
    model = model_of(server, upload="always", concurrency=1)
    media = [clip(200 + 50 * n) for n in range(4)]
    pairs = [(question(server, m, number=n), m) for n, m in enumerate(media)]
    stream = model.stream(pairs)
    assert next(stream).text == "dog"
    stream.close()  # type: ignore[attr-defined]
    assert server.files == {}
    assert 1 <= server.seen["uploads"] < 4


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_leaves_no_file_behind(server: GeminiServer) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_gemini as t\n"
        "class There: model, url = 'gemini-test', sys.argv[2]; knows = staticmethod(lambda pairs: None)\n"
        "model = t.model_of(There, upload='always', concurrency=2)\n"
        "media = [t.clip(200 + 50 * n) for n in range(40)]\n"
        "for answer in model.stream([(t.question(There, m, number=n), m) for n, m in enumerate(media)]):\n"
        "    print(answer.text, flush=True)\n"
    )
    server.slow = 0.2
    env = {**os.environ, "GEMINI_API_KEY": KEY}
    run = subprocess.Popen(
        [sys.executable, "-c", script, str(TESTS), server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=env, preexec_fn=hears_ctrl_c,
    )  # fmt: skip
    assert run.stdout is not None
    run.stdout.readline()  # it is under way
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert KEY not in said
    assert 1 <= server.seen["uploads"] < 40
    assert server.files == {}


# --- budget, key, options ---
def test_the_budget_stops_and_the_rest_goes_on_later(server: GeminiServer) -> None:
    media = clip()
    pairs = [(question(server, media, number=n), media) for n in range(10)]
    each = 516 + 32 + 8 + 4
    model = model_of(server, max_tokens=4 * each, concurrency=1)
    got: list[Answer] = []
    with pytest.raises(BudgetSpent, match=r"2240 of 2240 tokens.* 4 items were settled .* 6 are left"):
        got.extend(model.stream(pairs))
    assert len(got) == 4 == server.seen["POST generateContent"]
    with pytest.raises(ValueError, match="needs the model's prices"):
        model_of(server, max_cost=1.0)


def test_the_key_is_needed_and_travels_safely(server: GeminiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="wants https, or anyone on the way can read the key"):
        GeminiModel("gemini-test", base_url="http://user:secret@example.org/gemini")
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaWrong")
    with pytest.raises(Fatal, match="refuses the key in GEMINI_API_KEY") as told:
        model_of(server)
    assert "AIzaWrong" not in str(told.value)
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(ValueError, match="needs a key: set the environment variable GEMINI_API_KEY"):
        GeminiModel("gemini-test")
    assert model_of(server).revision == "gemini-test version 001"  # a server on this machine may want none
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    assert model_of(server).revision == "gemini-test version 001"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"upload": "sometimes"}, "upload must be one of auto, always, never, got 'sometimes'"),
        ({"thinking": "much"}, "thinking must be a number of tokens"), ({"thinking": -2}, "got -2"),
        ({"fps": 60.0}, r"fps must lie in \(0, 24\]"), ({"audio_codec": "mp3"}, "audio_codec must be"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(server: GeminiServer, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        model_of(server, **options)


def test_a_model_that_is_not_there_and_a_server_that_is_not(server: GeminiServer) -> None:
    with pytest.raises(ValueError, match="gemini-9: the service has no such model"):
        GeminiModel("gemini-9", base_url=server.url)
    with pytest.raises(ValueError, match="names no model"):
        GeminiModel("")
    with pytest.raises(ValueError, match="cannot be reached: connection"):
        GeminiModel("gemini-test", base_url="http://127.0.0.1:9", retries=1, backoff=0.01)

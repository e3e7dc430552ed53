"""Served models against a real server on loopback: every fault is named, and none becomes an answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai")
from earwitness import audit, foley, interventions, media
from earwitness import run as runs
from earwitness.media.signal import find_lag
from earwitness.models import payload, served
from earwitness.models.budget import Budget, BudgetSpent, Usage
from earwitness.models.fake import describe
from earwitness.models.openai_api import OpenAIModel
from earwitness.records import Answer, Intervention, Item, Media, View, digest
from faulty_server import Call, Server, describes, running, watches

SMALL = 56 * 56
KINDS = ("original", "mute", "tone")


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("EARWITNESS_API_KEY", raising=False)


@pytest.fixture(scope="module")
def clips() -> foley.FoleyClips:
    return foley.clip_set(4, seed=3, duration=1.0)


@pytest.fixture
def start() -> Iterator[Any]:
    """start(server options, **model options) -> (server, model); all closed at the end."""
    with ExitStack() as stack:

        def begin(server: Server, **options: Any) -> tuple[Server, OpenAIModel]:
            stack.enter_context(running(server))
            options = {"max_pixels": SMALL, "timeout": 10.0, **options}
            model = OpenAIModel(f"{server.url}#m", **options)
            model._line.backoff = 0.01
            stack.callback(model.close)
            return server, model

        yield begin


def _items(clips: foley.FoleyClips, kinds: tuple[str, ...] = KINDS, **more: Any) -> list[Item]:
    out = []
    for clip in clips.clips:
        for kind in kinds:
            key = digest(clip.id, kind)
            out.append(
                Item(
                    id=key, protocol="mma", condition=kind, question="audio", clip=clip.id, source=clip.cluster,
                    group=clip.id, intervention=Intervention(kind=kind), prompt=f"{key}|What do you hear?",
                    target=None, **more,
                )
            )  # fmt: skip
    return out


def _truth(clips: foley.FoleyClips, view: View, item: Item) -> str:
    """What an honest server says: of exactly the sound that the condition has, in 16 bit."""
    clip = next(c for c in clips.clips if c.id == item.clip)
    one = interventions.apply(clips.media(clip, view), item.intervention)
    assert one.wave is not None
    wave = (media.sixteen_bit(one.wave) / 32768).astype(np.float32)
    return f"{item.id}|" + describe("audio", one.with_wave(wave))


def _ask(model: Any, clips: foley.FoleyClips, items: list[Item], folder: Path, **more: Any) -> dict[str, Answer]:
    folder.mkdir(exist_ok=True)
    audit.ask(model, clips, items, folder, **more)
    return runs.read_answers(folder)


# --- what is sent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", ["video", "video+audio", "frames+audio"])
def test_the_server_hears_and_sees_what_the_condition_has(
    parts: str, start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    server, model = start(Server(logprobs=True), parts=parts)
    items = _items(clips, (*KINDS, "no_frames"))
    answers = _ask(model, clips, items, tmp_path)
    for item in items:
        answer = answers[item.id]
        assert answer.text == _truth(clips, model.view, item)
        assert answer.logprob == pytest.approx(-0.5 * len(answer.text.split(" ")))
        assert answer.fed is not None
        assert answer.fed.measured == "sent"
        assert answer.fed.audio_seconds == 1.0
        assert answer.fed.prompt_tokens
    assert len(server.calls) == len(items)
    assert model.counts["requests"] == len(items)
    assert model.decoding.startswith("greedy (temperature 0)")
    shown = next(c for c in server.calls if c.media.frames is not None)
    assert shown.media.frames is not None
    assert len(shown.media.frames) == 2
    kwargs = shown.request.get("mm_processor_kwargs")
    assert kwargs == (None if parts == "frames+audio" else {"use_audio_in_video": parts == "video", "fps": 2.0})
    assert (shown.request["temperature"], shown.request["max_tokens"]) == (0, 32)


def test_each_condition_has_a_uuid_of_its_own_and_the_same_one_each_time(
    start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    server, model = start(Server())
    items = _items(clips)
    _ask(model, clips, items, tmp_path / "a")
    _ask(model, clips, items, tmp_path / "b")
    marks = {}
    for call in server.calls:
        (mark,) = {p["uuid"] for p in call.request["messages"][0]["content"] if "uuid" in p}
        assert marks.setdefault(call.prompt, mark) == mark
    assert len(set(marks.values())) == len(items)


def test_text_alone_is_asked_without_media(start: Any) -> None:
    server, model = start(Server())
    item = Item(
        id="t", protocol="judge", condition="judge", question="judge", clip="", source="", group="t",
        prompt="what do you see", target=None,
    )  # fmt: skip
    (answer,) = model.answer([item], [Media(None, None, None, 16_000, 0.0)])
    assert answer.text == "I see no picture: there is no video track."
    assert server.calls[0].request["messages"] == [{"role": "user", "content": item.prompt}]


def test_a_packed_clip_is_the_clip(tmp_path: Path) -> None:
    """Sound exact, pictures within codec noise, their packets bit-identical under every sound; odd lengths too."""
    one = foley.media(foley.scene(11, duration=2.3), View(size=(112, 112)))
    packer, kept = payload.Packer(), []
    for kind in ("original", "mute"):
        changed = interventions.apply(one, Intervention(kind=kind))  # type: ignore[arg-type]
        path = tmp_path / f"{kind}.mp4"
        path.write_bytes(packer.video(changed))
        assert packer.video(changed) == path.read_bytes()
        back = media.load(path, View(size=(112, 112)))
        assert back.duration == pytest.approx(one.duration, abs=1e-3)
        assert np.array_equal(media.sixteen_bit(back.wave), media.sixteen_bit(changed.wave))  # type: ignore[arg-type]
        assert back.frames is not None
        assert one.frames is not None
        assert np.abs(back.frames.astype(int) - one.frames).mean() < 5
        with media.demux(path) as demuxed:
            kept.append([bytes(packet) for packet in demuxed.pictures])
    assert kept[0] == kept[1]
    (tmp_path / "a.wav").write_bytes(payload.wav(one))
    back = media.load(tmp_path / "a.wav", View())
    assert np.array_equal(media.sixteen_bit(back.wave), media.sixteen_bit(one.wave))  # type: ignore[arg-type]
    (tmp_path / "aac.mp4").write_bytes(payload.Packer("aac").video(one))
    near = media.load(tmp_path / "aac.mp4", View())
    lag = find_lag(one.wave, near.wave, 16_000)  # type: ignore[arg-type]
    assert (lag.verdict, lag.seconds) == ("found", 0.0)
    with pytest.raises(ValueError, match="no audio track"):
        payload.wav(one.with_wave(None))
    with pytest.raises(ValueError, match="no video track"):
        packer.video(one.with_frames(None))
    with pytest.raises(ValueError, match="audio_codec"):
        payload.Packer("mp3")


# --- faults: named, never an answer, asked again where that helps ---------------------------------------------

ONCE = {  # the fault, and the name under which the run's record counts it
    "status 429 0.01": "HTTP 429",
    "status 500": "HTTP 500",
    "status 503": "HTTP 503",
    "cut": "connection",
    "slow 2.5": "timeout",
    'reply {"choices": []}': "empty reply",
    'reply {"choices": [{"message": {"content": "  "}, "finish_reason": "stop"}]}': "empty reply",
    'reply {"choices": [{"message": {"content": "so"}, "finish_reason": "abort"}]}': "broken off",
    'reply {"error": {"message": "upstream"}}': "error inside a reply",
    'reply {"choices": 3}': "not a chat completion",
    "raw <html>busy</html>": "not JSON",
    "swapped": "answer for another request",
    "nameless": "answer for another request",
    "othermodel": "another model answered",
}


@pytest.mark.parametrize("fault", ONCE)
def test_a_passing_fault_is_counted_and_asked_again(
    fault: str, start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    def rule(call: Call) -> str:  # the third question, once; the first ones have told that replies bear names
        return fault if call.number == 3 else ""

    server, model = start(Server(fault=rule), timeout=1.0 if "slow" in fault else 10.0, concurrency=2)
    items = _items(clips)[:6]
    answers = _ask(model, clips, items, tmp_path)
    for item in items:
        assert answers[item.id].text == _truth(clips, model.view, item)
    assert model.counts[f"fault: {ONCE[fault]}"] == 1
    assert model.counts["retries"] == 1
    assert len(server.calls) == len(items) + 1


ALWAYS = {
    "status 500": "HTTP 500: as ordered \\(gave up after 3 tries\\)",
    "status 400": "HTTP 400: as ordered",
    "status 413": "HTTP 413",
    "cut": "connection: .*cut before the end",
    'reply {"choices": []}': "empty reply: no choices \\(gave up after 3 tries\\)",
    'reply {"choices": [{"message": {"content": null}, "finish_reason": "length"}]}': "empty reply: cut off",
    'reply {"choices": [{"message": {"content": "I"}, "finish_reason": "content_filter"}]}': "content filter",
    'reply {"choices": [{"message": {"tool_calls": [{}]}, "finish_reason": "tool_calls"}]}': "tool call",
    "swapped": "answer for another request",
    "othermodel": "another model answered: asked m, the reply is from other",
}


@pytest.mark.parametrize("fault", ALWAYS)
def test_a_lasting_fault_is_that_items_error_and_no_other_items(
    fault: str, start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    items = _items(clips)[:6]
    bad = {items[2].prompt, items[4].prompt}
    server, model = start(Server(fault=lambda c: fault if c.prompt in bad else ""), retries=2)
    answers = _ask(model, clips, items, tmp_path)
    for item in items:
        if item.prompt in bad:
            assert answers[item.id].text is None
            with pytest.raises(AssertionError, match=ALWAYS[fault]):
                raise AssertionError(answers[item.id].error)
        else:
            assert answers[item.id].text == _truth(clips, model.view, item)
    server.fault = lambda c: ""
    again = _ask(model, clips, items, tmp_path, retry_failed=True)
    assert all(again[item.id].text == _truth(clips, model.view, item) for item in items)


def test_a_refusal_is_an_answer(start: Any, clips: foley.FoleyClips, tmp_path: Path) -> None:
    no = 'reply {"choices": [{"message": {"content": null, "refusal": "I cannot help."}, "finish_reason": "stop"}]}'
    _, model = start(Server(fault=lambda c: no))
    items = _items(clips)[:2]
    assert [a.text for a in _ask(model, clips, items, tmp_path).values()] == ["I cannot help."] * 2


def test_a_reply_that_never_ends_is_a_timeout(start: Any, clips: foley.FoleyClips, tmp_path: Path) -> None:
    _, model = start(Server(fault=lambda c: "trickle" if c.number == 1 else ""), concurrency=2)
    model._line.timeout = 0.8
    items = _items(clips)[:4]
    answers = _ask(model, clips, items, tmp_path)
    assert all(answers[i.id].text == _truth(clips, model.view, i) for i in items)
    assert model.counts["fault: timeout"] >= 1
    assert model.counts["slowdowns"] >= 1


def test_a_server_that_names_no_reply_is_said_to_be_unverifiable(
    start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    _, model = start(Server(names_replies=False))
    items = _items(clips)[:3]
    assert all(a.text for a in _ask(model, clips, items, tmp_path).values())
    assert model.counts["replies not verifiable by request id"] == 3
    assert "not verifiable" in model.decoding


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("status 401", "refuses the key"),
        ("status 403", "refuses the key"),
        ("status 404", "no such model"),
        ("status 402", "paid"),
        ("status 429 86400", "24.0 hours"),
    ],
)
def test_what_cannot_heal_ends_the_run_at_once_and_keeps_the_answers(
    fault: str, match: str, start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    server, model = start(Server(fault=lambda c: fault if c.number >= 5 else ""), concurrency=2)
    items = _items(clips)
    with pytest.raises(ValueError, match=match):
        audit.ask(model, clips, items, tmp_path)
    kept = runs.read_answers(tmp_path)
    assert len(kept) == 5
    assert all(a.error is None for a in kept.values())
    assert len(server.calls) <= 7
    server.fault = lambda c: ""
    answers = _ask(model, clips, items, tmp_path)
    assert all(answers[i.id].text == _truth(clips, model.view, i) for i in items)


def test_a_server_that_is_gone_ends_the_run(start: Any, tmp_path: Path) -> None:
    clips = foley.clip_set(40, seed=1, duration=1.0)
    items = _items(clips, ("mute",))
    dying = Server(fault=lambda c: "status 500" if c.number > 4 else "")
    server, model = start(dying, retries=0, concurrency=1)  # several at once would fail and answer in any order
    with pytest.raises(ValueError, match="has answered none of the last 21 items, the last one for: HTTP 500"):
        audit.ask(model, clips, items, tmp_path)
    assert len(server.calls) < len(items)
    assert len(runs.read_answers(tmp_path)) == 5, "what the dying server did not answer stays open"
    server.fault = lambda c: ""
    answers = _ask(model, clips, items, tmp_path)
    assert all(answers[i.id].error is None for i in items), "the same command asks it"


def test_items_lost_before_the_server_came_back_are_their_own_errors(
    start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    bad = _items(clips)[-1]
    _, model = start(Server(fault=lambda c: "status 500" if bad.prompt in str(c.request) else ""), retries=0)
    answers = _ask(model, clips, _items(clips), tmp_path)
    assert [i for i, a in answers.items() if a.error] == [bad.id], "one lost item at the end is not a lost server"


def test_kill_in_the_middle_nothing_answered_is_asked_twice(
    start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    server, model = start(Server(seconds=0.02), concurrency=3)
    items = _items(clips)

    def stop(done: int, failed: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit.ask(model, clips, items, tmp_path, progress=stop)
    before = runs.read_answers(tmp_path)
    assert len(before) == 5
    server.calls.clear()
    after = _ask(model, clips, items, tmp_path)
    assert set(server.prompts()) == {i.prompt for i in items if i.id not in before}
    assert all(after[i.id].text == _truth(clips, model.view, i) for i in items)


# --- parameters that a server refuses -------------------------------------------------------------------------


def test_refused_parameters_are_left_out_once_and_said(start: Any, clips: foley.FoleyClips, tmp_path: Path) -> None:
    refuses = ("uuid", "logprobs", "seed", "media_io_kwargs", "max_tokens", "temperature")
    server, model = start(Server(refuses=refuses), concurrency=1)
    items = _items(clips)
    answers = _ask(model, clips, items, tmp_path)
    assert all(answers[i.id].text == _truth(clips, model.view, i) for i in items)
    assert "NOT greedy" in model.decoding
    for name in refuses:
        assert name in model.decoding
        assert model.counts[f"refused parameter {name}"] == 1
    assert len(server.calls) == len(items)  # what was refused was refused once, not once an item
    assert server.calls[-1].request["max_completion_tokens"] == 32


def test_the_sound_is_never_dropped_for_a_refused_parameter(
    start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    _, model = start(Server(refuses=("mm_processor_kwargs",)))
    with pytest.raises(ValueError, match=r"would drop the sound .* parts=frames\+audio"):
        audit.ask(model, clips, _items(clips), tmp_path)
    _, model = start(Server(refuses=("video_url",)))
    with pytest.raises(ValueError, match=r"takes no video_url parts .* parts=frames\+audio"):
        audit.ask(model, clips, _items(clips), tmp_path)


# --- log-probabilities of choices, only where exact -----------------------------------------------------------


def test_choices_are_scored_only_where_that_is_exact(start: Any, clips: foley.FoleyClips, tmp_path: Path) -> None:
    letters = _items(clips, choices=("A", "B"))[:1]
    words = _items(clips, choices=("A", "dog"))[1:2]
    _, model = start(Server(logprobs=True))
    answers = _ask(model, clips, letters + words, tmp_path / "top")
    assert answers[letters[0].id].logprobs == {"A": -1.0, "B": -2.0}
    assert answers[words[0].id].logprobs is None
    server, model = start(Server(logprobs=True), choice_logprobs="prompt")
    assert "logprobs" in model.abilities
    answers = _ask(model, clips, words, tmp_path / "prompt")
    assert answers[words[0].id].logprobs == {"A": -0.25, "dog": -0.75}
    ends = [c.request["messages"][-1]["content"] for c in server.calls[1:]]
    assert ends == ["A", "dog"]
    assert all(c.request["continue_final_message"] for c in server.calls[1:])


# --- concurrency, waiting, budget -----------------------------------------------------------------------------


def test_concurrency_grows_while_the_server_has_room_and_falls_where_it_has_none(
    start: Any, tmp_path: Path
) -> None:
    clips = foley.clip_set(40, seed=1, duration=1.0)
    items = _items(clips, ("mute",))
    server, model = start(Server(seconds=0.03), concurrency=12)
    _ask(model, clips, items, tmp_path / "roomy")
    assert served.START < server.most <= 12
    server, model = start(Server(seconds=0.03, room=3), concurrency=12, retries=20)
    answers = _ask(model, clips, items, tmp_path / "narrow")
    assert all(a.error is None for a in answers.values())
    assert model.counts["slowdowns"] >= 1
    assert model._line.limit < 7
    assert model.counts["fault: HTTP 429"] < len(items)


def test_retry_after_closes_the_line_for_everybody(start: Any, clips: foley.FoleyClips, tmp_path: Path) -> None:
    at: list[float] = []

    def rule(call: Call) -> str:
        at.append(time.monotonic())
        if call.number == 0:
            return "status 429 0.6"
        time.sleep(0.2)  # the others are still under way when the 429 comes back
        return ""

    _, model = start(Server(fault=rule))
    _ask(model, clips, _items(clips), tmp_path)
    assert len(at) == 13
    assert all(later - at[0] >= 0.6 for later in at[served.START :])


def test_retry_after_is_read_in_both_forms() -> None:
    assert served.retry_after("2.5") == 2.5
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 28 < (served.retry_after(soon) or 0) <= 30
    assert served.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert [served.retry_after(x) for x in (None, "", "soon", "nan", "inf")] == [None] * 5


def test_no_more_media_are_pulled_than_run(start: Any, clips: foley.FoleyClips) -> None:
    _, model = start(Server(seconds=0.01), concurrency=3)
    items, pulled, given = _items(clips) * 3, 0, 0
    items = [Item(**{**{f: getattr(i, f) for f in i.__struct_fields__}, "id": f"{n}"}) for n, i in enumerate(items)]
    one = clips.media(clips.clips[0], model.view)

    def pairs() -> Iterator[tuple[Item, Media]]:
        nonlocal pulled
        for item in items:
            pulled += 1
            assert pulled - given <= 3
            yield item, one

    for _ in model.stream(pairs()):
        given += 1
    assert given == len(items)


def test_a_spent_budget_stops_in_time_and_the_run_goes_on(
    start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    items = _items(clips)
    server, model = start(Server(seconds=0.01), max_cost=0.0004, price_in=1.0, price_out=1.0, concurrency=8)
    with pytest.raises(BudgetSpent, match=r"of 0\.0004 USD\. .* with a higher --max-cost"):
        audit.ask(model, clips, items, tmp_path)
    kept = runs.read_answers(tmp_path)
    assert 0 < len(kept) < len(items)
    assert len(server.calls) == len(kept)  # what was paid for was given out
    assert model.budget.cost <= 0.0004
    assert model.counts["cost_usd"] == pytest.approx(model.budget.cost)
    dearest = model.budget.price(model.budget.largest or Usage())
    assert model.budget.cost + dearest > 0.0004  # and it did not stop early
    server.calls.clear()
    model.budget.max_cost = 1.0
    answers = _ask(model, clips, items, tmp_path)
    assert len(server.calls) == len(items) - len(kept)
    assert all(answers[i.id].text == _truth(clips, model.view, i) for i in items)


def test_a_budget_that_exactly_covers_the_run_is_not_spent(start: Any, clips: foley.FoleyClips) -> None:
    items = _items(clips)[:3]
    one = clips.media(clips.clips[0], View(max_pixels=SMALL))
    _, model = start(Server())
    model.answer(items, [one] * 3)
    _, tight = start(Server(), max_tokens=sum(model.budget.used))
    assert len(tight.answer(items, [one] * 3)) == 3
    with pytest.raises(
        BudgetSpent, match=r"of \d+ tokens\. 0 items were settled by this call, 3 are left.*max_tokens"
    ):
        tight.answer(items, [one] * 3)


def test_failed_replies_count_and_a_silent_server_has_no_budget(
    start: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    fault = 'reply {"choices": [{"message": {"content": "I"}, "finish_reason": "content_filter"}]}'
    _, model = start(Server(fault=lambda c: fault), max_tokens=100_000)
    answers = _ask(model, clips, _items(clips)[:2], tmp_path / "a")
    assert all(a.error for a in answers.values())
    assert sum(model.budget.used) > 50
    _, model = start(Server(usage=False), max_tokens=100_000)
    with pytest.raises(ValueError, match="does not report its token usage"):
        audit.ask(model, clips, _items(clips), tmp_path / "a")


def test_budgets_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="price_in and --set price_out"):
        Budget(max_cost=1.0)
    with pytest.raises(ValueError, match="max_tokens must be at least 0"):
        Budget(max_tokens=-1)
    short, long = (
        Item(
            id="i",
            protocol="p",
            condition="c",
            question="q",
            clip="",
            source="",
            group="",
            prompt=words,
            target=None,
        )
        for words in ("what?", "word " * 4000)
    )
    assert Budget().allows(long, [Usage(10**9, 0)] * 99)
    budget = Budget(max_tokens=500)
    assert budget.allows(short, [])
    assert not budget.allows(short, [Usage()])  # what a request costs is not known yet
    budget.count(Usage(10, 5))
    each = budget.reserve(short)
    assert each.prompt >= 20
    assert each.completion == 32
    assert budget.allows(short, [each] * 7)
    assert not budget.allows(short, [each] * 9)
    assert not budget.allows(long, [each])  # long prompts are reserved for what they are
    assert not budget.allows(long, [])


# --- who is asked, and with which key -------------------------------------------------------------------------


def test_the_server_says_which_model_there_is(start: Any) -> None:
    server, model = start(Server(models=("m", "n")))
    assert model.name == f"openai:{server.url}#m"
    assert model.revision == "m from /w/m"
    with pytest.raises(ValueError, match="it serves m, n"):
        OpenAIModel(server.url)
    with pytest.raises(ValueError, match=r"has no model 'o': it serves m, n"):
        OpenAIModel(f"{server.url}#o")
    server.models = ("only",)
    alone = OpenAIModel(server.url.removesuffix("/v1") + "/#")
    assert alone.name == f"openai:{server.url}#only"
    alone.close()


@pytest.mark.parametrize(
    ("rest", "match"),
    [
        ("", "expected openai:URL#MODEL"),
        ("localhost:8000#m", "expected openai:URL#MODEL"),
        ("http://127.0.0.1:x/v1#m", "expected openai:URL#MODEL"),
        ("https://me:hush-hush@example.test/v1#m", "would be written into the run's record"),
        ("https://example.test/v1?key=hush-hush#m", "would be written into the run's record"),
        ("https://example.test/v1#m", "wants a key: set OPENAI_API_KEY"),
        ("http://127.0.0.1:9/v1#m", "no server answers at .*not started"),
    ],
)
def test_a_bad_address_is_one_clear_error_without_secrets(rest: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        OpenAIModel(rest)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "option", [{"parts": "sound"}, {"choice_logprobs": "yes"}, {"concurrency": 0}, {"timeout": 0}]
)
def test_a_bad_option_is_named(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        OpenAIModel("http://127.0.0.1:9/v1#m", **option)


def test_the_key_is_nowhere_to_be_found(
    start: Any, clips: foley.FoleyClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    key = "very-secret-key-1234"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    caplog.set_level("DEBUG")
    faults = ("status 400", f"raw <html>{key}</html>", 'reply {"error": "%s"}' % key, "")  # noqa: UP031
    server, model = start(Server(key=key, fault=lambda c: faults[c.number % 4]))
    _ask(model, clips, _items(clips), tmp_path)
    assert server.calls[0].headers["authorization"] == f"Bearer {key}"
    server.key = "another"  # the server's own error text repeats the key it was given
    with pytest.raises(ValueError, match=r"refuses the key .*\*\*\*") as caught:
        _ask(model, clips, _items(clips), tmp_path, retry_failed=True)
    with pytest.raises(ValueError, match="HTTP 401") as other:
        OpenAIModel(f"{server.url}#m")
    written = "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert written
    for text in (written, str(caught.value), str(other.value), repr(caught.value), caplog.text, model.decoding):
        assert key not in text
    assert key not in str(model.counts)


# --- ear and eye check of served models -----------------------------------------------------------------------


def _proofs(model: OpenAIModel) -> list[Any]:
    return [row["proof"] for row in audit.check_model(model, _clip(model)) if "proof" in row]


def _clip(model: OpenAIModel) -> Media:
    return foley.media(foley.scene(11, duration=2.0), model.view)


@pytest.mark.parametrize("parts", ["video", "video+audio", "frames+audio"])
def test_a_server_that_hears_and_sees_passes(parts: str, start: Any) -> None:
    _, model = start(Server(), parts=parts)
    assert _proofs(model) == ["its answers change with the sound", "its answers change with the picture"]


def test_a_model_that_listens_only_in_the_dark_is_no_deaf_server(start: Any) -> None:
    _, model = start(Server(says=watches, usage=False))
    assert _proofs(model)[0] == "its answers change with the sound with black pictures, and not otherwise"


@pytest.mark.parametrize("says", [describes, watches])
@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("parts", ["video", "frames+audio"])
def test_a_server_that_drops_the_sound_is_refused(says: Any, usage: bool, parts: str, start: Any) -> None:
    server, model = start(Server(says=says, usage=usage, fault=lambda c: "deaf"), parts=parts)
    with pytest.raises(
        audit.EarCheckError, match=r"127\.0\.0\.1.* the server is deaf.* use_audio_in_video"
    ) as caught:
        audit.check_model(model, _clip(model))
    assert ("its prompt is no longer" in str(caught.value)) == usage
    assert any(c.media.wave is not None for c in server.calls)  # it was sent


@pytest.mark.parametrize("usage", [True, False])
def test_a_server_that_drops_the_picture_is_refused(usage: bool, start: Any) -> None:
    _, model = start(Server(usage=usage, fault=lambda c: "blind"))
    with pytest.raises(audit.EarCheckError, match="the server is blind: the picture does not reach"):
        audit.check_model(model, _clip(model))


def test_a_model_that_ignores_sound_but_is_counted_is_no_deaf_server(start: Any) -> None:
    says = lambda prompt, media: describe("visual", media)  # noqa: E731
    for details in (False, True):
        _, model = start(Server(says=says, details=details))
        assert "counts 50 tokens of sound, though no answer changes with it" in _proofs(model)[0]


def test_a_server_that_never_says_the_same_proves_nothing_by_its_words(start: Any) -> None:
    said = iter(range(1000))
    _, model = start(Server(says=lambda p, m: f"number {next(said)}", fault=lambda c: "deaf"))
    with pytest.raises(audit.EarCheckError, match="as far as its answers to one and the same question agree"):
        audit.check_model(model, _clip(model))
    _, model = start(Server(says=lambda p, m: f"number {next(said)}", usage=False))
    assert all(p.startswith("not proven") for p in _proofs(model))


def test_a_server_that_does_not_answer_is_not_called_deaf(start: Any) -> None:
    _, model = start(Server(fault=lambda c: "status 500"), retries=0)
    with pytest.raises(ValueError, match="could not be asked in the ear and eye check: HTTP 500"):
        audit.check_model(model, _clip(model))
    _, model = start(Server(), max_tokens=1)
    with pytest.raises(ValueError, match="budget is spent in the ear and eye check, before any question"):
        audit.check_model(model, _clip(model))


def test_a_wrong_key_is_no_deaf_server(start: Any) -> None:
    _, model = start(Server(fault=lambda c: "status 401"))
    with pytest.raises(ValueError, match="refuses the key"):
        audit.check_model(model, _clip(model))


# --- our own server -------------------------------------------------------------------------------------------


def test_hans_behind_earwitness_serve_is_the_hans_on_this_machine(clips: foley.FoleyClips, tmp_path: Path) -> None:
    """Receipts measured behind the model, choices scored by it, the check as for a local model."""
    for needed in ("torch", "starlette", "uvicorn"):
        pytest.importorskip(needed)
    from earwitness import serve
    from earwitness.models.load import load_model

    hans = load_model("hans")
    items = _items(clips, ("original", "mute", "black"), choices=("drum", "None of the above"))[:6]
    with serve.running(hans) as url:
        model = OpenAIModel(f"{url}#hans")
        assert model.view == hans.view
        with pytest.raises(ValueError, match=r"fps=1: this server says .* fed 2 frames a second"):
            OpenAIModel(f"{url}#hans", fps=1.0)
        assert "logprobs" in model.abilities
        answers = _ask(model, clips, items, tmp_path)
        assert "not verifiable" not in model.decoding
        rows = audit.check_model(model, foley.media(foley.scene(11), model.view))
        model.close()
    assert all(row["fed"]["measured"] == "model" for row in rows)  # type: ignore[index]
    for item in items:
        clip = next(c for c in clips.clips if c.id == item.clip)
        one = interventions.apply(clips.media(clip, hans.view), item.intervention)
        assert one.wave is not None
        one = one.with_wave((media.sixteen_bit(one.wave) / 32768).astype(np.float32))
        direct = hans.answer([item], [one])[0]
        answer = answers[item.id]
        assert answer.error is None
        assert answer.fed is not None
        assert direct.fed is not None
        assert (answer.fed.measured, answer.fed.audio_hash) == ("model", direct.fed.audio_hash)
        assert set(answer.logprobs or {}) == set(item.choices)
        if item.condition == "black":  # nothing for a codec to change: the very same input
            assert (answer.text, answer.fed.video_hash) == (direct.text, direct.fed.video_hash)

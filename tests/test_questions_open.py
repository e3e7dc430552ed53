"""Free-form answers: what they say about presence, match and time, and never more than they say."""

from __future__ import annotations

import pytest

from earwitness import questions as q
from earwitness.questions.timing import seconds_in
from earwitness.records import REFUSED, UNPARSED

U, R = UNPARSED, REFUSED

S, D, V = "SILENT", "SOUND_DESCRIBED", "VISUAL_ONLY"
MUTE = [
    ("The audio is silent.", S),
    ("silent", S),
    ("Silent.", S),
    ("Silence", S),
    ("There is no sound.", S),
    ("No.", S),
    ("I cannot hear any audio in this video.", S),
    ("I can't hear anything.", S),
    ("I'm sorry, but I cannot hear any audio.", S),
    ("There is no audio in this video. It is completely silent.", S),
    ("The video has no sound.", S),
    ("I hear nothing.", S),
    (
        "The audio track is silent throughout the clip; no music, speech, ambient noise, or sound effects "
        "are detected.",
        S,
    ),
    ("The video shows a man falling, but there is no sound at all.", S),
    ("The audio track appears to be empty.", S),
    ("There is no audible sound, although the dog appears to be barking.", S),
    ("Nothing can be heard.", S),
    ("[silence]", S),
    ("The track is silent. One would expect a loud thud.", S),
    ("The audio has been muted.", S),
    ("Without any sound.", S),
    ("sound", D),
    ("Sound.", D),
    ("Yes.", D),
    ("Yes, there is a sound.", D),
    ("I hear a drum.", D),
    ("bell", D),
    ("Drums", D),
    ("The audio features a loud thud as the man hits the ground.", D),
    ("A dog is barking.", D),
    ("Birds chirping.", D),
    ("The sound of a bell ringing.", D),
    ("I hear a bell ringing. There is no speech or music.", D),
    ("The audio is mostly silent with a faint hum.", D),
    ("It is silent except for a faint hum.", D),
    ("The audio includes the sound of skis scraping against snow, followed by silence.", D),
    ("Someone is talking.", D),
    ("The man is silent but a guitar is playing.", D),
    ("A bell rings, then silence.", D),
    ("Music is playing.", D),
    ("There is no music, only the sound of footsteps.", D),
    ("The audio in this video is the sound of a drum.", D),
    ("The video shows a man in a red shirt.", V),
    ("A man is standing next to a tree.", V),
    ("I see a drum.", V),
    ("The scene depicts a blue ball on a table.", V),
    ("", U),
    ("???", U),
    ("42", U),
    ("There is no music.", U),
    ("The audio is silent. I hear a loud drum.", U),
    ("As an AI, I cannot hear audio.", R),
    ("I'm unable to process audio.", R),
    ("I cannot assist with that.", R),
    ("I don't know.", R),
]


@pytest.mark.parametrize(("text", "label"), MUTE)
def test_judge_mute(text: str, label: str) -> None:
    assert q.judge_mute(text, ("bell", "drum")).label == label


M, X = "MATCH", "MISMATCH"
SWAP = [
    ("I see a drum and hear a drum.", M, ("drum",), ("drum",)),
    ("I see a drum and hear a bell.", X, ("drum",), ("bell",)),
    ("I see a drum. I hear a bell.", X, ("drum",), ("bell",)),
    ("The video shows a dog, and the audio is barking.", M, ("dog",), ("dog",)),
    ("A dog is barking.", M, ("dog",), ("dog",)),
    ("In the video, a drum is shown and a bell can be heard.", X, ("drum",), ("bell",)),
    ("The video shows a drum while the audio contains the sound of a bell.", X, ("drum",), ("bell",)),
    ("You can see a man playing a drum, and you can hear the rhythmic drumming.", M, ("drum",), ("drum",)),
    ("A drummer hits the drum, producing a loud sound.", M, ("drum",), ("drum",)),
    ("The sound matches the picture.", M, (), ()),
    ("The audio does not match the video.", X, (), ()),
    ("The audio is inconsistent with the visuals.", X, (), ()),
    ("There is no mismatch between sound and picture.", M, (), ()),
    (
        "The visuals show an optics diffraction demonstration, but the audio describes how to use a centrifuge, "
        "indicating an audio-source mismatch.",
        X,
        (),
        (),
    ),
    ("I see a dog but I hear a siren, which doesn't match.", X, ("dog",), ("siren",)),
    ("yes", M, (), ()),
    ("No.", X, (), ()),
    ("No, the sound is unrelated.", X, (), ()),
    ("Yes, they match.", M, (), ()),
    ("No, they match.", U, (), ()),
    ("The video shows a red drum on a table.", V, ("drum",), ()),
    ("I see a dog. I hear a dog and music.", M, ("dog",), ("dog", "music")),
    ("I see a dog. I hear a dog and a bell.", U, ("dog",), ("dog", "bell")),
    ("I see a dog. I hear sounds.", U, ("dog",), ()),
    ("I see a dog. I hear music.", U, ("dog",), ("music",)),
    ("", U, (), ()),
    ("I don't know.", R, (), ()),
    ("The audio matches and does not match.", U, (), ()),
]


@pytest.mark.parametrize(("text", "label", "seen", "heard"), SWAP)
def test_judge_swap(text: str, label: str, seen: tuple[str, ...], heard: tuple[str, ...]) -> None:
    verdict = q.judge_swap(text, ("bell", "drum"))
    assert verdict.label == label
    if seen or heard:
        assert (verdict.said_seen, verdict.said_heard) == (seen, heard)


Y, L, E, N = "SYNC", "DELAY", "EARLY", "DESYNC_NO_DIRECTION"
SHIFT = [
    ("The audio and video are synchronized.", Y, None),
    ("They are in sync.", Y, None),
    ("Synchronized", Y, None),
    ("The sound is synchronized with the fall.", Y, None),
    ("There is no noticeable delay between audio and video.", Y, None),
    ("The audio is neither delayed nor early; it is aligned.", Y, None),
    ("No offset: the audio is in sync.", Y, None),
    (
        "To determine whether they are synchronized I watched the impact. The audio and video are synchronized.",
        Y,
        None,
    ),
    ("The audio is delayed by about 2.1 s.", L, 2.1),
    ("The audio is delayed by approximately 2 seconds", L, 2.0),
    ("Not synchronized: the audio is late by 1.8s.", L, 1.8),
    ("The sound lags behind the video by half a second.", L, 0.5),
    ("The tracks are not synchronized. The audio is delayed relative to the video by 800 ms.", L, 0.8),
    ("The audio, relative to the video, is delayed by 1.5 seconds.", L, 1.5),
    ("The audio comes 2.1 seconds after the visual event.", L, 2.1),
    ("The impact is seen before the sound is heard.", L, None),
    ("There is a 2-second delay in the audio.", L, 2.0),
    ("The video leads the audio by 1.5-2.5 seconds.", L, 2.0),
    ("Audio delayed, offset: 1.9 s", L, 1.9),
    ("The video is ahead of the audio by one second.", L, 1.0),
    ("The audio is early by 2.1 s.", E, -2.1),
    ("The sound precedes the picture by 1.9 seconds.", E, -1.9),
    ("The audio is ahead of the video by about 400 milliseconds.", E, -0.4),
    ("The sound is heard before the impact is seen.", E, None),
    ("The video lags behind the audio.", E, None),
    ("The audio comes two seconds too early.", E, -2.0),
    ("The impact is heard at 3.1 s while seen at 5.0 s.", E, -1.9),
    (
        "The visible fall occurs at ~5.0s, while the impact sound is heard at ~3.1s, indicating a "
        "synchronization mismatch.",
        E,
        -1.9,
    ),
    ("The ball is seen hitting the floor at 0:02 and the thud is heard at 0:04.", L, 2.0),
    ("The audio and video are not synchronized.", N, None),
    ("They are out of sync.", N, None),
    ("The tracks aren't aligned.", N, None),
    ("There is a delay between the visual and the audio.", N, None),
    ("out-of-sync by 2 seconds", N, None),
    ("", U, None),
    ("I see a ball.", U, None),
    ("The audio is delayed. The audio is early.", U, None),
    ("They are synchronized. The audio is delayed by 2 s.", U, None),
    ("At first the audio seems early. Then it seems late. Therefore, the audio is delayed by 2.0 s.", L, 2.0),
    ("I cannot determine the synchronization.", R, None),
    ("I don't know", R, None),
]


@pytest.mark.parametrize(("text", "label", "offset"), SHIFT)
def test_judge_shift(text: str, label: str, offset: float | None) -> None:
    verdict = q.judge_shift(text)
    assert verdict.label == label
    assert verdict.offset == (None if offset is None else pytest.approx(offset))


def test_moments_are_kept_apart() -> None:
    verdict = q.judge_shift("The impact is heard at 3.1 s while seen at 5.0 s")
    assert (verdict.t_seen, verdict.t_heard) == (5.0, 3.1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("the hit is seen at about 1.0-1.1s and heard at 3.2 s", [1.05, 3.2]),
        ("heard at around 2 to 3 seconds", [2.5]),
        ("at 500-600 ms", [0.55]),
        ("at 1.0 s to 1.2 s", [1.1]),
        ("at 3.1", [3.1]),
        ("sampled at 1.5 fps", []),
        ("sampled at 2-3 fps", []),
    ],
)
def test_a_range_of_times_is_its_middle_also_after_at(text: str, seconds: list[float]) -> None:
    assert [t.seconds for t in seconds_in(text)] == pytest.approx(seconds)

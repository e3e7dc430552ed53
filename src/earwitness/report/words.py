"""Plain words for what the protocols call by short names; a name that is not known is shown as it is.

Functions: :func:`condition_name`, :func:`style_name`, :func:`protocol_name`, :func:`done_to_clip` (what an
intervention did, as a caption), and ``GLOSSARY``, ``AXES``, ``LABELS``, ``PROTOCOLS``.
"""

from __future__ import annotations

from earwitness.questions import plain
from earwitness.records import Intervention

# Thud's eight axes (arXiv 2605.16403, section 3.1): letters of the name -> (name, what it counts).
AXES = {
    "mutehallucination": ("Mute Hallucination", "describes a sound in a muted clip"),
    "swapfalsematch": ("Swap False-Match", "takes another clip's sound for a match"),
    "falsesilence": ("False Silence", "claims silence where there is sound"),
    "swapfalsemismatch": ("Swap False-Mismatch", "claims a mismatch where there is none"),
    "audiododge": ("Audio Dodge", "speaks of the picture only"),
    "offsetblindness": ("Offset Blindness", "calls a shifted sound in sync"),
    "directionconfusion": ("Direction Confusion", "notices a shift but says the wrong direction"),
    "falsesyncalarm": ("False Sync Alarm", "claims a shift where there is none"),
}

PROTOCOLS = {
    "mma": (
        "MMA: which sense does it use?",
        "Every clip is asked two questions: which class is seen, and which class is heard. Then one of the two is "
        "replaced, taken away, or contradicted by a caption. Only the question about the changed stream may change "
        "its answer.",
        "Some Modalities Are More Equal Than Others, arXiv 2511.22826",
    ),
    "thud": (
        "Thud: does it check what it claims to hear?",
        "The sound is shifted against the picture, muted, or swapped with another clip's. The model describes what "
        "it hears, or says whether sound and picture are in step. What it says is compared with the truth.",
        "When Vision Speaks for Sound, arXiv 2605.16403",
    ),
    "av_confuse": (
        "AV-Confuse: one of several instruments is silent",
        "Several things are seen. One of them is taken out of the sound, and the model is asked whether it hears "
        "it; or the whole sound is replaced by wind, rain, a bird, a drill or thunder.",
        "When Eyes and Ears Disagree, arXiv 2511.10059",
    ),
    "judge": (
        "A second reader",
        "Free answers read again by a model that does not know what was done to the clip, beside the rules.",
        "",
    ),
    "benchmark": (
        "A published benchmark, with and without the sound",
        "The benchmark's own questions, on its clips as they are, muted, and black. What is still answered the "
        "same way without the sound was not owed to the sound.",
        "the question file's own source (docs/question_files.md)",
    ),
}

GLOSSARY = (
    ("Original", "The clip as it is, written anew by the same program as the changed ones."),
    ("Sham", "The clip written once more, unchanged. Whatever differs from the original is noise of the method."),
    ("Mute", "The sound track is there and holds silence. Not the same as a clip without a track."),
    ("Swap", "The sound track is that of another clip, of another class, as loud and as long."),
    ("Shift", "The sound is moved against the picture: plus is late, minus is early."),
    ("Black, eyes closed", "The picture is black, the sound is untouched."),
    (
        "Follows the picture / the sound",
        "When both disagree: whose class the answer names. Both can be low, when it names a third thing.",
    ),
    ("Leak", "The thing asked about is gone, and the answer names the class of the other sense instead."),
    (
        "Beyond alarms",
        "With the picture black nobody can know whether a sound was moved. A direction said of a moved clip "
        "counts by how much more often it is said than of the same clip untouched, just as black: 0 for a guess, "
        "above 0 where the ear alone tells something. Lower is better.",
    ),
    ("Abstention", "Saying “none of the above” where nothing is there to be named."),
    (
        "Figures in brackets",
        "The 95 % interval. If the audit were repeated on other clips of the same kind, nineteen of twenty such "
        "intervals would hold the true value. Answers on the same clip are not independent; the intervals account "
        "for that by counting clips, not answers.",
    ),
    (
        "Independent clips",
        "What the statistics count. Two clips that lend each other their sound count as one.",
    ),
    ("Chance", "The share of right answers that drawing one option blindly would give."),
    ("Baseline", "An imaginary model that never looks at the clip: it says yes, or “in sync”, to everything."),
    ("Unparsed", "The answer names none of the options, or two. It is counted, shown, and never guessed."),
    ("Failed", "No answer came back. A failure is not an answer: it is counted apart and never scored."),
    (
        "Avg Gap",
        "How much accuracy falls from the original to the changed clips, averaged over synchrony, existence and "
        "consistency of the sound.",
    ),
    (
        "d′ and bias",
        "d′ says how well sounding things are told from silent ones (0 = not at all); bias says towards which "
        "answer the model leans (below 0: yes).",
    ),
    ("PA and HR", "Accuracy where “yes” is right (PA), and where “no” is right (HR). Only both together count."),
    (
        "Receipt",
        "What the model really got, measured behind its own preprocessing: frames, seconds, loudness, tokens.",
    ),
)

# What a label of scoring says, as the end of "read as ...".
LABELS = {
    "SILENT": "silence", "SOUND_DESCRIBED": "a sound", "VISUAL_ONLY": "a word on the picture only",
    "MATCH": "“it matches”", "MISMATCH": "“it does not match”", "SYNC": "“in sync”", "DELAY": "“the sound is late”",
    "EARLY": "“the sound is early”", "DESYNC_NO_DIRECTION": "“out of sync”, no direction",
    "HEARD": "the sound is named", "NOT_HEARD": "the sound is not named",
    "UNPARSED": "nothing that was asked for", "REFUSED": "a refusal", "ERROR": "a failure",
}  # fmt: skip

_CONDITIONS = {
    "original": "original", "aligned": "original", "found": "original (picture unlabelled)", "full": "original",
    "swap": "sound replaced", "audio_swapped": "sound replaced", "modified": "sound replaced by a background",
    "shift": "sound shifted by about 2 s", "hush": "an edge filled as by a shift",
    "unseen": "sound shifted, picture black", "dark": "picture black", "mute_room": "only room tone left",
    "ladder": "sound shifted by 0.4 to 1.6 s", "muted": "one sound taken out",
    "mute": "sound muted", "audio_removed": "sound muted", "audio_muted": "sound muted",
    "black": "picture black",
    "frames_zeroed": "picture black", "caption": "misleading caption",
    "misleading_caption": "misleading caption", "long_context": "long text around the question",
    "sham": "sham (written again)", "no_track": "no sound track", "no_frames": "no picture",
}  # fmt: skip

_STYLES = {
    "standard": "plain question", "neutral": "neutral question", "direct": "direct question",
    "leading": "question announces the change", "abstention": "may answer “none of the above”",
    "cot": "asked to think step by step",
}  # fmt: skip


def condition_name(condition: str) -> str:
    """A condition in words."""
    return _CONDITIONS.get(condition.lower().replace("-", "_"), plain(condition))


def style_name(style: str) -> str:
    """A prompt style in words."""
    return _STYLES.get(style, plain(style))


def protocol_name(protocol: str) -> str:
    """A protocol's title."""
    known = PROTOCOLS.get(protocol.replace("-", "_"))
    return known[0] if known else protocol


def done_to_clip(iv: Intervention, heard: tuple[str, ...] = ()) -> str:
    """What an intervention did to a clip, as a caption over its player."""
    now = ", ".join(plain(h) for h in heard)
    if iv.kind == "shift":
        dark = ", picture black" if iv.unseen else ""
        return f"Sound moved {abs(iv.seconds):.2f} s {'late' if iv.seconds > 0 else 'early'}{dark}"
    if iv.kind == "hush":
        return f"{'First' if iv.seconds > 0 else 'Last'} {abs(iv.seconds):.2f} s of the sound filled, nothing moved"
    if iv.kind == "mute" and iv.fill == "room":
        return "Only room tone left"
    return {
        "original": "Untouched",
        "sham": "Written again, unchanged",
        "mute": "Sound muted",
        "no_track": "Sound track taken away",
        "swap": f"Sound replaced: {now}" if now else "Sound replaced by another clip's",
        "drop_stem": f"Sound of the {plain(iv.stem or 'thing')} taken out",
        "background": f"Sound replaced: {plain(iv.background or 'background')}",
        "black": "Picture black",
        "freeze": "Picture frozen",
        "no_frames": "Picture taken away",
        "tone": "Sound replaced: a 440 Hz tone",
        "noise": "Sound replaced: white noise",
    }[iv.kind]

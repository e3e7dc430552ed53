"""Words for things that sound: one entry per thing, what it is called and the verbs of its sound.

The free-form judge needs to know that "a dog" seen and "barking" heard are one thing, and that "chirping" heard
with a dog seen are two. Class names outside this list work too: they are matched by their own words.
English only; a word stands under one thing alone, or the judge would see agreement in everything.

Functions: ``things`` (which things a cleaned text names), ``same`` (the thing that a class name means),
``recall`` (share of expected things that a text names).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from earwitness.questions.parsing import Mention, clean, mentions

# thing -> (names, words of its sound). The names may be seen or heard; the sound words are heard.
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bell": (("bell", "church bell"), ("chime", "chiming", "tolling", "dinging", "ding")),
    "drum": (("drum", "drummer", "snare", "drum kit", "bass drum"), ("drumming", "drumbeat")),
    "guitar": (("guitar", "guitarist", "acoustic guitar", "electric guitar"), ("strumming", "strum", "strummed")),
    "violin": (("violin", "fiddle", "violinist"), ()),
    "piano": (("piano", "pianist", "keyboard instrument"), ()),
    "flute": (("flute", "flutist", "recorder"), ()),
    "cello": (("cello", "cellist"), ()),
    "trumpet": (("trumpet", "bugle"), ()),
    "saxophone": (("saxophone", "sax"), ()),
    "accordion": (("accordion",), ()),
    "didgeridoo": (("didgeridoo",), ()),
    "harp": (("harp", "harpist"), ()),
    "xylophone": (("xylophone", "marimba", "glockenspiel"), ()),
    "cymbal": (("cymbal", "gong"), ()),
    "horn": (("horn",), ("honk", "honking")),
    "whistle": (("whistle",), ("whistling",)),
    "siren": (("siren", "ambulance", "fire truck", "police car"), ("wailing siren",)),
    "alarm": (("alarm", "alarm clock", "smoke detector"), ("beep", "beeping")),
    "clock": (("clock", "watch hand", "metronome"), ("tick", "ticking", "tick tock")),
    "telephone": (("telephone", "phone", "cell phone"), ("ringtone",)),
    "dog": (("dog", "puppy", "hound"), ("bark", "barking", "woof", "yapping", "howling")),
    "cat": (("cat", "kitten"), ("meow", "meowing", "purr", "purring")),
    "bird": (("bird", "sparrow", "parrot", "songbird"), ("chirp", "chirping", "tweet", "tweeting", "birdsong")),
    "rooster": (("rooster", "chicken", "hen"), ("crowing", "clucking", "cluck")),
    "duck": (("duck", "goose"), ("quack", "quacking")),
    "cow": (("cow", "cattle"), ("moo", "mooing")),
    "sheep": (("sheep", "goat", "lamb"), ("bleat", "bleating")),
    "horse": (("horse",), ("neigh", "neighing", "hoofbeat", "clip clop")),
    "frog": (("frog", "toad"), ("croak", "croaking", "ribbit")),
    "cricket": (("cricket", "insect", "bee", "fly"), ("buzzing insect",)),
    "speech": (
        ("speech", "voice", "conversation", "narration", "narrator", "dialogue", "speaker"),
        ("talk", "talking", "speaking", "speak", "spoken", "says", "saying"),
    ),
    "singing": (("singing", "singer", "choir"), ("sing", "sung", "vocals")),
    "laughter": (("laughter",), ("laugh", "laughing", "giggle", "giggling")),
    "crying": (("crying baby",), ("crying", "sobbing", "wail")),
    "applause": (("applause",), ("clap", "clapping", "cheering", "cheers")),
    "footsteps": (("footstep",), ("stomping",)),
    "car": (("car", "vehicle", "truck", "bus", "motorcycle"), ("revving", "engine")),
    "train": (("train", "locomotive"), ()),
    "airplane": (("airplane", "aircraft", "jet", "helicopter"), ()),
    "boat": (("boat", "ship"), ()),
    "wind": (("wind", "breeze", "gust"), ("windy", "blowing wind", "wind noise")),
    "rain": (("rain", "raindrop", "rainfall", "drizzle", "downpour"), ("raining", "pattering")),
    "thunder": (("thunder", "thunderstorm", "lightning"), ("thunderclap",)),
    "water": (
        ("water", "stream", "river", "waterfall", "wave", "ocean", "sea"),
        ("splash", "splashing", "gurgling"),
    ),
    "fire": (("fire", "flame", "campfire"), ("crackle", "crackling")),
    "electric drill": (("electric drill", "drill", "power drill", "power tool"), ("drilling",)),
    "hammer": (("hammer",), ("hammering",)),
    "saw": (("chainsaw", "handsaw"), ("sawing",)),
    "glass": (("glass",), ("shatter", "shattering")),
    "ball": (("ball",), ("bounce", "bouncing")),
    "door": (("door",), ("knock", "knocking", "creaking")),
    "gunshot": (("gun", "gunshot", "gunfire"), ()),
    "explosion": (("explosion", "firework", "bomb"), ("explode", "exploding")),
    "music": (("music", "song", "melody", "tune", "soundtrack music"), ()),
    "static": (("white noise", "tv static"), ("hiss", "hissing", "static noise")),
    "tone": (("sine wave", "sine tone", "pure tone"), ("steady tone",)),
}
# Heard along with almost anything: alone it neither confirms nor contradicts a picture.
BACKGROUND = frozenset({"music", "speech", "static"})
# Says that something is heard without naming it. A thing's own sound words count as well.
SOUNDING = re.compile(
    r"\b(?:sounds?|audio|noises?|hear|heard|hears|hearing|audible|loud|rhythm\w*|beats?|thuds?|bangs?|crash\w*|clang\w*"
    r"|clicks?|clicking|pops?|popping|ring|rings|ringing|rang|buzz\w*|hums?|humming|rumbl\w+|roar\w*|echo\w*|plays"
    r"|playing|played|squeak\w*|screech\w*|scream\w*|shout\w*|yell\w*|whoosh\w*|rustl\w+|jingl\w+|tapping|scrap\w+"
    r"|impact|strikes?|struck|striking|tones?|voices?|music)\b"
)


@lru_cache(maxsize=1)
def _owners() -> dict[str, str]:
    return {word: thing for thing, (names, sounds) in WORDS.items() for word in (thing, *names, *sounds)}


@lru_cache(maxsize=4096)
def same(name: str) -> str:
    """The thing that a class name means: ``Acoustic_guitar`` -> ``guitar``; itself, cleaned, where unknown."""
    found = {_owners()[m.option] for m in mentions(clean(name), tuple(_owners()))}
    return found.pop() if len(found) == 1 else clean(name)


def things(text: str, extra: Sequence[str] = ()) -> list[Mention]:
    """What a cleaned text names, as things in ``option``: those of the list and the class names in ``extra``."""
    owners = _owners() | {clean(name): same(name) for name in extra if clean(name)}
    return [m._replace(option=owners[m.option]) for m in mentions(text, tuple(owners))]


def sound_words(text: str) -> bool:
    """Whether a cleaned text has a word that speaks of something audible ("barking", "thud", "hear")."""
    return SOUNDING.search(text) is not None or bool(mentions(text, _voiced()))


@lru_cache(maxsize=1)
def _voiced() -> tuple[str, ...]:
    return tuple(word for _, sounds in WORDS.values() for word in sounds)


def recall(text: str, expected: Sequence[str]) -> float:
    """Share of the expected things, in [0, 1], that a text names and does not deny. Raises ValueError on none."""
    wanted = {same(name) for name in expected}
    if not wanted:
        raise ValueError("recall needs at least one expected class")
    named = {m.option for m in things(clean(text), expected) if not m.denied}
    return len(wanted & named) / len(wanted)

"""What is asked, and what an answer says: prompts verbatim, parsing with three outcomes.

An answer's text becomes a label, ``UNPARSED`` (it says nothing that the question asks for, or two things at once)
or ``REFUSED`` (it declines). Never a default label: a parser that guesses turns a broken harness into a score.

Prompts: ``content_prompt`` (MMA), ``thud_prompt``, ``instrument_prompt`` and ``describe_prompt`` (AV-Confuse),
``answer_choices``; ``wording`` says a label in plain words. Closed answers: ``parse_choice``, ``parse_yes_no``,
``parse_letter``. Open ones: ``judge_mute``, ``judge_swap``, ``judge_shift`` (a ``Verdict`` each), ``said``,
``recall``.
"""

from earwitness.questions.judging import Verdict, judge_mute, judge_shift, judge_swap, said
from earwitness.questions.lexicon import recall, same, sound_words
from earwitness.questions.parsing import clean, parse_choice, parse_letter, parse_yes_no, refuses
from earwitness.questions.prompts import (
    DIRECT,
    LABELS,
    STYLES,
    answer_choices,
    content_prompt,
    describe_prompt,
    instrument_prompt,
    plain,
    thud_prompt,
    wording,
)

__all__ = [
    "DIRECT", "LABELS", "STYLES", "Verdict", "answer_choices", "clean", "content_prompt", "describe_prompt",
    "instrument_prompt", "judge_mute", "judge_shift", "judge_swap", "parse_choice", "parse_letter", "parse_yes_no",
    "plain", "recall", "refuses", "said", "same", "sound_words", "thud_prompt", "wording",
]  # fmt: skip

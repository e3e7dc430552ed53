"""MMA-Bench's figures: "Some Modalities Are More Equal Than Others", arXiv 2511.22826.

658 clips, each aligned and with another clip's sound (1,316), two questions a clip, means over three seeds. An
interval counts the 658 clips: three runs on one clip are no three clips. Many printed shares are no whole count of
658 or 1,974, so some answers must have been left out; the paper does not say which.
"""

from __future__ import annotations

from earwitness.published.reading import Column, columns, table

PAPER = "mma"
SOURCE = "Some Modalities Are More Equal Than Others, arXiv 2511.22826"
CLIPS = 658
ASKED = ("visual accuracy", "audio accuracy")
PAIR = columns(ASKED, ("aligned", "audio_swapped"), n=CLIPS, clips=CLIPS)
TUNED = "Qwen2.5-Omni-7B tuned"
# The released AVHBench question file: 1,145 + 1,145, 568 + 568 and 938 + 938 questions; 1,106 captions.
AVHBENCH = (
    Column("accuracy", "avhbench, video-driven audio hallucination", n=2290),
    Column("accuracy", "avhbench, audio-driven video hallucination", n=1136),
    Column("accuracy", "avhbench, matching", n=1876),
    Column("METEOR", "avhbench, captioning", "score"),
)


def _each(condition: str) -> tuple[Column, ...]:
    return columns(ASKED, (condition,), n=CLIPS, clips=CLIPS)


def _gain(condition: str) -> tuple[Column, ...]:
    return tuple(Column(f"{asked} gain", condition, "difference") for asked in ASKED)


TABLES = (
    table(
        PAPER, "Table 3", "Accuracy when sound and picture agree, and when they do not", SOURCE, PAIR,
        """
        Gemini-2.5-Pro        | 97.90 95.28 60.37 24.95
        Gemini-2.0-Flash      | 96.71 91.91 57.21  9.42
        Gemini-2.0-Flash-Lite | 94.89 94.11 59.19  4.04
        Qwen3-Omni-30B        | 92.88 83.73 57.39 14.58
        Qwen2.5-Omni-7B       | 76.68 58.72 46.60 25.16
        VideoLLaMA2           | 56.35 36.11 36.12 18.46
        ChatBridge            | 51.64 54.71 41.61  7.07
        PandaGPT              | 28.75 29.79 13.12  1.18
        Qwen2.5-Omni-7B tuned | 94.68 94.37 88.14 79.79
        """,
        notes=("The judge of the clips' quality was Qwen2.5-Omni-7B, one of the audited models.",),
    ),
    table(
        PAPER, "Table 4", "One sense taken away", SOURCE,
        (*_each("aligned"), *_each("audio_removed"), *_each("frames_zeroed")),
        """
        Qwen2.5-Omni-7B       | 76.68 46.60  71.49 54.39  45.28 33.74
        Qwen2.5-Omni-7B tuned |     -     -  95.30 16.17   8.51 82.52
        """,
        notes=(
            "Accuracy on a sense that is not there is a leak, not a skill: lower is better there.",
            "Section 4.1.2 gives 46.6 % for sound questions on silenced clips, which is the aligned figure; the "
            "table says 54.39 %.",
        ),
    ),
    table(
        PAPER, "Table 5", "Misleading captions and 10,000 random tokens", SOURCE,
        (*_each("misleading_caption"), *_each("long_context")),
        """
        Qwen2.5-Omni-7B       | 37.81 11.98  63.65 34.75
        Qwen2.5-Omni-7B tuned | 91.88 28.63  78.02 28.36
        """,
        notes=("The caption says the tokens stand after the question, Appendix I.4 that they stand before it.",),
    ),
    table(
        PAPER, "Table 5, gains", "What tuning changes under misleading text", SOURCE,
        (*_gain("misleading_caption"), *_gain("long_context")),
        f"{TUNED} | 54.07 16.65 14.37 -6.39",
    ),
    table(
        PAPER, "Table 6", "AVHBench without training on it", SOURCE, AVHBENCH,
        """
        Qwen2.5-Omni-7B       | 71.67 80.65 49.57 15.50
        Qwen2.5-Omni-7B tuned | 79.86 85.32 49.57 15.60
        """,
        notes=(
            "n is that of the released question file. Only 49.57 % is a whole count of it, so some clips were "
            "probably missing.",
            "METEOR is on a scale from 0 to 1 here; the paper prints it times 100.",
        ),
    ),
    table(
        PAPER, "Table 9", "Classes seen and not seen in tuning", SOURCE,
        columns(ASKED, (
            "aligned, seen classes", "audio_swapped, seen classes", "aligned, unseen classes",
            "audio_swapped, unseen classes",
        )),
        """
        Qwen2.5-Omni-7B                  | 76.3 58.1 72.3 60.9  41.4 27.4 61.8 24.6
        Qwen2.5-Omni-7B tuned on 29 of 58 classes | 96.3 95.4 95.3 92.0  43.2 53.1 76.4 55.1
        """,
        notes=("How many clips fall on each half of the classes is not said, so there are no intervals.",),
    ),
    table(
        PAPER, "Table 10", "Says “none of the above” where the asked sense is not there", SOURCE,
        (
            Column("visual abstention", "frames_zeroed", n=CLIPS, clips=CLIPS),
            Column("audio abstention", "audio_removed", n=CLIPS, clips=CLIPS),
        ),
        """
        Gemini-2.5-Pro        | 47.42  3.79
        Gemini-2.0-Flash      |  3.04  1.06
        Qwen3-Omni-30B        | 15.05 11.71
        Qwen2.5-Omni-7B       | 10.94  9.86
        ChatBridge            | 55.77 37.69
        PandaGPT              | 11.25  0.61
        Qwen2.5-Omni-7B tuned | 90.27  0.00
        """,
        notes=(
            "The table's other columns are left out: those headed “audio removed” and “frames zeroed” repeat the "
            "misaligned columns of Table 3, which contradicts Table 4.",
            "The first row is headed Gemini-1.5-Pro, but its other columns are those of Gemini-2.5-Pro in Table 3.",
        ),
    ),
    table(
        PAPER, "Table 11", "Asked to think step by step", SOURCE,
        columns(ASKED, ("aligned, cot", "audio_swapped, cot"), n=CLIPS, clips=CLIPS),
        """
        Qwen2.5-Omni-7B       | 66.18 53.25 45.14 31.16
        Qwen2.5-Omni-7B tuned | 94.71 94.66 58.46 55.14
        """,
        notes=("The rows without thinking repeat Table 3.",),
    ),
    table(
        PAPER, "Appendix I.2", "One sense taken away from other models (figures in the text)", SOURCE,
        (
            Column("visual accuracy", "audio_removed", n=CLIPS, clips=CLIPS),
            Column("audio accuracy", "audio_removed", n=CLIPS, clips=CLIPS),
            Column("audio accuracy", "frames_zeroed", n=CLIPS, clips=CLIPS),
        ),
        """
        Gemini-2.5-Pro   | 97.23 95.55     -
        Gemini-2.0-Flash |     - 91.79     -
        Qwen3-Omni-30B   |     -     - 44.68
        """,
        notes=("Figures 4 and 21 to 24 draw more; only what the text states is copied.",),
    ),
    table(
        PAPER, "Appendix I.3", "What a misleading caption costs (figures in the text)", SOURCE,
        (Column("visual accuracy drop", "misleading_caption", "difference"),),
        """
        Gemini-2.5-Pro   |  1.9
        Qwen3-Omni-30B   |  0.6
        Gemini-2.0-Flash | 16.9
        ChatBridge       | 29.9
        """,
    ),
    table(
        PAPER, "Section 4.2", "Share of attention on text tokens (figures in the text)", SOURCE,
        (Column("attention on text", "aligned"),),
        """
        Qwen2.5-Omni-7B | 81.29
        VideoLLaMA2     | 56.29
        """,
        notes=("Over all layers and heads, 100 clips; a share of attention, not of answers: no interval.",),
    ),
)  # fmt: skip

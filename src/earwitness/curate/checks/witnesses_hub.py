"""Any checkpoint of transformers as a witness: a sound classifier (AST and its like), a picture one, or CLIP.

A checkpoint is a folder or a hub id. What it is is read from its configuration, not from its name: a model "for
audio classification" hears; one "for image classification" sees with labels of its own; CLIP, SigLIP and their like
("zero-shot image classification") see whatever labels they are given, as texts.

Functions: ``load_tagger`` and ``load_classifier``, each giving a revision, the labels, and a function to scores per
window or frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from earwitness.curate.checks.yamnet import mono_at
from earwitness.models.quiet import quiet
from earwitness.records import Frames, Wave

import transformers  # isort: skip
from transformers.models.auto import modeling_auto as known  # isort: skip

SAYING = "a photo of {}"  # CLIP's own prompt (Radford et al. 2021, section 3.1.4), without article and full stop
WINDOW = 10.24  # s; what AST's checkpoints are trained on. Longer waves are heard in such windows, half overlapping
BATCH = 16  # frames or windows at once
SIGMOID = frozenset({"siglip", "siglip2"})  # whose scores are each label's own, not shares of one

Scores = NDArray[np.float32]


class Heard(NamedTuple):
    """A tagger from a checkpoint: a name of its weights, its labels, and waves -> scores [windows, labels]."""

    revision: str
    labels: tuple[str, ...]
    score: Callable[[Wave, int], Scores]


class Seen(NamedTuple):
    """A classifier from a checkpoint: a name of its weights, its labels, and frames -> scores [time, labels].

    ``free``: its labels were given to it, as texts (CLIP); otherwise they are its own.
    """

    revision: str
    labels: tuple[str, ...]
    score: Callable[[Frames], Scores]
    free: bool


def load_tagger(path: str, device: str = "cpu", window: float = WINDOW) -> Heard:
    """A checkpoint for audio classification; probabilities by sigmoid where it says multi-label or is an AST.

    ``window``: seconds heard at once. Raises ValueError where the path is no such checkpoint.
    """
    config = _config(path)
    _of(path, config, known.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES, "audio classification")
    model = _model(path, transformers.AutoModelForAudioClassification, device)
    taking = _processor(path, transformers.AutoFeatureExtractor)
    rate = int(taking.sampling_rate)
    # AudioSet's checkpoints of AST leave problem_type unset, and are trained with binary cross-entropy (AST, 3.1).
    each = config.problem_type == "multi_label_classification" or (
        config.problem_type is None and config.model_type == "audio-spectrogram-transformer"
    )

    @torch.inference_mode()
    def score(wave: Wave, given: int) -> Scores:
        mono = mono_at(wave, given, rate)
        out = []
        for part in windows(mono, round(window * rate)):
            fed = taking(part, sampling_rate=rate, return_tensors="pt").to(device)
            logits = model(**fed).logits.float()
            out.append((logits.sigmoid() if each else logits.softmax(-1)).cpu().numpy()[0])
        scores: Scores = np.stack(out).astype(np.float32)
        return scores

    return Heard(_revision(model, path), _labels(path, config), score)


def windows(mono: NDArray[np.float32], size: int) -> list[NDArray[np.float32]]:
    """A wave in windows of at most ``size`` samples, half overlapping; the last one ends with the wave."""
    if len(mono) <= size:
        return [mono]
    starts = [*range(0, len(mono) - size, max(1, size // 2)), len(mono) - size]
    return [mono[at : at + size] for at in starts]


def load_classifier(
    path: str, labels: Sequence[str] = (), device: str = "cpu", saying: str | None = SAYING
) -> Seen:
    """A checkpoint for image classification, or one that compares pictures with texts, asked about ``labels``.

    ``saying`` is the text in which a label is put, ``{}`` for the label. Raises ValueError where the path is no
    such checkpoint, or texts are needed and no labels are given.
    """
    config = _config(path)
    kind = config.model_type
    if kind in known.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        if not labels:
            raise ValueError(f"{path} compares pictures with texts: give it the labels to choose from")
        return _zero_shot(path, tuple(labels), device, saying or "{}", kind in SIGMOID)
    _of(path, config, known.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, "image classification (zero-shot or not)")
    model = _model(path, transformers.AutoModelForImageClassification, device)
    taking = _processor(path, transformers.AutoImageProcessor)

    @torch.inference_mode()
    def score(frames: Frames) -> Scores:
        out = []
        for at in range(0, len(frames), BATCH):
            fed = taking(list(frames[at : at + BATCH]), return_tensors="pt", input_data_format="channels_last")
            out.append(model(**fed.to(device)).logits.float().softmax(-1).cpu().numpy())
        scores: Scores = np.concatenate(out).astype(np.float32)
        return scores

    return Seen(_revision(model, path), _labels(path, config), score, free=False)


def _zero_shot(path: str, labels: tuple[str, ...], device: str, saying: str, each: bool) -> Seen:
    """CLIP and its like: the texts pass their tower once, then each frame is held against them."""
    model = _model(path, transformers.AutoModelForZeroShotImageClassification, device)
    taking = _processor(path, transformers.AutoProcessor)
    texts = [saying.format(label.replace("_", " ").lower()) for label in labels]
    # SigLIP was trained with texts padded to their full length; without that its scores are off.
    padding = "max_length" if each else True
    asked = taking.tokenizer(texts, padding=padding, truncation=True, return_tensors="pt").to(device)

    @torch.inference_mode()
    def score(frames: Frames) -> Scores:
        out = []
        for at in range(0, len(frames), BATCH):
            some = list(frames[at : at + BATCH])
            fed = taking.image_processor(some, return_tensors="pt", input_data_format="channels_last").to(device)
            logits = model(**asked, **fed).logits_per_image.float()
            out.append((logits.sigmoid() if each else logits.softmax(-1)).cpu().numpy())
        scores: Scores = np.concatenate(out).astype(np.float32)
        return scores

    return Seen(_revision(model, path), labels, score, free=True)


def _config(path: str) -> Any:
    with quiet():
        try:
            return transformers.AutoConfig.from_pretrained(path)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path}: no checkpoint that transformers knows: {_first(error)} (a folder or a hub id?)"
            ) from error


def _of(path: str, config: Any, mapping: Any, what: str) -> None:
    if config.model_type not in mapping:
        raise ValueError(f"{path}: a {config.model_type} checkpoint is not for {what} (another kind of witness?)")


def _model(path: str, auto: Any, device: str) -> Any:
    with quiet():
        try:
            model, told = auto.from_pretrained(path, output_loading_info=True, dtype=torch.float32)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: could not be loaded: {_first(error)}") from error
    # Left to itself transformers fills a missing head with random numbers and goes on.
    if lacking := sorted(told["missing_keys"]):
        raise ValueError(
            f"{path}: lacks {len(lacking)} weights, {lacking[0]} first: it would witness at random (not fine-tuned "
            "for this task?)"
        )
    return model.to(device).eval()


def _processor(path: str, auto: Any) -> Any:
    with quiet():
        try:
            return auto.from_pretrained(path)
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(f"{path}: its preprocessing could not be loaded: {_first(error)}") from error


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _labels(path: str, config: Any) -> tuple[str, ...]:
    found = config.id2label
    labels = tuple(str(found[i]) for i in range(len(found)))
    if all(label == f"LABEL_{i}" for i, label in enumerate(labels)):
        raise ValueError(f"{path}: its configuration does not name its {len(labels)} labels (id2label)")
    return labels


def _revision(model: Any, path: str) -> str:
    """A hub checkpoint's commit, or a digest of a folder's weights: names, shapes, and a few numbers each."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit and not Path(path).is_dir():
        return str(commit)[:12]
    hashed = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(f"{name}{tuple(tensor.shape)}".encode())
        hashed.update(tensor.flatten()[:: max(1, tensor.numel() // 64)].float().cpu().numpy().tobytes())
    return hashed.hexdigest()[:12]

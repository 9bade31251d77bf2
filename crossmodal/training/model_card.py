"""The model card that a trained checkpoint carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["model_card"]

_METRICS = (
    "mrr",
    "hit@1",
    "hit@5",
    "hit@10",
    "recall@1",
    "recall@5",
    "recall@10",
    "median_rank",
    "map",
    "ndcg@10",
)


def model_card(training: Mapping[str, Any]) -> str:
    """Markdown that says what the model is and how it came about.

    ``training`` is what ``train`` writes into the checkpoint's configuration under that name.
    """
    config, metrics = training["config"], training["metrics"]
    lines = [
        "# Model card: VSE++",
        "",
        "Two encoders into one space: a photo (MobileNet-EdgeTPU, global average pooling, linear layer) and",
        "a sentence (word embeddings, GRU, its last state), both scaled to unit length and compared by their",
        f"dot product. Vectors have {config['dimension']} dimensions. The loss is the max of hinges of VSE++",
        "(Faghri et al., BMVC 2018), after some epochs of the sum of hinges.",
        "",
        "## Training",
        "",
        f"- Command: `{training['command']}`",
        f"- Data: `{config['data']}`, {_size(training['train'])} to train on; {_size(training['dev'])} (dev)",
        "  to choose the epoch by.",
        f"- The CNN comes from {training['initial_cnn']} and was not changed; everything else was trained",
        "  from random values, with the words of the training captions alone.",
        f"- Seed {config['seed']}; {training['epochs']} epochs, of which number {training['best_epoch']} was",
        f"  the best; {training['seconds'] / 60:.0f} minutes with {training['threads']} thread(s).",
        f"- Made with {', '.join(f'{name} {version}' for name, version in training['versions'].items())}.",
        "",
        "The complete settings are in `config.json` beside the weights.",
        "",
        "## Results on dev",
        "",
        "Captions find their photo among all dev photos; photos find any of their captions among all dev",
        "captions.",
        "",
        "| | text to image | image to text |",
        "|---|---|---|",
        *(
            f"| {name} | {metrics['text2image'][name]:.4g} | {metrics['image2text'][name]:.4g} |"
            for name in _METRICS
        ),
        "",
        "Dev chose the epoch and the settings, so these numbers are slightly optimistic.",
        "",
        "## What to expect",
        "",
        *_preprocessing_advice(config["resize"]),
        "It knows only the words of its training captions; any other word counts as the same unknown word.",
        "It ranks: its scores are not probabilities.",
        "",
    ]
    return "\n".join(lines)


def _size(counts: Mapping[str, int]) -> str:
    return f"{counts['photos']:,} photos with {counts['captions']:,} captions"


def _preprocessing_advice(resize: str) -> list[str]:
    if resize == "squash":
        return [
            "The whole frame is squashed to 224 x 224 pixels, as the training photos were: nothing at the",
            "edges of a wide photo is lost, but its content is compressed sideways. Panoramas are compressed",
            "far beyond what training has shown.",
        ]
    return [
        "The middle square of a photo is scaled to 224 x 224 pixels: what lies at the ends of a wide photo",
        "isn't seen.",
    ]

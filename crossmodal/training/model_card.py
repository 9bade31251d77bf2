"""The model card that a trained model carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossmodal.models.hubness import HUBNESS_FILE, Banks

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

_TOWERS = {
    "gru": (
        "a photo (MobileNet-EdgeTPU, global average pooling, linear layer) and a sentence (word embeddings, "
        "GRU, its last state)"
    ),
    "transformer": (
        "a photo (MobileNet-EdgeTPU, global average pooling, linear layer) and a sentence (word pieces, "
        "transformer encoder, mean pooling, linear layer)"
    ),
    "open_clip": "a photo and a sentence (the towers of the open_clip model that it started from)",
}


def model_card(training: Mapping[str, Any], banks: Banks | None) -> str:
    """Markdown that says what the model is and how it came about.

    ``training`` is what ``train`` writes into the model's configuration under that name; ``banks`` are those
    beside the weights.
    """
    metrics = training["metrics"]
    lines = [
        "# Model card",
        "",
        f"Two encoders into one space: {_TOWERS[training['kind']]}, both scaled to unit length and compared "
        f"by their dot product. Vectors have {training['dimension']} dimensions.",
        "",
        "## Where its parts come from",
        "",
        *(f"- {sentence}" for sentence in _sources(training)),
        "",
        "## Training",
        "",
        *(f"- {sentence}" for sentence in _training(training)),
        "",
        "All settings are in the JSON file beside the weights.",
        "",
        "## Results on the dev photos",
        "",
        "Captions find their photo among all dev photos; photos find any of their captions among all dev "
        "captions. Measured with the weights as they are stored, by the cosine alone.",
        "",
        "| | text to image | image to text |",
        "|---|---|---|",
        *(
            f"| {name} | {metrics['text2image'][name]:.4g} | {metrics['image2text'][name]:.4g} |"
            for name in _METRICS
        ),
        "",
        "These photos chose the epoch, and perhaps the settings, so the numbers are slightly optimistic.",
        "",
        "## Hubness",
        "",
        *_hubness(training, banks),
        "",
        "## What to expect",
        "",
        *_expectations(training),
        "",
    ]
    return "\n".join(lines)


def _sources(training: Mapping[str, Any]) -> list[str]:
    config = training["config"]
    sentences = [str(sentence) for sentence in config["sources"]]
    if config["model"] is not None:
        sentences.append(f"It started as `{config['model']}`.")
    if config["image_weights"] is not None:
        sentences.append(f"The photo's side started as `{config['image_weights']}`.")
    if config["text_weights"] is not None and config["text_tower"] is None:
        sentences.append(f"The sentence's side started as the sentence encoder `{config['text_weights']}`.")
    if config["text_tower"] is not None:
        sentences.append(f"The sentence's side (`{config['text_tower']}`) started from random weights.")
    if shares := training.get("origin_shares"):
        sentences.append(
            f"Of the weights of its photo's network {shares[0]:.0%} are those it was pretrained with, and "
            f"{shares[1]:.0%} of its sentence's network: means with what was learnt since."
        )
    if share := training.get("model_share"):
        sentences.append(
            f"All weights are means with those of the model that it started as, whose share is {share:.0%}."
        )
    if widen := config.get("widen"):
        sentences.append(
            f"Beside the upper layers of its photo's network lie those of `{widen['image_weights']}` as they "
            f"were pretrained; linear heads learnt what they say, {widen['share']:.0%} of each cosine."
        )
    if teachers := sorted({teacher for stage in config["stages"] for teacher in stage["teachers"]}):
        sentences.append(f"It was taught by {', '.join(f'`{teacher}`' for teacher in teachers)}.")
    return sentences


def _training(training: Mapping[str, Any]) -> list[str]:
    config = training["config"]
    data = [config["data"], *(more["data"] for more in config.get("more", ()))]
    versions = ", ".join(f"{name} {version}" for name, version in training["versions"].items())
    stages = [_stage(number, stage) for number, stage in enumerate(config["stages"], start=1)]
    chosen = (
        f"the best was epoch {training['best_epoch']} of stage {training['best_stage']}"
        if training["best_stage"]
        else "none was better than the weights that it started with, which were retained"
    )
    done = (
        f"{training['epochs']} epochs, and {chosen}; {training['seconds'] / 60:.0f} minutes with "
        f"{training['threads']} thread(s)"
        if stages
        else "nothing was trained but the heads of the second branch"
    )
    return [
        f"Command: `{training['command']}`",
        f"Data: {_listed([f'`{name}`' for name in data])}, {_size(training['train'])} to train on; "
        f"{_size(training['dev'])} (dev) to choose the epoch by.",
        *stages,
        f"Seed {config['seed']}; {done}.",
        f"Made with {versions}.",
    ]


def _stage(number: int, stage: Mapping[str, Any]) -> str:
    learnt = [] if stage["loss"] is None else [f"the loss {stage['loss']}"]
    if stage["distil"] is not None:
        what = {
            "text": "vectors of captions",
            "vectors": "vectors of photos and captions",
            "similarity": "similarities",
        }[stage["distil"]]
        learnt.append(f"distillation of the teachers' {what}")
    if stage.get("classes"):
        learnt.append("what a classifier says of the photos")
    parts = {"image_trunk_rate": "the photo's network", "text_trunk_rate": "the sentence's network"}
    trained = [name for key, name in {**parts, "head_rate": "the heads"}.items() if stage[key] > 0]
    return (
        f"Stage {number}: up to {stage['epochs']} epochs of {_listed(learnt)}, on batches of "
        f"{stage['batch_size']} captions; trained were {_listed(trained)}."
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _size(counts: Mapping[str, int]) -> str:
    return f"{counts['photos']:,} photos with {counts['captions']:,} captions"


def _hubness(training: Mapping[str, Any], banks: Banks | None) -> list[str]:
    if banks is None:
        return ["It has no banks to compute hubness with, so searches rank by the cosine alone."]
    by_text, by_image = (
        " / ".join(f"{100 * training['search_metrics'][way][name]:.1f}%" for name in ("hit@1", "hit@10"))
        for way in ("text2image", "image2text")
    )
    return [
        "Searches across modalities rank by the cosine minus the hubness of each document, which is computed "
        f"with {len(banks.image)} photo and {len(banks.text)} caption vectors (`{HUBNESS_FILE}`), the "
        f"centres of clusters of {banks.data}.",
        f"On the dev photos that gives hit@1 / hit@10 {by_text} (text to image) and {by_image} (image to "
        "text).",
    ]


def _expectations(training: Mapping[str, Any]) -> list[str]:
    sentences = []
    if training["resize"] == "squash":
        sentences.append(
            "The whole frame of a photo is squashed to a square: nothing at the edges of a wide photo is "
            "lost, but its content is compressed sideways. Panoramas are compressed far beyond what training "
            "has shown."
        )
    else:
        sentences.append("Of a photo the middle square is seen; what lies at the ends of a wide one isn't.")
    if training["kind"] == "gru":
        sentences.append(
            "It knows only the words of its training captions; any other word counts as the same unknown "
            "word."
        )
    sentences.append("It ranks: its scores are not probabilities.")
    return sentences

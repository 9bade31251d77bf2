"""``encode-text``: sentences to vectors, on one thread."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from bench import inputs
from bench.harness import Contender, Rounds, in_turns, latency, repeated
from bench.models import PlainClip, plain_default_texts, text_encoders, vit_name
from bench.options import Options
from bench.results import Goal, Result, at_least, compared
from crossmodal.models import DEFAULT_MODEL, TextEncoder
from crossmodal.settings import RUNTIMES

__all__ = ["run"]

_BATCH = 64
_SINGLE = 16

_VIT = "ViT-B/32"

# The goals are for ViT-B/32 in the runtime that users get.
_LATENCY_TIMES_FASTER = 10.0
_RATE_TIMES_FASTER = 15.0


def run(options: Options) -> list[Result]:
    """One caption's latency and captions/s of ViT-B/32 and the default model."""
    runtimes = RUNTIMES[:1] if options.quick else RUNTIMES
    captions = inputs.captions(options, 512)
    models = {
        _VIT: (
            PlainClip.load(options).encode_texts,
            text_encoders(vit_name(options), options, runtimes=runtimes),
        ),
        DEFAULT_MODEL: (plain_default_texts(), text_encoders(DEFAULT_MODEL, options, runtimes=runtimes)),
    }
    single = [[caption] for caption in captions]
    contenders: dict[str, Contender] = {}
    for label, (plain, encoders) in models.items():
        for runtime, encode in {
            "plain": plain,
            **{name: each.encode for name, each in encoders.items()},
        }.items():
            # All contenders get the same captions in the same order.
            contenders[f"{label}, {runtime}, one"] = latency(encode, single, _SINGLE)
            contenders[f"{label}, {runtime}, batch"] = repeated(partial(encode, captions[:_BATCH]), _BATCH)
    rounds = in_turns(contenders, until=options.until())
    return [result for label, (_, encoders) in models.items() for result in _results(label, encoders, rounds)]


def _results(label: str, encoders: Mapping[str, TextEncoder], rounds: Mapping[str, Rounds]) -> list[Result]:
    reference = "open_clip fp32, 77 tokens" if label == _VIT else "torch fp32"
    results = []
    for runtime in encoders:
        results.append(
            compared(
                f"encode-text, {label}, {runtime}, one caption",
                "ms",
                rounds[f"{label}, {runtime}, one"].times(1e3),
                reference,
                rounds[f"{label}, plain, one"].times(1e3),
                inverted=True,
                goal=_goal(label, runtime, _LATENCY_TIMES_FASTER),
            )
        )
        results.append(
            compared(
                f"encode-text, {label}, {runtime}, batch {_BATCH}",
                "captions/s",
                rounds[f"{label}, {runtime}, batch"].rate(),
                reference,
                rounds[f"{label}, plain, batch"].rate(),
                goal=_goal(label, runtime, _RATE_TIMES_FASTER),
            )
        )
    return results


def _goal(label: str, runtime: str, limit: float) -> Goal | None:
    return at_least(limit) if label == _VIT and runtime.startswith("auto") else None

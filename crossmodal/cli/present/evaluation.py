"""Evaluations for a terminal: metrics, models side by side, the modality gap, and a calibration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from crossmodal.cli.present.console import counted, file_size, open_console, plain_table, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["DIRECTION_NAMES", "print_calibration", "print_comparison", "print_evaluation", "print_gap"]

DIRECTION_NAMES: Mapping[str, str] = {"text2image": "text to image", "image2text": "image to text"}

_SEARCHED = {"text2image": "photos", "image2text": "captions"}
_METRIC_NAMES = {"mrr": "MRR", "map": "mAP", "ndcg@10": "nDCG@10"}
_COMPARED = ("hit@1", "hit@5", "hit@10", "mrr")

# Of a comparison: the names of rows, and a column with a number and its interval.
_LABEL_CELLS = 17
_COLUMN_CELLS = 21

# By its name, where each number of the gap is in the result; None for the heading of those that follow.
_GAP_ROWS: tuple[tuple[str, tuple[str, ...] | None], ...] = (
    ("the gap", None),
    ("distance of the centroids", ("gap",)),
    ("mean cosine of two photos", ("cone", "image")),
    ("mean cosine of two captions", ("cone", "text")),
    ("mean cosine of a photo and its caption", ("matching",)),
    ("mean cosine of a photo and another caption", ("others",)),
    ("hubness: skewness of how often a document is among ten", None),
    ("captions search photos, by cosine", ("hubness", "text2image", "by_cosine")),
    ("the same, minus hubness", ("hubness", "text2image", "corrected")),
    ("photos search captions, by cosine", ("hubness", "image2text", "by_cosine")),
    ("the same, minus hubness", ("hubness", "image2text", "corrected")),
    ("captions find their photo", None),
    ("hit@1", ("text2image", "hit@1")),
    ("hit@10", ("text2image", "hit@10")),
    ("MRR", ("text2image", "mrr")),
    ("photos find their captions", None),
    ("hit@1", ("image2text", "hit@1")),
    ("hit@10", ("image2text", "hit@10")),
    ("MRR", ("image2text", "mrr")),
    ("captions find captions of the same photo", None),
    ("hit@1", ("text2text", "hit@1")),
    ("hit@10", ("text2text", "hit@10")),
    ("MRR", ("text2text", "mrr")),
    ("captions search photos and captions together", None),
    ("captions among the first 10", ("mixed", "text", "own_modality@10")),
    ("hit@10 of their photo", ("mixed", "text", "hit@10")),
    ("photos search photos and captions together", None),
    ("photos among the first 10", ("mixed", "image", "own_modality@10")),
    ("hit@10 of their captions", ("mixed", "image", "hit@10")),
)

_PAIRS = {
    "image_image": "two photos",
    "text_image": "a caption and a photo that it looks for",
    "image_text": "a photo and a caption that it looks for",
    "text_text": "two captions",
}
_RELIABILITY = {"photo_caption": "a photo and a caption", "two_captions": "two captions"}


def print_evaluation(result: Mapping[str, Any], file: TextIO | None = None) -> None:
    """The result of ``evaluate``: each metric with its interval, then how it was measured."""
    directions = [name for name in DIRECTION_NAMES if name in result]
    table = plain_table()
    table.add_column("", no_wrap=True)
    for name in directions:
        for column in (DIRECTION_NAMES[name], "95% interval"):
            table.add_column(column, justify="right", no_wrap=True)
    queries, gallery = (result[key] for key in ("queries", "gallery"))
    _add_pairs(table, "queries", [(f"{queries[name]:,}", "") for name in directions])
    searched = [(f"{gallery[name]:,} {_SEARCHED[name]}", "") for name in directions]
    _add_pairs(table, "gallery", searched)
    for metric in result[directions[0]]["intervals"]:
        write, sign = _writer(metric), "%" if _is_share(metric) else ""
        cells = []
        for name in directions:
            low, high = (write(bound) for bound in result[name]["intervals"][metric])
            cells.append((write(result[name][metric]) + sign, f"{low} to {high}"))
        _add_pairs(table, _METRIC_NAMES.get(metric, metric.replace("_", " ")), cells)
    if (plain := result.get("by_cosine")) is not None:
        for metric in _COMPARED:
            write, sign = _writer(metric), "%" if _is_share(metric) else ""
            alone = [(write(plain[name][metric]) + sign, "") for name in directions]
            _add_pairs(table, f"{_METRIC_NAMES.get(metric, metric)} by cosine", alone)
    folds = f", the mean of {result['folds']} folds" if result["folds"] > 1 else ""
    rounds = result["bootstrap"]["rounds"]
    notes = [
        f"Protocol {result['protocol']}{folds}: {result['protocol_source']}.",
        f"Relevance by photo id; {result['tie_rule']}. Intervals from {rounds:,} resamples of the photos, "
        "each with its captions.",
    ]
    if plain is not None:
        notes.append("Ranked by cosine minus hubness, as searches are; the last rows by the cosine alone.")
    if shared := result["shared_captions"]:
        notes.append(
            f"{counted(shared, 'query is a caption', 'queries are captions')} that another photo has word "
            "for word: either photo fits, and only its own counts as right."
        )
    _print(_model_and_data(result), [table], notes, open_console(file))


def print_comparison(result: Mapping[str, Any], file: TextIO | None = None) -> None:
    """The result of ``--compare``; as many tables as it takes for the models to fit the width."""
    console = open_console(file)
    models = result["models"]
    directions = [name for name in DIRECTION_NAMES if name in models[0]]
    queries, gallery = models[0]["queries"], models[0]["gallery"]
    counts = "; ".join(
        f"{DIRECTION_NAMES[name]} {queries[name]:,} queries, {gallery[name]:,} searched"
        for name in directions
    )
    console.print(shown(f"{_data(result)}, protocol {result['protocol']}", console, "bold"))
    console.print(shown(counts, console, "dim"))
    size = max(1, (console.width - _LABEL_CELLS) // _COLUMN_CELLS)
    for start in range(0, len(models), size):
        console.print()
        console.print(_model_columns(models[start : start + size], directions, console))
    console.print()
    speed = result["speed"]
    before, after = speed["load_average"]
    _print_notes(
        [
            f"Quality is {result['quality_rule']}. In brackets: 95% intervals from resampled photos.",
            f"Speed: median (lowest-highest) of {speed['rounds']} rounds in which the models take turns on "
            f"the same {speed['photos']} photos (decoding and resizing included) and {speed['captions']} "
            f"captions, on {speed['threads']} thread. The load average was {before:.1f} before and "
            f"{after:.1f} after.",
            result["pareto_rule"],
        ],
        console,
    )


def print_gap(result: Mapping[str, Any], file: TextIO | None = None) -> None:
    """The result of ``--gap``: each number before and after centring, then how it was measured."""
    console = open_console(file)
    table = plain_table()
    table.add_column("")
    for name in ("before", "after centring"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, path in _GAP_ROWS:
        if path is None:
            table.add_row(shown(label, console, "bold"))
        else:
            table.add_row(f"  {label}", *[_at(result[when], path) for when in ("before", "after")])
    text, image = (result["before"]["mixed"][kind]["own_modality_in_gallery"] for kind in ("text", "image"))
    notes = [
        f"Measured on {_counts(result['scored'])}; the means that centring subtracts are those of the other "
        f"{_counts(result['means_of'])}. The bytes of a photo decide its half.",
        "The distance is that of the mean unit vectors (Liang et al. 2022). Searched together, captions are "
        f"{text:.1%} of what a caption searches, photos {image:.1%} of what a photo searches.",
    ]
    _print(f"The modality gap of {_model_and_data(result)}", [table], notes, console)


def print_calibration(result: Mapping[str, Any], file: TextIO | None = None) -> None:
    """The result of ``--calibrate``: unrelated pairs, the fitted curve, and a reliability table a kind."""
    calibration = result["calibration"]
    pairs = plain_table()
    pairs.add_column("cosines of unrelated pairs")
    for name in ("mean", "hubness", "std"):
        pairs.add_column(name, justify="right", no_wrap=True)
    for key, name in _PAIRS.items():
        pair = calibration[key]
        pairs.add_row(name, *[f"{pair[part] + 0.0:.3f}" for part in ("mean", "hubness", "std")])
    tables = [_reliability(name, result["reliability"][key]) for key, name in _RELIABILITY.items()]
    notes = [
        f"score = 1 / (1 + exp(-({calibration['slope']:.3f} z {calibration['intercept']:+.3f}))), where z is "
        "the cosine minus its mean, and minus hubness over its mean, divided by the std.",
        f"Fitted on {_counts(result['fitted'])}, checked on the other {_counts(result['scored'])}; the bytes "
        f"of a photo decide its half. Matching pairs are weighted to {calibration['prior']:.0%} of all.",
    ]
    title = f"The calibration of {_model_and_data(result)}"
    _print(title, [pairs, *tables], notes, open_console(file))


def _print(title: str, tables: Sequence[Table], notes: Sequence[str], console: Console) -> None:
    console.print(shown(title, console, "bold"))
    for table in tables:
        console.print(table)
    _print_notes(notes, console)


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(shown(note, console, "dim"))


def _data(result: Mapping[str, Any]) -> str:
    return f"{result['data_set']}, split {result['split']}" if result["split"] else str(result["data_set"])


def _model_and_data(result: Mapping[str, Any]) -> str:
    return f"{result['model']} on {_data(result)}"


def _counts(half: Mapping[str, int]) -> str:
    return f"{counted(half['photos'], 'photo')} and {counted(half['captions'], 'caption')}"


def _add_pairs(table: Table, name: str, cells: Sequence[tuple[str, str]]) -> None:
    table.add_row(name, *[text for pair in cells for text in pair])


def _is_share(metric: str) -> bool:
    return metric.startswith(("hit@", "recall@"))


def _writer(metric: str) -> Callable[[float], str]:
    """Shares of queries or items in percent, ranks below 100 with one digit after the point."""
    if _is_share(metric):
        return lambda value: f"{100 * value:.1f}"
    if metric.endswith("_rank"):
        return lambda value: f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
    return lambda value: f"{value:.3f}"


def _model_columns(models: Sequence[Mapping[str, Any]], directions: Sequence[str], console: Console) -> Table:
    from rich.text import Text

    table = plain_table()
    # Narrower than elsewhere: three models then fit 80 columns.
    table.padding = (0, 1, 0, 0)
    table.add_column("", no_wrap=True)
    for model in models:
        name = Text("\n").join(shown(line, console) for line in _lines(model["model"], _COLUMN_CELLS - 2))
        table.add_column(name, justify="right", overflow="fold", max_width=_COLUMN_CELLS - 2)
    for direction in directions:
        table.add_row(shown(DIRECTION_NAMES[direction], console, "bold"))
        for metric in _COMPARED:
            cells = [_measured(model[direction], metric) for model in models]
            table.add_row(f"  {_METRIC_NAMES.get(metric, metric)}", *cells)
    table.add_row(
        "quality",
        *[_with_interval(100, model["quality"]["value"], model["quality"]["interval"]) for model in models],
    )
    for key, label in (("photos_per_second", "photos/s"), ("captions_per_second", "captions/s")):
        table.add_row(label, *[_speed(model[key]) for model in models])
    table.add_row("dimension", *[f"{model['dimension']:,}" for model in models])
    table.add_row("weights on disk", *[file_size(model["weights_bytes"]) for model in models])
    marks = [shown("yes", console, "bold green") if model["pareto_optimal"] else "no" for model in models]
    table.add_row("Pareto-optimal", *marks)
    return table


def _lines(name: str, cells: int) -> list[str]:
    """``name`` broken behind slashes and before question marks where it is longer than ``cells``."""
    lines = [""]
    for part in re.findall(r"[^/?]*/|\??[^/?]+", name):
        if lines[-1] and len(lines[-1]) + len(part) > cells:
            lines.append("")
        lines[-1] += part
    return lines


def _measured(metrics: Mapping[str, Any], name: str) -> str:
    return _with_interval(1 if name == "mrr" else 100, metrics[name], metrics["intervals"][name])


def _with_interval(factor: int, value: float, interval: Sequence[float]) -> str:
    """``58.8% (57.0-60.6)`` for a share, ``0.366 (0.352-0.380)`` for a factor of 1."""
    digits, sign = (3, "") if factor == 1 else (1, "%")
    low, high = (f"{factor * bound:.{digits}f}" for bound in interval)
    return f"{factor * value:.{digits}f}{sign} ({low}-{high})"


def _speed(speed: Mapping[str, float]) -> str:
    return f"{_number(speed['median'])} ({_number(speed['min'])}-{_number(speed['max'])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> str:
    """The number at ``path``, as it is shown."""
    value: Any = values
    for key in path:
        value = value[key]
    if value is None:
        return "-"
    if path[-1].endswith(("@1", "@10")):
        return f"{100 * value:.1f}%"
    # Without a minus in front of what rounds to zero.
    return f"{round(float(value), 3) + 0.0:.3f}"


def _reliability(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table()
    table.add_column(f"score of {name}")
    for heading in ("mean score", "share that matches", "matching", "unrelated"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        shares = ("-" if row[key] is None else f"{100 * row[key]:.1f}%" for key in ("score", "observed"))
        bounds = f"{row['from']:g} to {row['to']:g}"
        table.add_row(bounds, *shares, f"{row['matching']:,}", f"{row['unrelated']:,}")
    return table

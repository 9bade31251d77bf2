"""A small world for tests of training: coloured shapes, where it is known what must be learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from photos import encoded
from PIL import Image, ImageDraw

from crossmodal.models import registry
from crossmodal.records import Record, record_id

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "white": (240, 240, 240)}
SHAPES = ("circle", "square", "line")


def picture(colour: str, shape: str, shift: int) -> bytes:
    """One shape on grey, 64 x 64 pixels, ``shift`` pixels to the right."""
    image = Image.new("RGB", (64, 64), (90, 90, 90))
    draw = ImageDraw.Draw(image)
    box = (8 + shift, 8, 48 + shift, 48)
    if shape == "circle":
        draw.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        draw.rectangle(box, fill=COLOURS[colour])
    else:
        draw.line(box, fill=COLOURS[colour], width=6)
    return encoded(image, "PNG")


def world(shifts: range) -> Iterator[Record]:
    """Twelve photos for each shift, with two captions each."""
    for colour in COLOURS:
        for shape in SHAPES:
            for shift in shifts:
                photo = record_id(f"{colour}-{shape}-{shift}")
                # Captions come before their photo here: no order may be needed.
                for number, text in enumerate((f"a {colour} {shape}", f"this {shape} is {colour}")):
                    yield Record(f"{photo}-{number}", "text", text=text, photo_id=photo)
                yield Record(photo, "image", content=picture(colour, shape, shift))


def named(shifts: range) -> Iterator[Record]:
    """The world with the name of its colour as the only caption of each photo."""
    for colour in COLOURS:
        for shape in SHAPES:
            for shift in shifts:
                photo = f"{colour}-{shape}-{shift}"
                yield Record(photo, "image", content=picture(colour, shape, shift))
                yield Record(f"{photo}-0", "text", text=colour, photo_id=photo)


@contextmanager
def measured_by_torch() -> Iterator[None]:
    """A finished run measures its model with torch instead of the network that a search compiles, and keeps:
    that takes longer than such a small run itself."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_image_encoder", "load_text_encoder"):
            patch.setattr(registry, name, partial(getattr(registry, name), runtime="torch"))
        yield

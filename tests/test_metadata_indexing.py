"""A folder that is indexed: what files, sidecars and names say finds its photos, and follows them."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import TOY_IMAGES
from test_metadata_reading import CAMERA, SHOT, TOWER, exif, packet

from crossmodal.data_sets import open_data_set
from crossmodal.engine.engine import Engine
from crossmodal.engine.library import LibraryRun
from crossmodal.filters import parse_filter
from crossmodal.filters.sorting import parse_order
from crossmodal.query.expression import Term
from crossmodal.query.request import SearchRequest
from crossmodal.records import Failure
from crossmodal.settings import Settings


def titled(title: str, *keywords: str) -> bytes:
    words = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return packet(
        f"<dc:title><rdf:Alt><rdf:li>{title}</rdf:li></rdf:Alt></dc:title>"
        f"<dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject>"
    )


def run(engine: Engine, folder: Path) -> list[str]:
    """Indexes the folder; the warnings of the run."""
    data_set = open_data_set(str(folder), data_root=folder)
    indexing = LibraryRun(engine, data_set)
    failures = [item for item in indexing.index() if isinstance(item, Failure)]
    indexing.settle()
    assert failures == []
    return [warning.reason for warning in data_set.warnings]


def found(engine: Engine, **wanted: object) -> list[str]:
    records = engine.workspace.list_records(
        "image", 50, filter=parse_filter(wanted), order=parse_order("file")
    )
    return [str(record.all_tags["file"]) for record in records]


def test_each_source_finds_its_photo_and_is_followed(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "2019" / "italy").mkdir(parents=True)
    cat, cup, rocket = (
        photos / "2019" / "italy" / "a.jpg",
        photos / "b.jpg",
        photos / "IMG_20180506_070809.jpg",
    )
    names = sorted(path for path in TOY_IMAGES.iterdir() if path.suffix == ".jpg")[:3]
    made = exif(CAMERA, SHOT, TOWER).tobytes()
    blob = names[0].read_bytes()
    cat.write_bytes(blob[:2] + b"\xff\xe1" + (len(made) + 2).to_bytes(2) + made + blob[2:])
    cup.write_bytes(names[1].read_bytes())
    rocket.write_bytes(names[2].read_bytes())
    (photos / "b.xmp").write_bytes(titled("Granny's birthday", "cake", "family"))
    takeout = {"photoTakenTime": {"timestamp": "1262304000"}, "people": [{"name": "Anna"}]}
    rocket.with_name(rocket.name + ".json").write_text(json.dumps(takeout))
    with Engine(Settings(workspace=tmp_path / "workspace")) as engine:
        run(engine, photos)
        assert found(engine, camera="NIKON D90") == ["a.jpg"]
        assert found(engine, taken={"$gte": "2019-07", "$lt": "2020"}) == ["a.jpg"]
        assert found(engine, location={"$near": [48.86, 2.3], "$within_km": 5}) == ["a.jpg"]
        assert found(engine, folder="2019") == ["a.jpg"]
        assert found(engine, keywords="cake") == ["b.jpg"]
        assert found(engine, people="Anna") == [rocket.name]
        assert found(engine, taken=2010) == [rocket.name]
        assert found(engine, **{"bytes": {"$gt": 0}}) == [rocket.name, "a.jpg", "b.jpg"]
        assert engine.workspace.require().verify() == []
        titles = engine.workspace.list_records("text", 9)
        assert [(caption.text, caption.all_tags["caption_from"]) for caption in titles] == [
            ("Granny's birthday", "title")
        ]
        ((outcome,), _) = engine.search(
            [SearchRequest((Term(text="birthday"),), modality="image", hybrid=True)]
        )
        assert outcome.matches[0].tags["keywords"] == ["cake", "family"]
        # What people wrote since is taken over without anything else, and what they took back goes.
        (photos / "b.xmp").write_bytes(titled("At the lake"))
        (photos / "2019" / "a.xmp").write_bytes(titled("In another folder"))
        run(engine, photos)
        assert [caption.text for caption in engine.workspace.list_records("text", 9)] == ["At the lake"]
        assert found(engine, keywords={"$exists": True}) == []
        (photos / "b.xmp").write_bytes(b"broken")
        warnings = run(engine, photos)
        assert engine.workspace.list_records("text", 9) == []
        assert [one for one in warnings if "b.xmp cannot be read: it is no XML" in one]
        assert engine.workspace.require().verify() == []

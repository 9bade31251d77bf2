"""What a page browses by: the newest first, a timeline, folders, cameras, and the photos of one moment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_client import AsgiClient, serving_in
from photos import encoded
from PIL import Image

from crossmodal import PhotoIndex, Record
from crossmodal.errors import DataError
from crossmodal.server.serving import Serving

# Id: when it was taken, the camera and the folders.
PHOTOS: dict[str, tuple[str | None, str | None, list[str]]] = {
    "a": ("2019-07-04T12:30:00+02:00", "Leica Q", ["trips", "trips/paris"]),
    "b": ("2019-07-04T12:36:00+02:00", "Leica Q", ["trips", "trips/paris"]),
    "c": ("2019-07-04T12:37:00+02:00", "Pixel 8", ["trips", "trips/paris", "trips/paris/day 2"]),
    "d": ("2019-07-20T09:00:00", "Leica Q", ["trips", "trips0"]),
    "e": ("2021-01-01", "Pixel 8", ["home"]),
    "f": (None, None, []),
}
COORDINATES = {"a": (48.85, 2.35), "b": (48.86, 2.36), "d": (-33.9, -70.5), "e": (91.0, 7.0)}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhotoIndex]:
    records = []
    for number, (id, (taken, camera, folder)) in enumerate(PHOTOS.items()):
        blob = encoded(Image.new("RGB", (8, 8), (40 * number, 0, 0)), "PNG")
        found = {"taken": taken, "camera": camera, "folder": folder, "rating": number % 2, "city": "Nice"}
        tags = {name: value for name, value in found.items() if value not in (None, [])}
        if id in COORDINATES:
            tags["latitude"], tags["longitude"] = COORDINATES[id]
        records.append(Record(id, "image", content=blob, tags=tags))
    with PhotoIndex(tmp_path_factory.mktemp("index"), "clip-mini") as made:
        assert made.add(records).added == len(PHOTOS)
        yield made


@pytest.fixture(scope="module")
def serving(index: PhotoIndex) -> Iterator[Serving]:
    with serving_in(index._settings.workspace) as serving:
        yield serving


def get(serving: Serving, path: str, address: str = "127.0.0.1", **parameters: Any) -> tuple[int, Any]:
    http = AsgiClient(serving, address)
    answer = http.get(path, params=parameters)
    return answer.status_code, answer.json()


def counted(index: PhotoIndex, tag: str, **options: Any) -> list[tuple[Any, int]]:
    return [(each.value, each.count) for each in index.facet(tag, **options).values]


def test_the_newest_come_first_page_by_page(serving: Serving) -> None:
    seen, after = [], {}
    for _ in range(3):
        _, page = get(serving, "/v1/documents", sort="-taken", limit=2, **after)
        seen.append([document["id"] for document in page["documents"]])
        after = {"after": page["next"]}
    assert seen == [["e", "d"], ["c", "b"], ["a", "f"]]
    assert after == {"after": None}


def test_a_timeline(index: PhotoIndex, serving: Serving) -> None:
    assert counted(index, "taken", per="month", order="-value") == [("2021-01", 1), ("2019-07", 4)]
    assert counted(index, "taken", per="year", order="value") == [("2019", 4), ("2021", 1)]
    assert counted(index, "taken", per="day") == [("2019-07-04", 3), ("2019-07-20", 1), ("2021-01-01", 1)]
    status, answer = get(serving, "/v1/facets", tag="taken", per="month", sort="-value", limit=1)
    assert status == 200
    assert answer == {
        "tag": "taken",
        "count": 5,
        "values": [{"value": "2021-01", "count": 1, "sample": "e"}],
        "more": True,
    }


def test_folders_are_a_tree(index: PhotoIndex) -> None:
    assert counted(index, "folder", below="") == [("trips", 4), ("home", 1), ("trips0", 1)]
    assert counted(index, "folder", below="trips") == [("trips/paris", 3)]
    assert counted(index, "folder", below="trips/paris") == [("trips/paris/day 2", 1)]
    assert counted(index, "folder", below="trips/paris/day 2") == []


def test_only_what_matches_a_filter_is_counted(index: PhotoIndex, serving: Serving) -> None:
    cameras = [("Leica Q", 3), ("Pixel 8", 2)]
    assert counted(index, "camera") == cameras
    assert counted(index, "camera", filter={"taken": "2019"}) == [("Leica Q", 3), ("Pixel 8", 1)]
    assert counted(index, "camera", filter={"taken": "1999"}) == []
    assert counted(index, "rating", order="value") == [(0, 3), (1, 3)]
    _, answer = get(serving, "/v1/facets", tag="camera", filter='{"folder": "home"}')
    assert answer["values"] == [{"value": "Pixel 8", "count": 1, "sample": "e"}]


def test_counts_follow_what_is_written(index: PhotoIndex) -> None:
    before = counted(index, "rating", order="value")
    blob = encoded(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG")
    index.add([Record("new", "image", content=blob, tags={"rating": 1})])
    assert counted(index, "rating", order="value") == [before[0], (1, 4)]
    index.delete(["new"])
    assert counted(index, "rating", order="value") == before


def test_places_are_not_counted_for_strangers(serving: Serving) -> None:
    assert get(serving, "/v1/facets", tag="city")[1]["count"] == 6
    assert get(serving, "/v1/facets", "192.0.2.1", tag="city")[0] == 403
    assert get(serving, "/v1/facets", "192.0.2.1", tag="camera", filter='{"city": "Nice"}')[0] == 403
    assert get(serving, "/v1/facets", "192.0.2.1", tag="camera")[0] == 200


def test_a_map_of_the_world(serving: Serving) -> None:
    status, answer = get(serving, "/v1/layout", by="place")
    # One lies beyond the pole.
    placed = {"ids": ["a", "b", "d"], "x": [2.35, 2.36, -70.5], "y": [48.85, 48.86, -33.9]}
    assert (status, {name: answer[name] for name in placed}) == (200, placed)
    assert (answer["placed"], answer["total"], answer["computing"]) == (3, 6, False)
    assert all(colour.startswith("#") for colour in answer["colours"])
    _, some = get(serving, "/v1/layout", by="place", filter='{"taken": "2019-07-04"}')
    assert (some["ids"], some["total"]) == (["a", "b"], 3)
    _, none = get(serving, "/v1/layout", by="place", filter='{"year": 1950}')
    assert (none["ids"], none["x"], none["total"]) == ([], [], 0)
    for parameters in ({"by": "place"}, {"filter": '{"city": "Nice"}'}):
        assert get(serving, "/v1/layout", "192.0.2.1", **parameters)[0] == 403
    assert get(serving, "/v1/layout", "192.0.2.1")[0] == 200
    assert get(serving, "/v1/layout", by="taste")[0] == 422


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "'tag' is missing"),
        ({"tag": "taken", "per": "week"}, "there are year, month, day"),
        ({"tag": "taken", "sort": "best"}, "there are count, value, -value"),
        ({"tag": "taken", "limit": "0"}, "'limit'"),
        ({"tag": "taken", "filter": "{"}, "'filter'"),
        ({"tag": "taken", "more": "1"}, "'more'"),
    ],
)
def test_what_cannot_be_counted_is_refused(serving: Serving, parameters: dict[str, Any], said: str) -> None:
    status, answer = get(serving, "/v1/facets", **parameters)
    assert status == 422
    assert said in answer["detail"]


def test_the_same_moment(index: PhotoIndex, serving: Serving) -> None:
    assert [record.id for record in index.moment_of("a")] == ["a", "b"], "c is of another camera"
    assert [record.id for record in index.moment_of("a", minutes=5)] == ["a"]
    assert [record.id for record in index.moment_of("c", minutes=60)] == ["c"]
    _, answer = get(serving, "/v1/documents", moment_of="b", minutes="6", sort="-taken")
    assert [document["id"] for document in answer["documents"]] == ["b", "a"]
    _, answer = get(serving, "/v1/documents", moment_of="b", filter=json.dumps({"rating": 0}))
    assert [document["id"] for document in answer["documents"]] == ["a"]
    for id, said in {"e": "isn't known to the minute", "f": "isn't known", "nobody": "no photo"}.items():
        with pytest.raises(DataError, match=said):
            index.moment_of(id)
        assert get(serving, "/v1/documents", moment_of=id)[0] == 422
    for parameters in (
        {"minutes": "5"},
        {"moment_of": "a", "minutes": "nan"},
        {"moment_of": "a", "minutes": "x"},
    ):
        assert get(serving, "/v1/documents", **parameters)[0] == 422

"""/v1/documents against real servers: looking, adding from forms and from JSON lines, and deleting."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from conftest import TOY_IMAGES, Server, children_of, copy_index, server_over_copy, start_server
from PIL import Image

from crossmodal.index.embedded.store import EmbeddedStore

Json = dict[str, Any]
LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def server(toy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A query server over a copy of the toy index that the tests below write to."""
    with server_over_copy(toy_workspace, tmp_path_factory.mktemp("documents")) as served:
        yield served


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        yield client


def changed_photo(name: str, seed: int) -> bytes:
    """A toy photo that differs from all others by a hundred pixels, so that its bytes and id do."""
    image = Image.open(TOY_IMAGES / name).convert("RGB")
    dice = random.Random(seed)
    for _ in range(100):
        place = (dice.randrange(image.width), dice.randrange(image.height))
        image.putpixel(place, (dice.randrange(256), 0, 0))
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def data_uri(content: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def upload(http: httpx2.Client, *files: tuple[str, bytes], metadata: Json | None = None) -> Json:
    parts: list[Any] = [("file", (name, content)) for name, content in files]
    if metadata is not None:
        parts.insert(0, ("metadata", (None, json.dumps(metadata))))
    answer = http.post("/v1/documents", files=parts)
    assert answer.status_code == 200, answer.text
    answered: Json = answer.json()
    return answered


def add_lines(http: httpx2.Client, *lines: Any) -> Json:
    body = "\n".join(json.dumps(line) for line in lines)
    answer = http.post("/v1/documents", content=body, headers=LINES)
    assert answer.status_code == 200, answer.text
    answered: Json = answer.json()
    return answered


def search(http: httpx2.Client, **body: Any) -> list[Json]:
    answer = http.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["results"][0]["matches"]
    return found


def rows(answered: Json) -> list[tuple[Any, ...]]:
    return [
        tuple(result[name] for name in ("source", "id", "modality", "outcome"))
        for result in answered["results"]
    ]


def assert_problem(answer: httpx2.Response, status: int, words: str) -> Json:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem: Json = answer.json()
    assert problem["status"] == status
    assert words in problem["detail"]
    return problem


def test_an_uploaded_photo_is_found_with_its_captions_and_tags(http: httpx2.Client) -> None:
    content = changed_photo("rocket.jpg", 1)
    described = {
        "launch.jpg": {"id": "launch", "captions": ["lift off at dusk", "smoke below a rocket"]},
        "*": {"tags": {"place": "the Cape"}},
    }
    answered = upload(http, ("launch.jpg", content), metadata=described)
    assert rows(answered) == [
        ("launch.jpg", "launch", "image", "added"),
        ("launch.jpg", "launch-0", "text", "added"),
        ("launch.jpg", "launch-1", "text", "added"),
    ]
    assert {name: answered[name] for name in ("added", "replaced", "unchanged", "failed")} == {
        "added": 3,
        "replaced": 0,
        "unchanged": 0,
        "failed": 0,
    }
    (found, *_) = search(http, text="a rocket", filter={"place": "the Cape"})
    assert found["id"] == "launch"
    assert found["captions"] == [
        {"id": "launch-0", "text": "lift off at dusk"},
        {"id": "launch-1", "text": "smoke below a rocket"},
    ]
    assert found["tags"].items() >= {"place": "the Cape", "file": "launch.jpg", "format": "JPEG"}.items()
    assert [
        m["id"] for m in search(http, text="rocket", modality="text", filter={"file": "launch.jpg"})
    ] != []
    assert http.get("/v1/documents/launch/content").content == content

    assert [row[3] for row in rows(upload(http, ("launch.jpg", content), metadata=described))] == [
        "unchanged"
    ] * 3
    described["launch.jpg"]["captions"] = ["lift off at dawn", "smoke below a rocket"]
    assert [row[3] for row in rows(upload(http, ("launch.jpg", content), metadata=described))] == [
        "unchanged",
        "replaced",
        "unchanged",
    ]
    assert http.get("/v1/documents/launch-0").json()["text"] == "lift off at dawn"


def test_without_an_id_the_same_photo_stays_one_document(http: httpx2.Client) -> None:
    content = changed_photo("coffee.jpg", 2)
    (first,) = rows(upload(http, ("folder/a\ncup.jpg", content)))
    assert first[0] == "folder/a\ncup.jpg"
    assert first[3] == "added"
    document = http.get(f"/v1/documents/{first[1]}").json()
    assert document["tags"]["file"] == "a cup.jpg"
    (again,) = rows(upload(http, ("folder/a\ncup.jpg", content)))
    assert again == (*first[:3], "unchanged")
    by_line = add_lines(http, {"image": data_uri(content), "tags": {"file": "cup.jpg"}})
    assert rows(by_line) == [("line 1", first[1], "image", "replaced")]


def test_lines_add_captions_and_photos(http: httpx2.Client) -> None:
    content = changed_photo("cat.jpg", 3)
    answered = add_lines(
        http,
        {
            "id": "tom",
            "image": data_uri(content),
            "text": "Tom",
            "captions": ["Tom asleep"],
            "tags": {"age": 3},
        },
        {"text": "Tom awake", "photo_id": "tom", "tags": {"age": 3}},
        {"id": 7, "text": "nobody's caption"},
    )
    told = rows(answered)
    assert told[:3] == [
        ("line 1", "tom", "image", "added"),
        ("line 1", "tom-0", "text", "added"),
        ("line 1", "tom-1", "text", "added"),
    ]
    assert told[3][0] == "line 2"
    assert told[4] == ("line 3", "7", "text", "added")
    captions = http.get("/v1/documents/tom").json()["captions"]
    assert {caption["text"] for caption in captions} == {"Tom", "Tom asleep", "Tom awake"}
    assert http.get("/v1/documents/7").json()["photo"] is None
    assert http.get(f"/v1/documents/{told[3][1]}").json()["photo"]["id"] == "tom"
    assert {
        match["id"] for match in search(http, text="Tom", modality="text", filter={"age": {"$gte": 3}})
    } == {
        "tom-0",
        "tom-1",
        told[3][1],
    }


def test_tags_keep_large_numbers_to_the_last_digit(http: httpx2.Client) -> None:
    tags = {
        "taken": 1_763_737_200_123,
        "inside": {"list": [2**31 - 1, 2**31, -(2**31) - 1, 2**53, -(2**53)], "ratio": 0.1, "on": True},
        "huge": 1e300,
    }
    photo = {"id": "late", "image": data_uri(changed_photo("cat.jpg", 9)), "captions": ["late"], "tags": tags}
    assert [row[3] for row in rows(add_lines(http, photo))] == ["added", "added"]
    assert [row[3] for row in rows(add_lines(http, photo))] == ["unchanged", "unchanged"]
    after = {"taken": {"$gt": 1_763_737_200_122}}
    for modality, id in (("image", "late"), ("text", "late-0")):
        assert http.get(f"/v1/documents/{id}").json()["tags"].items() >= tags.items()
        (match,) = search(http, text="late", modality=modality, filter=after)
        assert match["id"] == id
        assert match["tags"].items() >= tags.items()
        assert isinstance(match["tags"]["taken"], int)
    # What the other clients get is JSON too.
    answer = http.post("/search", json={"data": ["late"], "parameters": {"top_k": 1000}})
    told = {match["id"]: match["tags"] for match in answer.json()["data"]["docs"][0]["matches"]}
    assert told["late"]["taken"] == tags["taken"]


def test_a_number_that_would_be_rounded_fails_alone(http: httpx2.Client) -> None:
    answered = add_lines(
        http,
        {"id": "exact", "text": "fits", "tags": {"number": 2**53}},
        {"id": "rounded", "text": "doesn't fit", "tags": {"numbers": [{"a": 2**53 + 1}]}},
    )
    assert [row[3] for row in rows(answered)] == ["added", None]
    assert "9007199254740993; whole numbers are exact up to" in answered["results"][1]["error"]


def test_empty_lines_are_counted_and_cost_nothing(http: httpx2.Client) -> None:
    blank = b"\n" * (1 << 20)

    def seconds(chunk: bytes) -> float:
        started = time.monotonic()
        nothing = http.post("/v1/documents", content=iter([chunk] * 8), headers=LINES)
        assert_problem(nothing, 422, "The body is empty")
        return time.monotonic() - started

    # One by one they took fifty times as long as one line of spaces, during which nobody else was answered.
    one_line = min(seconds(b" " * len(blank)) for _ in range(3))
    assert min(seconds(blank) for _ in range(3)) < 10 * one_line
    lines = iter([blank, b'{"text": 1}\n \t\n', b'{"text": 2}'])
    answer = http.post("/v1/documents", content=lines, headers=LINES)
    sources = [result["source"] for result in answer.json()["results"]]
    assert sources == [f"line {len(blank) + 1}", f"line {len(blank) + 3}"]


def test_results_come_as_lines_to_those_who_ask_for_them(http: httpx2.Client) -> None:
    answer = http.post(
        "/v1/documents",
        content=b'\n{"id": "l1", "text": "one line"}\r\n\n{"id": "l2"}\n',
        headers={"Content-Type": "application/jsonl", "Accept": "application/x-ndjson"},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    first, second = (json.loads(line) for line in answer.text.splitlines())
    assert first == {"source": "line 2", "id": "l1", "modality": "text", "outcome": "added", "error": None}
    assert second["source"] == "line 4"
    assert "nothing to index" in second["error"]


BAD_LINES: dict[str, tuple[str, str]] = {
    "not JSON": ('{"text": ', "Line 2 is not JSON"),
    "a list": ("[1]", "it has to be an object"),
    "an unknown key": ('{"text": "a", "uri": "x"}', "Line 2 has 'uri'; there are id, text, image"),
    "a URL": ('{"image": "https://example.com/a.jpg"}', "never fetches a URL or opens a path"),
    "a path": ('{"image": "/etc/passwd", "text": "a"}', "never fetches a URL or opens a path"),
    "a URL of ours": ('{"image": "/images/7"}', "never fetches a URL or opens a path"),
    "no photo": ('{"image": 5}', "it has to be a data URI"),
    "a PDF": ('{"image": "data:application/pdf;base64,JVBERi0xLjQ="}', "only images can be used"),
    "a PDF in disguise": (
        '{"image": "data:image/png;base64,JVBERi0xLjQ="}',
        "'application/pdf'; only images",
    ),
    "not a photo": ('{"image": "data:image/jpeg;base64,aGVsbG8gd29ybGQ="}', "not an image"),
    "an empty text": ('{"text": "  "}', "is empty"),
    "a long text": (json.dumps({"text": "word " * 500}), "2,000"),
    "a long id": (json.dumps({"id": "i" * 257, "text": "a"}), "257 bytes; the limit is 256"),
    "tags of text": ('{"text": "a", "tags": "b"}', "they have to be an object"),
    "captions of numbers": ('{"text": "a", "captions": [1]}', "it has to be a string"),
    "NaN": ('{"text": "a", "tags": {"a": NaN}}', "not JSON"),
    "the id of another": ('{"id": "good-1", "text": "b"}', "the id 'good-1' of line 1"),
    "one text twice": ('{"captions": ["c", "c"]}', "of line 2, which came before"),
}


def test_each_bad_line_has_its_sentence_and_leaves_the_others_alone(http: httpx2.Client) -> None:
    for name, (line, words) in BAD_LINES.items():
        body = f'{{"id": "good-1", "text": "a"}}\n{line}\n{{"id": "good-3", "text": "c"}}'
        answer = http.post("/v1/documents", content=body, headers=LINES)
        assert answer.status_code == 200, (name, answer.text)
        first, bad, last = answer.json()["results"]
        assert (first["id"], first["error"]) == ("good-1", None), name
        assert (last["id"], last["error"]) == ("good-3", None), name
        assert bad["source"] == "line 2"
        assert bad["outcome"] is None
        assert words in bad["error"], name
        assert answer.json()["failed"] == 1


def test_bad_files_fail_alone_and_take_their_captions_along(http: httpx2.Client) -> None:
    good = changed_photo("grass.jpg", 4)
    answered = upload(
        http,
        ("good.jpg", good),
        ("readme.txt", b"hello there, this is text"),
        ("half.jpg", good[:3000]),
        ("empty.jpg", b""),
        ("large.jpg", bytes((64 << 20) + 1)),
        ("same.jpg", good),
        metadata={"half.jpg": {"captions": ["half of it"]}, "absent.jpg": {"captions": ["nowhere"]}},
    )
    told = {(result["source"], result["modality"]): result["error"] for result in answered["results"]}
    assert told.pop(("good.jpg", "image")) is None
    assert "not an image" in told.pop(("readme.txt", "image"))
    assert "truncated" in told.pop(("half.jpg", "image"))
    assert "the photo that it describes was not" in told.pop(("half.jpg", "text"))
    assert "empty" in told.pop(("empty.jpg", None))
    assert "the limit is 64 MiB" in told.pop(("large.jpg", None))
    assert "of good.jpg, which came before" in told.pop(("same.jpg", "image"))
    assert "no file of that name" in told.pop(("absent.jpg", None))
    assert not told
    assert (answered["added"], answered["failed"]) == (1, 7)
    assert not search(http, text="half of it", modality="text", filter={"file": "half.jpg"})


@pytest.mark.parametrize(
    ("metadata", "status", "words"),
    [
        ("{", 400, "The part 'metadata' is not JSON"),
        ("[]", 422, "it has to be an object"),
        ('{"a.jpg": 1}', 422, "The metadata of 'a.jpg' is 1"),
        ('{"a.jpg": {"text": "a"}}', 422, "'text'; there are id, tags, captions"),
        ('{"*": {"captions": ["a"]}}', 422, "'captions'; there are tags"),
        ('{"a.jpg": {"tags": []}}', 422, "not an object"),
    ],
)
def test_metadata_of_another_shape_is_refused(
    http: httpx2.Client, metadata: str, status: int, words: str
) -> None:
    parts = [("metadata", (None, metadata)), ("file", ("a.jpg", changed_photo("cat.jpg", 5)))]
    assert_problem(http.post("/v1/documents", files=parts), status, words)


def test_requests_that_are_none_are_problems(http: httpx2.Client) -> None:
    photo = ("file", ("a.jpg", changed_photo("cat.jpg", 6)))
    for answer, status, words in (
        (http.post("/v1/documents", json={"text": "a"}), 415, "'application/json'; send files as multipart"),
        (http.post("/v1/documents", content=b""), 415, "x-ndjson"),
        (http.post("/v1/documents", content=b" \n", headers=LINES), 422, "one document a line"),
        (http.post("/v1/documents", files=[("metadata", (None, "{}"))]), 422, "no files"),
        (http.post("/v1/documents", files=[photo, ("metadata", (None, "{}"))]), 422, "before all files"),
        (http.post("/v1/documents", files=[("photo", ("a.jpg", b"1"))]), 422, "'photo'; there are file"),
        (http.put("/v1/documents"), 405, "PUT"),
    ):
        assert "results" not in assert_problem(answer, status, words)


def test_what_was_indexed_before_a_form_breaks_off_is_told(http: httpx2.Client) -> None:
    photos = [(f"{number}.jpg", changed_photo("cat.jpg", 100 + number)) for number in range(40)]
    request = http.build_request("POST", "/v1/documents", files=[("file", photo) for photo in photos])
    body = request.read()[:-200]
    answer = http.post(
        "/v1/documents", content=body, headers={"Content-Type": request.headers["content-type"]}
    )
    problem = assert_problem(answer, 400, "cut off")
    assert problem["added"] >= 1
    outcomes = [result["outcome"] for result in problem["results"]]
    assert outcomes == ["added"] * problem["added"] + [None] * problem["failed"]
    assert len(outcomes) == 39
    assert "send it again" in problem["results"][-1]["error"]
    for result in (problem["results"][0], problem["results"][-1]):
        there = http.get(f"/v1/documents/{result['id']}").status_code
        assert there == (200 if result["outcome"] else 404)


def test_a_request_holds_ten_thousand_documents_at_most(http: httpx2.Client) -> None:
    lines = "".join('{"text": ""}\n' for _ in range(10_001))
    assert_problem(http.post("/v1/documents", content=lines, headers=LINES), 413, "10,000 documents")


def test_the_list_goes_through_all_documents_in_order(http: httpx2.Client, toy_server: Server) -> None:
    with httpx2.Client(base_url=toy_server.url) as toys:
        for modality, count in (("image", 15), ("text", 41)):
            listed: list[Json] = []
            after: dict[str, str] = {}
            while True:
                page = toys.get("/v1/documents", params={"modality": modality, "limit": 4, **after}).json()
                listed += page["documents"]
                if page["next"] is None:
                    break
                assert len(page["documents"]) == 4
                after = {"after": page["next"]}
            assert len(listed) == count
            ids = [document["id"] for document in listed]
            assert ids == sorted(set(ids))
            assert all(document["modality"] == modality for document in listed)
            assert listed[0] == toys.get(f"/v1/documents/{ids[0]}").json()
            assert all(document["photo"]["thumbnail"].endswith("/thumbnail") for document in listed)
        assert len(toys.get("/v1/documents").json()["documents"]) == 15
        for query, words in (
            ("limit=0", "from 1 to 200"),
            ("limit=201", "from 1 to 200"),
            ("limit=many", "'many'"),
            ("modality=both", "'image' or 'text'"),
            ("after=", "not empty"),
            ("offset=3", "'offset' is not known"),
            ("limit=3&limit=4", "twice"),
        ):
            assert_problem(toys.get(f"/v1/documents?{query}"), 422, words)


def test_photos_are_kept_by_browsers_and_asked_for_again(toy_server: Server) -> None:
    with httpx2.Client(base_url=toy_server.url) as toys:
        document = toys.get("/v1/documents?limit=1").json()["documents"][0]
        for part in ("content", "thumbnail"):
            address = document["photo"][part]
            shown = toys.get(address)
            assert shown.status_code == 200
            assert shown.headers["content-type"] == "image/jpeg"
            assert shown.headers["x-content-type-options"] == "nosniff"
            policy = "default-src 'none'; sandbox; frame-ancestors 'none'"
            assert shown.headers["content-security-policy"] == policy
            assert "max-age" in shown.headers["cache-control"]
            tag = shown.headers["etag"]
            assert tag.startswith('"')
            for held in (tag, f'"other", {tag}', f"W/{tag}", "*"):
                same = toys.get(address, headers={"If-None-Match": held})
                assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
            assert toys.get(address, headers={"If-None-Match": '"other"'}).content == shown.content
            head = toys.head(address)
            assert (head.status_code, head.content) == (200, b"")
            for header in ("etag", "content-type", "content-length"):
                assert head.headers[header] == shown.headers[header]
        original = TOY_IMAGES / document["photo"]["file"]
        assert toys.get(document["photo"]["content"]).content == original.read_bytes()
        small = Image.open(BytesIO(toys.get(document["photo"]["thumbnail"]).content))
        assert max(small.size) <= 256
        caption = document["captions"][0]["id"]
        assert_problem(toys.get(f"/v1/documents/{caption}/content"), 404, "no photo")


def test_ids_may_hold_what_addresses_are_made_of(http: httpx2.Client) -> None:
    ids = [
        "a",
        "a/content",
        "a/content/content",
        "?x=1&y#z",
        "100%25",
        "ä ö/..",
        "..",
        "thumbnail",
        "i" * 256,
    ]
    for number, id in enumerate(ids):
        photo = data_uri(changed_photo("gravel.jpg", 200 + number))
        assert rows(add_lines(http, {"id": id, "image": photo}))[0][3] == "added"
    for number, id in enumerate(ids):
        address = f"/v1/documents/{quote(id, safe='').replace('.', '%2E')}"
        document = http.get(address).json()
        assert document["id"] == id
        content = http.get(document["photo"]["content"].replace("..", "%2E%2E")).content
        assert content == changed_photo("gravel.jpg", 200 + number)
    assert http.delete("/v1/documents/a%2Fcontent").json() == {"deleted": ["a/content"]}
    assert_problem(http.get("/v1/documents/a%2Fcontent"), 404, "'a/content'")
    assert http.get("/v1/documents/a/content").status_code == 200
    for path, words in (
        ("a/b", "%2F"),
        ("a/content/thumbnail", "%2F"),
        ("", "not empty"),
        ("%FF", "not UTF-8"),
        ("i" * 512, "512 bytes"),
        ("a%00", "control characters"),
        ("nobody", "no document 'nobody'"),
    ):
        for method in ("GET", "DELETE"):
            assert_problem(http.request(method, f"/v1/documents/{path}"), 404, words)
    refused = http.delete("/v1/documents/a/content")
    assert_problem(refused, 405, "not deleted by itself")
    assert refused.headers["allow"] == "GET, HEAD"
    assert http.get("/v1/documents/a").status_code == 200


def test_a_photo_takes_its_captions_along_unless_they_shall_stay(http: httpx2.Client) -> None:
    photo = data_uri(changed_photo("retina.jpg", 7))
    for captions in (True, False):
        add_lines(http, {"id": "eye", "image": photo, "captions": ["an eye", "a retina"]})
        answer = http.delete("/v1/documents/eye", params={} if captions else {"captions": "false"})
        assert answer.json() == {"deleted": ["eye", "eye-0", "eye-1"] if captions else ["eye"]}
        assert_problem(http.get("/v1/documents/eye"), 404, "'eye'")
        assert_problem(http.delete("/v1/documents/eye"), 404, "'eye'")
    left = http.get("/v1/documents/eye-1").json()
    assert left["text"] == "a retina"
    assert left["photo"] is None
    assert http.delete("/v1/documents/eye-1").json() == {"deleted": ["eye-1"]}
    assert_problem(http.delete("/v1/documents/eye-0?captions=maybe"), 422, "true or false")
    assert_problem(http.delete("/v1/documents/eye-0?caption=false"), 422, "'caption' is not known")
    assert http.get("/v1/documents/eye-0").status_code == 200


def test_pages_of_other_origins_neither_look_nor_write(http: httpx2.Client, server: Server) -> None:
    line = b'{"id": "foreign", "text": "a"}'
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example", "Host": "evil.example"},
    ):
        answer = http.post("/v1/documents", content=line, headers={**LINES, **headers})
        assert_problem(answer, 403, "page")
        assert_problem(http.delete("/v1/documents/7", headers=headers), 403, "page")
        assert_problem(http.get("/v1/documents", headers=headers), 403, "page")
    assert http.get("/v1/documents/foreign").status_code == 404
    own = {**LINES, "Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert http.post("/v1/documents", content=line, headers=own).json()["added"] == 1


def test_memory_does_not_grow_with_the_number_of_files(http: httpx2.Client, server: Server) -> None:
    # What follows a JPEG's end is no part of the photo, and makes large files of small ones.
    small = (TOY_IMAGES / "cat.jpg").read_bytes()
    dice = random.Random(8)
    files = [(f"{number}.jpg", small + dice.randbytes(2_000_000)) for number in range(124)]
    # As many first as the allocator needs to have had every buffer of a busy upload once.
    assert upload(http, *files[:60])["added"] == 60
    serving = listening_process(server)
    before = own_memory(serving)
    with most_memory(serving) as seen:
        answered = upload(http, *files[60:])
    assert (answered["added"], answered["failed"]) == (64, 0)
    assert [result["source"] for result in answered["results"]] == [name for name, _ in files[60:]]
    grown = max(seen) - before
    sent = sum(len(content) for _, content in files[60:])
    assert sent > 120_000_000
    # A server that kept the files would grow by all of them; freed buffers stay with the allocator.
    assert grown < sent


def listening_process(server: Server) -> int:
    """The process that answers HTTP."""
    port = f":{int(server.url.rpartition(':')[2]):04X}"
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Local address, state (0A listens) and inode (proc(5)).
    (inode,) = [row[9] for row in table if row[1].endswith(port) and row[3] == "0A"]
    (process,) = [
        process for process in children_of(server.process.pid) if f"socket:[{inode}]" in open_files(process)
    ]
    return process


def open_files(process: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        # What is closed in the meantime is not the socket that listens.
        with contextlib.suppress(FileNotFoundError):
            found.add(str(link.readlink()))
    return found


def own_memory(process: int) -> int:
    """The bytes a process holds itself; the pages of a mapped index are the system's (proc(5), RssAnon)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


@contextlib.contextmanager
def most_memory(process: int) -> Iterator[list[int]]:
    """What a process held itself, fifty times a second, for as long as the block lasts."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            seen.append(own_memory(process))

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield seen
    finally:
        over.set()
        watch.join()


def test_a_locked_index_is_a_409_and_writing_can_be_off(toy_workspace: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    copy_index(toy_workspace, workspace)
    line = b'{"id": "new", "text": "a new caption"}'
    server = start_server("query_restful", "--workspace", workspace)
    try:
        with EmbeddedStore.open_writer(workspace):
            answer = httpx2.post(f"{server.url}/v1/documents", content=line, headers=LINES, timeout=60)
            assert_problem(answer, 409, "is being written by process")
            assert answer.headers["retry-after"] == "2"
        answer = httpx2.post(f"{server.url}/v1/documents", content=line, headers=LINES, timeout=60)
        assert answer.json()["added"] == 1
    finally:
        server.stop()
    server = start_server("query_restful", "--workspace", workspace, "--writing", "off")
    try:
        answer = httpx2.post(f"{server.url}/v1/documents", content=line, headers=LINES)
        assert_problem(answer, 403, "--writing")
        assert_problem(httpx2.delete(f"{server.url}/v1/documents/new"), 403, "--writing")
        assert httpx2.get(f"{server.url}/v1/documents/new").json()["text"] == "a new caption"
    finally:
        server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory of a given size; where that is not allowed the test is skipped."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a file system is not allowed here")
        return disk

    yield mount
    subprocess.run(["umount", "-l", disk], check=False, capture_output=True)


def test_a_disk_that_fills_up_fails_the_rest(small_disk: Callable[[str], Path], toy_workspace: Path) -> None:
    workspace = small_disk("24m") / "workspace"
    copy_index(toy_workspace, workspace)
    server = start_server("query_restful", "--workspace", workspace)
    padding = random.Random(9)
    small = (TOY_IMAGES / "cat.jpg").read_bytes()
    files = [(f"{number}.jpg", small + padding.randbytes(200_000)) for number in range(100)]
    try:
        with httpx2.Client(base_url=server.url, timeout=60) as http:
            answered = upload(http, *files)
            assert answered["added"] >= 1
            assert answered["added"] + answered["failed"] == 100
            failed = [result["error"] for result in answered["results"] if result["error"]]
            assert "cannot be written" in failed[-1]
            stored = http.get(f"/v1/documents/{answered['results'][0]['id']}/content")
            assert stored.content == files[0][1]
            # What was left after a whole batch did not fit has room for a few photos more.
            for name, content in files[-40:]:
                answer = http.post("/v1/documents", files=[("file", (name, content + b"x"))])
                if answer.status_code != 200:
                    break
            assert_problem(answer, 507, "cannot be written")
    finally:
        server.stop()

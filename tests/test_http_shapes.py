"""The HTTP contracts of jina 1, 2, 3 and Jina Box: recorded requests in, whole answers out."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossmodal.errors import RequestError
from crossmodal.http_shapes.legacy.answers import render_deleted, render_error, render_index, render_results
from crossmodal.http_shapes.legacy.requests import Envelope, LegacyRequest, envelope_of, parse_request
from crossmodal.http_shapes.photos import image_url, indexed_image_id
from crossmodal.http_shapes.values import read_json
from crossmodal.match import Match

HOST = "127.0.0.1:45678"
CAT = Path(__file__).resolve().parents[1] / "data" / "toy-data" / "images" / "cat.jpg"
CAT_URI = "data:image/jpeg;base64," + base64.b64encode(CAT.read_bytes()).decode()
STARTED = datetime(2026, 11, 21, 8, 30, 0, 250_000, UTC)
ENDED = datetime(2026, 11, 21, 8, 30, 0, 300_000, UTC)
TIMES = {"startTime": "2026-11-21T08:30:00.250000Z", "endTime": "2026-11-21T08:30:00.300000Z"}
PHOTO = Match(
    "p1",
    "image",
    0.55,
    uri=f"http://{HOST}/images/p1",
    mime_type="image/png",
    tags={"caption": "Tom & <b>Jerry</b>"},
)
CAPTION = Match("c1", "text", 0.25, text="a cat's <i>nose</i>", uri=f"http://{HOST}/images/p1")


def parse(body: object, path: str = "/search", **options: Any) -> LegacyRequest:
    return parse_request(body, path=path, host=HOST, **options)


def answer(parsed: LegacyRequest, *matches: Match, error: str | None = None) -> dict[str, Any]:
    queries = [replace(query, matches=matches, error=query.error or error) for query in parsed.queries]
    return render_results(parsed, queries, started=STARTED, ended=ENDED)


def refusal(body: object, path: str = "/search", **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        parse(body, path, **options)
    assert 400 <= caught.value.status < 500
    return str(caught.value)


class TestEnvelopeByShape:
    @pytest.mark.parametrize(
        ("body", "path", "expected"),
        [
            ({"data": ["red"], "parameters": {"top_k": 16}, "mode": "search"}, "/search", Envelope.JINABOX),
            ({"data": ["red"], "top_k": 16, "mode": "search"}, "/search", Envelope.JINA1),
            ({"data": ["red"], "top_k": 16}, "/search", Envelope.JINA1),
            ({"data": ["red"]}, "/api/search", Envelope.JINA1),
            ({"data": ["red"], "parameters": {"top_k": 5}}, "/search", Envelope.JINA2),
            ({"data": [{"text": "red"}], "targetPeapod": ""}, "/search", Envelope.JINA2),
            ({"data": [{"text": "red"}], "parameters": {"top_k": 5}}, "/search", Envelope.JINA3),
            ({"header": {"exec_endpoint": "/search"}, "data": [{"text": "red"}]}, "/post", Envelope.JINA3),
            ({}, "/search", Envelope.JINA3),
            (None, "/search", Envelope.JINABOX),
            ([1], "/api/search", Envelope.JINABOX),
            (None, "/api/search", Envelope.JINABOX),
        ],
    )
    def test_it_is_told_by_the_shape(self, body: object, path: str, expected: Envelope) -> None:
        assert envelope_of(body, path) is expected

    def test_an_override_beats_the_shape(self) -> None:
        body = {"data": ["red"], "top_k": 5, "mode": "search"}
        assert parse(body, envelope_override="jina3").envelope is Envelope.JINA3
        assert envelope_of(body, "/search", " JinaBox ") is Envelope.JINABOX

    def test_an_unknown_override_is_refused_but_the_error_still_has_an_envelope(self) -> None:
        body = {"data": ["red"], "top_k": 5, "mode": "search"}
        assert refusal(body, envelope_override="jina9") == (
            "The envelope 'jina9' is not known; choose one of jinabox, jina1, jina2, jina3."
        )
        assert envelope_of(body, "/search", "jina9") is Envelope.JINA1


class TestWholeAnswers:
    def test_jina_1(self) -> None:
        parsed = parse({"top_k": 5, "mode": "search", "data": ["hello world"], "requestId": "r1"})
        query = parsed.queries[0]
        assert answer(parsed, PHOTO) == {
            "requestId": "r1",
            "search": {
                "docs": [
                    {
                        "id": query.id,
                        "weight": 1.0,
                        "mimeType": "text/plain",
                        "text": "hello world",
                        "matches": [
                            {
                                "id": "p1",
                                "uri": f"http://{HOST}/images/p1",
                                "mimeType": "image/png",
                                "tags": {"caption": "Tom & <b>Jerry</b>"},
                                "score": {"value": 0.55, "opName": "cosine", "refId": query.id},
                            }
                        ],
                    }
                ]
            },
            "status": {},
            "routes": [{"pod": "gateway", **TIMES}],
        }

    def test_jina_2(self) -> None:
        parsed = parse({"data": ["hello world"], "parameters": {"top_k": 5}, "request_id": "r2"})
        query = parsed.queries[0]
        assert answer(parsed, PHOTO) == {
            "requestId": "r2",
            "data": {
                "docs": [
                    {
                        "id": query.id,
                        "mimeType": "text/plain",
                        "text": "hello world",
                        "scores": {},
                        "matches": [
                            {
                                "id": "p1",
                                "uri": f"http://{HOST}/images/p1",
                                "mimeType": "image/png",
                                "tags": {"caption": "Tom & <b>Jerry</b>"},
                                "adjacency": 1,
                                "scores": {"cosine": {"value": 0.55, "refId": query.id}},
                            }
                        ],
                    }
                ],
                "groundtruths": [],
            },
        }

    def test_jina_3_as_its_python_client_posts(self) -> None:
        body = {
            "header": {"exec_endpoint": "/search", "request_id": "r3"},
            "parameters": {"top_k": 5, "lang": "en", "deep": {"n": [1]}},
            "data": [{"id": "q1", "text": "q"}],
        }
        assert answer(parse(body, "/post"), PHOTO, CAPTION) == {
            "header": {"requestId": "r3", "status": None, "execEndpoint": "/search", "targetExecutor": ""},
            "parameters": {"top_k": 5.0, "lang": "en", "deep": {"n": [1.0]}},
            "routes": [{"executor": "gateway", **TIMES, "status": None}],
            "data": [
                {
                    "id": "q1",
                    "text": "q",
                    "mime_type": None,
                    "uri": None,
                    "url": None,
                    "matches": [
                        {
                            "id": "p1",
                            "uri": f"http://{HOST}/images/p1",
                            "url": f"http://{HOST}/images/p1",
                            "mime_type": "image/png",
                            "text": None,
                            "tags": {"caption": "Tom & <b>Jerry</b>"},
                            "scores": {"cosine": {"value": 0.55}},
                        },
                        {
                            "id": "c1",
                            "uri": f"http://{HOST}/images/p1",
                            "url": f"http://{HOST}/images/p1",
                            "mime_type": "text/plain",
                            "text": "a cat's <i>nose</i>",
                            "tags": {},
                            "scores": {"cosine": {"value": 0.25}},
                        },
                    ],
                }
            ],
        }

    def test_jina_box_gets_both_envelopes_with_markup_escaped(self) -> None:
        parsed = parse({"data": ["red"], "parameters": {"top_k": 16}, "mode": "search", "requestId": "r"})
        query = parsed.queries[0]
        scores = {
            "score": {"value": 0.55, "opName": "cosine", "refId": query.id},
            "scores": {"cosine": {"value": 0.55, "refId": query.id}},
        }
        doc = {
            "id": query.id,
            "text": "red",
            "mimeType": "text/plain",
            "mime_type": "text/plain",
            "matches": [
                {
                    "id": "p1",
                    "uri": f"http://{HOST}/images/p1",
                    "text": "",
                    "mimeType": "image/png",
                    "mime_type": "image/png",
                    **scores,
                    "tags": {"caption": "Tom &amp; &lt;b&gt;Jerry&lt;/b&gt;"},
                }
            ],
        }
        assert answer(parsed, PHOTO) == {
            "requestId": "r",
            "status": {},
            "routes": [],
            "search": {"docs": [doc]},
            "data": {"docs": [doc], "groundtruths": []},
        }

    def test_a_caption_that_was_clicked_in_jina_box_comes_back_as_it_was(self) -> None:
        first = parse({"data": [CAT_URI], "parameters": {"top_k": 1}, "mode": "search"})
        shown = answer(first, CAPTION)["search"]["docs"][0]["matches"][0]["text"]
        assert shown == "a cat's &lt;i&gt;nose&lt;/i&gt;"
        again = parse({"data": [shown], "parameters": {"top_k": 1}, "mode": "search"})
        assert again.queries[0].text == CAPTION.text

    def test_jina_box_cannot_be_made_to_leave_an_attribute(self) -> None:
        match = Match("p", "image", 0.1, uri='http://h/images/"onerror=alert(1)>')
        parsed = parse({"data": ["red"], "parameters": {}, "mode": "search"})
        found = answer(parsed, match)["data"]["docs"][0]["matches"][0]
        assert found["uri"] == "http://h/images/%22onerror=alert(1)%3E"

    def test_an_indexed_photo_as_the_query_is_shown_by_its_own_address(self) -> None:
        parsed = parse({"data": [f"http://{HOST}/images/a%2Fb"], "parameters": {}, "mode": "search"})
        assert answer(parsed, CAPTION)["data"]["docs"][0]["uri"] == "/images/a%2Fb"


class TestFailedQueries:
    def test_one_of_two_keeps_its_place_and_its_sentence(self) -> None:
        parsed = parse({"data": ["a dog", "http://example.org/x.jpg"], "top_k": 1, "mode": "search"})
        docs = answer(parsed, PHOTO)["search"]["docs"]
        assert [len(doc["matches"]) for doc in docs] == [1, 0]
        assert docs[1]["tags"]["error"].startswith(
            "data[1] names 'http://example.org/x.jpg', and this server never"
        )

    def test_jina_box_gets_only_queries_with_matches(self) -> None:
        parsed = parse({"data": ["a dog", "file:///etc/passwd"], "parameters": {}, "mode": "search"})
        whole = answer(parsed, PHOTO)
        assert [doc["text"] for doc in whole["search"]["docs"]] == ["a dog"]
        description = "1 of 2 queries failed; the first: data[1] names 'file:///etc/passwd', and this server"
        assert whole["status"]["description"].startswith(description)
        assert "code" not in whole["status"]

    def test_jina_box_gets_a_safe_error_where_nothing_was_found(self) -> None:
        parsed = parse({"data": ["a dog"], "parameters": {}, "mode": "search"})
        whole = answer(parsed)
        assert whole["search"] == {"docs": []}
        assert whole["data"]["docs"] == []
        assert whole["status"]["code"] == "ERROR"
        assert whole["status"]["description"].startswith("Nothing was found")

    def test_jina_3_gets_code_1_only_where_all_failed(self) -> None:
        parsed = parse({"data": [{"text": "a"}, {"text": "b"}]})
        header = answer(parsed, error="The encoder is gone.")["header"]
        assert header["status"] == {"code": 1, "description": "The encoder is gone. (1 more failed as well.)"}
        first, second = parsed.queries
        mixed = [replace(first, matches=(PHOTO,)), replace(second, error="No.")]
        whole = render_results(parsed, mixed, started=STARTED, ended=ENDED)
        assert whole["header"]["status"] is None
        assert whole["data"][1]["tags"] == {"error": "No."}


class TestErrors:
    @pytest.mark.parametrize("envelope", [None, Envelope.JINABOX])
    def test_the_safe_error_of_jina_box(self, envelope: Envelope | None) -> None:
        whole = render_error("<b>No</b> & no.", envelope=envelope, status=400, request_id="r")
        assert whole == {
            "requestId": "r",
            "status": {"code": "ERROR", "description": "&lt;b&gt;No&lt;/b&gt; &amp; no."},
            "search": {"docs": []},
            "data": {"docs": [], "groundtruths": []},
        }

    def test_jina_1_2_and_3(self) -> None:
        status = {"code": "ERROR", "description": "No <b>."}
        one = render_error("No <b>.", envelope=Envelope.JINA1, status=400, request_id="r")
        assert one == {"requestId": "r", "search": {"docs": []}, "status": status, "routes": []}
        two = render_error("No <b>.", envelope=Envelope.JINA2, status=400, request_id="r")
        assert two == {"requestId": "r", "data": {"docs": [], "groundtruths": []}, "status": status}
        three = render_error("No <b>.", envelope=Envelope.JINA3, status=413, request_id="r")
        assert three["data"] == []
        assert three["header"]["status"] == {
            "code": 1,
            "description": "No <b>.",
            "exception": {"name": "RequestError", "args": ["HTTP 413"]},
        }


class TestTopK:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({}, 10),
            ({"top_k": None}, 10),
            ({"top_k": 1}, 1),
            ({"top_k": 5.0}, 5),
            ({"top_k": "7"}, 7),
            ({"top_k": 1000}, 1000),
            ({"parameters": {"top_k": 16}}, 16),
            ({"parameters": {"limit": 3.0}}, 3),
            ({"top_k": 4, "parameters": {"top_k": 4.0}}, 4),
        ],
    )
    def test_it_is_honoured_wherever_it_stands(self, body: dict[str, Any], expected: int) -> None:
        assert parse({"data": ["a"], **body}).top_k == expected

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (0, "0"),
            (-1, "-1"),
            (1001, "1001"),
            (2.5, "2.5"),
            (True, "true"),
            ("many", "'many'"),
            ([5], "a list"),
            (float("nan"), "nan"),
            (float("inf"), "inf"),
            (10**50, "a number of more than 18 digits"),
        ],
    )
    def test_anything_else_is_refused_with_value_and_limits(self, value: object, shown: str) -> None:
        assert refusal({"data": ["a"], "top_k": value}) == (
            f"top_k is {shown}; it has to be a whole number from 1 to 1,000."
        )

    def test_two_numbers_that_differ_are_refused(self) -> None:
        assert refusal({"data": ["a"], "top_k": 3, "parameters": {"limit": 5}}) == (
            "The request asks for two numbers of results: top_k is 3 and parameters.limit is 5. Send one."
        )


class TestQueries:
    def test_a_photo_in_a_data_uri_arrives_byte_for_byte(self) -> None:
        query = parse({"data": [CAT_URI]}).queries[0]
        assert (query.modality, query.mime_type, query.content) == ("image", "image/jpeg", CAT.read_bytes())

    def test_base64_may_be_percent_encoded_url_safe_broken_over_lines_and_unpadded(self) -> None:
        content = bytes(range(256)) + b"x"
        standard = base64.b64encode(content).decode()
        for body in (
            standard.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
            base64.urlsafe_b64encode(content).decode(),
            standard.rstrip("="),
            "\r\n".join(standard[i : i + 76] for i in range(0, len(standard), 76)),
        ):
            assert parse({"data": ["data:image/png;base64," + body]}).queries[0].content == content

    def test_a_photo_whose_type_the_browser_did_not_know(self) -> None:
        uri = CAT_URI.replace("image/jpeg", "application/octet-stream")
        assert parse({"data": [uri]}).queries[0].mime_type == "image/jpeg"

    @pytest.mark.parametrize(
        ("uri", "text"),
        [
            ("data:,a%20dog", "a dog"),
            ("data:text/plain;charset=utf-8;base64,Y2Fmw6k=", "café"),
            ("data:text/plain;charset=iso-8859-1,caf%E9", "café"),
        ],
    )
    def test_text_in_a_data_uri(self, uri: str, text: str) -> None:
        query = parse({"data": [uri]}).queries[0]
        assert (query.modality, query.text) == ("text", text)

    @pytest.mark.parametrize(
        "sentence", ["/etc/passwd", "photo.jpg", "data: a chart", "C:\\x.png", "9 http://x/y"]
    )
    def test_what_only_looks_like_a_path_is_a_sentence(self, sentence: str) -> None:
        query = parse({"data": [sentence]}).queries[0]
        assert (query.modality, query.text, query.content) == ("text", sentence, None)

    @pytest.mark.parametrize(
        "address",
        [
            "http://example.org/images/x",
            "HTTPS://example.org/a b.jpg",
            f"http://user@{HOST}/images/x",
            f"http://{HOST}/healthz",
            f"http://{HOST}/images/a/b",
            f"http://{HOST}/v1/documents/a",
            f"http://{HOST}/v1/documents/a/b/content",
            "http://example.org/v1/documents/a/content",
            "file:///etc/passwd",
            "file:/etc/passwd",
            "blob:https://example.org/1",
        ],
    )
    def test_addresses_are_never_opened(self, address: str) -> None:
        assert "never fetches a URL or opens a path" in refusal({"data": [address]})
        assert "never fetches a URL or opens a path" in refusal({"data": [{"uri": address}]})

    def test_a_path_as_a_documents_uri_is_never_opened(self) -> None:
        assert refusal({"data": [{"uri": "/etc/passwd"}]}).startswith(
            "data[0] names '/etc/passwd', and this server"
        )

    @pytest.mark.parametrize("photo_id", ["3f2a", "a b", "a/b", "ä?#%"])
    def test_the_servers_own_photos_are_looked_up(self, photo_id: str) -> None:
        for base in ("", f"http://{HOST}", f"https://{HOST}/"):
            url = image_url(photo_id, base)
            assert indexed_image_id(url, HOST) == photo_id
            query = parse({"data": [url]}).queries[0]
            assert (query.modality, query.indexed_id, query.content) == ("image", photo_id, None)
            for end in ("content", "thumbnail?size=2"):
                url = f"{base.rstrip('/')}/v1/documents/{quote(photo_id, safe='')}/{end}"
                assert parse({"data": [url]}).queries[0].indexed_id == photo_id

    def test_documents_of_jina_1_2_and_3(self) -> None:
        packed = base64.b64encode(CAT.read_bytes()).decode()
        items = [
            {"id": "a", "text": "a dog"},
            {"id": "b", "uri": CAT_URI},
            {"id": "c", "blob": packed, "mime_type": "image/jpeg", "text": "", "uri": "cat.jpg"},
            {"id": "d", "buffer": packed, "mimeType": "image/jpeg"},
            {"id": "f", "url": CAT_URI, "uri": None, "blob": None, "text": None, "tensor": None},
            {"id": "e", "text": "a cat", "modality": "TEXT", "blob": ""},
        ]
        queries = parse({"data": items}).queries
        assert [query.id for query in queries] == list("abcdfe")
        assert [query.text for query in queries] == ["a dog", None, None, None, None, "a cat"]
        photos = [query.content == CAT.read_bytes() for query in queries]
        assert photos == [False, True, True, True, True, False]

    @pytest.mark.parametrize(
        ("item", "sentence"),
        [
            ("", "The query data[0] is empty; it needs at least one word."),
            (" \n\t", "The query data[0] is empty; it needs at least one word."),
            ("x" * 10_000, "The query data[0] has 10,000 characters; the limit is 2,000. Shorten it."),
            ("\ud800", "The query data[0] holds half of a surrogate pair, which is not Unicode text."),
            (None, "data[0] is null; it has to be a string or a Document object."),
            (float("nan"), "data[0] is nan; it has to be a string or a Document object."),
            ({}, "data[0] has no text, no blob and no uri: there is nothing to search for."),
            ({"text": 5}, "The text of data[0] is 5; it has to be a string."),
            ({"text": "a", "modality": "image"}, "data[0] has modality 'image' but no photo"),
            ({"text": "a", "modality": "audio"}, "The modality of data[0] is 'audio'; it has to be"),
            (
                {"blob": {"dense": []}},
                "The blob of data[0] is an object; it has to be the photo's file in base64.",
            ),
            ({"text": "a", "id": "x" * 300}, "The id of data[0] has 300 bytes; the limit is 256."),
            ("data:image/png;base64,@@@", "The data URI is not valid base64: it starts with '@@@'."),
            ("data:image/png;base64,", "The data URI is empty: it holds no bytes."),
            ("data:image/png;base64", "The data URI 'data:image/png;base64' is malformed"),
            ("data:text/plain;charset=idna,x", "The data URI has charset 'idna'; known ones are"),
            (
                "data:application/pdf;base64,AAAA",
                "data[0] holds 'application/pdf'; only images and text can be used.",
            ),
        ],
    )
    def test_what_cannot_be_searched_for_gets_a_sentence(self, item: object, sentence: str) -> None:
        assert refusal({"data": [item], "top_k": 5, "mode": "search"}).startswith(sentence)

    def test_a_photo_above_the_limit_is_refused_before_it_is_decoded(self) -> None:
        with pytest.raises(RequestError, match=r"6[45]\.\d MiB; the limit is 64 MiB") as caught:
            parse({"data": ["data:image/jpeg;base64," + "A" * ((65 << 20) // 3 * 4)]})
        assert caught.value.status == 413

    def test_two_queries_with_one_id(self) -> None:
        parsed = parse({"data": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]})
        assert parsed.queries[1].error == "data[1] has the id 'a' of an earlier query."
        assert parsed.queries[1].id != "a"


class TestRequests:
    @pytest.mark.parametrize(
        ("body", "sentence"),
        [
            (None, "The body is null; it has to be a JSON object with a list under 'data'."),
            ([], "The body is a list; it has to be a JSON object with a list under 'data'."),
            ({}, "'data' is missing; it has to be a list of strings or Document objects."),
            ({"data": "a dog"}, "'data' is 'a dog'; it has to be a list of strings or Document objects."),
            ({"data": []}, "'data' is an empty list; it has to hold at least one of the queries."),
            ({"data": ["a"] * 65}, "'data' has 65 queries; the limit is 64. Send several requests."),
            ({"data": ["a"], "parameters": [1]}, "'parameters' is a list; it has to be an object."),
            ({"data": ["a"], "parameters": {"x": float("nan")}}, "'parameters' holds nan, which is not JSON"),
        ],
    )
    def test_what_is_no_request_gets_a_sentence(self, body: object, sentence: str) -> None:
        assert refusal(body).startswith(sentence)

    def test_the_endpoint_is_in_the_path_or_for_post_in_the_header(self) -> None:
        body = {"data": [{"text": "a"}]}
        assert parse(body, "/index").endpoint == "index"
        assert parse({**body, "execEndpoint": "/index"}, "/post").endpoint == "index"
        assert (
            refusal(body, "/post")
            == "A request to /post has to name /search, /index, /update or /delete in 'header.exec_endpoint'."
        )
        assert (
            refusal(body, "/drop")
            == "'/drop' is not an endpoint here; there are /search, /index, /update and /delete."
        )

    def test_ids_to_delete_stand_in_data_or_ids_as_strings_or_documents(self) -> None:
        bodies: list[dict[str, object]] = [
            {"ids": ["a", "b"]},
            {"data": ["a", "b", "a"]},
            {"data": [{"id": "a"}, {"id": "b", "text": "x"}]},
        ]
        for body in bodies:
            assert parse(body, "/delete").ids == ("a", "b")
        assert refusal({"data": [{"text": "a"}]}, "/delete").startswith("The id of data[0] is null")

    @pytest.mark.parametrize(
        ("raw", "sentence"),
        [
            (b"", "The body is empty; send JSON"),
            (
                b"{'data'}",
                "The body is not JSON: Expecting property name enclosed in double quotes at line 1",
            ),
            (b'{"top_k": NaN}', "The body holds NaN, which is not JSON; send a number or null."),
            (b'"\xff"', "The body is not UTF-8: byte 1 is 0xff."),
            (b"[" * 100_000, "The body holds a number with too many digits or too many nested brackets."),
            (b"9" * 5_000, "The body holds a number with too many digits or too many nested brackets."),
            (b'"\\ud83d"', "The body holds half of a surrogate pair, which is not Unicode text."),
            (b'{"\\uDE00": 1}', "The body holds half of a surrogate pair, which is not Unicode text."),
            (b"[" + b"0," * 600_000 + b"0]", "The body has 600,000 commas; the limit is 500,000."),
        ],
    )
    def test_bodies_that_are_not_json(self, raw: bytes, sentence: str) -> None:
        with pytest.raises(RequestError) as caught:
            read_json(raw)
        assert str(caught.value).startswith(sentence)

    def test_a_body_with_a_byte_order_mark(self) -> None:
        assert read_json(b'\xef\xbb\xbf{"data": ["\xc3\xa9"]}') == {"data": ["é"]}

    def test_a_character_that_is_escaped_as_a_pair(self) -> None:
        assert read_json(rb'["\ud83d\ude00", "\\ud83d"]') == ["\U0001f600", "\\ud83d"]


class TestIndexing:
    def test_a_photo_with_its_captions_becomes_linked_documents(self) -> None:
        item = {
            "id": "p",
            "uri": CAT_URI,
            "text": "a cat",
            "captions": ["its nose", "its eyes"],
            "tags": {"n": 1},
        }
        photo, *captions = [item.record for item in parse({"data": [item]}, "/index").documents]
        assert (photo.id, photo.modality, photo.content, photo.tags) == (
            "p",
            "image",
            CAT.read_bytes(),
            {"n": 1},
        )
        assert [(c.id, c.text, c.photo_id) for c in captions] == [
            ("p-0", "a cat", "p"),
            ("p-1", "its nose", "p"),
            ("p-2", "its eyes", "p"),
        ]

    def test_ids_that_are_not_given_are_the_same_each_time(self) -> None:
        body = {"data": [CAT_URI, "a caption", {"text": "a caption", "photo_id": "x"}]}
        first, second = (parse(body, "/index").documents for _ in range(2))
        assert [item.record.id for item in first] == [item.record.id for item in second]
        assert len({item.record.id for item in first}) == 3

    def test_a_path_is_kept_as_a_tag_only(self) -> None:
        packed = base64.b64encode(CAT.read_bytes()).decode()
        (photo,) = parse({"data": [{"blob": packed, "uri": "/home/me/cat.jpg"}]}, "/index").documents
        assert photo.record.tags == {"uri": "/home/me/cat.jpg"}

    def test_one_bad_document_leaves_the_others(self) -> None:
        parsed = parse({"data": ["a cat", {"uri": "/etc/passwd"}, {"tags": []}, "a cat"]}, "/index")
        good, path, tags, twice = parsed.documents
        assert good.error is None
        assert path.error is not None
        assert "never fetches a URL or opens a path" in path.error
        assert tags.error == "The tags of data[2] are a list; they have to be an object."
        assert twice.error is not None
        assert "of an earlier document" in twice.error

    def test_the_answer_has_the_outcome_of_each_document(self) -> None:
        parsed = parse({"data": ["a cat", "http://x/y.jpg"], "mode": "index", "requestId": "r"}, "/index")
        documents = [item if item.error else replace(item, outcome="added") for item in parsed.documents]
        whole = render_index(parsed, documents, started=STARTED, ended=ENDED)
        docs = whole["index"]["docs"]
        assert docs[0] == {
            "id": parsed.documents[0].record.id,
            "mimeType": "text/plain",
            "text": "a cat",
            "tags": {"outcome": "added"},
        }
        assert docs[1]["tags"]["error"] == parsed.documents[1].error

    def test_an_id_that_was_not_indexed_is_missing(self) -> None:
        parsed = parse({"ids": ["a", "b"], "mode": "delete", "requestId": "r"}, "/delete")
        whole = render_deleted(parsed, {"b"}, started=STARTED, ended=ENDED)
        assert whole["delete"]["docs"] == [
            {"id": "a", "tags": {"outcome": "missing"}},
            {"id": "b", "tags": {"outcome": "deleted"}},
        ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ITEM = (
    JSON
    | st.sampled_from(["a dog", "data:,x", "data:image/png;base64,AAAA", "http://h/x"])
    | st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("id", "text", "uri", "blob", "modality", "tags", "captions"), JSON),
    )
)
BODY = JSON | st.fixed_dictionaries(
    {"data": st.lists(ITEM, max_size=4) | JSON},
    optional={
        "top_k": JSON | st.integers(1, 20),
        "parameters": JSON | st.fixed_dictionaries({}, optional={"top_k": JSON, "limit": st.integers(1, 20)}),
        "mode": JSON,
        "header": JSON,
        "requestId": JSON,
    },
)
MATCHES = st.lists(
    st.builds(
        Match,
        id=st.text(min_size=1),
        modality=st.sampled_from(["image", "text"]),
        cosine=st.floats(-1, 1),
        text=st.none() | st.text(),
        uri=st.none() | st.text(),
    ),
    max_size=3,
)


@given(
    body=BODY,
    path=st.sampled_from(["/search", "/api/search", "/index", "/post", "/", "/else"]),
    override=st.none() | st.sampled_from([envelope.value for envelope in Envelope]) | st.text(max_size=5),
    matches=MATCHES,
)
def test_any_json_gets_an_answer_that_its_client_can_read(
    body: object, path: str, override: str | None, matches: list[Match]
) -> None:
    envelope = envelope_of(body, path, override)
    try:
        parsed = parse(body, path, envelope_override=override)
    except RequestError as error:
        status = error.status
        whole = render_error(str(error), envelope=envelope, status=status)
    else:
        status = 200
        assert parsed.envelope is envelope
        assert 1 <= parsed.top_k <= 1000
        if parsed.endpoint == "index":
            whole = render_index(parsed, parsed.documents, started=STARTED, ended=ENDED)
        else:
            whole = answer(parsed, *matches)
            assert len({query.id for query in parsed.queries}) == len(parsed.queries)
    assert status == 200 or 400 <= status < 500
    # As web frameworks send it: NaN and lone surrogates would fail here.
    json.dumps(whole, allow_nan=False, ensure_ascii=False).encode(
        "utf-8", "strict" if not matches else "replace"
    )
    if envelope is Envelope.JINABOX and "index" not in whole:
        assert whole["search"]["docs"] == whole["data"]["docs"]
        assert whole["status"].get("code") == ("ERROR" if not whole["search"]["docs"] else None)
        for doc in whole["data"]["docs"]:
            assert doc["mimeType"] == doc["mime_type"]
            assert doc["matches"]
            for match in doc["matches"]:
                assert isinstance(match["score"]["value"], float)
                assert match["mimeType"] == match["mime_type"]
                assert "<" not in match["text"] + match["uri"]


@given(st.text(min_size=1).filter(lambda text: not any(0xD800 <= ord(c) <= 0xDFFF for c in text)))
def test_an_images_address_is_recognised_whatever_its_id(photo_id: str) -> None:
    assert indexed_image_id(image_url(photo_id, f"http://{HOST}"), HOST) == photo_id

"""The jina 3 Python client over HTTP, as its users have it, against the server."""

from __future__ import annotations

import pytest
from conftest import Server
from needs_jina import needs_jina

pytestmark = needs_jina


def test_it_finds_photos_and_captions(toy_server: Server) -> None:
    from docarray import DocList
    from docarray.documents import TextDoc
    from docarray.documents.legacy import LegacyDocument
    from jina import Client

    client = Client(host=toy_server.url)
    asked = DocList[TextDoc]([TextDoc(text="a rocket on the launch pad"), TextDoc(text="gravel")])
    found = client.post("/search", asked, return_type=DocList[LegacyDocument], parameters={"top_k": 4})
    assert [doc.id for doc in found] == [doc.id for doc in asked]
    assert [doc.text for doc in found] == ["a rocket on the launch pad", "gravel"]
    for doc in found:
        _, answer = toy_server.request("/search", {"data": [doc.text], "mode": "search", "top_k": 4})
        expected = answer["search"]["docs"][0]["matches"]
        assert [
            (match.id, match.url, match.tags, match.scores["cosine"]["value"]) for match in doc.matches
        ] == [
            (match["id"], match["uri"], match["tags"], pytest.approx(match["score"]["value"], abs=1e-6))
            for match in expected
        ]

    photo = found[0].matches[0]
    assert photo.tags["file"] == "rocket.jpg"
    again = DocList[LegacyDocument]([LegacyDocument(url=photo.url)])
    (captioned,) = client.post("/search", again, return_type=DocList[LegacyDocument], parameters={"top_k": 3})
    _, answer = toy_server.request("/search", {"data": [photo.url], "mode": "search", "top_k": 3})
    expected = [match["text"] for match in answer["search"]["docs"][0]["matches"]]
    assert [match.text for match in captioned.matches] == expected


def test_a_query_that_is_refused_raises_with_the_sentence(toy_server: Server) -> None:
    from docarray import DocList
    from docarray.documents import TextDoc
    from jina import Client

    with pytest.raises(ValueError, match=r"The text of data\[0\] is empty; it needs at least one word"):
        Client(host=toy_server.url).post("/search", DocList[TextDoc]([TextDoc(text="")]))

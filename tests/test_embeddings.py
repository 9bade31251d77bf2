"""POST /v1/embeddings and GET /v1/models as OpenAI's clients, LangChain and LlamaIndex ask for them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_environments import client_environment
from conftest import TOY_IMAGES, Server

from crossmodal.client import ApiError, Client, Term
from crossmodal.engine.photo_index import PhotoIndex

SENTENCES = ["a close-up of the face of a tabby cat", "people climb the stairs"]
CAT = TOY_IMAGES / "cat.jpg"
CAT_URI = "data:image/jpeg;base64," + base64.b64encode(CAT.read_bytes()).decode()


@pytest.fixture(scope="module")
def vectors(toy_workspace: Path) -> np.ndarray[Any, Any]:
    """What the library makes of SENTENCES and then of CAT: float32 (3, dimension)."""
    with PhotoIndex(toy_workspace) as index:
        return np.concatenate([index.encode_text(SENTENCES), index.encode_image([CAT])])


OPENAI = "openai==3.57.0"
WHEELS = ("--only-binary", ":all:")


def ask(server: Server, **body: Any) -> tuple[int, Any]:
    return server.request("/v1/embeddings", body)


def test_vectors_are_those_of_the_model_however_they_are_sent(
    toy_server: Server, vectors: np.ndarray[Any, Any]
) -> None:
    _, models = toy_server.request("/v1/models")
    status, answer = ask(toy_server, input=[*SENTENCES, CAT_URI], model=models["serving"])
    assert status == 200, answer
    assert {key: answer[key] for key in ("object", "model")} == {"object": "list", "model": models["serving"]}
    assert [one["index"] for one in answer["data"]] == [0, 1, 2]
    found = np.array([one["embedding"] for one in answer["data"]], np.float32)
    assert np.array_equal(found, vectors)

    status, answer = ask(toy_server, input=CAT_URI, encoding_format="base64")
    packed = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    assert np.array_equal(packed, vectors[2])

    status, answer = ask(toy_server, input=SENTENCES[0], dimensions=16)
    short = np.array(answer["data"][0]["embedding"])
    assert short == pytest.approx(vectors[0, :16] / np.linalg.norm(vectors[0, :16]), abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({"input": []}, 422, "input", "'input' is a list; it has to be a sentence"),
        ({"input": ["a cat", " "]}, 422, "input", "it needs at least one word"),
        ({"input": [[1, 2]]}, 422, "input", "check_embedding_ctx_length=False"),
        ({"input": ["a"] * 2049}, 422, "input", "has 2,049 sentences and photos; the limit is 2,048"),
        ({"input": "x" * 2001}, 422, "input", "the limit is 2,000"),
        ({"input": "data:application/pdf;base64,AAAA"}, 422, "input", "only images and text"),
        ({"input": ["a", "data:image/png;base64,AAAA"]}, 422, "input", "is no photo|cannot|not "),
        ({"input": "a", "dimensions": 4096}, 422, "dimensions", "from 1 to"),
        ({"input": "a", "encoding_format": "int8"}, 422, "encoding_format", "'float' or 'base64'"),
        (
            {"input": "a", "model": "text-embedding-3-small"},
            404,
            None,
            "does not serve here; this server has",
        ),
        ({"input": "a", "tokens": 1}, 422, "tokens", "is not known here"),
    ],
)
def test_what_cannot_be_used_is_refused_in_both_shapes_of_errors(
    toy_server: Server, body: dict[str, Any], status: int, param: str | None, words: str
) -> None:
    found, answer = ask(toy_server, **body)
    assert (found, answer["status"]) == (status, status), answer
    assert re.search(words, answer["detail"]), answer["detail"]
    assert answer["error"]["message"] == answer["detail"]
    assert answer["error"]["param"] == param
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["code"] == ("model_not_found" if status == 404 else None)


def test_a_vector_is_searched_for_like_what_it_was_made_of(
    toy_server: Server, vectors: np.ndarray[Any, Any]
) -> None:
    for asked, vector, kind in (
        ({"text": SENTENCES[1]}, vectors[1], "text"),
        ({"image": CAT_URI}, vectors[2], "image"),
    ):
        status, expected = toy_server.request("/v1/search", {**asked, "top_k": 5})
        status, found = toy_server.request(
            "/v1/search", {"vector": vector.tolist(), "kind": kind, "top_k": 5}
        )
        assert status == 200, found
        assert found["results"][0]["matches"] == expected["results"][0]["matches"]
        assert found["results"][0]["query"]["terms"] == [{"vector": "given", "modality": kind, "weight": 1.0}]
    terms = [{"text": "dog"}, {"vector": vectors[2].tolist(), "kind": "image", "weight": 0.5}]
    _, with_vector = toy_server.request("/v1/search", {"terms": terms})
    terms[1] = {"image": CAT_URI, "weight": 0.5}
    _, with_photo = toy_server.request("/v1/search", {"terms": terms})
    assert with_vector["results"][0]["matches"] == with_photo["results"][0]["matches"]
    for body, pointer, words in (
        ({"vector": [1, "a"]}, "/vector", "it has to be a list of numbers"),
        ({"vector": [1.0, 2.0]}, None, r"has the shape \(2,\)"),
        ({"text": "a", "kind": "image"}, "/kind", "needs 'vector' beside it"),
        ({"vector": [1.0], "kind": "sound"}, "/kind", "'image' or 'text'"),
        ({"vector": [0.0] * len(vectors[0])}, None, "the length 0.0"),
    ):
        status, problem = toy_server.request("/v1/search", body)
        assert status == 422
        assert [one["pointer"] for one in problem.get("errors", [])] == ([pointer] if pointer else [])
        assert re.search(words, problem["detail"]), problem["detail"]


def test_the_python_client_encodes_and_searches_with_what_it_got(
    toy_server: Server, vectors: np.ndarray[Any, Any]
) -> None:
    with Client(toy_server.url) as client:
        found = client.encode([*SENTENCES, CAT, CAT.read_bytes()])
        assert np.array_equal(np.array(found), vectors[[0, 1, 2, 2]])
        (single,) = client.encode(SENTENCES[0], dimensions=8)
        assert len(single) == 8
        expected = client.search(image=CAT, top_k=3)
        assert client.search(vector=found[2], kind="image", top_k=3).matches == expected.matches
        composed = client.search(terms=[Term(vector=vectors[2], kind="image"), Term(text="dog")])
        assert composed.terms[0].vector == "given"
        with pytest.raises(ApiError, match="it needs at least one word"):
            client.encode(["a", ""])
        assert client.encode([]) == ()


def test_openais_own_client_encodes_and_lists(toy_server: Server, vectors: np.ndarray[Any, Any]) -> None:
    script = """
import json, sys
import openai
url, *inputs = sys.argv[1:]
client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
(model,) = [model.id for model in client.models.list()]
found = {"model": client.models.retrieve(model).id}
for packed in ("float", "base64", None):
    chosen = {} if packed is None else {"encoding_format": packed}
    answer = client.embeddings.create(input=inputs, model=model, **chosen)
    found[str(packed)] = [one.embedding for one in answer.data]
found["short"] = client.embeddings.create(input=inputs[0], model=model, dimensions=8).data[0].embedding
for name, asked in (("missing", {"model": "other"}), ("bad", {"model": model, "dimensions": 0})):
    try:
        client.embeddings.create(input="a", **asked)
    except openai.APIStatusError as error:
        found[name] = [type(error).__name__, error.code, error.param, error.body["message"]]
print(json.dumps(found))
"""
    openai = client_environment(OPENAI, options=WHEELS)
    found = json.loads(openai.run(script, toy_server.url, *SENTENCES, CAT_URI).stdout)
    assert found["model"] == toy_server.request("/v1/models")[1]["serving"]
    for packed in ("float", "None"):
        assert np.array_equal(np.array(found[packed], np.float32), vectors)
    decoded = [np.frombuffer(base64.b64decode(one), "<f4") for one in found["base64"]]
    assert np.array_equal(decoded, vectors)
    assert len(found["short"]) == 8
    assert found["missing"][:3] == ["NotFoundError", "model_not_found", None]
    assert "this server has" in found["missing"][3]
    assert found["bad"][:3] == ["UnprocessableEntityError", None, "dimensions"]


# Both ask by openai's own client, and bring a hundred packages.
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_langchain_and_llamaindex_embed(toy_server: Server, vectors: np.ndarray[Any, Any]) -> None:
    frameworks = client_environment(
        OPENAI, "langchain-openai==1.7.4", "llama-index-embeddings-openai==0.7.0", options=WHEELS
    )
    script = """
import json, sys
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai import OpenAIEmbedding
url, model, *sentences = sys.argv[1:]
chain = OpenAIEmbeddings(model=model, base_url=url, api_key="none", check_embedding_ctx_length=False)
index = OpenAIEmbedding(model_name=model, api_base=url, api_key="none")
found = {
    "chain": [*chain.embed_documents(sentences), chain.embed_query(sentences[0])],
    "index": [*index.get_text_embedding_batch(sentences), index.get_query_embedding(sentences[0])],
}
print(json.dumps(found))
"""
    model = toy_server.request("/v1/models")[1]["serving"]
    done = frameworks.run(script, toy_server.url + "/v1", model, *SENTENCES, LANGSMITH_TRACING="false")
    found = json.loads(done.stdout.splitlines()[-1])
    for made in found.values():
        assert np.array_equal(np.array(made, np.float32), vectors[[0, 1, 0]])

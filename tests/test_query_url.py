"""``-t query``: expressions and filters, and the same answers from a server as from the index itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TOY_IMAGES, Server, free_port, run_app

from crossmodal.cli.arguments import read_settings
from crossmodal.option import Option
from crossmodal.options import OPTIONS

SENTENCE = "people climb the stairs"
PHOTO = TOY_IMAGES / "raccoon.jpg"


def queried(*arguments: str | Path) -> dict[str, Any]:
    done = run_app("-t", "query", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def without_addresses(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs between an index, which knows paths, and a server, which hides them."""
    for result in answer["results"]:
        for match in result["matches"]:
            del match["uri"]
            match.pop("file", None)
    return answer


@pytest.fixture(scope="module")
def plain(toy_server: Server) -> dict[str, Any]:
    (result,) = queried("--url", toy_server.url, "--query-text", SENTENCE, "-k", "3")["results"]
    return dict(result)


def test_a_server_answers_what_the_index_answers(toy_server: Server, toy_workspace: Path) -> None:
    asked = ("--query-text", SENTENCE, "--query-image", PHOTO, "--query", "a cat - 0.5*snow", "-k", "6")
    from_index = queried("--workspace", toy_workspace, *asked)
    from_server = queried("--url", toy_server.url, *asked)
    sentence, photo, expression = from_server["results"]
    assert [result["modality"] for result in from_server["results"]] == ["text", "image", "text"]
    assert [len(result["matches"]) for result in from_server["results"]] == [6, 6, 6]
    best = sentence["matches"][0]
    assert best["file"] == "stair-tower.jpg"
    assert best["uri"] == f"{toy_server.url}/v1/documents/{best['id']}/content"
    assert photo["matches"][0]["modality"] == "text"
    assert expression["query"] == "a cat - 0.5*snow"
    assert without_addresses(from_server) == without_addresses(from_index)


def test_a_server_needs_no_index_here(toy_server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "found.png"
    done = run_app(
        *("-t", "query", "--url", toy_server.url),
        *("--query-text", SENTENCE, "-k", "3", "--picture", picture),
        environment={"JINA_WORKSPACE": str(tmp_path / "none")},
    )
    assert done.returncode == 0, done.stderr
    assert f"Photos for “{SENTENCE}”" in done.stdout
    assert "stair-tower.jpg" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    # A picture without any photo in it is far smaller.
    assert picture.stat().st_size > 100_000
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("server", [True, False])
def test_a_filter_holds_for_every_query(toy_server: Server, toy_workspace: Path, server: bool) -> None:
    where = ("--url", toy_server.url) if server else ("--workspace", str(toy_workspace))
    rule = '{"subject": "animal", "tones": {"$ne": "black and white"}}'
    answer = queried(*where, "--query-text", SENTENCE, "--query-image", PHOTO, "--filter", rule, "-k", "50")
    for result in answer["results"]:
        assert result["matches"]
        assert {match["tags"]["subject"] for match in result["matches"]} == {"animal"}
        assert {match["tags"]["tones"] for match in result["matches"]} == {"colour"}


@pytest.mark.parametrize("server", [True, False])
def test_one_bad_query_leaves_the_others(toy_server: Server, toy_workspace: Path, server: bool) -> None:
    where = ("--url", toy_server.url) if server else ("--workspace", str(toy_workspace))
    done = run_app("-t", "query", *where, "--query-text", SENTENCE, "--query", "id:nothing", "--json")
    assert done.returncode == 1
    good, bad = json.loads(done.stdout)["results"]
    assert len(good["matches"]) == 10
    assert bad["matches"] == []
    assert "'nothing'" in bad["error"]
    assert done.stderr == f"error: id:nothing: {bad['error']}\n"


def test_more_like_a_photo_in_an_expression_finds_its_captions(
    toy_workspace: Path, plain: dict[str, Any]
) -> None:
    best = plain["matches"][0]
    (found,) = queried("--workspace", toy_workspace, "--query", f"id:{best['id']}", "-k", "3")["results"]
    assert found["modality"] == "image"
    assert {match["modality"] for match in found["matches"]} == {"text"}
    assert found["matches"][0]["text"] in best["captions"]


@pytest.mark.parametrize("space", ["\t", "\n", "\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}"])
def test_any_white_space_is_text(toy_server: Server, plain: dict[str, Any], space: str) -> None:
    asked = SENTENCE.replace(" ", space, 1)
    (found,) = queried("--url", toy_server.url, "--query-text", asked, "-k", "3")["results"]
    assert found["query"] == asked
    assert [match["id"] for match in found["matches"]] == [match["id"] for match in plain["matches"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--query-text", "dog \udcff"], "not UTF-8"),
        (["--query", " "], "is empty"),
        (["--query-text", "x", "--filter", "{'place': 1}"], "is not JSON"),
        (["--query-text", "x", "--filter", "[]"], "is no JSON object"),
        (["--query-text", "x", "--url", "localhost:45678"], "write it like http://localhost:45678"),
        (["--url", "http://localhost:1"], "Nothing to search for"),
        (["--filter", "{}", "--url", "http://localhost:1"], "--query QUESTION"),
        (["--query-text", "x", "--filter", '{"place": {"$nearly": 1}}'], "--filter at /place/$nearly: "),
        (["--query-text", "x", "--offset", "995"], "--offset 995 and --top_k 10 reach to match 1,005"),
        (["--query-text", "x", "--hybrid", "-k", "201"], "with --hybrid reaches to 200"),
        (["--query-text", "x", "--null"], "--null has no meaning with --print table; add --print paths"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(arguments: list[str], words: str, toy_workspace: Path) -> None:
    where = () if "--url" in arguments else ("--workspace", toy_workspace)
    done = run_app("-t", "query", *where, *arguments)
    # What is no mistake of the options is one of the question, or of the address.
    assert done.returncode == (1 if words in ("not UTF-8", "is empty") or "write it like" in words else 2)
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    done = run_app("-t", "query", "--url", f"http://127.0.0.1:{free_port()}", "--query-text", "x")
    assert done.returncode == 1
    assert "cannot be reached (tried 3 times)" in done.stderr


# What a question to a server uses.
ASKED = {
    *("task", "query_text", "image", "similar", "query", "like", "top_k", "offset", "min_score"),
    *("modality", "filter", "literal", "sort", "explain", "rerank", "rerank_depth"),
    *("hybrid", "group_duplicates", "print", "null", "picture", "url", "key", "tls_ca", "json"),
}


@pytest.mark.parametrize(
    "option",
    [option for option in OPTIONS if "query" in option.tasks and option.name not in ASKED],
    ids=lambda option: option.name,
)
def test_beside_a_server_nothing_is_said_of_an_index_here(
    option: Option, capsys: pytest.CaptureFixture[str]
) -> None:
    # Also where it says what is so without it.
    value = (
        option.choices[0] if option.choices else {"int": str(int(option.minimum or 1))}.get(option.kind, "x")
    )
    given = [option.flag] if option.kind == "bool" else [option.flag, value]
    with pytest.raises(SystemExit) as ended:
        read_settings(["search", "x", "--url", "http://localhost:1", *given], {})
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f"error: {option.flag} has no meaning beside --url; leave out one of them.\n"

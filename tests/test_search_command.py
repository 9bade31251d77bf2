"""``search``: many questions in one run, from the command line and from stdin, in every form of output."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, TOY_IMAGES, Server, clean_environment
from warm_start import run_warm

from crossmodal import PhotoIndex

CAT = TOY_IMAGES / "cat.jpg"
FIELDS = [
    "id",
    "modality",
    "rank",
    "score",
    "cosine",
    "text",
    "photo",
    "captions",
    "tags",
    "duplicates",
    "uri",
]


def search(
    workspace: Path | None, *arguments: str | Path, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    where = () if workspace is None else ("--workspace", workspace)
    # Without ``stdin`` it is empty, as under cron.
    return run_warm(["search", *map(str, (*where, *arguments))], clean_environment(), 120, stdin or b"")


def found(workspace: Path | None, *arguments: str | Path, stdin: bytes | None = None) -> list[dict[str, Any]]:
    """The array of ``--print json``."""
    done = search(workspace, "--print", "json", *arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def ids(result: dict[str, Any]) -> list[str]:
    return [match["id"] for match in result["matches"]]


def test_it_finds_what_the_index_finds_in_the_order_asked(toy_workspace: Path) -> None:
    with PhotoIndex(toy_workspace) as index:
        cat = index.search("a cat", 1)[0].id
        expected = [
            index.search("a dog - 0.5*grass", 4),
            index.search(CAT, 4),
            index.similar(cat, 4),
            index.search_text("stairs - up", 4),
        ]
    asked = ("a dog - 0.5*grass", "--image", CAT, "--like", cat, "--query-text", "stairs - up", "-k", "4")
    results = found(toy_workspace, *asked)
    assert [result["query"] for result in results] == ["a dog - 0.5*grass", str(CAT), cat, "stairs - up"]
    assert [result["modality"] for result in results] == ["image", "text", "image", "image"]
    assert [ids(result) for result in results] == [[match.id for match in each] for each in expected]
    assert [result["has_more"] for result in results] == [True] * 4
    match, same = results[0]["matches"][0], expected[0][0]
    assert list(match) == FIELDS
    assert (match["cosine"], match["uri"], match["rank"]) == (same.cosine, same.uri, 1)
    assert match["score"] == round(same.score or 0, 6)
    assert match["photo"]["file"] == same.file


def test_the_options_are_those_of_the_index(toy_workspace: Path) -> None:
    rule = {"subject": "animal"}
    with PhotoIndex(toy_workspace) as index:
        both = index.search("a cat", 5, modality="both", filter=rule, offset=1, min_score=0.1)
        words = index.search("espresso", 3, hybrid=True, group_duplicates=True)
    (first,) = found(
        toy_workspace,
        *("a cat", "--modality", "both", "--filter", json.dumps(rule), "-k", "5"),
        *("--offset", "1", "--min-score", "0.1"),
    )
    assert ids(first) == [match.id for match in both]
    assert [match["rank"] for match in first["matches"]] == list(range(2, len(both) + 2))
    assert min(match["score"] for match in first["matches"]) >= 0.1
    (second,) = found(toy_workspace, "espresso", "--hybrid", "--group-duplicates", "-k", "3")
    assert ids(second) == [match.id for match in words]
    assert [match["parts"]["word_rank"] for match in second["matches"]] == [
        match.parts and match.parts.word_rank for match in words
    ]
    assert [match["duplicates"] for match in second["matches"]] == [[]] * 3


def test_a_server_answers_the_same(toy_server: Server, toy_workspace: Path) -> None:
    asked = (
        "a cat",
        "--image",
        CAT,
        "--modality",
        "both",
        "--offset",
        "2",
        "--min-score",
        "0.001",
        "-k",
        "3",
    )
    here, there = found(toy_workspace, *asked), found(None, "--url", toy_server.url, *asked)
    for one, other in zip(here, there, strict=True):
        for match in other["matches"]:
            assert match["uri"] == toy_server.url + match["photo"]["content"]
        assert [{**match, "uri": None} for match in one.pop("matches")] == [
            {**match, "uri": None} for match in other.pop("matches")
        ]
        assert one == other
    like = found(toy_workspace, "a cat", "-k", "1")[0]["matches"][0]["id"]
    for options in (("--like", like), ("--hybrid", "--group-duplicates", "a cat")):
        here, there = found(toy_workspace, *options), found(None, "--url", toy_server.url, *options)
        assert list(map(ids, here)) == list(map(ids, there))
        assert [match.keys() for match in here[0]["matches"]] == [
            match.keys() for match in there[0]["matches"]
        ]


def test_paths_are_one_a_line_and_nothing_else(toy_workspace: Path) -> None:
    done = search(toy_workspace, "a cup of coffee", "--image", CAT, "-k", "2", "--print", "paths")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 4
    assert lines[0] == str(TOY_IMAGES / "coffee.jpg")
    # What a photo finds are captions, which have the paths of their photos.
    assert lines[2] == str(CAT)
    ended = search(toy_workspace, "a cup of coffee", "--image", CAT, "-k", "2", "--print", "paths", "-0")
    assert ended.stdout == "".join(f"{line}\0" for line in lines).encode()


def test_json_lines_and_csv_hold_one_match_each_with_its_question(toy_workspace: Path) -> None:
    asked = ('a "cat", asleep', "--image", CAT, "-k", "2")
    done = search(toy_workspace, "--query-text", *asked, "--print", "jsonl")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(line) for line in lines] == [["query", *FIELDS]] * 4
    assert [line["query"] for line in lines] == ['a "cat", asleep'] * 2 + [str(CAT)] * 2
    done = search(toy_workspace, "--query-text", *asked, "--print", "csv")
    text = done.stdout.decode()
    assert text.count("\n") == text.count("\r\n") == 5
    records = list(csv.DictReader(io.StringIO(text, newline="")))
    for record, line in zip(records, lines, strict=True):
        assert record["query"] == line["query"]
        assert (record["id"], record["uri"], record["text"]) == (line["id"], line["uri"], line["text"] or "")
        assert (float(record["cosine"]), float(record["score"])) == (line["cosine"], line["score"])
        assert json.loads(record["tags"]) == line["tags"]
    captions = [caption["text"] for caption in lines[0]["captions"]]
    assert json.loads(records[0]["captions"]) == captions
    assert records[2]["captions"] == ""


def test_stdin_gives_questions_where_none_is_asked_or_a_minus_stands(toy_workspace: Path) -> None:
    lines = b"a cat\n\n  stairs - up \r\nespresso"
    alone = found(toy_workspace, "-k", "1", stdin=lines)
    assert [result["query"] for result in alone] == ["a cat", "stairs - up", "espresso"]
    amid = found(toy_workspace, "grass", "-", "--image", CAT, "-k", "1", stdin=lines)
    assert [result["query"] for result in amid] == ["grass", "a cat", "stairs - up", "espresso", str(CAT)]
    assert amid[1:4] == alone
    done = search(toy_workspace)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: Nothing to search for: write a sentence")


def test_a_line_of_stdin_is_answered_before_the_next_is_there(toy_workspace: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "app.py", "search", "--workspace", toy_workspace, "--print", "paths", "-k", "1"],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for asked, file in (("people climb the stairs", "stair-tower.jpg"), ("a cat", "cat.jpg")):
        process.stdin.write(f"{asked}\n".encode())
        process.stdin.flush()
        assert Path(process.stdout.readline().decode().strip()).name == file
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


def test_a_bad_question_is_a_sentence_and_the_others_are_answered(
    toy_workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no photo")
    asked = (
        *("a cat", "--image", tmp_path / "empty.jpg", "--like", "nothing", "cat + + dog", CAT),
        *("--image", tmp_path / "missing.jpg", "--image", tmp_path / "text.jpg", "stairs"),
    )
    done = search(toy_workspace, *asked, "--print", "json", "-k", "1")
    assert done.returncode == 1
    results = json.loads(done.stdout)
    assert [bool(result["matches"]) for result in results] == [True, *[False] * 6, True]
    said = done.stderr.decode().splitlines()
    assert said == [
        f"error: {result['query']}: {result['error']}" for result in results if result["error"] is not None
    ]
    for sentence, words in zip(
        said,
        ["is empty", "'nothing'", "there is a second sign", "search by a photo with --image", "", "text.jpg"],
        strict=True,
    ):
        assert words in sentence


def test_bytes_on_stdin_that_are_no_text_fail_alone(toy_workspace: Path) -> None:
    done = search(toy_workspace, "--print", "paths", "-k", "1", stdin=b"caf\xe9\na cup of coffee\n")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [str(TOY_IMAGES / "coffee.jpg")]
    assert b"some of its bytes are not UTF-8" in done.stderr


@pytest.mark.parametrize("form", ["table", "paths", "json", "csv"])
def test_no_match_is_an_answer(form: str, toy_workspace: Path) -> None:
    done = search(toy_workspace, "a cat", "--filter", '{"subject": "none"}', "--print", form)
    assert (done.returncode, done.stderr) == (0, b"")
    result = {"query": "a cat", "modality": "image", "matches": [], "has_more": False}
    result |= {"recognised": [], "reranked": None, "partial": [], "fits": None, "doubt": None, "error": None}
    expected = {
        "table": "Photos for “a cat”\nNothing was found.\n",
        "paths": "",
        "json": json.dumps([result]) + "\n",
        "csv": "query,rank,score,cosine,modality,id,uri,file,text,captions,tags,text_in_photo\r\n",
    }
    assert done.stdout.decode() == expected[form]


def test_a_weak_answer_says_so(toy_workspace: Path) -> None:
    done = search(toy_workspace, "football match", "people climb the stairs")
    weak, good = done.stdout.decode().split("\n\n")
    assert "\nNothing fits well: the best score is 0.0" in weak
    assert "Nothing fits well" not in good
    # Some photo is always the nearest one, of words that say nothing to the model too.
    unknown = ("Собака бежит по пляжу", "asdf qwer")
    *strange, known = found(toy_workspace, *unknown, "people climb the stairs")
    for result in strange:
        assert result["fits"] is False
        assert result["doubt"].startswith("Nothing fits well: the best score is 0.")
        assert result["doubt"].endswith(", and clip-mini knows few of the words.")
    assert (known["fits"], known["doubt"]) == (True, None)


def test_a_photo_finds_photos_where_that_is_asked(toy_workspace: Path) -> None:
    similar, captions = found(toy_workspace, "--similar", CAT, "--image", CAT, "-k", "3")
    assert (similar["modality"], captions["modality"]) == ("image", "text")
    assert similar["matches"][0]["photo"]["file"] == "cat.jpg"
    shown = search(toy_workspace, "--similar", CAT, "-k", "1").stdout.decode()
    assert shown.startswith(f"Photos like {CAT}")


def test_a_first_line_that_cannot_be_read_leaves_the_others(toy_workspace: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "app.py",
            "search",
            "--workspace",
            str(toy_workspace),
            "--print",
            "jsonl",
            "-k",
            "1",
        ],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"README.md\n")
    process.stdin.flush()
    time.sleep(2)
    out, err = process.communicate(b"a cat\n", timeout=60)
    assert [json.loads(line)["query"] for line in out.splitlines()] == ["a cat"]
    assert b"README.md" in err
    assert process.returncode == 1


def test_questions_none_of_which_can_be_read_need_no_index_and_are_answered(tmp_path: Path) -> None:
    done = search(tmp_path / "none", "--print", "json", "--image", "/no/such.jpg", "README.md")
    assert done.returncode == 1
    answers = json.loads(done.stdout)
    assert ["/no/such.jpg" in answer["error"] for answer in answers] == [True, False]
    assert done.stderr.count(b"error: ") == 2

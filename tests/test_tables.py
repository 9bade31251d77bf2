"""What a person reads in the terminal: every value in its place, and nothing that moves the cursor."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from crossmodal.cli.present.console import counted, duration, file_size, printable, shortened_left
from crossmodal.cli.present.results import print_results
from crossmodal.cli.present.tables import print_index_report, print_status
from crossmodal.cli.questions import Answer, Question
from crossmodal.match import Match
from crossmodal.records import IMAGE, TEXT


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _eighty_columns_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture(params=[Terminal, io.StringIO], ids=["terminal", "pipe"])
def stream(request: pytest.FixtureRequest) -> io.StringIO:
    made: io.StringIO = request.param()
    return made


def results(*answers: Answer, out: io.StringIO) -> str:
    print_results(answers, file=out)
    return out.getvalue()


def photos_for(sentence: str, *matches: Match, error: str | None = None) -> Answer:
    return Answer(Question(sentence, text=sentence), IMAGE, matches, error)


def captions_for(file: str, *matches: Match, error: str | None = None) -> Answer:
    return Answer(Question(file, image=b""), TEXT, matches, error)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


DOGS = Match("1", IMAGE, 0.31249, 0.567, uri="a/dogs.jpg", tags={"captions": list("abcde")})


def test_a_sentence_shows_photos_with_their_captions() -> None:
    cat = Match("2", IMAGE, 0.2, 0.004, uri="a/cat.jpg")
    shown = rows(results(photos_for("two dogs play", DOGS, cat), out=Terminal()))
    assert shown[0] == ["Photos for “two dogs play”"]
    assert shown[1] == ["#", "score", "cosine", "photo", "captions"]
    assert shown[3:] == [
        ["1", "0.567", "0.312", "a/dogs.jpg", "a"],
        ["b"],
        ["c"],
        ["and 2 more"],
        ["2", "0.004", "0.200", "a/cat.jpg"],
    ]


def test_a_pipe_gets_all_captions() -> None:
    shown = rows(results(photos_for("two dogs play", DOGS), out=io.StringIO()))
    assert shown[3:] == [["1", "0.567", "0.312", "a/dogs.jpg", "a"], ["b"], ["c"], ["d"], ["e"]]


def test_columns_of_a_pipe_are_aligned_and_hold_whole_paths() -> None:
    path = "/photos/" + "deep/" * 60 + "two  spaces.jpg"
    first = Match("1", IMAGE, 0.5, 0.5, uri=path, captions=(("1-0", "漢字" * 40),))
    second = Match("2", IMAGE, -0.25, 0.5, uri="漢.jpg", captions=(("2-0", "a dog"),))
    text = results(photos_for("x", first, second), out=io.StringIO())
    head, rule, one, two = text.splitlines()[1:]
    assert path in one
    assert cell_len(rule) == cell_len(one)
    assert head.index("captions") == one.index("漢字")
    assert two.startswith("2   0.500   -0.250   漢.jpg  ")
    assert cell_len(two) == head.index("captions") + len("a dog")


def test_a_photo_shows_captions_with_their_photo(stream: io.StringIO) -> None:
    match = Match("c", TEXT, 0.5, 0.9, text="Two dogs play .", uri="a/dogs.jpg")
    shown = rows(results(captions_for("q/dogs.jpg", match), out=stream))
    assert shown[0] == ["Captions for q/dogs.jpg"]
    assert shown[1] == ["#", "score", "cosine", "caption", "photo"]
    assert shown[3] == ["1", "0.900", "0.500", "Two dogs play .", "a/dogs.jpg"]


def test_both_kinds_stand_in_one_table(stream: io.StringIO) -> None:
    photo = Match("p", IMAGE, 0.5, 0.9, rank=3, uri="dogs.jpg", captions=(("p-0", "Two dogs"),))
    caption = Match("c", TEXT, 0.4, 0.8, rank=4, text="A cat", uri="cat.jpg")
    answer = Answer(Question("42", like="42"), "both", [photo, caption])
    shown = rows(results(answer, out=stream))
    assert shown[0] == ["Photos and captions like 42"]
    assert shown[3:] == [
        ["3", "0.900", "0.500", "dogs.jpg", "Two dogs"],
        ["4", "0.800", "0.400", "cat.jpg", "A cat"],
    ]


def test_it_says_when_nothing_fits_well(stream: io.StringIO) -> None:
    match = Match("1", IMAGE, 0.1, 0.0994, rank=1, uri="a/dogs.jpg")
    answer = photos_for("x", match)
    doubt = "Nothing fits well: the best score is 0.099."
    assert f"{doubt}\n" in results(replace(answer, fits=False, doubt=doubt), out=stream)
    assert "Nothing fits" not in results(answer, out=io.StringIO())


def test_without_a_calibration_there_is_no_column_for_scores(stream: io.StringIO) -> None:
    match = Match("1", IMAGE, 0.31249, uri="a/dogs.jpg")
    shown = rows(results(photos_for("two dogs play", match), out=stream))
    assert shown[1] == ["#", "cosine", "photo"]
    assert shown[3:] == [["1", "0.312", "a/dogs.jpg"]]


def test_a_photo_of_a_server_is_called_by_its_file(stream: io.StringIO) -> None:
    match = Match("1", IMAGE, 0.3, uri="http://localhost:1/v1/documents/1/content", file="dogs.jpg")
    assert rows(results(photos_for("x", match), out=stream))[3] == ["1", "0.300", "dogs.jpg"]


def test_captions_that_are_indexed_go_before_those_of_the_tags(stream: io.StringIO) -> None:
    match = Match("1", IMAGE, 0.3, uri="a.jpg", captions=(("1-0", "indexed"),), tags={"caption": "a tag"})
    assert rows(results(photos_for("x", match), out=stream))[3] == ["1", "0.300", "a.jpg", "indexed"]


def test_an_error_and_an_empty_result_are_shown(stream: io.StringIO) -> None:
    text = results(captions_for("x.jpg", error="The file is empty."), photos_for("y"), out=stream)
    assert "The file is empty." in text
    assert "Nothing was found." in text


def test_markup_and_control_characters_are_shown_not_obeyed(stream: io.StringIO) -> None:
    hostile = "a [bold red]dog[/] \x1b[31m\x07\r\n\u202etac\u200b :smile:"
    text = results(captions_for(hostile, Match("c", TEXT, 0.1, text=hostile, uri=hostile)), out=stream)
    assert "[bold red]dog[/]" in text
    assert ":smile:" in text
    assert not {"\x1b", "\x07", "\r", "\u202e", "\u200b"} & set(text)


def test_no_line_is_wider_than_80_columns_and_long_paths_keep_their_end() -> None:
    path = "/home/someone/photos/flickr8k/" + "deep/" * 20 + "1000268201_693b08cb0e.jpg"
    described = "A child climbs the stairs to a wooden house . " * 3
    photo = Match("p", IMAGE, 0.1, 0.5, uri=path, captions=(("p-0", described),))
    caption = Match("c", TEXT, 0.1, 0.5, text="漢字" * 60, uri=path)
    text = results(photos_for("stairs " * 30, photo), captions_for(path, caption), out=Terminal())
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert text.count("693b08cb0e.jpg") == 3
    assert "\x1b" not in text


def test_a_stream_that_cannot_write_unicode_gets_question_marks() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    photo = Match("p", IMAGE, 0.1, uri="é/" * 60 + "x.jpg", captions=(("p-0", "漢"),))
    print_results([photos_for("café", photo)], out)
    out.flush()
    lines = raw.getvalue().decode().splitlines()
    assert lines[0] == "Photos for caf?"
    assert set(lines[2]) == {"-"}
    assert lines[3].endswith("?/x.jpg   ?")


def test_the_report_of_an_indexing_run(tmp_path: Path) -> None:
    counts = {"added": 1200, "replaced": 3, "unchanged": 40, "failed": 2}
    none = dict.fromkeys(counts, 0)
    report = {
        "data_set": "toy-data",
        "workspace": "workspace",
        "model": "vse",
        "photos": counts,
        "captions": none,
        "failures": [{"source": f"photo{n}.jpg", "reason": "The file is [empty]."} for n in range(3)],
        "notes": ["2 captions have no photo."],
        "seconds": 60.15,
        "documents_per_second": 20.0,
    }
    out = io.StringIO()
    print_index_report(report, failures_shown=2, report_file=Path("workspace/index-report.json"), file=out)
    shown = rows(out.getvalue())
    assert ["photos", "1,200", "3", "40", "2"] in shown
    assert ["captions", "0", "0", "0", "0"] in shown
    assert ["1,203 documents in 1 min 00 s, 20 a second"] in shown
    assert ["2 captions have no photo."] in shown
    assert shown[-5:] == [
        ["3 failures"],
        ["photo0.jpg: The file is [empty]."],
        ["photo1.jpg: The file is [empty]."],
        ["and 1 more"],
        ["All of them are in workspace/index-report.json."],
    ]


def test_status() -> None:
    held = {
        "documents": 7000,
        "vectors": 7001,
        "bytes_on_disk": 5 * 2**20,
        "last_change": "2026-11-21T09:00:00+01:00",
        "search": {"tier": "scan", "recall": 0.9984, "recall_measured": "recall@10 over 64 recent queries"},
    }
    empty = {"documents": 0, "vectors": 0, "bytes_on_disk": 100, "last_change": None, "search": None}
    status = {
        "path": "/data/workspace",
        "shards": 2,
        "bytes_on_disk": 5 * 2**20 + 100,
        "model": {"name": "vse", "weights": "0123456789abcdef", "preprocessing": "p", "dimension": 1024},
        "modalities": {"image": held, "text": empty},
        "bytes_of": {"originals": 0, "thumbnails": 3 * 2**20, "vectors": 2**20},
        "texts": {"read": 6999, "with_text": 1234, "waiting": 0},
        "roots": [{"path": "/photos", "files": 7001}],
        "trash": 2,
    }
    out = io.StringIO()
    print_status(status, file=out)
    shown = rows(out.getvalue())
    assert shown[:2] == [
        ["Index in /data/workspace"],
        ["built by vse (1024 dimensions, weights 0123456789ab)"],
    ]
    assert shown[4:] == [
        ["photos", "7,000", "7,001", "5.0 MiB", "2026-11-21 08:00:00 UTC"],
        ["captions", "0", "0", "100 B", "never"],
        ["photos are searched by scan: 99.8%, recall@10 over 64 recent queries"],
        ["text was looked for in 6,999 photos, 1,234 have some"],
        ["7,001 files in /photos"],
        ["2 photos in the trash: crossmodal trash"],
        ["5.0 MiB on disk: thumbnails 3.0 MiB, vectors 1.0 MiB"],
    ]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (file_size(0), "0 B"),
        (file_size(1023), "1023 B"),
        (file_size(1024), "1.0 KiB"),
        (file_size(1024 * 1024 - 1), "1.0 MiB"),
        (file_size(312 * 2**20), "312 MiB"),
        (file_size(3 * 2**50), "3072 TiB"),
        (duration(0.84), "0.8 s"),
        (duration(59.6), "1 min 00 s"),
        (duration(185), "3 min 05 s"),
        (duration(7620), "2 h 07 min"),
        (counted(1, "photo"), "1 photo"),
        (counted(7000, "photo"), "7,000 photos"),
        (printable("👩\u200d🚀 ok"), "👩\u200d🚀 ok"),
        (shortened_left("/a/very/long/folder/x.jpg", 14), "…/folder/x.jpg"),
    ],
)
def test_wording(shown: str, expected: str) -> None:
    assert shown == expected


@given(st.text(max_size=60), st.integers(4, 30))
def test_a_shortened_path_fits_and_keeps_its_end(path: str, cells: int) -> None:
    path = printable(path)
    short = shortened_left(path, cells)
    assert cell_len(short) <= cells or short == path
    assert path.endswith(short.removeprefix("…"))

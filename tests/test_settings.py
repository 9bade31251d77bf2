"""Options, environment and defaults: one table, and everything that is said about it agrees."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, clean_environment, run_app

from crossmodal.cli.arguments import read_settings
from crossmodal.commands import TASKS
from crossmodal.errors import SettingsError
from crossmodal.images import MAX_PIXELS
from crossmodal.limits import PHOTO
from crossmodal.options import OPTIONS
from crossmodal.settings import Settings

# The field, a task that uses it, the option, and a value as it is written and as it is read.
VARIABLES = {
    "JINA_PARALLEL": ("parallel", "index", "--parallel", "3", 3),
    "JINA_SHARDS": ("shards", "index", "--shards", "4", 4),
    "JINA_WORKSPACE": ("workspace", "index", "--workspace", "elsewhere", Path("elsewhere")),
    "JINA_PORT": ("port", "query_restful", "--port", "5000", 5000),
    "JINA_MAX_DOCS": ("num_docs", "index", "-n", "7", 7),
}


COMMAND_NAMES = (
    "index, embed, search, duplicates, serve, mcp, watch, roots, trash, status, convert, backup, restore, "
    "verify, compact, dump, load, evaluate, train, models, plot, export, keys, or -t and a task"
)


def test_defaults() -> None:
    settings = read_settings(["-t", "index"], {})
    assert settings == Settings(task="index", model_cache=Path.home() / ".cache" / "crossmodal")
    assert settings.port == 45678
    assert settings.max_pixels == MAX_PIXELS
    assert settings.max_photo_bytes == PHOTO.most
    assert settings.host == "127.0.0.1"
    assert settings.data_set == "toy-data"
    assert (settings.workers, settings.grpc_port) == (1, 0)


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_option_beats_the_environment_which_beats_the_default(variable: str) -> None:
    field, task, flag, text, value = VARIABLES[variable]
    assert getattr(read_settings(["-t", task], {variable: text}), field) == value
    other = {"elsewhere": "here"}.get(text, "9")
    assert str(getattr(read_settings(["-t", task, flag, other], {variable: text}), field)) == other
    assert getattr(read_settings(["-t", task], {variable: ""}), field) == getattr(Settings(), field)


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("JINA_PORT", "http", "'http' is not a whole number"),
        ("JINA_PORT", "70000", "70000 is above the maximum, 65535"),
        ("JINA_SHARDS", "0", "0 is below the minimum, 1"),
    ],
)
def test_an_unusable_variable_is_named_with_its_value(variable: str, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}: {words}"):
        read_settings(["-t", "index"], {variable: text})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-t", "fly"], "'fly' is not one of index, embed, index_restful"),
        (["-t", "query", "-k", "0"], "0 is below the minimum, 1"),
        (["-t", "query", "-k", "1001"], "1001 is above the maximum, 1000"),
        (["-t", "query", "-k", "five"], "'five' is not a whole number"),
        (["-t", "query", "--min-score", "1.5"], "1.5 is above the maximum, 1"),
        (["-t", "query", "--min-score", "nan"], "'nan' is not a number"),
        (["-t", "query", "--print", "xml"], "'xml' is not one of table, paths, json, jsonl, csv"),
        (["-t", "query", "--layout", "flat"], "'flat' is not one of fused, pods"),
        ([], "-t"),
    ],
)
def test_an_unusable_command_line_is_one_clear_line(arguments: list[str], words: str) -> None:
    done = run_app(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_names_of_the_predecessor_are_kept() -> None:
    spellings = {flag for option in OPTIONS for flag in option.flags}
    assert spellings >= {
        *("-t", "--task", "-n", "--num_docs", "-s", "--request_size", "-d", "--data_set", "-m", "--model"),
        *("-k", "--top_k", "--query-text", "--query-image", "--workspace", "--port", "--json"),
    }
    assert set(TASKS) >= {"index", "index_restful", "query", "query_restful", "evaluate", "train", "status"}


def test_every_setting_has_an_option_and_no_flag_is_used_twice() -> None:
    assert [option.field for option in OPTIONS if option.field not in Settings.__dataclass_fields__] == []
    assert set(Settings.__dataclass_fields__) == {option.field for option in OPTIONS}
    flags = [flag for option in OPTIONS for flag in option.flags]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]])
def test_help_is_quick_as_it_imports_next_to_nothing(arguments: list[str]) -> None:
    script = (
        f"import sys; sys.argv = ['app.py', *{arguments}]\n"
        "before = set(sys.modules)\n"
        "import app\n"
        "try: app.main()\n"
        "except SystemExit: pass\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    imported = done.stdout.splitlines()[-1].split()
    packages = {name.partition(".")[0] for name in imported}
    assert packages - sys.stdlib_module_names == {"app", "crossmodal"}
    # Of the standard library: argparse, pathlib and what these need.
    assert len(imported) < 120


@pytest.mark.parametrize(
    "arguments",
    [
        ["-t", "index", "--model-cache", "~nobody-of-this-name/cache"],
        ["-t", "index", "-m", "~nobody-of-this-name/model"],
        ["-t", "index", "-m", "clip-vit-b-32:~nobody-of-this-name/model"],
        ["-t", "index", "--centering", "~nobody-of-this-name/means"],
    ],
)
def test_a_home_folder_that_is_not_known_is_told(arguments: list[str], tmp_path: Path) -> None:
    told = run_app(*arguments, "--workspace", tmp_path)
    assert told.returncode == 2
    assert told.stderr.startswith("error: The home folder in ~nobody-of-this-name/")
    assert told.stderr.count("\n") == 1


def test_nothing_else_reads_the_environment() -> None:
    readers = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("crossmodal", "executors", "flows")
        for path in (REPOSITORY / folder).rglob("*.py")
        if re.search(r"os\.(environ|getenv)", path.read_text(encoding="utf-8"))
    }
    # Beside the command line: what is set for processes that are started, and for jina.
    readers = {path for path in readers if not path.startswith("crossmodal/jina/")}
    for_processes = {"crossmodal/settings.py", "crossmodal/images/budget.py", "crossmodal/processes.py"}
    assert readers == {"crossmodal/cli/arguments.py", *for_processes}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--json"], "the following arguments are required: -t/--task"),
        ([], f"there is no command; the commands are {COMMAND_NAMES}"),
        (["serach", "a dog"], f"'serach' is no command; the commands are {COMMAND_NAMES}"),
        (["-t", "index", "--nope"], "unrecognized arguments: --nope"),
        (["-t", "query", "-k", "x"], "argument -k/--top_k/--top-k: 'x' is not a whole number"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_one_sentence(
    arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(arguments, {})
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f"error: {what}; `crossmodal --help` lists the tasks and options.\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(closed: str) -> None:
    command = f"exec {sys.executable} app.py -t models {closed}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("written", ["::1", "[::1]"])
def test_an_ipv6_address_may_be_written_as_in_a_url(written: str) -> None:
    assert read_settings(["serve", "--host", written], {}).host == "::1"

"""Subcommands and ``-t TASK``: the same options in both, and none that says nothing to a task."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, TOY_IMAGES, clean_environment, run_app, run_python

from crossmodal import __version__
from crossmodal.cli.arguments import commands_table, options_table, read_settings
from crossmodal.commands import COMMANDS, TASKS
from crossmodal.options import OPTIONS
from crossmodal.settings import Settings

PAGE = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command line that ends while it is read."""
    with pytest.raises(SystemExit) as raised:
        read_settings(arguments, {})
    said = capsys.readouterr()
    return int(raised.value.code or 0), said.out, said.err


def test_the_page_holds_the_tables_of_commands_and_options() -> None:
    assert commands_table() in PAGE
    assert options_table() in PAGE


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_task_with_the_same_options(name: str) -> None:
    task = COMMANDS[name].task
    assert read_settings([name], {}) == read_settings(["-t", task], {}) == Settings(task=task)


def test_what_needs_no_name_is_the_same_as_with_it() -> None:
    assert read_settings(["index", "photos", "-n", "3"], {}) == read_settings(
        ["-t", "index", "-d", "photos", "-n", "3"], {}
    )
    expected = read_settings(["-t", "query", "--query", "a dog", "-k", "5"], {})
    assert read_settings(["search", "a dog", "-k", "5"], {}) == expected
    assert read_settings(["search", "-k", "5", "a dog"], {}) == expected
    assert read_settings(["serve", "--index-only"], {}) == Settings(task="index_restful")


def test_questions_keep_the_order_in_which_they_are_given() -> None:
    line = "dog --image a.jpg - --like 42 -k 3 cat --query-image b.jpg --query-text dog -- --snow"
    settings = read_settings(["search", *line.split(), "-t snow"], {})
    assert settings.top_k == 3
    assert settings.questions == (
        ("query", "dog"),
        ("image", "a.jpg"),
        ("query", "-"),
        ("like", "42"),
        ("query", "cat"),
        ("image", "b.jpg"),
        ("query_text", "dog"),
        ("query", "--snow"),
        ("query", "-t snow"),
    )
    assert read_settings(["search", "- snow + dog"], {}).questions == (("query", "- snow + dog"),)
    spelled = ["-t", "query", "--query-text", "a", "--query-image", "b", "--query", "c"]
    assert [asked.value for asked in read_settings(spelled, {}).questions] == ["a", "b", "c"]


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_fits_on_a_screen(
    name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, shown, _ = ended(capsys, name, "--help")
    assert code == 0
    lines = shown.splitlines()
    assert lines[0].startswith(f"usage: crossmodal {name}")
    assert len(lines) <= 80
    assert max(map(len, lines)) <= columns
    words = " ".join(shown.split())
    for option in OPTIONS:
        used = option.name != "task" and name in option.commands
        # Wrapped lines may break at a hyphen.
        help = option.help.replace(" ", "")
        assert (help in words.replace(" ", "")) == used, option.name
        assert bool(re.search(rf"^  (-\w, )?{option.flag}( |$)", shown, re.MULTILINE)) == used, option.name


def test_the_help_of_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = ended(capsys, "--help")
    assert code == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.help)}$", shown, re.MULTILINE)
    for name, meaning in TASKS.items():
        assert re.search(rf"^  {name} +{re.escape(meaning)}$", shown, re.MULTILINE)
    assert ended(capsys, "-t", "train", "--help")[1].startswith("usage: crossmodal -t train [options]\n")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version"], ["search", "--version"]):
        assert ended(capsys, *arguments) == (0, f"crossmodal {__version__}\n", "")


REFUSED = [
    ("-t status --port 1", "--port", "-t status", "-t index_restful and -t query_restful"),
    ("-t status --loss infonce", "--loss", "-t status", "-t train"),
    ("-t status --gap", "--gap", "-t status", "-t evaluate"),
    ("-t status --compare a,b", "--compare", "-t status", "-t evaluate"),
    ("-t status --query-text hello", "--query-text", "-t status", "-t query"),
    ("-t query --strict", "--strict", "-t query", "-t index"),
    ("-t query --keep-going", "--strict", "-t query", "-t index"),
    ("-t index --index scan", "--index", "-t index", "-t query, -t query_restful, -t mcp and -t export"),
    ("-t query_restful -k 5", "--top_k", "-t query_restful", "-t query"),
    ("-t index_restful --workers 2", "--workers", "-t index_restful", "-t query_restful"),
    ("-t train --dim 8", "--dim", "-t train", None),
    ("-t models --workspace x", "--workspace", "-t models", None),
    (
        "-t evaluate --keep path",
        "--keep",
        "-t evaluate",
        "-t index, -t watch, -t index_restful and -t query_restful",
    ),
    ("status --host x", "--host", "status", "serve"),
    ("search -d x", "--data_set", "search", "index, watch, evaluate, train and embed"),
    ("plot --json --model-cache x", "--model-cache", "plot", None),
    ("serve --index-only --grpc-port 5", "--grpc-port", "serve --index-only", "serve"),
]


@pytest.mark.parametrize(("line", "option", "task", "belongs"), REFUSED, ids=[row[0] for row in REFUSED])
def test_an_option_that_a_task_does_not_use_is_refused_by_name(
    line: str, option: str, task: str, belongs: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, said = ended(capsys, *line.split())
    assert (code, out) == (2, "")
    start = f"error: {option} has no meaning for {task}; it belongs to "
    assert said.startswith(start)
    assert belongs is None or said == f"{start}{belongs}.\n"


def test_all_that_are_refused_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    line = "-t status --port 1 --loss infonce --gap --compare a,b --query-text hello"
    said = ended(capsys, *line.split())[2]
    assert sorted(re.findall(r"^error: (--\S+) has no meaning for -t status;", said, re.MULTILINE)) == [
        "--compare",
        "--gap",
        "--loss",
        "--port",
        "--query-text",
    ]


def beside(option: str, other: str) -> str:
    return f"{option} has no meaning beside {other}; leave out one of them"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("evaluate --gap --direct", beside("--direct", "--gap")),
        ("evaluate --direct --shards 2", beside("--shards", "--direct")),
        ("evaluate --calibrate --direction both", beside("--direction", "--calibrate")),
        (
            "evaluate --output x",
            "--output has no meaning for evaluate without --compare, --gap or --calibrate",
        ),
        ("evaluate --compare vse --gap", beside("--gap", "--compare")),
        ("evaluate --compare vse --calibrate", beside("--calibrate", "--compare")),
        ("evaluate --gap --calibrate", beside("--calibrate", "--gap")),
        ("evaluate --compare vse -m clip-mini", beside("--model", "--compare")),
        ("evaluate --gap --protocol whole", beside("--protocol", "--gap")),
        ("evaluate --gap -i 20", beside("--num-indexed", "--gap")),
        ("evaluate --gap --centering x", beside("--centering", "--gap")),
        ("evaluate --calibrate --protocol coco-1k", beside("--protocol", "--calibrate")),
        ("evaluate --calibrate -i 20", beside("--num-indexed", "--calibrate")),
        ("evaluate --calibrate --dim 8", beside("--dim", "--calibrate")),
        ("evaluate --calibrate --centering x", beside("--centering", "--calibrate")),
        ("evaluate --gap --output x --workspace workspace", beside("--workspace", "--output")),
        ("train --output x --workspace workspace", beside("--workspace", "--output")),
        ("plot --output x --workspace workspace", beside("--workspace", "--output")),
        ("train --config x -d toy-data", beside("--data_set", "--config")),
        ("train --config x -m vse", beside("--model", "--config")),
        ("train --config x --loss mnr", beside("--loss", "--config")),
        ("train --config x --split dev", beside("--split", "--config")),
        ("train --config x -n 5", beside("--num_docs", "--config")),
        (
            "serve --workers 2 --layout pods",
            "--workers 2 with --layout pods would start jina's processes 2 times; leave out one of them",
        ),
    ],
)
def test_what_says_nothing_beside_another_option_is_refused(
    line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(capsys, *line.split()) == (2, "", f"error: {sentence}.\n")


def test_one_worker_and_pods_go_together() -> None:
    assert read_settings(["serve", "--workers", "1", "--layout", "pods"], {}).layout == "pods"


def test_a_variable_that_says_nothing_beside_an_option_is_no_mistake() -> None:
    variables = {"JINA_WORKSPACE": "elsewhere", "JINA_MAX_DOCS": "4"}
    assert read_settings(["train", "--config", "x", "--output", "y"], variables).output == Path("y")


def test_a_variable_that_a_task_does_not_use_is_no_mistake() -> None:
    variables = {"JINA_PORT": "5000", "JINA_SHARDS": "2", "JINA_PARALLEL": "3", "JINA_MAX_DOCS": "4"}
    assert read_settings(["status"], variables).task == "status"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("-t index -m a -m b", "--model is given twice, once as a and once as b; it takes one value"),
        ("search a -k 1 -k 2", "--top_k is given twice, once as 1 and once as 2"),
        ("backup a --file b", "--file is given twice, once as a and once as b"),
        ("index --strict --keep-going", "--strict is given twice, beside --keep-going"),
    ],
)
def test_what_is_given_twice_is_refused(line: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, said = ended(capsys, *line.split())
    assert (code, out) == (2, "")
    assert said.startswith(f"error: {sentence}")


def test_a_switch_that_is_given_twice_is_on() -> None:
    assert read_settings(["status", "--json", "--json"], {}).json


def test_every_command_line_of_the_page_is_accepted() -> None:
    lines = re.findall(r"^crossmodal (.*?)(?: +#.*)?$", PAGE, re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        assert read_settings(shlex.split(line), {}).task


# What the base installation does not bring, and what is another way to run the Flows.
WITHOUT = (
    "torch",
    "torchvision",
    "open_clip",
    "timm",
    "transformers",
    "matplotlib",
    "jina",
    "docarray",
    "pydantic",
)


def run_without(
    *arguments: str | Path, packages: tuple[str, ...] = WITHOUT
) -> subprocess.CompletedProcess[str]:
    """Runs the command line where ``packages`` cannot be imported."""
    script = (
        f"import sys\nfor name in {packages!r}: sys.modules[name] = None\n"
        "from crossmodal.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    return run_python("-c", script, *arguments)


# test_without_extras does it with the default model.
@pytest.mark.parametrize("model", [pytest.param("clip-mini", marks=pytest.mark.slow), "vse"])
def test_shipped_models_need_no_extra(model: str, tmp_path: Path) -> None:
    where = ("-m", model, "--workspace", tmp_path / "index", "--model-cache", tmp_path / "cache")
    done = run_without("index", *where)
    assert done.returncode == 0, done.stderr
    asked = ("--query-image", TOY_IMAGES / "cat.jpg", "people walk up the stairs", "-k", "1", "--json")
    done = run_without("search", *where, *asked)
    assert done.returncode == 0, done.stderr
    photo, sentence = json.loads(done.stdout)["results"]
    assert "cat" in photo["matches"][0]["text"]
    assert Path(sentence["matches"][0]["uri"]).name == "stair-tower.jpg"
    best = sentence["matches"][0]
    assert 0 < best["score"] < 1
    assert best["score"] != best["cosine"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "index -m clip-vit-b-32",
            'The model clip-vit-b-32 needs torchvision: pip install "crossmodal-search[clip]"',
        ),
        ("train -n 20", 'Training needs PyTorch: pip install "crossmodal-search[train]"'),
        ("evaluate --gap", 'The picture of --gap needs matplotlib: pip install "crossmodal-search[plot]"'),
        (
            "evaluate --compare vse,clip-mini",
            'The picture of --compare needs matplotlib: pip install "crossmodal-search[plot]"',
        ),
    ],
)
def test_a_missing_extra_is_named(line: str, sentence: str, tmp_path: Path) -> None:
    done = run_without(*line.split(), "--workspace", tmp_path / "index")
    assert (done.returncode, done.stderr) == (1, f"error: {sentence}.\n")
    assert not (tmp_path / "index").exists()


def test_a_runtime_that_is_not_installed_names_its_extra(tmp_path: Path) -> None:
    done = run_without("index", "--runtime", "torch", "--workspace", tmp_path / "index")
    assert done.returncode == 1
    assert 'torch is not installed: pip install "crossmodal-search[clip]"' in done.stderr
    assert done.stdout == ""


INTERRUPTED = """
import os, runpy, signal, sys
from importlib.abc import MetaPathFinder

class CtrlC(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
sys.argv = ["app.py", "models"]
runpy.run_path("app.py", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["crossmodal.cli", "crossmodal.options", "crossmodal.cli.without_model"])
def test_ctrl_c_while_modules_are_imported_is_one_word(module: str) -> None:
    done = run_python("-c", INTERRUPTED.format(module=module))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_the_package_is_the_command_line_too() -> None:
    done = run_python("-m", "crossmodal", "models", "--json")
    assert done.returncode == 0
    assert done.stdout == run_app("-t", "models", "--json").stdout


def test_searching_imports_neither_jina_nor_torch(toy_workspace: Path) -> None:
    script = (
        "import sys; from crossmodal.cli import main\n"
        "code = main(['search', 'a dog', '--json', '--workspace', sys.argv[1]])\n"
        f"print(sorted(set({WITHOUT!r}) & set(sys.modules)))\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, toy_workspace],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"

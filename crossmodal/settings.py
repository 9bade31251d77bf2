"""The one typed place for every option, its environment variable, its default and its help text.

An option on the command line beats the environment, which beats the default. ``--help``, the README's
table and the code all come from ``OPTIONS``; nothing else in the project reads the environment.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from crossmodal.errors import SettingsError
from crossmodal.home_folder import expanded

__all__ = [
    "OPTIONS",
    "TASKS",
    "Option",
    "Settings",
    "argument_parser",
    "export",
    "exported",
    "options_table",
    "read_settings",
]

TASKS: Mapping[str, str] = {
    "index": "index a data set into the workspace, then end",
    "index_restful": "accept documents to index over HTTP at /index",
    "query": "answer --query-text, --query-image or --query, then end",
    "query_restful": "answer searches over HTTP at /search",
    "evaluate": "measure the retrieval quality of a model on a data set",
    "train": "fine-tune a model on a data set, or train one as --config says",
    "status": "tell what is indexed, without loading a model",
    "models": "list the models that -m knows by name, without loading one",
    "plot": "draw the two Flows as SVG",
}

LAYOUTS = ("fused", "pods")
KEEP = ("original", "uri")
WRITING = ("auto", "on", "off")
RUNTIMES = ("auto", "torch", "openvino", "onnx")
INDEXES = ("auto", "exact", "scan", "coarse", "ivf", "hnsw", "ivfpq", "lsh")
LOSSES = (
    "max-of-hinges",
    "sum-of-hinges",
    "triplet-random",
    "triplet-semi-hard",
    "triplet-hardest",
    "infonce",
    "mnr",
    "sigmoid",
)
DIRECTIONS = ("text2image", "image2text", "both")
PROTOCOLS = ("whole", "flickr8k-1k", "flickr30k-1k", "coco-5k", "coco-1k", "original")

MAX_TOP_K = 1000
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Settings:
    """Every option with its type and default; a field's name is the option's long name."""

    task: str = ""
    data_set: str = "toy-data"
    num_docs: int | None = None
    split: str | None = None
    model: str | None = None
    dim: int | None = None
    centering: Path | None = None
    workspace: Path = Path("workspace")
    data_root: Path = Path("data")
    model_cache: Path = Path("~/.cache/crossmodal")
    trust_remote_code: bool = False
    runtime: str = "auto"
    request_size: int = 32
    keep: str = "original"
    strict: bool = False
    top_k: int = 10
    query_text: str | None = None
    query_image: Path | None = None
    query: str | None = None
    filter: str | None = None
    url: str | None = None
    picture: Path | None = None
    host: str = "127.0.0.1"
    port: int = 45678
    grpc_port: int | None = None
    writing: str = "auto"
    layout: str = "fused"
    parallel: int = 1
    shards: int | None = None
    index: str = "auto"
    max_pixels: int = 178_956_970
    direction: str = "both"
    direct: bool = False
    protocol: str | None = None
    num_indexed: int | None = None
    compare: str | None = None
    gap: bool = False
    calibrate: bool = False
    config: Path | None = None
    loss: str | None = None
    output: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        # Also where no command line was read: a folder called "~" is never meant.
        object.__setattr__(self, "model_cache", expanded(self.model_cache))

    @property
    def served_grpc_port(self) -> int:
        """The port for gRPC beside HTTP; 0 for none."""
        # After the last port there is none.
        following = self.port + 1 if self.port < MAX_PORT else 0
        return following if self.grpc_port is None else self.grpc_port

    def flow_environment(self) -> dict[str, str]:
        """The variables that ``flows/*.yml`` refer to."""
        return {
            "JINA_WORKSPACE": str(self.workspace.absolute()),
            "JINA_SHARDS": str(self.shards or 1),
            "JINA_PARALLEL": str(self.parallel),
            "CROSSMODAL_MODEL": self.model or "",
            "CROSSMODAL_MODEL_CACHE": str(self.model_cache.absolute()),
            "CROSSMODAL_TRUST_REMOTE_CODE": "true" if self.trust_remote_code else "false",
            "CROSSMODAL_RUNTIME": self.runtime,
            "CROSSMODAL_MAX_PIXELS": str(self.max_pixels),
            "CROSSMODAL_KEEP": self.keep,
            "CROSSMODAL_INDEX": self.index,
        }


@dataclass(frozen=True, slots=True)
class Option:
    """One option: the settings field it fills, its short flag, environment variable, bounds and help."""

    field: str
    help: str
    short: str | None = None
    variable: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    aliases: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The long flag as it is written in the documentation."""
        return "--" + (self.field if self.field in _UNDERSCORED else self.field.replace("_", "-"))

    @property
    def flags(self) -> list[str]:
        """Every spelling that the command line accepts."""
        spellings = [self.short] if self.short else []
        spellings += [self.flag, "--" + self.field.replace("_", "-"), *self.aliases]
        return list(dict.fromkeys(spellings))

    @property
    def default(self) -> Any:
        """The value where neither the command line nor the environment says anything."""
        return Settings.__dataclass_fields__[self.field].default

    @property
    def kind(self) -> str:
        """The annotated type of the settings field, without ``| None``."""
        return str(Settings.__dataclass_fields__[self.field].type).split(" | ")[0]


# These keep the spelling with an underscore that the predecessor of this system had.
_UNDERSCORED = frozenset({"num_docs", "request_size", "data_set", "top_k"})

OPTIONS: tuple[Option, ...] = (
    Option("task", "what to do: " + ", ".join(TASKS), "-t", choices=tuple(TASKS)),
    Option(
        "data_set",
        "toy-data, f8k, f30k, coco, or a path: a folder of images, a folder with images/ and captions.txt, "
        "or a CSV or JSONL file",
        "-d",
        metavar="DATA",
    ),
    Option(
        "num_docs",
        "use at most so many documents (photos and captions counted together); with -t evaluate, ask at most "
        "so many queries in each direction",
        "-n",
        "JINA_MAX_DOCS",
        "N",
        minimum=1,
    ),
    Option("split", "use only this split of the data set, such as train, dev or test", metavar="NAME"),
    Option(
        "model",
        "a name that `-t models` lists, such as siglip2-b-16, or with local files, siglip2-b-16:FOLDER; "
        "clip:ARCHITECTURE/PRETRAINED; or a path to a trained model; by default the one that "
        "built the index, and clip-mini for a new one",
        "-m",
        metavar="MODEL",
    ),
    Option(
        "dim",
        "keep only the first N components of each vector, scaled to unit length",
        metavar="N",
        minimum=1,
    ),
    Option(
        "centering",
        "subtract each modality's mean, from a file that `-t evaluate --gap` wrote",
        metavar="FILE",
    ),
    Option("workspace", "the folder that holds the index", None, "JINA_WORKSPACE", "FOLDER"),
    Option("data_root", "the folder that holds toy-data, f8k, f30k and coco", metavar="FOLDER"),
    Option("model_cache", "the folder for downloaded weights", metavar="FOLDER"),
    Option("trust_remote_code", "run the Python code that some models bring along, such as jina-clip-v2's"),
    Option(
        "runtime",
        "what computes the model's vectors; auto takes the fastest that is installed and whose vectors are "
        "those of the plain model up to rounding",
        choices=RUNTIMES,
    ),
    Option(
        "request_size",
        "photos in one request while indexing; of captions it holds up to four times as many",
        "-s",
        metavar="N",
        minimum=1,
        maximum=1024,
    ),
    Option(
        "keep", "what to keep of each photo: its original file, or its path and a thumbnail", choices=KEEP
    ),
    Option("strict", "stop at the first document that fails (the default is to keep going)"),
    Option("top_k", "results for each query", "-k", metavar="K", minimum=1, maximum=MAX_TOP_K),
    Option("query_text", "a sentence to find photos for", metavar="TEXT"),
    Option("query_image", "a photo to find captions for", metavar="FILE"),
    Option(
        "query",
        'an expression of sentences, photos and ids with weights, such as "dog + 0.5*id:42 - snow"',
        metavar="EXPRESSION",
    ),
    Option(
        "filter",
        """find only what has these tags, as JSON: '{"place": "harbour", "year": {"$gte": 2019}}'""",
        metavar="JSON",
    ),
    Option(
        "url",
        "ask the server at this address, such as http://localhost:45678, instead of an index on this machine",
        metavar="URL",
    ),
    Option("picture", "also write the results as one picture", metavar="FILE.png"),
    Option("host", "the address that the server listens on", metavar="ADDRESS"),
    Option(
        "port",
        "the port that the server listens on",
        None,
        "JINA_PORT",
        "PORT",
        minimum=1,
        maximum=MAX_PORT,
    ),
    Option(
        "grpc_port",
        "the port on which query_restful answers gRPC, as jina's clients speak it; by default the one after "
        "--port, and 0 for none",
        metavar="PORT",
        minimum=0,
        maximum=MAX_PORT,
    ),
    Option(
        "writing",
        "whether documents can be added and deleted through query_restful; auto: if it listens on this "
        "machine only",
        choices=WRITING,
    ),
    Option("layout", "run the Flow in one process, or in one process for each executor", choices=LAYOUTS),
    Option(
        "parallel",
        "replicas of each loader, normalizer and encoder",
        None,
        "JINA_PARALLEL",
        "N",
        minimum=1,
        maximum=64,
    ),
    Option(
        "shards",
        "shards of each index; by default as many as it has, and 1 for a new one",
        None,
        "JINA_SHARDS",
        "N",
        minimum=1,
        maximum=64,
    ),
    Option(
        "index",
        "how vectors are searched: auto compares all of them while they are few, and otherwise finds "
        "candidates by short codes and compares those",
        choices=INDEXES,
    ),
    Option("max_pixels", "refuse photos with more pixels than this", metavar="N", minimum=1),
    Option("direction", "which direction to evaluate", choices=DIRECTIONS),
    Option("direct", "evaluate in memory instead of through the two Flows; the numbers are the same"),
    Option(
        "protocol",
        "the published evaluation to follow; by default whole, and original where -i is given",
        choices=PROTOCOLS,
    ),
    Option(
        "num_indexed",
        "search the first so many documents, as the protocol original does it",
        "-i",
        metavar="N",
        minimum=2,
    ),
    Option("compare", "evaluate these models side by side, with their speed and size", metavar="A,B,..."),
    Option(
        "gap",
        "measure the gap between photos' and captions' vectors, and what centring does about it; here -n "
        "limits the documents",
    ),
    Option(
        "calibrate",
        "fit the score in 0 to 1 that searches give beside the cosine, and measure how far it can be "
        "believed",
    ),
    Option("config", "the training configuration, a JSON file", metavar="FILE"),
    Option("loss", "what fine-tuning minimises, instead of what suits the model", choices=LOSSES),
    Option(
        "output",
        "where to write the trained model, or the files of --compare, --gap, --calibrate and -t plot; by "
        "default a folder in the workspace",
        metavar="FOLDER",
    ),
    Option("json", "print the result as JSON on stdout"),
)


def read_settings(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings from the command line, else the environment, else the defaults.

    Exits with status 2 and a sentence for an unusable command line; raises SettingsError for an
    unusable environment variable.
    """
    environment = os.environ if environment is None else environment
    given = vars(argument_parser().parse_args(arguments))
    values: dict[str, Any] = {}
    for option in OPTIONS:
        if given.get(option.field) is not None:
            values[option.field] = given[option.field]
        elif option.variable and environment.get(option.variable):
            try:
                values[option.field] = _convert(option, environment[option.variable])
            except ValueError as error:
                raise SettingsError(f"The environment variable {option.variable}: {error}") from None
    return Settings(**values)


def export(variables: Mapping[str, str], environment: MutableMapping[str, str] | None = None) -> None:
    """Sets what the Flows' YAML refers to, and keeps jina and its libraries quiet and offline.

    Call it before jina is imported: jina starts its telemetry thread at import time.
    """
    environment = os.environ if environment is None else environment
    environment.update(variables)
    environment["JINA_OPTOUT_TELEMETRY"] = "1"
    environment.setdefault("JINA_LOG_LEVEL", "CRITICAL")
    # gRPC prints its goodbye messages (GOAWAY) on stderr otherwise.
    environment.setdefault("GRPC_VERBOSITY", "NONE")
    environment.setdefault("GLOG_minloglevel", "3")
    # Linux gives ports from 32768 on to connections: one that jina has chosen could be taken by any client
    # before its process listens there.
    environment.setdefault("JINA_RANDOM_PORT_MIN", "10000")
    environment.setdefault("JINA_RANDOM_PORT_MAX", "19999")


@contextmanager
def exported(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets ``variables`` for the processes that are started meanwhile, and then what was there before."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without twenty lines of options before it."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with 2, as argparse does."""
        self.exit(2, f"error: {message}; `{self.prog} --help` lists the tasks and options.\n")


def argument_parser() -> argparse.ArgumentParser:
    """The command line's parser, made from ``OPTIONS``."""
    parser = _Parser(
        prog="python app.py",
        description="A sentence finds photos; a photo finds captions.",
        epilog="tasks: " + "; ".join(f"{name}: {meaning}" for name, meaning in TASKS.items()),
        allow_abbrev=False,
    )
    for option in OPTIONS:
        if option.kind == "bool":
            parser.add_argument(
                *option.flags, dest=option.field, action="store_const", const=True, help=option.help
            )
            continue
        parser.add_argument(
            *option.flags,
            dest=option.field,
            metavar=option.metavar or "|".join(option.choices) if option.field != "task" else "TASK",
            required=option.field == "task",
            type=_argument_type(option),
            help=f"{option.help}{_default_note(option)}",
        )
    parser.add_argument(
        "--keep-going",
        dest="strict",
        action="store_const",
        const=False,
        help="go on after a document that fails (the default)",
    )
    return parser


def options_table() -> str:
    """The options as a Markdown table; the README holds it and a test compares."""
    lines = ["| option | environment | default | meaning |", "|---|---|---|---|"]
    for option in OPTIONS:
        flags = ", ".join(f"`{flag}`" for flag in ([option.short] if option.short else []) + [option.flag])
        variable = f"`{option.variable}`" if option.variable else ""
        default = "" if option.default in (None, "", False) else f"`{option.default}`"
        meaning = (
            option.help
            if option.field == "task" or not option.choices
            else (f"{option.help}: " + ", ".join(f"`{choice}`" for choice in option.choices))
        )
        lines.append(f"| {flags} | {variable} | {default} | {meaning} |")
    return "\n".join(lines)


def _default_note(option: Option) -> str:
    notes = []
    if option.default not in (None, "", False):
        notes.append(f"default {option.default}")
    if option.variable:
        notes.append(f"or {option.variable}")
    return f" ({', '.join(notes)})" if notes else ""


def _argument_type(option: Option) -> Any:
    def convert(text: str) -> Any:
        try:
            return _convert(option, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _convert(option: Option, text: str) -> Any:
    if option.choices and text not in option.choices:
        raise ValueError(f"{text!r} is not one of {', '.join(option.choices)}")
    if option.kind == "Path":
        if not text:
            raise ValueError("an empty path was given")
        return Path(text)
    if option.kind == "int":
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if option.minimum is not None and number < option.minimum:
            raise ValueError(f"{number} is below the minimum, {option.minimum}")
        if option.maximum is not None and number > option.maximum:
            raise ValueError(f"{number} is above the maximum, {option.maximum}")
        return number
    return text

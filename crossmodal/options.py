"""The one table of options: who uses each, its environment variable, its help, and what it doesn't go with.

An option on the command line beats the environment, which beats the default. The command line
(``cli/arguments``), its help and the table in ``docs/cli.md`` come from ``OPTIONS``; the values stand in
``Settings``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmodal import limits
from crossmodal.settings import (
    DIRECTIONS,
    INDEXES,
    KEEP,
    KEY_ACTIONS,
    LAYOUTS,
    LOGS,
    LOSSES,
    MAX_PORT,
    MAX_WORKERS,
    PRINTS,
    PROTOCOLS,
    ROOT_ACTIONS,
    RUNTIMES,
    SCOPES,
    TARGETS,
    TRASH_ACTIONS,
    WRITING,
    Settings,
)

__all__ = ["COMMANDS", "OPTIONS", "TASKS", "Command", "Option"]

TASKS: Mapping[str, str] = {
    "index": "index a data set into the workspace, then end",
    "index_restful": "accept documents to index over HTTP at /index",
    "query": "answer the questions of --query-text, --image, --similar, --query and --like, then end",
    "query_restful": "answer searches over HTTP at /search",
    "evaluate": "measure the retrieval quality of a model on a data set",
    "train": "fine-tune a model on a data set, or train one as --config says",
    "duplicates": "list the photos that repeat another, without loading a model",
    "status": "show what is indexed, without loading a model",
    "convert": "convert an index of an earlier version to today's format",
    "backup": "copy the index to a file, checked, also while it is used",
    "restore": "make a backup the index, checked",
    "verify": "check everything that is stored, and name each damaged record",
    "compact": "give the space of what was deleted back to the disk",
    "dump": "write the index with its vectors to a Parquet file",
    "load": "make an index of a dump",
    "models": "list the models that -m knows by name, without loading one",
    "plot": "write the two Flows as Mermaid flowcharts",
    "keys": "list the keys of a server's callers, make and revoke them",
    "watch": "index a folder, and again what changes in it, until Ctrl-C",
    "roots": "list the folders of an index's photos, move and remove them",
    "trash": "list the photos that the disk lost, restore them, or empty the trash",
}


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: the task that it is, what it does, and what it takes without an option's name.

    ``positional`` is an option and how the help writes it. Where there is a ``second``, the first word is for
    ``positional`` and the others are for that one.
    """

    task: str
    help: str
    positional: tuple[str, str] | None = None
    second: tuple[str, str] | None = None


COMMANDS: Mapping[str, Command] = {
    "index": Command(
        "index", "index photos and captions: a folder, a table, or a data set", ("data_set", "DATA")
    ),
    "search": Command(
        "query", "find photos for sentences, and captions for photos", ("query", "QUESTION ...")
    ),
    "duplicates": Command("duplicates", "list the photos that repeat another, in groups"),
    "serve": Command("query_restful", "serve the search page and the HTTP API"),
    "watch": Command(
        "watch", "index a folder, and again what changes in it, until Ctrl-C", ("data_set", "DATA")
    ),
    "roots": Command(
        "roots",
        "list the folders of an index's photos, move and remove them",
        ("action", "ACTION"),
        ("items", "FOLDER ..."),
    ),
    "trash": Command(
        "trash",
        "list the photos that the disk lost, restore them, or empty the trash",
        ("action", "ACTION"),
        ("items", "ID ..."),
    ),
    "status": Command("status", "show what is indexed, without loading a model"),
    "convert": Command("convert", "convert an index of an earlier version to today's format"),
    "backup": Command("backup", "copy the index to a file, checked, also while it is used", ("file", "FILE")),
    "restore": Command("restore", "make a backup the index, checked", ("file", "FILE")),
    "verify": Command("verify", "check everything that is stored, and name each damaged record"),
    "compact": Command("compact", "give the space of what was deleted back to the disk"),
    "dump": Command("dump", "write the index with its vectors to a Parquet file", ("file", "FILE")),
    "load": Command("load", "make an index of a dump", ("file", "FILE")),
    "evaluate": Command("evaluate", "measure how well a model finds what belongs together"),
    "train": Command("train", "fine-tune a model on your own photos and captions"),
    "models": Command("models", "list the models that are known by name"),
    "plot": Command("plot", "write the two Flows as Mermaid flowcharts"),
    "keys": Command(
        "keys",
        "list the keys of a server's callers, make and revoke them",
        ("action", "ACTION"),
        ("name", "NAME"),
    ),
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, its help, the tasks that use it, and how it is written.

    ``asks`` marks those that give a question each time, all into the settings field ``questions``; every
    other option fills the field of its own name once. ``not_with`` names options beside which it says
    nothing, or the other thing: beside a server's address no index is opened here. ``evaluate_with``
    names those of which ``evaluate`` needs one to use it. ``alias`` is another spelling of the flag.
    ``repeats`` marks those that may be given several times, ``needs`` the options without which it says
    nothing, and ``secret`` a value that no message may show.
    """

    name: str
    help: str
    tasks: tuple[str, ...]
    short: str | None = None
    variable: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    not_with: tuple[str, ...] = ()
    evaluate_with: tuple[str, ...] = ()
    asks: bool = False
    alias: str | None = None
    repeats: bool = False
    needs: tuple[str, ...] = ()
    secret: bool = False

    @property
    def field(self) -> str:
        """The settings field that it fills."""
        return "questions" if self.asks else self.name

    @property
    def flag(self) -> str:
        """The long flag as it is written in the documentation."""
        return "--" + (self.name if self.name in _UNDERSCORED else self.name.replace("_", "-"))

    @property
    def flags(self) -> list[str]:
        """Every spelling that the command line accepts."""
        spellings = (self.short, self.flag, "--" + self.name.replace("_", "-"), self.alias)
        return list(dict.fromkeys(spelling for spelling in spellings if spelling))

    @property
    def default(self) -> Any:
        """The value where neither the command line nor the environment says anything."""
        return Settings.__dataclass_fields__[self.field].default

    @property
    def kind(self) -> str:
        """The annotated type of the settings field, without ``| None``."""
        return str(Settings.__dataclass_fields__[self.field].type).split(" | ")[0]

    @property
    def repeated(self) -> bool:
        """Whether it may be given several times, each time with one more value of the field's tuple."""
        return self.kind.startswith("tuple") and not self.asks

    @property
    def commands(self) -> tuple[str, ...]:
        """The subcommands that use it."""
        return tuple(name for name, command in COMMANDS.items() if command.task in self.tasks)

    def convert(self, text: str) -> Any:
        """The value that ``text`` says; raises ValueError with the value and the limit."""
        if self.choices and text not in self.choices:
            raise ValueError(f"{text!r} is not one of {', '.join(self.choices)}")
        if self.kind == "Path":
            if not text:
                raise ValueError("an empty path was given")
            return Path(text)
        if self.kind not in ("int", "float"):
            return text
        whole = self.kind == "int"
        try:
            number = int(text) if whole else float(text)
        except ValueError:
            number = math.nan
        # Not isnan(), which makes a float of whole numbers that may be too large for one.
        if number != number:
            raise ValueError(f"{text!r} is not a {'whole number' if whole else 'number'}")
        if self.minimum is not None and number < self.minimum:
            raise ValueError(f"{number} is below the minimum, {self.minimum}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"{number} is above the maximum, {self.maximum}")
        return number


# These keep the spelling with an underscore that the predecessor of this system had.
_UNDERSCORED = frozenset({"num_docs", "request_size", "data_set", "top_k"})

_SERVING = ("index_restful", "query_restful")
_WITH_INDEX = ("index", "query", *_SERVING)
_ENCODING = (*_WITH_INDEX, "watch", "evaluate")
_DATA = ("index", "watch", "evaluate", "train")
_CARE = ("backup", "restore", "verify", "compact", "dump", "load")
# These measure a model's vectors in memory, whole or in halves.
_HALVES = ("gap", "calibrate")
_IN_MEMORY = ("direct", "compare", *_HALVES)
_WRITES_FILES = ("compare", *_HALVES)

# In the order in which --help lists them, the more important ones first.
OPTIONS: tuple[Option, ...] = (
    Option("task", "what to do: " + ", ".join(TASKS), tuple(TASKS), "-t", choices=tuple(TASKS)),
    Option(
        "query",
        'a sentence, or sentences and ids with weights: "dog + 0.5*id:42 - snow"; - reads lines of stdin',
        ("query",),
        metavar="QUESTION",
        asks=True,
    ),
    Option("query_text", "a sentence in which signs are words too", ("query",), metavar="TEXT", asks=True),
    Option(
        "image",
        "a photo to find captions for",
        ("query",),
        metavar="FILE",
        asks=True,
        alias="--query-image",
    ),
    Option("similar", "a photo to find photos like it", ("query",), metavar="FILE", asks=True),
    Option("like", "an id in the index, to find similar ones", ("query",), metavar="ID", asks=True),
    Option(
        "top_k",
        "matches for each question",
        ("query",),
        "-k",
        metavar="K",
        minimum=1,
        maximum=limits.TOP_K.most,
    ),
    Option(
        "offset",
        "leave out the first N matches",
        ("query",),
        metavar="N",
        minimum=0,
        maximum=limits.TOP_K.most - 1,
    ),
    Option(
        "min_score",
        "leave out matches with a lower score, 0 to 1",
        ("query",),
        metavar="SCORE",
        minimum=0,
        maximum=1,
    ),
    Option(
        "modality",
        "find only these, or both kinds",
        ("query",),
        choices=TARGETS,
        metavar="NAME",
    ),
    Option(
        "filter",
        """find only what has these tags: '{"place": "harbour", "year": {"$gte": 2019}}'""",
        ("query",),
        metavar="JSON",
    ),
    Option("hybrid", "search captions by their words too", ("query",)),
    Option("group_duplicates", "show one of several near-duplicates (the default)", ("query",)),
    Option(
        "literal",
        "take questions as they are: years, places and names of files in them are words and no filters",
        ("query",),
    ),
    Option(
        "sort",
        "sort what was found by this tag, such as taken; --sort=-taken for the newest first",
        ("query",),
        metavar="TAG",
    ),
    Option(
        "print",
        "the form of the output",
        ("query", "duplicates"),
        choices=PRINTS,
        metavar="FORM",
        not_with=("json",),
    ),
    Option("null", "with --print paths, end each path with NUL", ("query", "duplicates"), "-0"),
    Option("picture", "also write the matches as one picture", ("query",), metavar="FILE.png"),
    Option(
        "url",
        "ask the server at this address, such as http://localhost:45678, instead of an index here",
        ("query",),
        metavar="URL",
    ),
    Option(
        "key",
        "the key for that server; `serve` takes one for its callers from the variable",
        ("query",),
        None,
        "CROSSMODAL_KEY",
        "KEY",
        needs=("url",),
        secret=True,
    ),
    Option("tls_ca", "certificates by which to know that server", ("query",), metavar="FILE", needs=("url",)),
    Option(
        "data_set",
        "toy-data, f8k, f30k, coco, or a path: a folder of images, one with images/ and captions.txt, or "
        "a CSV or JSONL file",
        _DATA,
        "-d",
        metavar="DATA",
        not_with=("config",),
    ),
    Option(
        "split",
        "use only this split of the data, such as dev",
        _DATA,
        metavar="NAME",
        not_with=("config",),
    ),
    Option(
        "num_docs",
        "use at most so many photos and captions together; evaluate asks so many queries in each direction",
        _DATA,
        "-n",
        "JINA_MAX_DOCS",
        "N",
        minimum=1,
        not_with=("config",),
    ),
    Option("host", "the address that the server listens on", _SERVING, metavar="ADDRESS"),
    Option(
        "port",
        "the port that the server listens on",
        _SERVING,
        None,
        "JINA_PORT",
        "PORT",
        minimum=1,
        maximum=MAX_PORT,
    ),
    Option(
        "workers",
        "serving processes on that port, over the same index",
        ("query_restful",),
        metavar="N",
        minimum=1,
        maximum=MAX_WORKERS,
    ),
    Option(
        "request_timeout",
        "give up what is not answered within so many seconds; the header Request-Timeout asks for less",
        _SERVING,
        metavar="SECONDS",
        minimum=0.1,
    ),
    Option(
        "writing",
        "whether documents can be added and deleted; auto: if the server listens on this machine only",
        ("query_restful",),
        choices=WRITING,
    ),
    Option(
        "log",
        "a line on stderr for each request, as text or JSON; off: for warnings and errors alone",
        _SERVING,
        choices=LOGS,
        metavar="FORM",
    ),
    Option(
        "allow_origin",
        "let pages of this origin read too, null: of files; repeatable",
        _SERVING,
        metavar="ORIGIN",
        repeats=True,
    ),
    Option("insecure_no_auth", "let other machines in without a key", _SERVING),
    Option("make_key", "where a key is needed and none exists, make and print one", _SERVING),
    Option(
        "trusted_proxy",
        "believe X-Forwarded headers from here; repeatable",
        _SERVING,
        metavar="ADDRESS",
        repeats=True,
    ),
    Option(
        "rate_limit",
        "requests a minute for each key and each address; 0 is off",
        _SERVING,
        metavar="N",
        minimum=0,
        maximum=1_000_000,
    ),
    Option("tls_cert", "serve HTTPS with this certificate", _SERVING, metavar="FILE", needs=("tls_key",)),
    Option("tls_key", "the private key of that certificate", _SERVING, metavar="FILE", needs=("tls_cert",)),
    Option(
        "show_locations",
        "let everybody see where photos were taken, and not only admin keys and people at this machine",
        _SERVING,
    ),
    Option(
        "fetch_urls",
        "take photos at http and https URLs too, and fetch them; only from addresses on the internet",
        _SERVING,
    ),
    Option(
        "fetch_from",
        "fetch from this host only: NAME, *.NAME for all below it, or either with :PORT; as often as needed",
        _SERVING,
        metavar="HOST",
        needs=("fetch_urls",),
        repeats=True,
    ),
    Option(
        "otlp",
        "send a trace of each request to the OpenTelemetry collector at this address, over HTTP; needs the "
        "extra otel",
        _SERVING,
        metavar="URL",
    ),
    Option(
        "grpc_port",
        "answer gRPC, as jina's clients speak it, on this port too; needs the extra jina; 0 is off",
        ("query_restful",),
        metavar="PORT",
        minimum=0,
        maximum=MAX_PORT,
    ),
    Option(
        "compare",
        "measure models side by side, with speed and size",
        ("evaluate",),
        metavar="A,B,...",
    ),
    Option(
        "gap",
        "measure the gap between photos' and captions' vectors",
        ("evaluate",),
        not_with=("compare",),
    ),
    Option(
        "calibrate",
        "fit the score in 0 to 1 that searches give beside the cosine, and measure its worth",
        ("evaluate",),
        not_with=("compare", "gap"),
    ),
    Option(
        "direction",
        "which direction to evaluate",
        ("evaluate",),
        choices=DIRECTIONS,
        metavar="NAME",
        not_with=_HALVES,
    ),
    Option(
        "protocol",
        "the published evaluation to follow; by default whole, or with -i original",
        ("evaluate",),
        choices=PROTOCOLS,
        metavar="NAME",
        not_with=_HALVES,
    ),
    Option(
        "num_indexed",
        "search the first so many documents, as original does",
        ("evaluate",),
        "-i",
        metavar="N",
        minimum=2,
        not_with=_HALVES,
    ),
    Option(
        "direct",
        "in memory, without the Flows; the numbers are the same",
        ("evaluate",),
        not_with=("compare", *_HALVES),
    ),
    Option(
        "action",
        "what to do",
        ("keys", "roots", "trash"),
        choices=tuple(dict.fromkeys((*KEY_ACTIONS, *ROOT_ACTIONS, *TRASH_ACTIONS))),
        metavar="ACTION",
    ),
    Option(
        "items",
        "a folder of photos, or the id of a photo in the trash",
        ("roots", "trash"),
        metavar="ITEM",
        repeats=True,
    ),
    Option("name", "the name of a key", ("keys",), metavar="NAME"),
    Option("scope", "what the new key may do; each includes those before it", ("keys",), choices=SCOPES),
    Option("config", "the training configuration, a JSON file", ("train",), metavar="FILE"),
    Option(
        "loss",
        "what fine-tuning minimises, instead of what suits the model",
        ("train",),
        choices=LOSSES,
        metavar="NAME",
        not_with=("config",),
    ),
    Option(
        "model",
        "a name that `models` lists, NAME:FOLDER with local files, clip:ARCHITECTURE/PRETRAINED, or a "
        "trained model's folder; by default that of the index, else clip-mini",
        (*_ENCODING, "train"),
        "-m",
        metavar="MODEL",
        not_with=("url", "compare", "config"),
    ),
    Option(
        "workspace",
        "the folder that holds the index",
        (*_ENCODING, "duplicates", "train", "status", "convert", "plot", "keys", "roots", "trash", *_CARE),
        None,
        "JINA_WORKSPACE",
        "FOLDER",
        not_with=("url", "output"),
        evaluate_with=_WRITES_FILES,
    ),
    Option(
        "output",
        "where to write the model or the files; by default a folder in the workspace",
        ("evaluate", "train", "plot"),
        metavar="FOLDER",
        evaluate_with=_WRITES_FILES,
    ),
    Option(
        "json",
        "print the result as JSON on stdout",
        (
            "index",
            "query",
            "duplicates",
            "evaluate",
            "train",
            "status",
            "verify",
            "models",
            "plot",
            "keys",
            "roots",
            "trash",
        ),
    ),
    Option(
        "file",
        "the file to write or to read: a backup is an SQLite database, a dump is Parquet",
        ("backup", "restore", "dump", "load"),
        metavar="FILE",
    ),
    Option("replace", "put the backup in the place of the index that is there", ("restore",)),
    Option(
        "wait",
        "wait so long for another process that writes the index; by default that is told at once",
        ("index", "restore", "compact"),
        metavar="SECONDS",
        minimum=0,
    ),
    Option("strict", "stop at the first document that fails (the default is to keep going)", ("index",)),
    Option(
        "delete_missing",
        "let photos go whose files are gone, also where they are more than a fifth of their folder",
        ("index",),
        not_with=("num_docs", "split"),
    ),
    Option("verify", "read also the files whose size, time and inode are as they were", ("index",)),
    Option("public", "let everybody read this index without a key until it changes", ("index",)),
    Option(
        "keep",
        "what to keep of each photo beside a thumbnail: its path, or a copy of its file",
        ("index", "watch", *_SERVING),
        choices=KEEP,
    ),
    Option(
        "dim",
        "keep only the first N components of each vector",
        _ENCODING,
        metavar="N",
        minimum=1,
        not_with=("url", "calibrate"),
    ),
    Option(
        "centering",
        "subtract the means in a file that `evaluate --gap` wrote",
        _ENCODING,
        metavar="FILE",
        not_with=("url", *_HALVES),
    ),
    Option(
        "index",
        "how vectors are searched; auto compares all while they are few, else finds candidates by codes",
        ("query", "query_restful"),
        choices=INDEXES,
        metavar="TIER",
        not_with=("url",),
    ),
    Option(
        "runtime",
        "what computes the model; auto: the fastest whose vectors are the plain model's up to rounding",
        _ENCODING,
        choices=RUNTIMES,
        metavar="NAME",
        not_with=("url",),
    ),
    Option(
        "layout",
        "run the Flow in one process, or in one for each step, which needs the extra jina",
        _ENCODING,
        choices=LAYOUTS,
        not_with=("url", *_IN_MEMORY),
    ),
    Option(
        "parallel",
        "replicas of each loader, normalizer and encoder",
        (*_ENCODING, "plot"),
        None,
        "JINA_PARALLEL",
        "N",
        minimum=1,
        maximum=64,
        not_with=("url", *_IN_MEMORY),
    ),
    Option(
        "shards",
        "parts into which each search is divided, in --layout pods one process each; by default 1",
        (*_ENCODING, "plot"),
        None,
        "JINA_SHARDS",
        "N",
        minimum=1,
        maximum=64,
        not_with=("url", *_IN_MEMORY),
    ),
    Option(
        "request_size",
        "photos in one request while indexing, and up to four times as many captions",
        ("index", "evaluate"),
        "-s",
        metavar="N",
        minimum=1,
        maximum=1024,
        not_with=_HALVES,
    ),
    Option(
        "max_pixels", "refuse photos with more pixels", _ENCODING, metavar="N", minimum=1, not_with=("url",)
    ),
    Option(
        "decode_memory",
        "memory that decoding photos may take, all together",
        (*_ENCODING, "train"),
        metavar="MB",
        minimum=64,
        not_with=("url",),
    ),
    Option("data_root", "where toy-data, f8k, f30k and coco lie", _DATA, metavar="FOLDER"),
    Option(
        "model_cache",
        "the folder for downloaded weights",
        (*_ENCODING, "train", "models"),
        metavar="FOLDER",
        not_with=("url",),
    ),
    Option(
        "trust_remote_code",
        "run the Python code that some models bring along",
        (*_ENCODING, "train"),
        not_with=("url",),
    ),
)

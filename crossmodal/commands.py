"""What the program does: its tasks, and the subcommands that name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COMMANDS", "TASKS", "Command"]

TASKS: Mapping[str, str] = {
    "index": "index a data set into the workspace, then end",
    "embed": "write the vectors of photos and captions to files, without an index",
    "index_restful": "accept documents to index over HTTP at /index",
    "query": "answer the questions of --query-text, --image, --similar, --query and --like, then end",
    "query_restful": "answer searches over HTTP at /search",
    "mcp": "answer the tools of an agent over stdin and stdout, as the Model Context Protocol has it",
    "evaluate": "measure the retrieval quality of a model on a data set",
    "train": "fine-tune a model on a data set, or train one as --config says",
    "duplicates": "list the photos that repeat another, without loading a model",
    "status": "show what is indexed, without loading a model",
    "convert": "bring an index of an earlier version, or of another model, up to date",
    "backup": "copy the index to a file, checked, also while it is used",
    "restore": "make a backup the index, checked",
    "verify": "check everything that is stored, and name each damaged record",
    "compact": "give the space of what was deleted back to the disk",
    "dump": "write the index with its vectors to a Parquet file",
    "load": "make an index of a dump",
    "models": "list the models that -m knows by name, or find the best one for this machine",
    "plot": "write the two Flows as Mermaid flowcharts",
    "export": "write manifests for Kubernetes, Compose or Helm, from the Flows",
    "keys": "list the keys of a server's callers, make and revoke them",
    "watch": "index a folder, and again what changes in it, until Ctrl-C",
    "roots": "list the folders of an index's photos, move and remove them",
    "trash": "list the photos that the disk lost, restore them, or empty the trash",
}


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: the task that it is, what it does, and what it takes without an option's name.

    ``positional`` is an option and how the help writes it. Where there is a ``second``, the first word is for
    ``positional`` and the others are for that one. ``actions`` are the words that ``action`` takes here.
    """

    task: str
    help: str
    positional: tuple[str, str] | None = None
    second: tuple[str, str] | None = None
    actions: tuple[str, ...] = ()


COMMANDS: Mapping[str, Command] = {
    "index": Command(
        "index", "index photos and captions: folders, tables, photos or data sets", ("data_set", "DATA ...")
    ),
    "embed": Command(
        "embed",
        "write the vectors of photos and captions to files, without an index",
        ("data_set", "DATA ..."),
    ),
    "search": Command(
        "query", "find photos for sentences, and captions for photos", ("query", "QUESTION ...")
    ),
    "duplicates": Command("duplicates", "list the photos that repeat another, in groups"),
    "serve": Command("query_restful", "serve the search page and the HTTP API"),
    "mcp": Command("mcp", "let the agent that starts it search the index (Model Context Protocol, stdio)"),
    "watch": Command(
        "watch", "index a folder, and again what changes in it, until Ctrl-C", ("data_set", "DATA")
    ),
    "roots": Command(
        "roots",
        "list the folders of an index's photos, move and remove them",
        ("action", "ACTION"),
        ("items", "FOLDER ..."),
        ("list", "move", "remove"),
    ),
    "trash": Command(
        "trash",
        "list the photos that the disk lost, restore them, or empty the trash",
        ("action", "ACTION"),
        ("items", "ID ..."),
        ("list", "restore", "empty"),
    ),
    "status": Command("status", "show what is indexed, without loading a model"),
    "convert": Command("convert", "bring an index of an earlier version, or of another model, up to date"),
    "backup": Command("backup", "copy the index to a file, checked, also while it is used", ("file", "FILE")),
    "restore": Command("restore", "make a backup the index, checked", ("file", "FILE")),
    "verify": Command("verify", "check everything that is stored, and name each damaged record"),
    "compact": Command("compact", "give the space of what was deleted back to the disk"),
    "dump": Command("dump", "write the index with its vectors to a Parquet file", ("file", "FILE")),
    "load": Command("load", "make an index of a dump", ("file", "FILE")),
    "evaluate": Command("evaluate", "measure how well a model finds what belongs together"),
    "train": Command("train", "fine-tune a model on your own photos and captions"),
    "models": Command(
        "models",
        "list the models that are known by name, or find the best one for this machine",
        ("action", "ACTION"),
        actions=("list", "recommend"),
    ),
    "plot": Command("plot", "write the two Flows as Mermaid flowcharts"),
    "export": Command("export", "write manifests for Kubernetes, Compose or Helm, from the Flows"),
    "keys": Command(
        "keys",
        "list the keys of a server's callers, make and revoke them",
        ("action", "ACTION"),
        ("name", "NAME"),
        ("add", "list", "revoke"),
    ),
}

"""The command line read into settings: subcommands and ``-t TASK``, both made from the one table of options.

Nothing else in the project reads the environment's options.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NoReturn

from crossmodal.commands import COMMANDS, TASKS
from crossmodal.errors import SettingsError
from crossmodal.option import Option
from crossmodal.options import OPTIONS
from crossmodal.settings import STDIN, GivenQuestion, Settings

__all__ = ["argument_parser", "commands_table", "options_table", "read_settings"]


# Options that are on unless `--no-NAME` turns them off, and what that means.
_TURNED_OFF = {
    "group-duplicates": "show every near-duplicate as a match of its own",
    "hybrid": "search by meaning alone",
}


def read_settings(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings from the command line, else the environment, else the defaults.

    The command line is a subcommand with its options, or ``-t TASK`` with the same ones. Exits with status 2
    and a sentence for an unusable one, or for an option that the task does not use; raises SettingsError for
    an unusable environment variable.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    environment = os.environ if environment is None else environment
    given = _given(arguments)
    values: dict[str, Any] = {}
    for option in OPTIONS:
        # Beside the options that ask, ``given`` holds what they ask in the order of the command line.
        held = option.field if option.asks else option.name
        if given.get(held) is not None:
            values[option.field] = given[held]
        elif option.variable and environment.get(option.variable):
            try:
                values[option.field] = option.convert(environment[option.variable])
            except ValueError as error:
                raise SettingsError(f"The environment variable {option.variable}: {error}") from None
    return Settings(**values)


def argument_parser() -> argparse.ArgumentParser:
    """The parser of ``crossmodal -t TASK``, made from ``OPTIONS``."""
    return _add_options(_Parser("crossmodal", "lists the tasks and options"), OPTIONS)


def commands_table() -> str:
    """The subcommands as a Markdown table; ``docs/cli.md`` holds it and a test compares."""
    lines = ["| subcommand | the same as | what it does |", "|---|---|---|"]
    for name, command in COMMANDS.items():
        lines.append(f"| `{_usage(name)}` | `-t {command.task}` | {command.help} |")
    lines.append(
        "| `serve --index-only` | `-t index_restful` | take documents to index over HTTP, and no searches |"
    )
    return "\n".join(lines)


def options_table() -> str:
    """The options as a Markdown table; ``docs/cli.md`` holds it and a test compares."""
    lines = ["| option | used by | environment | default | meaning |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        spellings = (option.short, option.flag, option.alias)
        flags = ", ".join(f"`{flag}`" for flag in spellings if flag)
        users = "all" if set(option.commands) == set(COMMANDS) else ", ".join(option.commands)
        variable = f"`{option.variable}`" if option.variable else ""
        default = f"`{_default(option)}`" if option.default and option.kind != "bool" else ""
        meaning = (
            option.help
            if option.name == "task" or not option.choices
            else (f"{option.help}: " + ", ".join(f"`{choice}`" for choice in option.choices))
        )
        lines.append(f"| {flags} | {users} | {variable} | {default} | {meaning} |")
    lines += [
        *(f"| `--no-{name}` | search | | | {meaning} |" for name, meaning in _TURNED_OFF.items()),
        "| `--keep-going` | index | | | go on after a document that fails (the default) |",
        "| `--index-only` | serve | | | take documents to index, and no searches |",
        "| `--help`, `-h` | all | | | list the options of a subcommand |",
        "| `--version` | all | | | print the version |",
    ]
    return "\n".join(lines)


def _given(arguments: Sequence[str]) -> dict[str, Any]:
    """What the command line gives, with the task that it asks for."""
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        return _given_to_command(first, arguments[1:])
    parser = argument_parser()
    if not first.startswith("-"):
        wrong = f"{first!r} is no command" if first else "there is no command"
        parser.error(f"{wrong}; the commands are {', '.join(COMMANDS)}, or -t and a task")
    given = vars(parser.parse_args(arguments))
    _refuse_unused(parser, given, given["task"], "-t {}")
    return given


def _given_to_command(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    command = COMMANDS[name]
    parser = _Parser(f"crossmodal {name}", "lists its options", name)
    _add_options(parser, [option for option in OPTIONS if option.name != "task"])
    if name == "serve":
        parser.add_argument("--index-only", action="store_true")
    if command.positional is not None:
        first, others = command.positional[0], (command.second or command.positional)[0]
        arguments = list(_with_flag(_flag_of(first), _flag_of(others), arguments))
    given = vars(parser.parse_args(arguments))
    given["task"] = "index_restful" if given.pop("index_only", False) else command.task
    _refuse_unused(parser, given, given["task"], "{}")
    return given


def _with_flag(flag: str, others: str, arguments: Sequence[str]) -> Iterator[str]:
    """``arguments`` with ``flag`` before the first word that stands without an option's name.

    Those behind it get ``others``. So such words stay in order with the options beside them, which argparse
    loses.
    """
    valued = {spelling for option in OPTIONS if option.kind != "bool" for spelling in option.flags}
    words = iter(arguments)
    for word in words:
        if word in valued:
            yield from (word, *islice(words, 1))
        elif word == "--":
            for rest in words:
                yield f"{flag}={rest}"
                flag = others
        elif word.startswith("-") and word != "-" and (" " not in word or word.partition("=")[0] in valued):
            yield word
        else:
            yield f"{flag}={word}"
            flag = others


def _refuse_unused(
    parser: argparse.ArgumentParser, given: Mapping[str, Any], task: str, spelled: str
) -> None:
    """Ends the program with 2 and a sentence for each option that says nothing to ``task``."""
    refused = []
    workers = given.get("workers") or 1
    if task == "query_restful" and given.get("layout") == "pods" and workers > 1:
        refused.append(
            f"--workers {workers} with --layout pods would start jina's processes {workers} times; leave out "
            "one of them"
        )
    refused += _refused_action(given.get("action"), task, spelled)
    refused += _refused_data(given, task, spelled)
    for option in OPTIONS:
        if given.get(option.name) is None:
            continue
        beside = [name for name in option.not_with if given.get(name) is not None]
        if task not in option.tasks:
            belongs = [spelled.format(name) for name in _named(option.tasks, spelled)]
            refused.append(
                f"{option.flag} has no meaning for {spelled.format(*_named((task,), spelled))}; "
                f"it belongs to {_listed(belongs)}"
            )
        elif beside:
            refused.append(
                f"{option.flag} has no meaning beside {_flag_of(beside[0])}; leave out one of them"
            )
        elif missing := [name for name in option.needs if given.get(name) is None]:
            refused.append(f"{option.flag} has no meaning without {_flag_of(missing[0])}")
        elif (
            task == "evaluate"
            and option.evaluate_with
            and all(given.get(name) is None for name in option.evaluate_with)
        ):
            needed = [_flag_of(name) for name in option.evaluate_with]
            refused.append(
                f"{option.flag} has no meaning for {spelled.format(task)} without {_listed(needed, 'or')}"
            )
    if refused:
        parser.exit(2, "".join(f"error: {sentence}.\n" for sentence in refused))


def _refused_action(action: str | None, task: str, spelled: str) -> Iterator[str]:
    """That ``action`` belongs to another task."""
    actions = next((command.actions for command in COMMANDS.values() if command.task == task), ())
    if actions and action is not None and action not in actions:
        shown = spelled.format(*_named((task,), spelled))
        yield f"{action} is no action of {shown}; it has {_listed(actions)}"


def _refused_data(given: Mapping[str, Any], task: str, spelled: str) -> Iterator[str]:
    """What is wrong with -d and with what only goes with some of its values."""
    names = given.get("data_set") or ()
    shown = spelled.format(*_named((task,), spelled))
    if task in ("evaluate", "train") and len(names) > 1:
        yield f"--data_set is given {len(names)} times, as {_listed(names)}; {shown} takes one"
    if task in ("evaluate", "train") and STDIN in names:
        yield (
            f"--data_set - has no meaning for {shown}, which reads its data several times; write the list "
            "into a CSV file, below the line image"
        )
    if task == "index" and given.get("null") is not None and STDIN not in names:
        yield "--null has no meaning without --data_set -"


def _named(tasks: Sequence[str], spelled: str) -> list[str]:
    """The tasks as they are named: by -t, or by their subcommands."""
    if spelled != "{}":
        return list(tasks)
    commands = {command.task: name for name, command in COMMANDS.items()}
    commands["index_restful"] = "serve --index-only"
    named = [commands[task] for task in tasks]
    return named if named == ["serve --index-only"] else [n for n in named if n != "serve --index-only"]


def _listed(names: Sequence[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def _flag_of(name: str) -> str:
    return next(option.flag for option in OPTIONS if option.name == name)


def _usage(command: str) -> str:
    taken = (COMMANDS[command].positional, COMMANDS[command].second)
    return " ".join([command, *(f"[{positional[1]}]" for positional in taken if positional)])


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and has a help that fits on a screen.

    ``lists`` says what its --help does; ``command`` is the subcommand that it parses, None for ``-t``.
    """

    def __init__(self, prog: str, lists: str, command: str | None = None) -> None:
        super().__init__(prog=prog, allow_abbrev=False, add_help=False)
        self._lists = lists
        self._command = command
        self.add_argument("-h", "--help", action=_Help)
        self.add_argument("--version", action=_Version)

    def error(self, message: str) -> NoReturn:
        """Ends the program with 2, as argparse does."""
        self.exit(2, f"error: {message}; `{self.prog} --help` {self._lists}.\n")

    def help_for(self, task: str | None) -> str:
        """The help of the subcommand or ``task``; of all of them where neither is known."""
        if self._command is None and task is None:
            return _overview()
        shown = task or COMMANDS[self._command or ""].task
        usage = self.prog if task is None else f"{self.prog} -t {task}"
        return _task_help(shown, usage, self._command)


class _Help(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **named: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **named)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, flag: Any = None
    ) -> None:
        assert isinstance(parser, _Parser)
        sys.stdout.write(parser.help_for(getattr(namespace, "task", None)))
        parser.exit()


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **named: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **named)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, flag: Any = None
    ) -> None:
        from crossmodal import __version__

        sys.stdout.write(f"crossmodal {__version__}\n")
        parser.exit()


class _Once(argparse.Action):
    """Stores a value; a second one is an error, as the first would be dropped without a word."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, flag: Any = None
    ) -> None:
        before = getattr(namespace, self.dest)
        value = self.const if self.nargs == 0 else values
        if before is not None and (self.nargs != 0 or before != value):
            named = _flag_of(self.dest)
            said = f", once as {before} and once as {value}" if self.nargs != 0 else f", beside {flag}"
            secret = any(option.secret for option in OPTIONS if option.name == self.dest)
            parser.error(f"{named} is given twice{'' if secret else said}; it takes one value")
        setattr(namespace, self.dest, value)


class _Each(argparse.Action):
    """Adds one value to those before it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, flag: Any = None
    ) -> None:
        setattr(namespace, self.dest, (*(getattr(namespace, self.dest) or ()), values))


class _Ask(argparse.Action):
    """Adds one question to those before it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, flag: Any = None
    ) -> None:
        asked = getattr(namespace, "questions", ())
        namespace.questions = (*asked, GivenQuestion(self.dest, values))
        setattr(namespace, self.dest, values)


def _add_options(parser: argparse.ArgumentParser, options: Sequence[Option]) -> argparse.ArgumentParser:
    for option in options:
        if option.kind == "bool":
            parser.add_argument(*option.flags, dest=option.name, action=_Once, nargs=0, const=True)
        else:
            parser.add_argument(
                *option.flags,
                dest=option.name,
                action=_Ask if option.asks else _Each if option.repeats else _Once,
                required=option.name == "task",
                type=_argument_type(option),
            )
    parser.add_argument("--keep-going", dest="strict", action=_Once, nargs=0, const=False)
    for name in _TURNED_OFF:
        dest = name.replace("-", "_")
        parser.add_argument(f"--no-{name}", dest=dest, action=_Once, nargs=0, const=False)
    return parser


def _overview() -> str:
    """The help of the whole command line: one line a subcommand."""
    lines = [
        "usage: crossmodal COMMAND [options]      (or: crossmodal -t TASK [options])",
        "",
        "A sentence finds photos; a photo finds captions.",
        "",
        "commands:",
        *(f"  {name:<12}{command.help}" for name, command in COMMANDS.items()),
        "",
        "  crossmodal COMMAND --help lists the options of a command",
        "  crossmodal --version      prints the version",
        "",
        "tasks: the same for -t",
        *(f"  {name:<15}{meaning}" for name, meaning in TASKS.items()),
    ]
    return "\n".join(lines) + "\n"


def _task_help(task: str, usage: str, command: str | None) -> str:
    """The options of one task, the more important ones first, in the width of the terminal."""
    columns = max(60, min(shutil.get_terminal_size((100, 24)).columns, 100))
    meaning = TASKS[task] if command is None else COMMANDS[command].help
    rows: list[tuple[str, str]] = []
    if command is not None:
        for positional in (COMMANDS[command].positional, COMMANDS[command].second):
            if positional is not None:
                name, metavar = positional
                rows.append((metavar, f"the same as {_flag_of(name)}"))
                usage = f"crossmodal {_usage(command)}"
    for option in OPTIONS:
        if task in option.tasks and option.name != "task":
            rows.append((_written(option), option.help + _notes(option)))
    if task == "query":
        rows += [(f"--no-{name}", meaning) for name, meaning in _TURNED_OFF.items()]
    if task == "index":
        rows.append(("--keep-going", "go on after a document that fails (the default)"))
    if command == "serve":
        rows.append(("--index-only", "take documents to index, and no searches"))
    return (
        "\n".join(
            [
                f"usage: {usage} [options]",
                "",
                f"{meaning[0].upper()}{meaning[1:]}.",
                "",
                *_columns(rows, columns),
                *(_readable(columns) if task == "index" else ()),
            ]
        )
        + "\n"
    )


def _readable(columns: int) -> list[str]:
    """The formats of photos and videos, as lines below the options."""
    from crossmodal.images.formats import formats_sentence
    from crossmodal.videos.formats import videos_sentence

    said = f"Photos are read as {formats_sentence()}. Videos are read as {videos_sentence()}."
    return ["", *textwrap.wrap(said, columns)]


def _columns(rows: Sequence[tuple[str, str]], columns: int) -> list[str]:
    left = max(len(name) for name, _ in rows) + 4
    lines = []
    for name, text in rows:
        first, *others = textwrap.wrap(text, columns - left)
        lines.append(f"  {name}".ljust(left) + first)
        lines += [" " * left + line for line in others]
    return lines


def _written(option: Option) -> str:
    flags = f"{option.short}, {option.flag}" if option.short else option.flag
    return flags if option.kind == "bool" else f"{flags} {option.metavar or '|'.join(option.choices)}"


def _notes(option: Option) -> str:
    """What stands behind an option's help: choices that aren't written in front, and the default."""
    notes = []
    if option.choices and option.metavar:
        notes.append(", ".join(option.choices))
    if option.default and option.kind != "bool":
        notes.append(f"default {_default(option)}")
    if option.variable:
        notes.append(f"or {option.variable}")
    if option.alias:
        notes.append(f"or {option.alias}")
    return f" ({'; '.join(notes)})" if notes else ""


def _default(option: Option) -> str:
    """The default as it is written."""
    return " ".join(option.default) if option.repeated else str(option.default)


def _argument_type(option: Option) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return option.convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert

"""What a walk through a folder leaves out: the defaults, ``.crossmodalignore`` files and ``--exclude``.

All are written in gitignore's language (https://git-scm.com/docs/gitignore), and the last rule that fits an
entry decides: the defaults come first, then the files from the root downwards, then the command line. What
a folder that is left out contains is not looked at, so nothing in it can be brought back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec.patterns.gitignore.base import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from crossmodal.data_sets.text_lines import read_lines
from crossmodal.errors import DataSetError, SettingsError
from crossmodal.records import Failure, below

__all__ = [
    "DEFAULT_EXCLUSIONS",
    "HIDDEN",
    "IGNORE_FILE",
    "OPTION",
    "Exclusion",
    "Exclusions",
    "Rule",
    "default_exclusions_table",
    "option_rules",
]

IGNORE_FILE = ".crossmodalignore"
OPTION = "--exclude"
_MAX_LINE = 4096


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A pattern that is left out unless a rule brings it back, and what it is."""

    pattern: str
    what: str


# What programs and disks keep beside photos, none of it anybody's own photo.
DEFAULT_EXCLUSIONS: tuple[Exclusion, ...] = (
    Exclusion(".*", "hidden files and folders"),
    Exclusion("@eaDir/", "Synology: thumbnails and what it knows of files"),
    Exclusion("#recycle/", "Synology: recycle bin"),
    Exclusion("#snapshot/", "Synology: snapshots"),
    Exclusion("@Recycle/", "QNAP: recycle bin"),
    Exclusion(".@__thumb/", "QNAP: thumbnails"),
    Exclusion("@__thumb/", "QNAP: thumbnails of older versions"),
    Exclusion("@Recently-Snapshot/", "QNAP: snapshots"),
    Exclusion("trashbox/", "Buffalo: recycle bin"),
    Exclusion(".thumbnails/", "Linux and Android: thumbnails"),
    Exclusion(".Trash/", "Linux and macOS: recycle bin"),
    Exclusion(".Trash-*/", "Linux: recycle bin of a disk"),
    Exclusion("lost+found/", "Linux: what a file system check found"),
    Exclusion(".Trashes/", "macOS: recycle bin of a disk"),
    Exclusion("__MACOSX/", "macOS: what it adds to zip files"),
    Exclusion("*.photoslibrary/", "Apple Photos: a library with its own copies and thumbnails"),
    Exclusion("*.photolibrary/", "iPhoto: the same"),
    Exclusion("*.migratedphotolibrary/", "iPhoto: the same, moved to Photos"),
    Exclusion("*.aplibrary/", "Aperture: the same"),
    Exclusion("$RECYCLE.BIN/", "Windows: recycle bin"),
    Exclusion("$Recycle.Bin/", "Windows: recycle bin"),
    Exclusion("RECYCLER/", "Windows: recycle bin of older versions"),
    Exclusion("System Volume Information/", "Windows: what it knows of a disk"),
    Exclusion("*.lrdata/", "Lightroom: previews"),
    Exclusion("*.lrcat-data/", "Lightroom: what a catalogue keeps"),
    Exclusion("**/CaptureOne/Cache/", "Capture One: previews of a session"),
    Exclusion("**/*.cocatalog/Cache/", "Capture One: previews of a catalogue"),
    Exclusion(".dtrash/", "digiKam: recycle bin"),
    Exclusion("appdata_*/", "Nextcloud: previews"),
    Exclusion("files_trashbin/", "Nextcloud: recycle bin"),
    Exclusion("files_versions/", "Nextcloud: earlier versions"),
    Exclusion(".stversions/", "Syncthing: earlier versions"),
    Exclusion("node_modules/", "programs' own pictures"),
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of gitignore's language.

    ``text`` is the line, ``origin`` what it comes from: "" for a default, ``OPTION``, or the path of a file.
    ``regex`` matches the whole name of an entry where ``by_name``, else its path relative to where the rule
    stands.
    """

    text: str
    origin: str
    what: str
    excludes: bool
    folders_only: bool
    # Without a slash inside, a pattern means names, at any depth.
    by_name: bool
    regex: re.Pattern[str]

    def fits(self, name: str, relative: str) -> bool:
        """Whether it means the entry called ``name`` at the path ``relative`` to where the rule stands."""
        return self.regex.fullmatch(name if self.by_name else relative) is not None


HIDDEN = DEFAULT_EXCLUSIONS[0].pattern


def _rule(line: str, origin: str, what: str = "") -> Rule | None:
    """The rule of a line; None for a blank line, a comment and what git discards. Raises ValueError."""
    text = line if line.endswith("\\ ") else line.rstrip()
    if not text or text.startswith("#"):
        return None
    # The slash that limits a rule to folders is taken off, so that a rule means entries and never what lies
    # below them: the walk doesn't go there.
    pattern = GitIgnoreSpecPattern(text.rstrip("/"))
    if pattern.include is None or pattern.regex is None:
        return None
    return Rule(
        text=text,
        origin=origin,
        what=what,
        excludes=pattern.include,
        folders_only=text.endswith("/"),
        by_name="/" not in text.removeprefix("!").rstrip("/"),
        regex=_whole(pattern.regex.pattern, below=text.rstrip("/").endswith("/**")),
    )


def _whole(pattern: str, *, below: bool) -> re.Pattern[str]:
    """The expression of pathspec, made to match an entry as a whole; ``below`` means whatever lies there."""
    if pattern == ".":  # a star alone
        return re.compile(".*", re.DOTALL)
    # The group of a folder's slash has a name, which may stand once where several are joined.
    plain = pattern.replace("(?P<ps_d>/)", "(?:/)")
    return re.compile(f"{plain}.*" if below else plain, re.DOTALL)


def _defaults() -> tuple[Rule, ...]:
    rules = (_rule(_escaped(entry.pattern), "", entry.what) for entry in DEFAULT_EXCLUSIONS)
    return tuple(rule for rule in rules if rule is not None)


def _escaped(pattern: str) -> str:
    """``pattern`` where a # at its beginning is a character, as no comment makes sense there."""
    return f"\\{pattern}" if pattern.startswith("#") else pattern


def option_rules(patterns: Iterable[str]) -> tuple[Rule, ...]:
    """The rules of ``--exclude``; raises SettingsError for a pattern that means nothing."""
    rules = []
    for pattern in patterns:
        try:
            rule = _rule(_escaped(pattern), OPTION)
        except GitIgnorePatternError:
            rule = None
        if rule is None:
            raise SettingsError(
                f"{OPTION} {pattern!r} is no pattern in gitignore's language; write for instance '*.png', "
                "'raw/' or '/2019/private/'."
            )
        rules.append(rule)
    return tuple(rules)


@dataclass(frozen=True, slots=True)
class _Scope:
    """Rules, and the folder that their paths are relative to, with a slash at its end.

    ``names`` and ``paths`` match a file's name or its relative path where any rule fits; for most none does.
    """

    base: str
    rules: tuple[Rule, ...]
    for_files: tuple[Rule, ...]
    names: re.Pattern[str] | None
    paths: re.Pattern[str] | None

    @classmethod
    def of(cls, folder: str, rules: Iterable[Rule]) -> _Scope:
        """The rules that hold below ``folder``, the last one first."""
        backwards = tuple(rules)[::-1]
        base = folder if folder.endswith("/") else f"{folder}/"
        for_files = tuple(rule for rule in backwards if not rule.folders_only)
        names, paths = (
            _any(rule for rule in for_files if rule.by_name is by_name) for by_name in (True, False)
        )
        return cls(base, backwards, for_files, names, paths)

    def rule_for(self, name: str, path: str, *, is_folder: bool) -> Rule | None:
        """The rule that decides on an entry; None where none fits."""
        relative = path[len(self.base) :]
        if is_folder:
            candidates = self.rules
        elif (self.names is not None and self.names.fullmatch(name)) or (
            self.paths is not None and self.paths.fullmatch(relative)
        ):
            candidates = self.for_files
        else:
            return None
        return next((rule for rule in candidates if rule.fits(name, relative)), None)


def _any(rules: Iterable[Rule]) -> re.Pattern[str] | None:
    patterns = [f"(?:{rule.regex.pattern})" for rule in rules]
    return re.compile("|".join(patterns), re.DOTALL) if patterns else None


@dataclass(frozen=True, slots=True)
class Exclusions:
    """The rules that hold in one folder, the last ones first: ``--exclude``, ignore files, the defaults."""

    scopes: tuple[_Scope, ...]

    @classmethod
    def below(cls, root: str, exclude: Sequence[str] = ()) -> Exclusions:
        """Those of a walk from ``root``, an absolute path; raises SettingsError for an unusable pattern."""
        return cls((_Scope.of(root, option_rules(exclude)), _Scope.of(root, _defaults())))

    @classmethod
    def inside(cls, root: str, folder: str, exclude: Sequence[str] = ()) -> Exclusions | None:
        """Those of ``folder`` in a walk from ``root``; None where the walk doesn't come there."""
        exclusions, here = cls.below(root, exclude), root.rstrip("/")
        for name in (below(root, folder) or "").split("/"):
            if not name:
                continue
            exclusions, _ = exclusions.with_file_of(here or "/")
            here = f"{here}/{name}"
            if exclusions.rule_for(name, here, is_folder=True) is not None:
                return None
        return exclusions

    def rule_for(self, name: str, path: str, *, is_folder: bool) -> Rule | None:
        """The rule that leaves out the entry ``name`` at the absolute ``path``; None where none does."""
        for scope in self.scopes:
            if (rule := scope.rule_for(name, path, is_folder=is_folder)) is not None:
                return rule if rule.excludes else None
        return None

    def with_file_of(self, folder: str) -> tuple[Exclusions, list[Failure]]:
        """These and the rules of the file in ``folder``, and what of that file cannot be used."""
        path = f"{folder.rstrip('/')}/{IGNORE_FILE}"
        if not os.path.lexists(path):
            return self, []
        rules: list[Rule] = []
        failures: list[Failure] = []
        for found in _file_rules(path):
            if isinstance(found, Failure):
                failures.append(found)
            else:
                rules.append(found)
        option, *others = self.scopes
        return Exclusions((option, _Scope.of(folder, rules), *others)), failures


def _file_rules(path: str) -> Iterator[Rule | Failure]:
    try:
        for line in read_lines(Path(path), _MAX_LINE):
            if line.too_long:
                yield Failure(f"{path}, line {line.number}", f"the line has more than {_MAX_LINE} characters")
                continue
            try:
                rule = _rule(line.text.rstrip("\r\n"), path)
            except GitIgnorePatternError:
                yield Failure(
                    f"{path}, line {line.number}",
                    f"{line.text.strip()!r} is no pattern in gitignore's language",
                )
                continue
            if rule is not None:
                yield rule
    except DataSetError as error:
        yield Failure(path, str(error))


def default_exclusions_table() -> str:
    """The defaults as a Markdown table; ``docs/library.md`` holds it and a test compares."""
    lines = ["| pattern | what it is |", "|---|---|"]
    lines += [f"| `{entry.pattern}` | {entry.what} |" for entry in DEFAULT_EXCLUSIONS]
    return "\n".join(lines)

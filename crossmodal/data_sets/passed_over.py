"""What a search for photos passes over on purpose, counted by kind and by rule."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from crossmodal.data_sets.exclusions import HIDDEN, IGNORE_FILE, OPTION, Rule
from crossmodal.videos.formats import VIDEO_EXTENSIONS, how_to_read_videos, reads_videos

__all__ = ["PassedOver"]

# What programs write about a photo, into a file beside it.
_SIDECARS = frozenset({".xmp", ".json", ".aae", ".thm", ".pp3", ".dop", ".on1", ".cos", ".vrd", ".arp"})
_VIDEOS = frozenset(
    {
        *VIDEO_EXTENSIONS,
        *(".mts", ".m2ts", ".mpg", ".mpeg", ".mpe", ".3gp", ".3g2", ".wmv", ".flv", ".vob", ".insv", ".lrv"),
        *(".dv", ".ogv", ".asf", ".mxf", ".braw"),
    }
)


class PassedOver:
    """The counts of one search; ``unreadable`` are the folders that could not be looked into,
    ``links_to_nothing`` links with the name of a photo to what isn't there.

    ``used`` are absolute paths of files that are read, though they are no images. ``live_photos`` are the
    paths of videos that are part of a photo.
    """

    def __init__(self, used: Collection[str] = ()) -> None:
        self._used = used
        self.unreadable = 0
        self.folders_met_before = 0
        self.live_photos: list[str] = []
        self.links_to_nothing = 0
        self._extensions: Counter[str] = Counter()
        # Files, folders.
        self._by_rule: dict[Rule, list[int]] = {}

    def file(self, path: str) -> None:
        """Counts a file that is no image."""
        if path not in self._used:
            self._extensions[os.path.splitext(path)[1].lower() or "without extension"] += 1  # noqa: PTH122

    def left_out(self, rule: Rule, *, is_folder: bool) -> None:
        """Counts an entry that ``rule`` leaves out."""
        self._by_rule.setdefault(rule, [0, 0])[is_folder] += 1

    def notes(self, folder: Path | str, exclude: Sequence[str] = ()) -> list[str]:
        """A sentence for each kind and rule; none where nothing was passed over.

        ``exclude`` are the patterns of the command line, of which those that left out nothing are named.
        """
        notes = [f"{folder}: {sentence}" for sentence in (*self._kinds(), *self._rules(exclude))]
        if self.folders_met_before:
            notes.append(
                f"{folder}: passed over {self.folders_met_before:,} links to folders already visited"
            )
        if self.links_to_nothing:
            links = _number(self.links_to_nothing, "link")
            notes.append(f"{folder}: passed over {links} to files that are not there")
        return notes

    def _kinds(self) -> list[str]:
        kinds: dict[str, dict[str, int]] = {"sidecar": {}, "video": {}, "other": {}}
        for extension, count in self._extensions.items():
            kind = "sidecar" if extension in _SIDECARS else "video" if extension in _VIDEOS else "other"
            kinds[kind][extension] = count
        sentences = []
        if sidecars := kinds["sidecar"]:
            # What they say of a photo is read with it.
            are = "is no photo" if sum(sidecars.values()) == 1 else "are no photos"
            sentences.append(f"{_number(sum(sidecars.values()), 'sidecar')} {are} ({_listed(sidecars)})")
        if videos := kinds["video"]:
            sentence = f"passed over {_number(sum(videos.values()), 'video')} ({_listed(videos)})"
            if not reads_videos() and not VIDEO_EXTENSIONS.isdisjoint(videos):
                sentence += f". {how_to_read_videos()}"
            sentences.append(sentence)
        if self.live_photos:
            are = "is part of a Live Photo" if len(self.live_photos) == 1 else "are parts of Live Photos"
            sentences.append(f"{_number(len(self.live_photos), 'video')} {are}, and found with it")
        if others := kinds["other"]:
            sentences.append(
                f"passed over {sum(others.values()):,} files that are not images ({_listed(others)})"
            )
        return sentences

    def _rules(self, exclude: Sequence[str]) -> list[str]:
        sentences = []
        by_default = []
        for rule, (files, folders) in self._by_rule.items():
            if rule.origin == OPTION:
                sentences.append(f"{OPTION} {rule.text!r} left out {_entries(files, folders)}")
            elif rule.origin:
                sentences.append(
                    f"the rule {rule.text!r} of {rule.origin} left out {_entries(files, folders)}"
                )
            elif rule.text == HIDDEN:
                sentences.append(f"passed over {files + folders:,} hidden files and folders")
            else:
                by_default.append(f"{_number(folders, 'folder')} {rule.text} ({rule.what})")
        if by_default:
            first = next(rule.text for rule in self._by_rule if not rule.origin and rule.text != HIDDEN)
            sentences.append(
                f"left out by default {'; '.join(by_default)}. A line !{first} in {IGNORE_FILE} brings such "
                "a folder back"
            )
        used = {rule.text.removeprefix("\\") for rule in self._by_rule if rule.origin == OPTION}
        sentences += [
            f"{OPTION} {pattern!r} left out nothing"
            for pattern in exclude
            if not pattern.startswith("!") and pattern.rstrip().removeprefix("\\") not in used
        ]
        return sentences


def _entries(files: int, folders: int) -> str:
    named = [_number(count, kind) for count, kind in ((folders, "folder"), (files, "file")) if count]
    return " and ".join(named)


def _number(count: int, kind: str) -> str:
    return f"{count:,} {kind}" if count == 1 else f"{count:,} {kind}s"


def _listed(found: Mapping[str, int]) -> str:
    """All of them, the most frequent ones first."""
    most_first = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {extension}" for extension, count in most_first)

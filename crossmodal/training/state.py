"""A run's state on disk, from which it goes on after it was stopped or killed."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from crossmodal.errors import SettingsError
from crossmodal.training.config import TrainingConfig

__all__ = ["StateFile"]

_NAME = "training-state.pt"
_FORMAT = 1

# What torch, pickle and the configuration raise for files that are damaged, or that another version wrote.
_UNREADABLE = (
    *(OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError),
    *(pickle.UnpicklingError, SettingsError),
)


class StateFile:
    """``training-state.pt`` in the output folder, which belongs to one configuration and its data."""

    def __init__(self, folder: Path, config: TrainingConfig, data: str) -> None:
        """``data`` is a fingerprint of the training and dev data."""
        self.path = folder / _NAME
        self._config = config
        self._data = data

    def load(self) -> dict[str, Any] | None:
        """What was saved last, or None where there is nothing.

        Raises SettingsError where the file belongs to another run or cannot be read.
        """
        if not self.path.is_file():
            return None
        try:
            saved: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            # Settings that are newer than the file have their defaults.
            config = TrainingConfig.from_json(json.loads(saved["config"])).to_json()
            version, data = saved["format"], saved["data"]
        except _UNREADABLE as error:
            raise SettingsError(
                f"The training state {self.path} cannot be read ({type(error).__name__}); delete it to start "
                "over."
            ) from error
        if version != _FORMAT:
            raise SettingsError(
                f"The training state {self.path} has the format {version}, and this version reads {_FORMAT}; "
                "delete it to start over."
            )
        if different := _differences(config, self._config.to_json()):
            raise SettingsError(
                f"{self.path.parent} holds an unfinished run with other settings ({', '.join(different)}); "
                f"use another --output, or delete {self.path} to start over."
            )
        if data != self._data:
            raise SettingsError(
                f"{self.path.parent} holds an unfinished run on other data: photos or captions have changed "
                f"since. Use another --output, or delete {self.path} to start over."
            )
        state: dict[str, Any] = saved["state"]
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace what was saved; whatever interrupts this leaves the earlier state whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(
                {
                    "format": _FORMAT,
                    "config": json.dumps(self._config.to_json()),
                    "data": self._data,
                    "state": state,
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def delete(self) -> None:
        """The run is finished."""
        self.path.unlink(missing_ok=True)


def _differences(saved: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """The settings that differ, and the stages they are in."""
    names = []
    for name in sorted(set(saved) | set(given)):
        one, other = saved.get(name), given.get(name)
        if one == other:
            continue
        if name == "stages" and isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            names += [
                f"stage {number}'s {key}"
                for number, (first, second) in enumerate(zip(one, other, strict=True), start=1)
                for key in sorted(set(first) | set(second))
                if first.get(key) != second.get(key)
            ]
        else:
            names.append(name)
    return names

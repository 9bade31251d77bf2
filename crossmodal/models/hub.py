"""Files of the model hub: found in the cache, or downloaded once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from crossmodal.errors import ModelError
from crossmodal.models.libraries import import_hub

__all__ = ["cached_file", "find_folder", "hub_folder", "hub_problem"]

# Without this probe huggingface_hub tries six times, which takes 23 s on a machine that is offline.
_PROBE_SECONDS = 5.0


def hub_folder(repository: str, cache: Path | None) -> Path:
    """Where the files of ``repository`` lie in ``cache`` (None: the cache shared with other programs)."""
    hub = import_hub()
    return Path(cache or hub.constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def cached_file(repository: str, file: str, cache: Path | None) -> Path | None:
    """The file where it was downloaded before, or None; makes no request."""
    found = import_hub().try_to_load_from_cache(repository, file, cache_dir=cache)
    return Path(found) if isinstance(found, str) else None


def find_folder(
    repository: str, needed: str, patterns: Sequence[str], cache: Path | None, *, advice: str
) -> Path:
    """A local folder with the files of ``repository`` that match ``patterns``, ``needed`` among them.

    In its place there may be the parts that ``needed.index.json`` names, as large weights have them. They are
    downloaded if ``needed`` is not in ``cache``, with a progress bar on stderr. Raises ModelError, whose
    message ends in ``advice``, where they are neither in the cache nor can be downloaded.
    """
    for name in (needed, f"{needed}.index.json"):
        if (found := cached_file(repository, name, cache)) and _is_whole(found.parent, needed):
            return found.parent

    def absent(problem: str) -> ModelError:
        return ModelError(
            f"The files {', '.join(patterns)} of the repository {repository} are not in "
            f"{hub_folder(repository, cache)} and cannot be downloaded: {' '.join(problem.split())} {advice}"
        )

    if problem := hub_problem(repository):
        raise absent(problem)
    try:
        folder = Path(
            import_hub().snapshot_download(repository, cache_dir=cache, allow_patterns=list(patterns))
        )
    except Exception as error:
        # Disks, proxies, authorisation, and whichever HTTP client huggingface_hub uses.
        raise absent(str(error)) from error
    if not _is_whole(folder, needed):
        raise absent(f"the repository has no {needed}.")
    return folder


def _is_whole(folder: Path, needed: str) -> bool:
    if (folder / needed).is_file():
        return True
    try:
        named = json.loads((folder / f"{needed}.index.json").read_bytes())["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((folder / part).is_file() for part in set(named))


def hub_problem(repository: str) -> str | None:
    """Why the model hub, or its configured mirror, cannot be reached, or None; makes one request."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from huggingface_hub.constants import ENDPOINT

    try:
        with urlopen(Request(f"{ENDPOINT}/{repository}", method="HEAD"), timeout=_PROBE_SECONDS):
            return None
    except HTTPError:
        # Any answer shows that it can be reached.
        return None
    except (OSError, HTTPException, ValueError) as error:
        return f"{ENDPOINT} cannot be reached ({error})."

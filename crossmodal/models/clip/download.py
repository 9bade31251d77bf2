"""Published weights: found in the cache, or downloaded once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError

__all__ = ["find_weights"]

# What a model's repository calls its weights, the safe format first.
_DEFAULT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# Without this probe huggingface_hub tries six times, which takes 23 s on a machine that is offline.
_PROBE_SECONDS = 5.0


def find_weights(architecture: str, tag: str, published: Mapping[str, Any], cache: Path | None) -> Path:
    """The local file with the weights of ``architecture`` that are published as ``tag``.

    ``published`` is open_clip's record of them. They are downloaded if they are not in ``cache`` (None:
    the one that huggingface_hub and open_clip share with other programs), with a progress bar on stderr.

    Raises ModelError where they are neither there nor to be had.
    """
    if published.get("quick_gelu") and not architecture.endswith("-quickgelu"):
        # A tag brings its activation along; the file alone, which an error advises to use, needs to be told.
        architecture = f"{architecture}-quickgelu"
    repository, _, file = str(published.get("hf_hub") or "").rpartition("/")
    if repository:
        return _from_hub(architecture, tag, repository, _candidates(file), cache)
    return _from_url(architecture, tag, str(published["url"]), cache)


def _candidates(file: str) -> tuple[str, ...]:
    if not file:
        return _DEFAULT_FILES
    stem, dot, ending = file.rpartition(".")
    return (f"{stem}.safetensors", file) if dot and ending in ("bin", "pt", "pth") else (file,)


def _from_hub(
    architecture: str, tag: str, repository: str, files: tuple[str, ...], cache: Path | None
) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in files:
        found = try_to_load_from_cache(repository, file, cache_dir=cache)
        if isinstance(found, str):
            return Path(found)
    place = Path(cache or HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    if problem := _hub_problem(repository):
        raise _missing(architecture, tag, files[0], f"repository {repository}", place, problem)
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, cache_dir=cache))
        except LocalEntryNotFoundError as error:
            # A kind of EntryNotFoundError that means something else: the connection broke.
            raise _missing(architecture, tag, file, f"repository {repository}", place, str(error)) from error
        except EntryNotFoundError:
            continue
        except Exception as error:
            # Disks, proxies, authorisation, and whichever HTTP client huggingface_hub uses.
            raise _missing(architecture, tag, file, f"repository {repository}", place, str(error)) from error
    problem = f"the repository has none of {', '.join(files)}."
    raise _missing(architecture, tag, files[0], f"repository {repository}", place, problem)


def _hub_problem(repository: str) -> str | None:
    """Why the model hub cannot be reached, or None; asks once, through whatever proxy or mirror is set up."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from huggingface_hub.constants import ENDPOINT

    try:
        with urlopen(Request(f"{ENDPOINT}/{repository}", method="HEAD"), timeout=_PROBE_SECONDS):
            return None
    except HTTPError:
        # Whatever it answers, it is there.
        return None
    except (OSError, HTTPException, ValueError) as error:
        return f"{ENDPOINT} cannot be reached ({error})."


def _from_url(architecture: str, tag: str, url: str, cache: Path | None) -> Path:
    from open_clip.pretrained import download_pretrained_from_url

    folder = cache or Path.home() / ".cache" / "clip"
    file = url.rpartition("/")[2]
    try:
        return Path(download_pretrained_from_url(url, cache_dir=str(folder)))
    except (OSError, RuntimeError) as error:
        raise _missing(architecture, tag, file, url, folder / file, str(error)) from error


def _missing(architecture: str, tag: str, file: str, source: str, place: Path, problem: str) -> ModelError:
    return ModelError(
        f"The weights {file} of {architecture}/{tag} ({source}) are not in {place} and cannot be downloaded: "
        f"{' '.join(problem.split())} Run the same command once with a connection, or copy the file here "
        f"from elsewhere and use --model clip:{architecture}/PATH_OF_THE_FILE."
    )

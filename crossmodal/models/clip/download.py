"""Published weights: found in the cache, or downloaded once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded
from crossmodal.models.hub import cached_file, hub_folder, hub_problem, import_hub

__all__ = ["find_weights"]

# What a model's repository calls its weights, the safe format first.
_DEFAULT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


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
    hub = import_hub()
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in files:
        if found := cached_file(repository, file, cache):
            return found
    place = hub_folder(repository, cache)
    if problem := hub_problem(repository):
        raise _missing(architecture, tag, files[0], f"repository {repository}", place, problem)
    for file in files:
        try:
            return Path(hub.hf_hub_download(repository, file, cache_dir=cache))
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


def _from_url(architecture: str, tag: str, url: str, cache: Path | None) -> Path:
    from open_clip.pretrained import download_pretrained_from_url

    folder = cache or expanded("~/.cache/clip")
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

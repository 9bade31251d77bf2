"""Weight files of open_clip's models: cached or downloaded ones, and OpenAI's archives."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossmodal.errors import ModelError
from crossmodal.home_folder import expanded
from crossmodal.models.hub import cached_file, hub_folder, hub_problem
from crossmodal.models.libraries import import_hub

__all__ = ["HUB_WEIGHTS", "find_weights", "is_torchscript", "read_torchscript"]

# What a model's repository calls its weights, the safe format first.
HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

# What an archive holds beside weights: sizes, and the mask that makes the text causal.
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


def find_weights(architecture: str, tag: str, published: Mapping[str, Any], cache: Path | None) -> Path:
    """The local file with the weights of ``architecture`` that are published as ``tag``.

    ``published`` is open_clip's record of them. They are downloaded if they are not in ``cache`` (None: the
    cache that huggingface_hub and open_clip share with other programs), with a progress bar on stderr.

    Raises ModelError where they are neither in the cache nor can be downloaded.
    """
    if published.get("quick_gelu") and not architecture.endswith("-quickgelu"):
        # A tag implies its activation; the file alone, which an error advises to use, does not.
        architecture = f"{architecture}-quickgelu"
    repository, _, file = str(published.get("hf_hub") or "").rpartition("/")
    if repository:
        return _from_hub(f"{architecture}/{tag}", repository, _candidates(file), cache)
    return _from_url(f"{architecture}/{tag}", str(published["url"]), cache)


def is_torchscript(path: Path) -> bool:
    """Whether ``path`` is a TorchScript archive, the form in which OpenAI published CLIP."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Any]:
    """The tensors of a TorchScript archive, float32. Raises ModelError where it cannot be read.

    Unlike other files of weights it is not only data: loading it may run TorchScript of its own.
    """
    import torch

    try:
        state: dict[str, Any] = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError) as error:
        raise ModelError(f"The archive {path} cannot be read: {str(error).splitlines()[0]}.") from error
    return {key: value.float() for key, value in state.items() if key not in _NOT_WEIGHTS}


def _candidates(file: str) -> tuple[str, ...]:
    if not file:
        return HUB_WEIGHTS
    stem, dot, ending = file.rpartition(".")
    return (f"{stem}.safetensors", file) if dot and ending in ("bin", "pt", "pth") else (file,)


def _from_hub(model: str, repository: str, files: tuple[str, ...], cache: Path | None) -> Path:
    hub = import_hub()
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def missing(file: str, problem: object) -> ModelError:
        return _missing(model, file, f"repository {repository}", hub_folder(repository, cache), problem)

    for file in files:
        if found := cached_file(repository, file, cache):
            return found
    if problem := hub_problem(repository):
        raise missing(files[0], problem)
    for file in files:
        try:
            return Path(hub.hf_hub_download(repository, file, cache_dir=cache))
        except EntryNotFoundError as error:
            # LocalEntryNotFoundError means something else: the connection broke.
            if isinstance(error, LocalEntryNotFoundError):
                raise missing(file, error) from error
        except Exception as error:
            # Disks, proxies, authorisation, and whichever HTTP client huggingface_hub uses.
            raise missing(file, error) from error
    raise missing(files[0], f"the repository has none of {', '.join(files)}.")


def _from_url(model: str, url: str, cache: Path | None) -> Path:
    from open_clip.pretrained import download_pretrained_from_url

    folder = cache or expanded("~/.cache/clip")
    file = url.rpartition("/")[2]
    try:
        return Path(download_pretrained_from_url(url, cache_dir=str(folder)))
    except (OSError, RuntimeError) as error:
        raise _missing(model, file, url, folder / file, error) from error


def _missing(model: str, file: str, source: str, place: Path, problem: object) -> ModelError:
    return ModelError(
        f"The weights {file} of {model} ({source}) are not in {place} and cannot be downloaded: "
        f"{' '.join(str(problem).split())} Run the same command once with a connection, or copy the file "
        f"here from elsewhere and use --model clip:{model.partition('/')[0]}/PATH_OF_THE_FILE."
    )

"""Reading and encoding on the workers of a Ray cluster, by Ray Data; what comes of it is written here."""

from __future__ import annotations

import logging
import pickle
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crossmodal.bulk.ordering import Item, Said, merged, waves
from crossmodal.bulk.preparing import Preparer
from crossmodal.data_sets.mentions import Mention, Work
from crossmodal.data_sets.prepared import LeftOut
from crossmodal.errors import CrossmodalError, ServiceError, SettingsError
from crossmodal.extras import require_package
from crossmodal.models import identify_model
from crossmodal.records import Failure
from crossmodal.settings import Settings, exported

if TYPE_CHECKING:
    import pyarrow

__all__ = ["RayReader"]

# Answers of a worker in one row, and the bytes after which Ray begins another block.
_ANSWERS = 32
_BLOCK_BYTES = 8 << 20


class RayReader:
    """A ``Reader`` that has works done by Ray: by the cluster at ``$RAY_ADDRESS``, or one on this machine.

    Each place, a node or, where there are any, a GPU, has an actor with a model of its own. A worker that is
    lost has its parts done by another one. ``digests`` are those of the photos that the index has,
    ``originals`` says whether their bytes are to be stored. Raises MissingExtra without Ray, ServiceError
    where there is no cluster or a worker fails.
    """

    def __init__(self, settings: Settings, digests: Iterable[str], *, originals: bool) -> None:
        _require_ray()
        self._settings = settings
        self._originals = originals
        # Which model that is on the machine that writes; a worker with another one under that name refuses.
        self._identity = identify_model(str(settings.model), cache=settings.model_cache)
        self._digests = digests
        self._known: Any = None
        self._own = False

    def __call__(self, items: Iterator[Item]) -> Iterator[Mention | Failure | LeftOut]:
        """The answers to all works, and what else there is, in the order of ``items``."""
        for wave in waves(items):
            yield from merged(wave, self._answers([part.works for part in wave]))

    def close(self) -> None:
        """Leaves the cluster, where it was joined here."""
        if self._own:
            import ray

            ray.shutdown()
            self._own = False

    def _join(self) -> None:
        """Joins the cluster, now that there is something to do."""
        import ray

        if not ray.is_initialized():
            _connect()
            self._own = True
        if self._known is None:
            known = np.fromiter((_short(digest) for digest in self._digests), np.uint64)
            known.sort()
            self._known = ray.put(known)

    def _answers(self, parts: Sequence[Sequence[Work]]) -> Iterator[Said]:
        rows = [{"part": number, "works": pickle.dumps(works)} for number, works in enumerate(parts) if works]
        if not rows:
            return
        self._join()
        import ray
        import ray.data

        # Of each execution it tells at length; how far indexing is, the progress says.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        context.execution_options.verbose_progress = False
        context.target_max_block_size = _BLOCK_BYTES
        cores, gpus, places = _places(ray.nodes())
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            fn_constructor_args=(self._settings, self._identity, self._known, self._originals),
            compute=ray.data.ActorPoolStrategy(min_size=1, initial_size=min(places, len(rows))),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=cores,
            num_gpus=gpus,
        )
        try:
            for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
                for part, said in zip(
                    *(batch.column(name).to_pylist() for name in ("part", "said")), strict=True
                ):
                    # Made by our own workers.
                    for answer in pickle.loads(said):
                        yield Said(part, answer)
        except ray.exceptions.RayError as error:
            raise ServiceError(f"Ray ended with an error: {_last_line(error)}") from error


class _Worker:
    """The actor: one model, and the parts that Ray gives to it."""

    def __init__(self, settings: Settings, identity: Any, known: Any, originals: bool) -> None:
        import ray

        found = identify_model(str(settings.model), cache=settings.model_cache)
        if found != identity:
            raise ServiceError(f"The model {settings.model} is {found} on a worker, but {identity} here.")
        digests: NDArray[np.uint64] = ray.get(known)

        def is_known(digest: str) -> bool:
            short = _short(digest)
            place = int(np.searchsorted(digests, short))
            return place < len(digests) and int(digests[place]) == short

        self._preparer = Preparer(settings, is_known=is_known, originals=originals)

    def __call__(self, batch: pyarrow.Table) -> Iterator[pyarrow.Table]:
        import pyarrow

        for part, works in zip(*(batch.column(name).to_pylist() for name in ("part", "works")), strict=True):
            answers = self._preparer.prepared(pickle.loads(works))
            while some := list(islice(answers, _ANSWERS)):
                said = pyarrow.array([pickle.dumps(some)], pyarrow.large_binary())
                yield pyarrow.table({"part": [part], "said": said})


def _require_ray() -> None:
    """Raises MissingExtra without Ray, SettingsError where what is installed keeps it from starting."""
    require_package("ray", "--on ray")
    with suppress(PackageNotFoundError):
        if (found := version("pydantic")).startswith("1."):
            raise SettingsError(
                f"Ray doesn't start beside pydantic {found}, which the extra jina has. Install the extra ray "
                "without jina, in an environment of its own."
            )


def _connect() -> None:
    import ray

    # Ray takes this signal for itself.
    before = signal.getsignal(signal.SIGTERM)
    try:
        # What ends a run is told here, and what its processes say of themselves isn't.
        with exported({"RAY_BACKEND_LOG_LEVEL": "fatal"}):
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except Exception as error:  # Ray itself raises nothing narrower where a node doesn't start
        raise ServiceError(f"There is no Ray cluster: {_last_line(error)} Look at $RAY_ADDRESS.") from error
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, before)


def _places(nodes: Iterable[dict[str, Any]]) -> tuple[float, float | None, int]:
    """The cores and GPUs of an actor, and how many actors there is room for.

    A node without a GPU gets none where another has one. An actor uses all cores that it finds.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not alive:
        raise ServiceError("The Ray cluster has no node with a core that could be used.")
    with_gpus = [each for each in alive if each.get("GPU", 0) >= 1]
    if with_gpus:
        cores = min(each["CPU"] // each["GPU"] for each in with_gpus)
        return max(1.0, cores), 1.0, int(sum(each["GPU"] for each in with_gpus))
    cores = min(each["CPU"] // 1 for each in alive)
    return cores, None, int(sum(each["CPU"] // cores for each in alive))


def _short(digest: str) -> int:
    """The first 64 bits of a digest: two photos that share them cost a photo that is encoded here."""
    return int(digest[:16], 16)


def _last_line(error: BaseException) -> str:
    if isinstance(cause := getattr(error, "cause", None), CrossmodalError):
        return str(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

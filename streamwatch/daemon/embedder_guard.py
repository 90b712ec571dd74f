"""An embedder that outlives what goes wrong in it: memory that runs short, and errors that a new one may not have."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamwatch.embedding import Embedder, EmbedderIdentity
from streamwatch.embedding.out_of_memory import is_out_of_memory, release_memory
from streamwatch.errors import EmbedderFailed, WeightsMismatch
from streamwatch.metrics import Metrics
from streamwatch.records import Picture

log = logging.getLogger(__name__)

_MOST_FAILURES = 3
"""In a row, with a new embedder each time; after that another start of the whole daemon may help."""


@dataclass(frozen=True)
class _Trouble:
    """What is left of an exception without its traceback."""

    text: str
    memory: bool


class GuardedEmbedder:
    """An `Embedder` around another one. Each picture's vectors come from one that worked, or not at all.

    Out of memory: the batch is halved, for good; where a single picture is too much for the GPU, the CPU takes over.
    Any other error: the embedder is built anew, and the same pictures are given to the new one.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        rebuild: Callable[[], Embedder],
        rebuild_on_cpu: Callable[[], Embedder] | None,
        metrics: Metrics,
    ) -> None:
        """Take over an embedder that works.

        Args:
            embedder: Not to be used by anybody else.
            rebuild: Builds the same one anew.
            rebuild_on_cpu: Builds it for the CPU; None where it is there already.
            metrics: Get each fallback.
        """
        self._inner: Embedder | None = embedder
        self._rebuild, self._rebuild_on_cpu, self._metrics = rebuild, rebuild_on_cpu, metrics
        self._identity, self._batch_size = embedder.identity, embedder.batch_size
        self._most = embedder.batch_size
        self._failures = 0
        metrics.embedder_batch.set(self._most)

    @property
    def identity(self) -> EmbedderIdentity:
        return self._identity

    @property
    def batch_size(self) -> int:
        return self._batch_size

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """As the protocol says.

        Raises:
            EmbedderFailed: Again and again, also when built anew.
            WeightsMismatch: The weights have become others since the start.
        """
        identity = self._identity
        vectors = np.empty((len(pictures), identity.grid.regions, identity.dimensions), dtype=np.float32)
        start = 0
        while start < len(pictures):
            part = pictures[start : start + self._most]
            # What went wrong is seen to only here, outside the `except` block, where no traceback holds tensors.
            trouble = self._try(part, vectors[start : start + len(part)])
            if trouble is None:
                self._failures = 0
                start += len(part)
            elif trouble.memory and len(part) > 1:
                self._halve(len(part))
            elif trouble.memory and self._rebuild_on_cpu is not None:
                self._go_to_cpu(self._rebuild_on_cpu)
            else:
                self._build_anew(trouble.text)
        return vectors

    def _try(self, pictures: Sequence[Picture], into: NDArray[np.float32]) -> _Trouble | None:
        try:
            if self._inner is None:
                self._inner = self._checked(self._rebuild())
            found = self._inner.embed(pictures)
            if found.shape != into.shape:
                raise ValueError(f"the network gave vectors of shape {found.shape}, expected {into.shape}")
            into[:] = found
        except WeightsMismatch:
            raise
        except Exception as error:
            memory = is_out_of_memory(error)
            if not memory:  # as text: a log record's exc_info would hold the tensors of its frames
                log.error("the network failed\n%s", traceback.format_exc())
            return _Trouble(f"{type(error).__name__}: {error}", memory)
        return None

    def _halve(self, pictures: int) -> None:
        self._most = pictures // 2
        release_memory()
        log.warning("the network is out of memory: from now on it gets %d pictures at once", self._most)
        self._metrics.fallbacks.labels("batch").inc()
        self._metrics.embedder_batch.set(self._most)

    def _go_to_cpu(self, rebuild_on_cpu: Callable[[], Embedder]) -> None:
        self._inner = None
        release_memory()
        log.error(
            "the GPU has no memory left for a single picture: the network runs on the CPU until the daemon is "
            "restarted; see what else uses the GPU (nvidia-smi)"
        )
        self._metrics.fallbacks.labels("cpu").inc()
        self._metrics.embedder_degraded.set(1)
        self._rebuild, self._rebuild_on_cpu = rebuild_on_cpu, None
        self._most = self._batch_size
        self._metrics.embedder_batch.set(self._most)

    def _build_anew(self, text: str) -> None:
        self._inner = None
        release_memory()
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            raise EmbedderFailed(f"the network failed {self._failures} times in a row, also when built anew: {text}")
        log.error("the network is built anew, after: %s", text)
        self._metrics.fallbacks.labels("rebuilt").inc()

    def _checked(self, embedder: Embedder) -> Embedder:
        if embedder.identity != self._identity:
            raise WeightsMismatch(
                f"the network that was built anew is {embedder.identity}, expected {self._identity}: the weights file "
                "has changed since the start; put the old one back, or restart the daemon"
            )
        return embedder

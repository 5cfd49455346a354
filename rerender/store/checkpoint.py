"""The model of a job: what is known of it without loading it, and the model itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch

from rerender.contracts import Checkpoint, MemoryDemand, Model
from rerender.store.cache import Cache, key
from rerender.store.provenance import code_of, versions
from rerender.video import sha256_file

Loras: TypeAlias = tuple[tuple[str, float], ...]
"""Files of LoRAs with their scales."""

_LOADED: dict[tuple[str, tuple[str, ...]], Model] = {}  # the one that was loaded last


def forget() -> None:
    """Let go of the model that is held; whoever needs it loads it again."""
    _LOADED.clear()


class Loading:
    """A checkpoint that is loaded when somebody needs it.

    What a run asks first, the digest of the weights and what sides of images must be multiples of,
    is remembered in the stage store by the files of the checkpoint: a run all of whose stages are
    there never loads it.

    Args:
        checkpoint: checked already.
        controls: names of the controls that need a ControlNet.
        cache: the stage store; None remembers nothing.
        demand: what is asked of the device's memory, which is looked at before loading; None for
            no look.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        controls: Sequence[str],
        cache: Cache | None,
        demand: MemoryDemand | None = None,
    ) -> None:
        self._checkpoint, self._controls, self._cache = checkpoint, tuple(controls), cache
        self._demand, self._fitted = demand, None if demand else checkpoint
        self._facts: dict[str, Any] | None = None
        self._adapted: dict[Loras, Loading] = {}

    def adapted(self, loras: Loras) -> Loading:
        """The same checkpoint with the LoRAs of a range (see `rerender.video.PromptRange`)."""
        if not loras:
            return self
        if loras not in self._adapted:
            checkpoint = self._checkpoint.adapted(loras)
            self._adapted[loras] = Loading(checkpoint, self._controls, self._cache, self._demand)
        return self._adapted[loras]

    def digest_with(self, sets: Iterable[Loras]) -> str:
        """Hash of all weights of a run whose ranges have these LoRAs."""
        others = [self.adapted(loras).digest for loras in sorted({*sets} - {()})]
        return key(base=self.digest, adapted=others) if others else self.digest

    @property
    def digest(self) -> str:
        """Hash of all weights."""
        return str(self._known()["digest"])

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return int(self._known()["multiple"])

    def model(self) -> Model:
        """The model; a sweep in one process loads the same one once, and holds never two. (In a
        fade between ranges with other LoRAs the one before is held by who translates with it.)"""
        fitted = self.check_memory()
        wanted = (repr(fitted), self._controls)
        if wanted not in _LOADED:
            _LOADED.clear()
            _LOADED[wanted] = fitted.load(self._controls)
        return _LOADED[wanted]

    def check_memory(self) -> Checkpoint:
        """Refuse a model for which the memory of its device does not suffice, without loading it.

        Returns:
            The checkpoint as it fits: whole, or with networks that take turns on the device.

        Raises:
            ResourceError: it does not.
        """
        if self._fitted is None:
            assert self._demand is not None
            self._fitted = self._checkpoint.fitted(self._controls, self._demand)
        return self._fitted

    def known(self) -> bool:
        """Whether digest and multiple can be said without loading."""
        return self._found() is not None

    def _known(self) -> dict[str, Any]:
        if self._facts is None:
            self._facts = self._found() or self._looked()
        return self._facts

    def _found(self) -> dict[str, Any] | None:
        data = self._cache.get("weights", self._key) if self._cache and self._key else None
        return None if data is None else dict(json.loads(data))

    def _looked(self) -> dict[str, Any]:
        """What the loaded model says of itself."""
        model = self.model()
        facts = {"digest": model.digest(), "multiple": model.size_multiple}
        if self._cache and self._key:
            self._cache.put("weights", self._key, json.dumps(facts).encode())
        return facts

    @cached_property
    def _key(self) -> str | None:
        """A key for the files of the checkpoint, where they can be told."""
        files = self._checkpoint.fingerprint(self._controls, self._digest_of)
        if files is None:
            return None
        return key(
            files=files,
            checkpoint=repr(self._checkpoint),
            gpu=torch.cuda.is_available(),  # decides the type of the weights where that is auto
            code=code_of([type(self._checkpoint).__module__]),
            versions=versions(),
        )

    def _digest_of(self, file: Path) -> str:
        """The sha256 of a file; read again only when its size or its time has changed."""
        state = file.stat()
        name = key(file=str(file.resolve()), size=state.st_size, changed=state.st_mtime_ns)
        known = self._cache.get("weights", name) if self._cache else None
        if known is not None:
            return known.decode()
        found = sha256_file(file)
        if self._cache:
            self._cache.put("weights", name, found.encode())
        return found

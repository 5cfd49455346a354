"""Key frames in the stage store: those of a finished clip, and those of one that was stopped.

Each image is kept as it was computed, in float32. To go on in the middle of a shot it also takes
what the next key frame refers to: the traces of its anchor, of the key frame before and of the one
whose hidden states are remembered. Those can be large; they are written at most so often that
writing takes a fiftieth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from safetensors.torch import load, save
from torch import Tensor

from rerender.errors import ResourceError
from rerender.peak_memory import peak
from rerender.scene import Trace, Translation, Watch
from rerender.store.cache import Cache, Entry, Work
from rerender.translation.references import References, ResumePoint
from rerender.video import Frame, KeyFrame, Video

KEYS = "keys"  # name of the stage
SHARE = 50  # of the time that passes, at most one part in so many goes into writing traces
_ROLES = ("anchor", "previous", "remembered")
Storage = tuple[torch.dtype | None, torch.device | None]


class FinishedKeyFrames(ResumePoint):
    """All key frames of a clip, finished; their pictures are shown again.

    Args:
        entry: the finished stage.
        video: the source, as it was translated.
        watch: shown the pictures.
    """

    def __init__(self, entry: Entry, video: Video, watch: Watch) -> None:
        self._entry, self._video, self._watch = entry, video, watch
        self.shots = entry.facts["shots"]
        self.finished = sum(map(len, entry.facts["shots"]))

    def recall(self, index: int, shot: int) -> Translation:
        data = self._entry.read(_image(index))
        return _translation(data, self._video.frame(index), shot, self._watch)


class StoredKeyFrames(ResumePoint):
    """The key frames of a clip that an earlier attempt has finished; those of this one are kept.

    Args:
        work: the stage under way.
        video: the source, as it is translated.
        storage: type and device in which traces keep hidden states.
        seconds: what translation has taken, earlier attempts included.
        watch: shown the pictures of key frames that were finished earlier.
        closed: called when the stage is finished.
    """

    def __init__(
        self,
        work: Work,
        video: Video,
        storage: Storage,
        seconds: Callable[[], float],
        watch: Watch,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._work, self._video, self._storage = work, video, storage
        self._seconds, self._watch, self._closed = seconds, watch, closed
        self._shots: Sequence[Sequence[int]] = ()
        self._made = self.finished = int(work.facts.get("finished", 0))
        self._members: Mapping[str, int] = work.facts.get("references") or {}
        self._earliest = 0.0  # when traces may be written again
        self.references = self._restored() if self._members else None

    def begin(self, shots: Sequence[Sequence[int]]) -> None:
        self._shots = self.shots = shots

    def recall(self, index: int, shot: int) -> Translation:
        data = self._work.read(_image(index))
        return _translation(data, self._video.frame(index), shot, self._watch)

    def finish(self, translation: Translation, references: References | None) -> None:
        index = translation.key.index
        self._work.put(_image(index), save({"image": translation.image.detach().contiguous()}))
        self._made += 1
        if any(index == shot[-1] for shot in self._shots):
            self._commit(None)  # the next key frame begins a shot and refers to none before it
        elif references is not None and (begun := time.monotonic()) >= self._earliest:
            self._commit(references)
            ended = time.monotonic()
            self._earliest = ended + (SHARE - 1) * (ended - begun)

    def close(self) -> None:
        shots = [list(shot) for shot in self._shots]
        facts = {"shots": shots, "seconds": self._seconds(), "peak": peak()}
        self._work.finish(facts, tuple(_image(i) for shot in self._shots for i in shot))
        self._closed()

    def _commit(self, references: References | None) -> None:
        written = {_trace(index) for index in self._members.values()}
        members = {role: getattr(references, role) for role in _ROLES} if references else {}
        traces = {_trace(member.key.index): member.trace for member in members.values()}
        for name in traces.keys() - written:
            self._work.put(name, _dump(traces[name]))
        self._members = {role: member.key.index for role, member in members.items()}
        facts = {"finished": self._made, "references": self._members, "seconds": self._seconds()}
        self._work.commit(facts, without=tuple(sorted(written - traces.keys())))

    def _restored(self) -> References:
        """The references of the last commit; members that were one are one again."""
        found = {index: self._member(index) for index in self._members.values()}
        return References(**{role: found[index] for role, index in self._members.items()})

    def _member(self, index: int) -> Translation:
        frame, image = KeyFrame(index, self._video[index]), _tensors(self._work.read(_image(index)))
        trace = _loaded(self._work.read(_trace(index)), *self._storage)
        trace.image = image["image"]
        return Translation(frame, trace)


class ShotImages:
    """The key frames of one shot, which another process translates into a stage of its own: they
    are there from the moment it has said so, also while others are still to come.

    Args:
        cache: the stage store.
        key: of the shot.
    """

    def __init__(self, cache: Cache, key: str) -> None:
        self._cache, self._key = cache, key
        self._entry: Entry | None = None  # leased while it is held

    def read(self, index: int) -> Tensor:
        """The picture ``[3,H,W]`` of a key frame.

        Raises:
            ResourceError: somebody has taken it away meanwhile.
        """
        data = None
        if self._entry is None:
            data = self._cache.under_way(KEYS, self._key, _image(index))
        if data is None:
            self._entry = self._entry or self._cache.find(KEYS, self._key)
            if self._entry is None:
                problem = f"key frame {index}, which was finished, is gone from {self._cache.root}"
                raise ResourceError("store", problem, "run the same command, it makes it again")
            data = self._entry.read(_image(index))
        return _tensors(data)["image"]

    def discard(self) -> None:
        """Take the stage away, which has become part of another one."""
        self._entry = None
        self._cache.discard(KEYS, self._key)


def _image(index: int) -> str:
    return f"image-{index:06d}.safetensors"


def _trace(index: int) -> str:
    return f"trace-{index:06d}.safetensors"


def _tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in memory that torch aligns: on several threads MKL's
    products of matrices depend on where in a cache line an operand begins, and a run that goes on
    must make the same bytes.
    """
    return {name: tensor.clone() for name, tensor in load(data).items()}


def _translation(data: bytes, frame: Frame, shot: int, watch: Watch) -> Translation:
    image = _tensors(data)["image"]
    watch.picture("keys", frame.index, image)
    return Translation(KeyFrame(frame.index, frame.image, shot=shot), Trace(image=image))


def _dump(trace: Trace) -> bytes:
    tensors: dict[str, Tensor] = {f"clean/{step}": latent for step, latent in trace.clean.items()}
    for (step, layer), hidden in trace.hidden_states.items():
        tensors[f"hidden_states/{step}/{layer}"] = hidden
    assert trace.latent is not None
    tensors["latent"] = trace.latent
    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def _loaded(data: bytes, dtype: torch.dtype | None, device: torch.device | None) -> Trace:
    tensors = _tensors(data)
    trace = Trace(latent=tensors.pop("latent"), dtype=dtype, device=device)
    for name, tensor in tensors.items():
        kind, step, *layer = name.split("/", 2)
        if kind == "clean":
            trace.clean[int(step)] = tensor
        else:
            trace.hidden_states[int(step), layer[0]] = tensor
    trace.settled = len(trace.clean)
    return trace

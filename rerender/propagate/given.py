"""Key frames made elsewhere, in place of translated ones."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from rerender.config.parts import Parts
from rerender.propagate.harmonise import harmony
from rerender.scene import Trace, Translation, Watch
from rerender.translation.references import ResumePoint
from rerender.video import Clip, KeyFrame


def given(
    clip: Clip, parts: Parts, watch: Watch | None, resume: ResumePoint
) -> tuple[Iterator[Translation], Sequence[int]]:
    """The key frames that ``parts.keyframes`` brings, at the size of the result, as a translation
    would hand them on, and the frames that begin a new shot.

    Args:
        clip: the source.
        parts: the choices of the run; flow serves to harmonise.
        watch: shown each as ``"keys"``.
        resume: told which there are.
    """
    video = clip.output
    found = parts.keyframes.given(video)
    cuts, indices = parts.keyframes.borders(clip.video), tuple(found)
    shots: dict[int, list[int]] = {}
    for index in indices:
        shots.setdefault(bisect_right(cuts, index), []).append(index)
    resume.begin(list(shots.values()))
    pictures = list(found.values())
    level = None
    if parts.keyframes.harmonise:
        flow = parts.flow.open(clip)
        level = harmony(indices, lambda position: pictures[position](), video, flow, cuts)

    def handed() -> Iterator[Translation]:
        for position, index in enumerate(indices):
            image = pictures[position]()
            image = image if level is None else level(position, image)
            if watch is not None:
                watch.picture("keys", index, image)
            key = KeyFrame(index, image, shot=bisect_right(cuts, index))
            yield Translation(key, Trace(image=image))

    return handed(), cuts

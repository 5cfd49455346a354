"""The key frames of a clip whose shots other processes translate, each on a device of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from rerender.contracts import Workers
from rerender.scene import Trace, Translation, Watch
from rerender.translation.references import ResumePoint
from rerender.video import Clip, KeyFrame


def divided(
    clip: Clip,
    shots: Sequence[Sequence[int]],
    workers: Workers,
    watch: Watch | None = None,
    resume: ResumePoint | None = None,
) -> Iterator[Translation]:
    """Translate the key frames of a clip as `rerender.translate.translate` does, by other
    processes.

    Args:
        clip: the video.
        shots: indices of the key frames of each shot.
        workers: who translates them.
        watch: told of every network evaluation, shown every key frame.
        resume: key frames that are finished already are taken from here, others kept here.

    Yields:
        Translations with their images and without traces, in order, as they are finished.
    """
    resume, watch = resume or ResumePoint(), watch or Watch()
    finished = resume.finished
    images = workers.translate(shots, finished, watch)
    for number, shot in enumerate(shots):
        known = min(finished, len(shot))
        finished -= known
        yield from (resume.recall(index, number) for index in shot[:known])
        for index in shot[known:]:
            image = next(images)
            watch.picture("keys", index, image)
            key = KeyFrame(index, clip.video[index], shot=number)
            translation = Translation(key, Trace(image=image))
            # What the next one refers to is with its process, which can go on from there itself.
            resume.finish(translation, None)
            yield translation
    resume.close()
    deque(images, maxlen=0)  # all are kept here: the processes may let theirs go

"""From translated key frames to every frame of the video, in order, as soon as it can be shown.

The clip is cut into segments at its key frames. Each segment is filled by the chosen propagation
from the key frames at its two ends, and by nothing else: segments are independent, and none
crosses the border of a shot. Memory holds one segment, however long the clip is.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice, pairwise
from typing import TypeAlias

from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation, SegmentWorkers
from rerender.errors import InputError
from rerender.peak_memory import available
from rerender.scene import Translation, Watch
from rerender.video import Frame, KeyFrame, Segment, Video

log = logging.getLogger(__name__)

Piece: TypeAlias = Frame | Segment
"""What a clip is cut into: a key frame, handed on as it is, or a segment to be filled."""


def propagate(
    video: Video,
    keys: Iterable[Translation],
    propagation: Propagation,
    flow: FlowEstimator,
    watch: Watch | None = None,
    ahead: int = 1,
    first: int = 0,
    cuts: Sequence[int] = (),
    workers: SegmentWorkers | None = None,
) -> Iterator[Tensor]:
    """Every frame of the video in its translated look, as many as the source has.

    ``keys`` may be a generator that is still translating: frames are handed out as soon as the
    key frame after them has come, and a key frame is held only until the next one is there (its
    trace is let go at once). Frames before the first key frame of a shot, or after its last, are
    filled from one side. Where a shot ends is known from ``cuts``, or from key frames at its
    border, as `rerender.contracts.KeyFrames` picks them; frames between two shots whose border is
    not known go to the nearer key frame. A shot without a key frame is filled whole from the nearer
    one, with a warning.

    Args:
        video: the source frames.
        keys: translated key frames, in increasing order of ``key.index``; ``key.shot`` says which
            may see each other. Values of ``image`` outside 0..1 are clipped, nothing else is done
            to a key frame.
        propagation: fills the segments.
        flow: the flow estimator, opened for this clip.
        watch: told of every frame that is handed out, stage ``"propagate"``.
        ahead: segments worked on at the same time. 1 hands out all it can before it asks for the
            next key frame; more keeps more cores busy where the key frames are there already, and
            holds as many segments in memory.
        first: frame to begin with, a key frame or the one after a key frame.
        cuts: frames that begin a new shot, increasing; no segment crosses one, whatever
            ``key.shot`` says.
        workers: processes that fill the segments in place of this one, which then takes the next
            key frames meanwhile; ``ahead`` is one more than they are.

    Yields:
        Images ``[3,H,W]``, float32, 0..1, one for each source frame from ``first`` on, in order.

    Raises:
        InputError: no key frame at all, key frames out of order, beyond the end of the video or of
            another size than it.
    """
    watch, done = watch or Watch(), first
    left: KeyFrame | None = None
    with Filler(propagation, flow, ahead, workers) as filler:
        for translation in chain(keys, [None]):  # None: the end of the video
            if left is None and translation is None:
                raise InputError(
                    "keys", "there is no translated key frame", "translate at least one"
                )
            key = None if translation is None else check(video, translation, left)
            del translation  # its trace may be large, and the next one may take long
            pieces = (piece for piece in cut(video, left, key, cuts) if begins(piece) >= first)
            for image in filler.fill(pieces, last=key is None):
                done += 1
                watch.advance("propagate", done, len(video))
                yield image
            left = key


def begins(piece: Piece) -> int:
    """The first frame of a piece."""
    return piece.index if isinstance(piece, Frame) else piece.start


def cut(
    video: Video, left: KeyFrame | None, key: KeyFrame | None, cuts: Sequence[int] = ()
) -> Iterator[Piece]:
    """The segments after one key frame up to the next, and that one; up to the end of the video
    where there is no next. All together they are the whole video."""
    borders = crossed(cuts, left, len(video) - 1 if key is None else key.index)
    if left is not None and key is not None and left.shot == key.shot and not borders:
        yield from between(video, left, key)
    else:
        yield from apart(video, left, key, borders)
    if key is not None:
        yield key


def crossed(cuts: Sequence[int], left: Frame | None, last: int) -> Sequence[int]:
    """The cuts after a key frame, or from the beginning on, up to a frame."""
    after = 0 if left is None else left.index
    return cuts[bisect_right(cuts, after) : bisect_right(cuts, last)]


def check(video: Video, translation: Translation, before: Frame | None) -> KeyFrame:
    """The key frame with picture and shot alone, refused if it does not belong to the video."""
    index, image = translation.key.index, translation.image.detach().float().clamp(0, 1)
    first = 0 if before is None else before.index + 1
    if not first <= index < len(video):
        raise InputError(
            f"key frame {index}",
            f"must lie from {first} to {len(video) - 1}",
            "give key frames of this video in increasing order",
        )
    if tuple(image.shape) != (3, *video.size):
        raise InputError(
            f"key frame {index}",
            f"must be {list(video.size)} (height, width), received {list(image.shape[1:])}",
            "resize it to the size at which the video is processed",
        )
    return KeyFrame(index, image, shot=translation.key.shot)


def between(video: Video, left: Frame, right: Frame) -> Iterator[Segment]:
    """The frames between two key frames of one shot."""
    if left.index + 1 < right.index:
        yield Segment(video, left.index + 1, right.index, left, right)


def apart(
    video: Video, left: Frame | None, right: Frame | None, cuts: Sequence[int] = ()
) -> Iterator[Segment]:
    """The frames between key frames that must not see each other, or at an end of the video.

    They change sides at the cut between them; of several, at the one nearest to the middle, so that
    every shot between goes whole to the nearer key frame.
    """
    start = 0 if left is None else left.index + 1
    stop = len(video) if right is None else right.index
    middle = start if left is None else stop if right is None else (start + stop + 1) // 2
    if left is not None and right is not None and cuts:
        middle = min(cuts, key=lambda border: abs(2 * border - (start + stop)))
    ends = [*([] if left else [0]), *cuts, *([] if right else [stop])]
    for begin, end in pairwise(ends):  # shots in which there is no key frame
        nearer = left if left is not None and begin < middle else right
        assert nearer is not None
        span = f"frame {begin}" if end - begin == 1 else f"frames {begin} to {end - 1}"
        where = f"it is filled from the nearest, frame {nearer.index}, which is of another"
        log.warning("%s: no key frame lies in this shot; %s", span, where)
    if start < middle:
        yield Segment(video, start, middle, left, None)
    if middle < stop:
        yield Segment(video, middle, stop, None, right)


WORKING, HELD = 350, 32
"""Bytes for each pixel that a segment takes, and that each frame of it takes until it is given on:
measured with `patchmatch`, other methods take less."""


class Filler:
    """Fills pieces and hands out their frames in order; with ``ahead`` above 1, that many pieces
    are in work at the same time: each in a thread, or all in one call where the propagation makes
    several segments at once. With workers, one piece more than they are is given to them."""

    _warned = False

    def __init__(
        self,
        propagation: Propagation,
        flow: FlowEstimator,
        ahead: int,
        workers: SegmentWorkers | None = None,
    ) -> None:
        self._propagation, self._flow, self._workers = propagation, flow, workers
        self._ahead = ahead if workers is None else workers.count + 1
        self._running: deque[Future[list[Tensor]]] = deque()
        self._batched = workers is None and ahead > 1 and propagation.batches()
        self._waiting: list[Piece] = []
        self._pool: ThreadPoolExecutor | None = None
        self._submit: Callable[[Piece], Future[list[Tensor]]] | None = None

    def __enter__(self) -> Filler:
        if self._workers is not None:
            self._submit = self._given
        elif self._ahead > 1 and not self._batched:
            pool = self._pool = ThreadPoolExecutor(self._ahead)
            self._submit = lambda piece: pool.submit(self._filled, piece)
        free = available() if self._submit else None
        self._budget = None if free is None else free // 2
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def fill(self, pieces: Iterable[Piece], last: bool) -> Iterator[Tensor]:
        """The frames that can be handed out now; all that are left, where these pieces are the
        last ones."""
        if self._batched:
            yield from self._together(pieces, last)
            return
        for piece in pieces:
            # What has no end may be as long as the clip, but is made frame by frame.
            endless = isinstance(piece, Segment) and piece.right is None
            room = 1 if endless or self._submit is None else self._room(piece)
            while self._running and (room == 1 or len(self._running) >= room):
                yield from self._running.popleft().result()
            if self._submit is None or room == 1:
                yield from frames(piece, self._propagation, self._flow)
                continue
            self._running.append(self._submit(piece))
            while len(self._running) > self._ahead:
                yield from self._running.popleft().result()
        while last and self._running:
            yield from self._running.popleft().result()

    def _room(self, piece: Piece) -> int:
        """Pieces that may be in work at the same time, this one included."""
        if self._budget is None or isinstance(piece, Frame):
            return self._ahead + 1
        height, width = piece.video.size
        needed = height * width * (WORKING + HELD * len(piece))
        room = max(self._budget // needed, 1)
        if room < self._ahead and not self._warned:
            self._warned = True
            log.warning(
                "ahead: %d segments of %dx%d need about %d MiB each, %d MiB are free: %d at a time",
                self._ahead, width, height, needed >> 20, self._budget >> 19, room,
            )  # fmt: skip
        return min(room, self._ahead + 1)

    def _together(self, pieces: Iterable[Piece], last: bool) -> Iterator[Tensor]:
        """`fill`, where a call makes several segments."""
        for piece in pieces:
            endless = isinstance(piece, Segment) and piece.right is None
            segments = sum(isinstance(waiting, Segment) for waiting in self._waiting)
            if endless or segments == self._ahead:
                yield from self._gathered()
            if endless:
                yield from frames(piece, self._propagation, self._flow)
            else:
                self._waiting.append(piece)
        if last:
            yield from self._gathered()

    def _gathered(self) -> Iterator[Tensor]:
        """The frames of all pieces that wait."""
        pieces, self._waiting = self._waiting, []
        segments = [piece for piece in pieces if isinstance(piece, Segment)]
        made = self._propagation.fill_all(segments, self._flow) if segments else iter(())
        for piece in pieces:
            if isinstance(piece, Frame):
                yield piece.image
            else:
                yield from counted(islice(made, len(piece)), piece, self._propagation)
        if next(made, None) is not None:
            name = type(self._propagation).__name__
            raise RuntimeError(f"{name} made more frames than {len(segments)} segments have")

    def _filled(self, piece: Piece) -> list[Tensor]:
        return list(frames(piece, self._propagation, self._flow))

    def _given(self, piece: Piece) -> Future[list[Tensor]]:
        """The frames of a piece by workers; those of a key frame are there."""
        if isinstance(piece, Segment):
            assert self._workers is not None
            return self._workers.fill(piece)
        there: Future[list[Tensor]] = Future()
        there.set_result([piece.image])
        return there


def frames(piece: Piece, propagation: Propagation, flow: FlowEstimator) -> Iterator[Tensor]:
    """The frames of one piece; a propagation that miscounts is a bug and stops the run."""
    if isinstance(piece, Frame):
        yield piece.image
        return
    yield from counted(propagation.fill(piece, flow), piece, propagation)


def counted(images: Iterable[Tensor], piece: Segment, propagation: Propagation) -> Iterator[Tensor]:
    """The frames of a segment, of which there must be as many as it has."""
    count = 0
    for image in images:
        count += 1
        yield image
    if count != len(piece):
        name = type(propagation).__name__
        raise RuntimeError(f"{name} made {count} of {len(piece)} frames from {piece.start}")

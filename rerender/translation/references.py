"""The earlier key frames that one refers to, and what an earlier attempt has finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rerender.scene import Translation


@dataclass(frozen=True)
class References:
    """The translations that a key frame refers to; some may still be under way.

    Attributes:
        anchor: the first key frame of the shot.
        previous: the key frame before.
        remembered: the last key frame whose hidden states are kept.
    """

    anchor: Translation
    previous: Translation
    remembered: Translation

    @classmethod
    def after(cls, translation: Translation, before: References | None, kept: bool) -> References:
        """What the next key frame of a shot refers to; ``kept`` says whether hidden states of this
        one are."""
        if before is None:
            return cls(translation, translation, translation)
        return cls(before.anchor, translation, translation if kept else before.remembered)


class ResumePoint:
    """Where a clip is taken up: what an earlier attempt has finished, and what is done with the key
    frames that this one finishes. This class is the null object: nothing is finished, nothing is
    kept.

    Attributes:
        shots: the key frames of each shot, where they are known already.
        finished: how many key frames are finished, from the first one on.
        references: what the next key frame of the last one's shot refers to.
        first: the first frame to make; a key frame, or the one after a key frame.
        only: number of the one shot that is made here, to which ``finished`` belongs; None where
            all are.
    """

    shots: Sequence[Sequence[int]] | None = None
    finished: int = 0
    references: References | None = None
    first: int = 0
    only: int | None = None

    def begin(self, shots: Sequence[Sequence[int]]) -> None:
        """Be told which key frames there are, before the first one is asked for."""

    def recall(self, index: int, shot: int) -> Translation:
        """A finished key frame, with its final image."""
        raise LookupError(f"key frame {index} of shot {shot} is not finished")

    def finish(self, translation: Translation, references: References | None) -> None:
        """Keep a key frame.

        Args:
            translation: the key frame, finished.
            references: what the next one of its shot refers to; None where the shot cannot be
                taken up after this key frame alone.
        """

    def stands_alone(self, index: int) -> bool:
        """Whether a frame is a key frame after which frames can be taken up."""
        return any(index in shot for shot in self.shots or ())

    def part(self, number: int) -> ResumePoint:
        """Where one of the ranges of a clip is taken up (see `rerender.video.PromptRange`)."""
        return ResumePoint()

    def close(self) -> None:
        """Be told that all key frames are finished and have been handed on."""

"""Who a key frame refers to, and what is known of earlier attempts at a clip."""

from __future__ import annotations

from dataclasses import dataclass

from rerender.scene import Translation


@dataclass(frozen=True)
class References:
    """The translations a key frame refers to; some may still be under way.

    Attributes:
        anchor: the first key frame of the shot.
        previous: the key frame before.
        remembered: the last key frame whose attention features are kept.
    """

    anchor: Translation
    previous: Translation
    remembered: Translation

    @classmethod
    def after(cls, translation: Translation, before: References | None, kept: bool) -> References:
        """The cast of the next key frame of a shot; ``kept`` says whether features of this one
        are."""
        if before is None:
            return cls(translation, translation, translation)
        return cls(before.anchor, translation, translation if kept else before.remembered)


class ResumePoint:
    """What an earlier attempt at the same key frames has finished, and where this one notes what it
    finishes. This one knows of nothing and notes nothing.

    Attributes:
        finished: how many key frames are finished, from the first one on.
        cast: what the next key frame of the last one's shot refers to.
    """

    finished: int = 0
    cast: References | None = None

    def recall(self, index: int, shot: int) -> Translation:
        """A finished key frame, with its final image."""
        raise LookupError(f"key frame {index} of shot {shot} is in no ledger")

    def finish(self, translation: Translation, cast: References | None) -> None:
        """Note a key frame.

        Args:
            translation: the key frame, finished.
            cast: what the next one of its shot refers to; None where the shot cannot be taken up
                after this key frame alone.
        """

"""Files of the report page: videos, slices and sheets, named by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eval.metrics.weights import digest
from rerender import files
from rerender.codec import encode
from rerender.errors import InputError
from rerender.fitting import resize
from rerender.run_folder import read_json
from rerender.video import Video, sha256_file

FOLDER, _SUMS = "media", "sums.json"
_PLAYABLE = (".mp4", ".m4v", ".webm")
_SHEET, _SIDE = 8, 160  # pictures on a sheet and the longest side of each
_WIDEST = 640  # columns of a slice


@dataclass(frozen=True)
class Media:
    """The media folder of a page. What is there already and undamaged is not made again.

    Attributes:
        page: folder of the page.
    """

    page: Path

    def picture(self, file: Path) -> str:
        """A copy of a picture; its address on the page."""
        return self._copied(file)

    def film(self, video: Video, paths: Sequence[Path], key: str) -> str:
        """A playable file of a video; its address on the page.

        Args:
            video: the frames.
            files: the files they come from; a single playable one is copied as it is.
            key: names the content.
        """
        if len(paths) == 1 and paths[0].suffix.lower() in _PLAYABLE:
            return self._copied(paths[0])
        target = self._place(_short(key), ".mp4")
        if not self._whole(target):
            with files.writing(target) as out:
                encode((video[i] for i in range(len(video))), video, out)
            self._note(target)
        return self._address(target)

    def looks(self, video: Video, key: str) -> tuple[str, str]:
        """Addresses of the slice (one row over time) and of the contact sheet of a video."""
        strip = self._place(_short(f"slice {key}"), ".png")
        sheet = self._place(_short(f"sheet {key}"), ".png")
        if not (self._whole(strip) and self._whole(sheet)):
            rows, stills = _pass(video)
            files.put(strip, files.png(rows))
            files.put(sheet, files.png(stills))
            self._note(strip, sheet)
        return self._address(strip), self._address(sheet)

    def _copied(self, file: Path) -> str:
        target = self._place(digest(file)[:20], file.suffix.lower())
        if _sum(target) != digest(file):
            files.copy(file, target)
        return self._address(target)

    def _whole(self, target: Path) -> bool:
        """Whether a file is there as it was made."""
        found = _sum(target)
        return found is not None and self._sums().get(target.name) == found

    def _note(self, *made: Path) -> None:
        """Keep the sha256 of files that were made: their names are those of what they show."""
        sums = self._sums() | {path.name: sha256_file(path) for path in made}
        files.put_json(self.page / _SUMS, sums)

    def _sums(self) -> dict[str, str]:
        with suppress(InputError):
            return read_json(self.page / _SUMS)
        return {}

    def _place(self, name: str, suffix: str) -> Path:
        return self.page / FOLDER / f"{name}{suffix}"

    def _address(self, path: Path) -> str:
        return f"{FOLDER}/{path.name}"


def _sum(file: Path) -> str | None:
    """The sha256 of a file; None where there is none."""
    with suppress(FileNotFoundError, IsADirectoryError):
        return sha256_file(file)
    return None


def _pass(video: Video) -> tuple[Tensor, Tensor]:
    """The middle rows ``[3,T,W]`` in 8 bits and the sheet ``[3,h,n*w]``, in one pass over the
    frames."""
    height, width = video.size
    chosen = {round(i * (len(video) - 1) / max(_SHEET - 1, 1)) for i in range(_SHEET)}
    scale = min(1.0, _SIDE / max(height, width))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    rows, stills = [], []
    for index in range(len(video)):
        frame = video[index]
        row = resize(frame[:, height // 2 : height // 2 + 1], (1, min(width, _WIDEST)))
        rows.append(files.levels(row))  # a view of the row would keep the whole frame
        if index in chosen:
            stills.append(resize(frame, small))
    return torch.cat(rows, 1), torch.cat(stills, 2)


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:20]

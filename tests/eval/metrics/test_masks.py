"""Edit masks: from a folder or from the clip itself; what lies outside is kept, or not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from eval.measure import score
from eval.metrics.background import Background
from eval.metrics.masks import Masks
from eval.score_files import Score
from rerender.video import MemoryVideo
from tests.datasets.genuine import davis
from tests.eval.toys import Shift, clip_of, picture

SIZE = (24, 32)


def mask(path: Path, box: tuple[int, int, int, int]) -> Path:
    image = Image.new("L", (SIZE[1], SIZE[0]), 0)
    image.paste(255, box)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def measured(metric: Background, result: list[torch.Tensor], **clip: object) -> Score:
    source = replace(clip_of([picture()] * len(result)), **clip)  # type: ignore[arg-type]
    (row,) = score(source, MemoryVideo(result), [metric], Shift(), "ours")
    return row


def test_a_known_error_outside_is_its_closed_form_and_inside_does_not_count(tmp_path: Path) -> None:
    own = str(mask(tmp_path / "m.png", (8, 0, 24, 24)))
    inside, outside = torch.zeros(3, *SIZE), torch.zeros(3, *SIZE)
    inside[:, :, 8:24] = 0.1
    outside[:, :, :8] = 0.01
    changed = (picture() * 0.8 + inside).clamp(0, 1)
    kept = torch.where(inside > 0, changed, picture())
    assert measured(Background(), [kept] * 3, masks=own).value == 100
    source = picture() * 0.9
    row = replace(clip_of([source] * 2), masks=own)
    (found,) = score(row, MemoryVideo([source + outside] * 2), [Background()], Shift(), "ours")
    # Half of the pixels outside differ by .01 in every channel.
    assert found.value == pytest.approx(-10 * math.log10(0.01**2 / 2), abs=1e-3)
    assert (found.direction, found.unit, found.n) == ("higher", "dB", 2)


def test_more_noise_outside_is_worse(tmp_path: Path) -> None:
    own = str(mask(tmp_path / "m.png", (8, 0, 24, 24)))
    noise = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(1))
    values = [
        measured(Background(), [(picture() + s * noise).clamp(0, 1)] * 2, masks=own).value
        for s in (0.0, 0.01, 0.03, 0.1)
    ]
    assert values == sorted(values, key=lambda value: -(value or 0))
    assert len(set(values)) == 4


def test_masks_of_a_folder_come_first_and_edits_share_those_of_their_clip(tmp_path: Path) -> None:
    mask(tmp_path / "folder" / "toy.png", (0, 0, 32, 24))  # covers everything
    own = str(mask(tmp_path / "m.png", (8, 0, 24, 24)))
    metric = Background(masks=str(tmp_path / "folder"))
    assert measured(metric, [picture()], masks=own).value is None
    assert measured(metric, [picture()], name="toy-style", source_clip="toy").value is None
    assert measured(metric, [picture()], name="other", masks=own).value == 100
    row = measured(metric, [picture()], name="other")
    assert row.note.startswith("n/a: no edit mask for other (looked for ")
    assert measured(Background(), [picture()]).note.startswith("n/a: no edit masks (give")


def test_the_objects_of_a_data_set_may_be_dark_and_are_counted_from_the_first_frame(
    tmp_path: Path,
) -> None:
    place = davis(tmp_path, ["bear"], frames=3) / "DAVIS/Annotations/480p/bear"
    files = sorted(place.iterdir())
    Image.new("P", (32, 24), 0).save(files[0])
    like = torch.zeros(3, *SIZE)
    assert Masks(files, 0, objects=True).at(0, like).sum() == 0
    first = Masks(files, 1, objects=True).at(0, like)
    assert first.sum() == 12 * 12
    assert set(first.unique().tolist()) == {0.0, 1.0}
    row = measured(Background(), [picture()] * 2, masks=str(place), first_frame=1)
    assert row.value == 100

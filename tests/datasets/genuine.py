"""Public data sets in their genuine layouts, tiny: names and structure as public readers know."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from PIL import Image

from tests.codec.making import make, pictures

GROUPS = {"DAVIS": 16, "Youtube": 23, "Videvo": 37}
TGVE_HEADER = (
    "Video name",
    "Our GT caption",
    "Style Change Caption",
    "Object Change Caption",
    "Background Change Caption",
    "Multiple Changes Caption",
    "Source",
)


def still(path: Path, shade: int = 90, size: tuple[int, int] = (32, 24)) -> Path:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade % 256, 120, 60)).save(path)
    return path


def film(path: Path, frames: int = 3) -> Path:
    """A short video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return make(path, pictures(frames, (24, 32)))


def tgve(
    root: Path, groups: Mapping[str, Sequence[str]], frames: int = 1, films: Sequence[str] = ()
) -> Path:
    """LOVEU-TGVE-2023: the csv with a line for each group and empty lines between them; folders of
    pictures, and video files for those named in ``films``."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(TGVE_HEADER)
    for group, names in groups.items():
        lines.writerow([f"{group} Videos:", *[""] * 6])
        for name in names:
            asked = [f"{name}, {kind}" for kind in ("in oil", "as a wolf", "on the moon", "all")]
            lines.writerow([name, f"a {name}", *asked, "somewhere"])
        lines.writerow([""] * 7)
    (root / "loveu-tgve-2023").mkdir(parents=True)
    root = root / "loveu-tgve-2023"
    (root / "LOVEU-TGVE-2023_Dataset.csv").write_text(text.getvalue(), encoding="utf-8")
    for group, names in groups.items():
        place = root / f"{group if group == 'DAVIS' else group.lower()}_480p"
        for name in names:
            if name in films:
                film(place / "480p_videos" / f"{name}.mp4", frames)
                continue
            for index in range(frames):
                still(place / "480p_frames" / name / f"{index:05d}.jpg", 40 * index)
    return root.parent


def davis(root: Path, names: Sequence[str], frames: int = 1) -> Path:
    """DAVIS 2017: JPEGImages, Annotations with objects in dark colours, ImageSets."""
    for name in names:
        for index in range(frames):
            still(root / "DAVIS/JPEGImages/480p" / name / f"{index:05d}.jpg", 40 * index)
            mask = Image.new("P", (32, 24), 0)
            mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            mask.paste(1, (8, 4, 20, 16))
            place = root / "DAVIS/Annotations/480p" / name
            place.mkdir(parents=True, exist_ok=True)
            mask.save(place / f"{index:05d}.png")
    sets = root / "DAVIS/ImageSets/2017"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("\n".join(names) + "\n")
    return root


def v2vbench(root: Path, names: Sequence[str], frames: int = 1) -> Path:
    """V2VBench: config.yaml and folders of pictures."""
    kinds = ("foreground", "stylization", "composite")
    said = [
        {
            "video_id": name,
            "prompt": f"a {name}",
            "edit": [{"prompt": f"{name}, {kind}", "type": kind} for kind in kinds],
        }
        for name in names
    ]
    for name in names:
        for index in range(frames):
            still(root / "frames" / name / f"{index:02d}.png", 40 * index)
    (root / "config.yaml").write_text(yaml.safe_dump({"data": said}))
    (root / "README.md").write_text("## V2VBench\n")
    return root


def five(root: Path, counts: Sequence[int], frames: int = 1) -> Path:
    """FiVE: a json for each of six kinds of edits, pictures and masks; words in brackets."""
    names = [f"{index + 1:04d}_clip" for index in range(max(counts))]
    (root / "edit_prompt").mkdir(parents=True)
    for number, count in enumerate(counts, 1):
        items = [
            {
                "video_name": name,
                "editing_type_id": number,
                "save_dir": f"edit{number}",
                "source_prompt": f"a [bus] in {name}",
                "target_prompt": f"a [tram {number}] in {name}",
            }
            for name in names[:count]
        ]
        (root / "edit_prompt" / f"edit{number}_FiVE.json").write_text(json.dumps(items))
    for name in names:
        for index in range(1, frames + 1):
            still(root / "images" / name / f"{index:05d}.jpg")
            Image.new("L", (32, 24), 255).save(
                still(root / "bmasks" / name / f"{index:05d}.jpg", 0)
            )
    return root

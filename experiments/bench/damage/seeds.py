"""The whole files that are damaged: made once, in one folder, with a fixed seed."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml
from PIL import Image

from rerender import files
from rerender.codec import Encoder, Planes
from rerender.config.compose import preflight
from rerender.config.paths import PACKAGE
from rerender.jobs import render_clip
from rerender.jobs.run_job import run_job

FRAMES, KEY_EVERY = 12, 6
HEIGHT, WIDTH = 48, 64
CONTAINERS = {  # container: codec, sound
    "mp4": ("libx264", "aac"),
    "mkv": ("libx264", "aac"),
    "mov": ("libx264", None),
    "webm": ("libvpx-vp9", None),
    "avi": ("mpeg4", None),
    "ts": ("libx264", None),
    "flv": ("libx264", None),
    "gif": ("gif", None),
}
PICTURES = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP"}
RUN = [
    "prompt=oil",
    "model=tiny",
    "sampling.steps=1",
    "sampling.strength=1",
    "constraint=[]",
    f"keyframes.interval={KEY_EVERY}",
    "propagation=hold",
    "metrics=[fidelity]",
    "tracker=none",
    "out=out",
]
FILM = ["data=video", "data.path=input.mp4", "data.size=32", "store=.store"]
PLAIN = ["metrics=[]", "store=null", "data.size=32"]
CHECKPOINT = [
    *RUN,
    *("model=demo", "model.path=weights", "data=demo", "data.size=32", "data.frames=3"),
    *("metrics=[]", "store=null"),
]
TABLE = 'name,prompt,source_prompt,negative_prompt\none,"a cat, sitting",a cat,\ntwo,a dog,,bad\n'
EXPERIMENT = {
    "defaults": [
        {"override /propagation": "hold"},
        {"override /metrics": ["fidelity"]},
        {"override /constraint": []},
    ],
    "prompt": "an oil painting",
    "seed": 3,
    "sampling": {"steps": 2, "strength": 0.5, "guidance": 2.0, "noise": "fixed"},
    "keyframes": {"interval": 5},
    "hydra": {"sweeper": {"params": {"seed": "1,2"}}},
}
DATA_SET = {
    "name": "small",
    "licence": "CC0",
    "attribution": "nobody",
    "inside": ["clips"],
    "count": 2,
    "clips": ["one", "two"],
    "prompts": {"one": {"prompt": "a cat"}, "two": {"prompt": "a dog"}},
}


def plant(place: Path) -> None:
    """Make all of them below a folder."""
    for suffix, (codec, sound) in CONTAINERS.items():
        video(place / f"videos/video.{suffix}", codec, sound)
    for suffix in PICTURES:
        for index in range(3):
            picture(place / f"pictures-{suffix}/{index:04d}.{suffix}", index)
    for index in range(0, FRAMES, KEY_EVERY):
        picture(place / f"keys/{index:06d}.png", index)
    _texts(place)
    _archives(place)
    _weights(place / "weights")
    _finished(place)


def video(path: Path, codec: str, sound: str | None) -> None:
    """A video of `FRAMES` frames with a key frame in its middle; with a tone where asked for."""
    files.folder(path.parent)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = KEY_EVERY, 1
        tone: Any = container.add_stream(sound, rate=16_000) if sound else None
        if tone:
            tone.layout = "mono"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(pixels(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for start in range(0, 16_000 * FRAMES // 25 if tone else 0, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 6) * 8000
            heard = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
            heard.sample_rate, heard.pts, heard.time_base = 16_000, start, Fraction(1, 16_000)
            container.mux(tone.encode(heard))
        if tone:
            container.mux(tone.encode(None))


def pixels(index: int) -> Any:
    """``[H,W,3]`` in 8 bits: waves that move."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / WIDTH
    waves = [np.sin(5 * (x + k * y) + 0.3 * index + k) for k in range(3)]
    return (np.stack(waves, -1) * 60 + 128).astype(np.uint8)


def picture(path: Path, index: int) -> None:
    """One picture file."""
    buffer = io.BytesIO()
    kind = PICTURES[path.suffix[1:]]
    Image.fromarray(pixels(index)).save(buffer, kind)
    files.put(path, buffer.getvalue())


def _texts(place: Path) -> None:
    files.put(place / "prompts.csv", TABLE.encode())
    for name in ("one", "two"):
        for index in range(2):
            picture(place / f"clips/{name}/{index:04d}.png", index)
    body = yaml.safe_dump(EXPERIMENT, sort_keys=False)
    files.put(place / "conf/exp/mine.yaml", f"# @package _global_\n{body}".encode())
    files.put(place / "set.yaml", yaml.safe_dump(DATA_SET, sort_keys=False).encode())


def _archives(place: Path) -> None:
    paths = sorted((place / "clips").rglob("*.png"))
    with zipfile.ZipFile(place / "archive.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in paths:
            zipped.write(file, file.relative_to(place))
    for suffix in ("tar", "tar.gz"):
        gz = suffix.endswith("gz")
        path = place / f"archive.{suffix}"
        with tarfile.open(path, "w:gz") if gz else tarfile.open(path, "w") as tarred:
            for file in paths:
                tarred.add(file, file.relative_to(place))


def _weights(place: Path) -> None:
    """The demo checkpoint without its list of sums, by which any damage would be found."""
    source = PACKAGE / "demo" / "weights"
    for file in _needed(source):
        files.copy(file, place / file.relative_to(source))


def _needed(source: Path) -> Iterator[Path]:
    parts = ("model_index.json", "scheduler", "tokenizer", "text_encoder", "vae", "unet")
    for name in (*parts, "controlnet"):
        place = source / name
        yield from sorted(place.iterdir()) if place.is_dir() else [place]


def _finished(place: Path) -> None:
    """A run folder with its stage store, and a store of the same run stopped half-way."""
    for name in ("finished", "stopped"):
        home = files.folder(place / name)
        shutil.copyfile(place / "videos/video.mp4", home / "input.mp4")
        child = os.fork()  # it works in another folder and may end in the middle
        if not child:
            os.chdir(home)
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            if name == "stopped":
                render_clip.Encoder = _Stopping  # type: ignore[attr-defined]
            run_job(tree_of([*RUN, *FILM]), Path("out"), "")
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"the run to be damaged could not be made ({name})")
    shutil.rmtree(place / "stopped/out", ignore_errors=True)


class _Stopping(Encoder):
    """Ends its process after the second key frame."""

    def write(self, picture: Planes) -> None:
        self.count = getattr(self, "count", 0) + 1
        if self.count > KEY_EVERY + 1:
            os._exit(0)


def tree_of(arguments: Sequence[str]) -> dict[str, Any]:
    """The checked configuration of a command of one job."""
    return dict(preflight(list(arguments)).jobs[0])

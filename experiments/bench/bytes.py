"""Which bytes the main commands make: recorded before a change of the code, compared after it.

    python -m experiments.bench.bytes bytes.json [--clip VIDEO] [--against BEFORE.json]

The demo, ``+exp=smoke``, one clip of each method of ``+exp=table2`` and, with ``--clip``, the
propagation of a real video from key frames that are some of its own frames with their colours
inverted. Each case is a command in a process and folder of its own, without a store. Equal bytes
are to be expected on the same machine with the same versions of the libraries only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch.nn.functional as F
import yaml

from rerender import files
from rerender.codec import open_video

ROOT = Path(__file__).resolve().parents[2]
BARE = ("tracker=none", "store=null", "metrics=[]")
ONE_CLIP = ("data=demo_study", "data.seeds=[1000000]", "data.frames=5", "sampling.batch_size=2")
KEYS, SIDE = (0, 10, 20), 240  # numbers of the key frames, and their short side in pixels


def main() -> int:
    """Record the sha256 of every case; with ``--against``, 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clip", type=Path, help="a real video of at least 21 frames")
    parser.add_argument("--against", type=Path, help="what an earlier call recorded")
    given = parser.parse_args()
    before = json.loads(given.against.read_text()) if given.against else {}
    found, differ = {}, 0
    for name, command in cases(given.clip):
        found[name] = made(command)
        same = before.get(name, found[name]) == found[name]
        differ += not same
        sys.stdout.write(f"{found[name][:16]}  {name}{'' if same else '  DIFFERS'}\n")
        sys.stdout.flush()
        files.put_json(given.out, found)
    return int(differ > 0)


def cases(clip: Path | None) -> Iterator[tuple[str, list[str]]]:
    """(name, arguments after ``python -m``) of every case; ``OUT`` stands for its folder."""
    yield "demo", ["rerender.run", "out=OUT", *BARE]
    yield "smoke", ["rerender.run", "+exp=smoke", "out=OUT", *BARE]
    table = yaml.safe_load((ROOT / "conf/exp/table2.yaml").read_text(encoding="utf-8"))
    for method in table["hydra"]["sweeper"]["params"]["method"].split(","):
        settings = [f"+method={method}", *ONE_CLIP, "keyframes.interval=4", "out=OUT", *BARE]
        yield f"method {method}", ["rerender.run", *settings]
    if clip is not None:
        keys = ["--keys", "OUT/keys", "--video", str(clip.absolute()), "--out", "OUT/video.mp4"]
        yield "propagation", ["rerender.propagate", *keys]


def made(command: list[str]) -> str:
    """The sha256 of the video that a command makes."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        if "--keys" in command:
            inverted(Path(command[command.index("--video") + 1]), out / "keys")
        words = [word.replace("OUT", str(out)) for word in command]
        ended = subprocess.run(
            [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True
        )
        if ended.returncode:
            raise SystemExit(f"{' '.join(words)}: code {ended.returncode}\n{ended.stderr}")
        return hashlib.sha256((out / "video.mp4").read_bytes()).hexdigest()


def inverted(source: Path, folder: Path) -> None:
    """Some frames of a video with their colours inverted, as key frames."""
    video = open_video(source)
    height, width = video.size
    size = [2 * round(side * SIDE / min(height, width) / 2) for side in (height, width)]
    for index in KEYS:
        small = F.interpolate(video[index][None], size, mode="area")[0]
        files.put(folder / f"{index:06d}.png", files.png(1 - small))


if __name__ == "__main__":
    sys.exit(main())

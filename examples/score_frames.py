"""Score frames or videos that any program has made, against their source.

    python examples/score_frames.py RESULTS cat.mp4 "an oil painting"

RESULTS holds METHOD/CLIP.mp4, or METHOD/CLIP/0001.png and so on. The source itself is scored
beside the methods, for comparison.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from eval.score import score_folder
from rerender.config.compose import literal, preflight


def main(arguments: Sequence[str]) -> None:
    results, video, prompt = arguments
    settings = ["data=video", f"data.path={video}", f"prompt={prompt}"]
    settings += ["metrics=[warp_error,flicker,integrity]"]
    (tree,) = preflight(literal(settings)).jobs
    for row in score_folder(Path(results), tree).rows:
        value = "n/a" if row.value is None else f"{row.value:.4f}"
        print(f"{row.method:16} {row.clip:16} {row.metric:16} {value:>10}  {row.note}")


if __name__ == "__main__":
    main(sys.argv[1:])

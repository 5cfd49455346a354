"""Restyle a video file from Python.

python examples/render_clip.py cat.mp4 "an oil painting" painted.mp4
python examples/render_clip.py cat.mp4 "an oil painting" painted.mp4 --model sd15 --size 512
"""

import argparse
from collections.abc import Sequence

from rerender import Clip, fit, load_model, open_video, parts, render, write_video


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("video")
    parser.add_argument("prompt")
    parser.add_argument("out")
    parser.add_argument("settings", nargs="*", help="such as keyframes.interval=5")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--size", type=int, default=128, help="short side in pixels")
    given = parser.parse_intermixed_args(arguments)

    model = load_model(given.model, ("canny",))
    choices = parts(f"model={given.model}", *given.settings)
    video = fit(open_video(given.video), given.size, model.size_multiple)
    clip = Clip("clip", video, prompt=given.prompt)
    choices.check(clip)
    written = write_video(given.out, render(clip, model, choices, seed=0), video)
    print(f"{given.out}: {written.frames} frames")


if __name__ == "__main__":
    main()

"""Every line of docs/checkpoints.md, "which file do I have, which line do I write", as a command:
run to its video on a tiny checkpoint of the kind that its row names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from rerender import files
from rerender.codec import encode
from rerender.config.paths import ROOT
from rerender.run import main
from rerender.video import MemoryVideo
from tests.model.making import LARGE, backbone, lively, save
from tests.model.test_families import SCHEDULES
from tests.model.test_ip_adapter import adapter
from tests.model.test_lora import as_kohya, trained
from tests.model.test_single_file import of_unet, of_vae, prefixed, weights, whole
from tests.model.test_source_channels import INPAINTING, INSTRUCT
from tests.model.test_t2i_adapter import EARLY
from tests.model.test_t2i_adapter import adapter as t2i

FRAMES = 4
# What the rows leave out: small, quick, and on the processor.
SHORT = [
    "data.size=32",
    "keyframes.interval=2",
    "metrics=[]",
    "tracker=none",
    "model.device=cpu",
    "model.dtype=float32",
]
PLACES = re.compile(r"\b(FILE|FOLDER|PICTURE|MASK\.png|VIDEO)\b")


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        have: its first column, unique.
        written: what stands as code in the second.
    """

    have: str
    written: tuple[str, ...]


class Given(NamedTuple):
    """What the reader of a row has.

    Attributes:
        places: what stands for FILE, FOLDER... in the order of the line.
        lines: what is written; None is what the row has as code, one line for each.
        more: settings by which the tiny checkpoint differs from a real one, and what a line that
            goes on from the row before leaves out.
    """

    places: tuple[Path | str, ...] = ()
    lines: tuple[str, ...] | None = None
    more: tuple[str, ...] = ()


def rows() -> list[Row]:
    """The table of the page."""
    text = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    table = text.partition("| what I have | what I write |\n|---|---|\n")[2].partition("\n\n")[0]
    found = []
    for line in table.splitlines():
        have, written = line.strip("| ").split(" | ")
        found.append(Row(have, tuple(re.findall(r"`([^`]+)`", written))))
    return found


# -- what people have -----------------------------------------------------------------------------


def base(at: Path, **changes: Any) -> tuple[Path, tuple[str, ...]]:
    """A checkpoint and the lines that name it where a row is about something else."""
    folder = save(at / "base", **changes)
    kind = "sdxl" if changes.get("large") else "sd15"
    return folder, (f"model={kind}", f"model.path={folder}", "model.vae=null", net(folder))


def net(folder: Path) -> str:
    return f"model.controlnets.canny={folder / 'controlnet'}"


def folder_of(*more: str, **changes: Any) -> Callable[[Path], Given]:
    """A folder of diffusers."""

    def made(at: Path) -> Given:
        folder = save(at / "model", **changes)
        return Given((folder,), more=(net(folder), *more))

    return made


def file_of(*more: str, without: str = "no such part", **changes: Any) -> Callable[[Path], Given]:
    """A single file; a miniature's sizes have to be said."""

    def made(at: Path) -> Given:
        folder = save(at / "model", **changes)
        found = {k: v for k, v in whole(folder).items() if not k.startswith(without)}
        save_file(found, at / "one.safetensors")
        save_file(of_vae(weights(folder / "vae")), at / "vae.safetensors")
        places = (at / "one.safetensors", at / "vae.safetensors")
        return Given(places, more=(net(folder), f"model.config={folder}", *more))

    return made


def sharded(at: Path) -> Given:
    """Full weights, half weights and shards are three folders of one row."""
    lines = []
    for name, variant in (("full", None), ("half", "fp16"), ("shards", None)):
        folder = save(at / name, variant=variant)
        if name == "shards":
            unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
            for file in (folder / "unet").glob("*.safetensors"):
                file.unlink()
            unet.save_pretrained(folder / "unet", max_shard_size="100KB")
            assert len(list((folder / "unet").glob("*-of-*.safetensors"))) > 1
        lines.append(f"model=sd15 model.path={folder} model.vae=null {net(folder)}")
    return Given(lines=tuple(lines))


def other_sizes(at: Path) -> Given:
    given = file_of()(at)
    folder = at / "model"
    return Given((given.places[0], folder), more=("model=sd15", "model.vae=null", net(folder)))


def masked(given: Callable[[Path], Given]) -> Callable[[Path], Given]:
    def made(at: Path) -> Given:
        found = given(at)
        mask = torch.zeros(48, 80, dtype=torch.uint8)
        mask[12:36, 20:60] = 255
        Image.fromarray(mask.numpy()).save(at / "mask.png")
        return found._replace(places=(found.places[0], at / "mask.png"))

    return made


def inpainting_of_others(at: Path) -> Given:
    """Two lines of one row: the same of Stable Diffusion 2 and XL."""
    (at / "2").mkdir()
    two = masked(file_of(unet=INPAINTING))(at / "2")
    xl = save(at / "xl", large=True, unet=INPAINTING)
    file, mask = two.places
    of_two = f"model=sd21 model.path={file} mask=file mask.path={mask} {' '.join(two.more)}"
    of_xl = f"model=sdxl model.path={xl} mask=file mask.path={mask} {net(xl)}"
    return Given(lines=(of_two, of_xl))


def controlnets(at: Path) -> Given:
    folder, more = base(at)
    control = prefixed("control_model.", of_unet(weights(folder / "controlnet")))
    save_file(control, at / "control_v11p_sd15_canny.safetensors")
    given = at / "control_v11p_sd15_canny.safetensors", folder / "controlnet"
    return Given(given, more=(*more[:-1], f"model.config={folder}"))


def union(at: Path) -> Given:
    _, more = base(at, large=True)
    torch.manual_seed(4)
    made = diffusers.ControlNetUnionModel(
        **backbone(**LARGE),
        conditioning_embedding_out_channels=(8, 16),
        num_trans_channel=16,
        num_trans_head=2,
        num_proj_channel=16,
    )
    lively(made).eval().save_pretrained(at / "union")
    return Given((at / "union", at / "union"), more=more[:-1])


def maps(at: Path, count: int = FRAMES) -> Path:
    (at / "maps").mkdir()
    for number in range(count):
        Image.new("RGB", (80, 48), (20 * number, 90, 200)).save(at / f"maps/{number:03}.png")
    return at / "maps"


def ready_made(at: Path) -> Given:
    _, more = base(at)
    return Given((maps(at),), more=more)


def several_maps(at: Path) -> Given:
    folder, more = base(at)
    control = prefixed("control_model.", of_unet(weights(folder / "controlnet")))
    save_file(control, at / "lineart.safetensors")
    places = maps(at), "cat.mp4", folder / "controlnet", at / "lineart.safetensors"
    return Given(places, more=(*more[:-1], f"model.config={folder}"))


def later_maps(at: Path) -> Given:
    _, more = base(at)
    given = f"control.file.path={maps(at, 120)}"
    return Given(more=(*more, "control=file", given, "control.file.controlnet=canny"))


def t2i_adapter(at: Path) -> Given:
    _, more = base(at, unet=EARLY)
    return Given((t2i(at / "t2i"),), more=more[:-1])


def other_autoencoder(at: Path) -> Given:
    folder, more = base(at)
    save_file(of_vae(weights(folder / "vae")), at / "vae.safetensors")
    return Given((at / "vae.safetensors",), more=(*more[:2], net(folder)))


def tiny_autoencoder(at: Path) -> Given:
    folder, more = base(at)
    sizes = {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}
    blocks = {f"num_{side}_blocks": (1, 1) for side in ("encoder", "decoder")}
    diffusers.AutoencoderTiny(**sizes, **blocks).eval().save_pretrained(at / "taesd")
    return Given((at / "taesd",), more=(*more[:2], net(folder)))


def with_lora(*settings: str, **changes: Any) -> Callable[[Path], Given]:
    """One of diffusers, and one of kohya."""

    def made(at: Path) -> Given:
        folder, more = base(at, **changes)
        file = trained(folder, at / "lora.safetensors")
        other = as_kohya(file, at / "kohya.safetensors")
        assert load_file(other).keys() != load_file(file).keys()
        return Given((other,), more=(*more, *settings))

    return made


def shown(beside: bool = True, folder: bool = False) -> Callable[[Path], Given]:
    """An IP-Adapter, its encoder beside it or elsewhere, and a picture or a folder of some."""

    def made(at: Path) -> Given:
        model, more = base(at)
        found = adapter(model, at / "ip")
        picture, encoder = Path(found.image), at / "ip" / "image_encoder"
        if folder:
            (at / "pictures").mkdir()
            picture = picture.rename(at / "pictures" / picture.name).parent
        if not beside:
            encoder = encoder.rename(at / "encoder")
        return Given((found.path, picture, encoder), more=more)

    return made


def inversion(at: Path) -> Given:
    _, more = base(at)
    rows_ = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    save_file({"emb_params": rows_}, at / "toy.safetensors")
    return Given((at / "toy.safetensors",), more=more)


def words(at: Path) -> Given:
    return Given(more=base(at)[1])


def unet_alone(at: Path) -> Given:
    _, more = base(at, large=True)
    few = save(at / "few", large=True, unet={"time_cond_proj_dim": 16})
    return Given((few / "unet",), more=more[1:])


def like_any(at: Path) -> Given:
    """A row that refers to the others."""
    return folder_of()(at)._replace(lines=("model=sd15 model.path=FOLDER model.vae=null",))


MADE: dict[str, Callable[[Path], Given]] = {
    "a Stable Diffusion 1.5 folder": sharded,
    "a single file from Civitai": file_of(),
    "... that holds no autoencoder": file_of(without="first_stage_model."),
    "Stable Diffusion 2.1, folder": folder_of(scheduler=SCHEDULES["v prediction"]),
    "... of the 512-pixel kind": folder_of(),
    "a v-prediction or zero-terminal-SNR": folder_of(),
    "Stable Diffusion XL, folder": folder_of(large=True),
    "a checkpoint of other sizes": other_sizes,
    "InstructPix2Pix, folder": folder_of(unet=INSTRUCT),
    "... that keeps more or less": folder_of(unet=INSTRUCT),
    "an inpainting checkpoint": masked(folder_of(unet=INPAINTING)),
    "... of Stable Diffusion 2 or XL": inpainting_of_others,
    "a merged checkpoint": like_any,
    "ControlNets as folders": controlnets,
    "a ControlNet-Union of XL": union,
    "control maps made elsewhere": ready_made,
    "... several at once": several_maps,
    "... that go on before": later_maps,
    "a T2I-Adapter": t2i_adapter,
    "another autoencoder": other_autoencoder,
    "a tiny autoencoder": tiny_autoencoder,
    "a LoRA, of diffusers": with_lora(),
    "... at several strengths": with_lora(),
    "... in the first half of the steps only |": with_lora(),
    "an IP-Adapter": shown(),
    "... whose `image_encoder`": shown(beside=False),
    "... with hardly any words": shown(folder=True),
    "... in the first half of the steps only, at": shown(),
    "a textual inversion": inversion,
    "prompts with weights": words,
    "a prompt of more than 75": words,
    "an anime checkpoint": words,
    "an LCM checkpoint": folder_of(unet={"time_cond_proj_dim": 16}),
    "a UNet alone": unet_alone,
    "an LCM LoRA": with_lora(),
    "a TCD or Hyper LoRA": with_lora(),
    "a Turbo or Lightning": words,
}
# Rows that go on from a row before, and what that one writes.
BEFORE = {
    "... of the 512-pixel kind": "model=sd21 model.path=FOLDER",
    "a v-prediction or zero-terminal-SNR": "model=sd15 model.path=FOLDER model.vae=null",
    "... that keeps more or less": "model=instruct_pix2pix model.path=FOLDER control=[]"
    ' sampling.strength=null prompt="make it snow"',
}


# rows that are sweeps, and their values
SWEPT = {
    "... that keeps more or less": "1,1.5,2",
    "... at several strengths": "0,0.5,1",
    "... in the first half of the steps only, at": "0.3,0.6,1",
}


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The clip that the page's command names, in the working folder."""
    monkeypatch.chdir(tmp_path)
    image = torch.rand(3, 48, 80, generator=torch.Generator().manual_seed(0))
    video = MemoryVideo([image.roll(index, 2) for index in range(FRAMES)], Fraction(25))
    with files.writing(tmp_path / "cat.mp4") as file:
        encode((video[index] for index in range(FRAMES)), video, file)
    return tmp_path / "cat.mp4"


def maker(row: Row) -> str:
    """Which of `MADE` a row is."""
    (found,) = [name for name in MADE if f"{row.have} |".startswith(name)]
    return found


def test_every_row_is_run() -> None:
    assert [maker(row) for row in rows()] == list(MADE)


@pytest.mark.slow
@pytest.mark.parametrize("row", rows(), ids=lambda row: row.have[:40])
def test_a_documented_line_makes_a_video(row: Row, clip: Path, tmp_path: Path) -> None:
    name, at = maker(row), tmp_path / "given"
    at.mkdir()
    given = MADE[name](at)
    written = given.lines or (" ".join(filter(None, (BEFORE.get(name), *row.written[:1]))),)
    for line in written:
        places = iter(given.places)
        said = PLACES.sub(lambda _: str(next(places)), line)  # noqa: B023 - called at once
        settings = shlex.split(said)
        first = [f"data=video data.path={clip.name}", 'prompt="a cat"']
        before = [each for part in first for each in shlex.split(part)]
        if any(each.startswith("prompt=") for each in settings):
            before.pop()
        steps = [] if "preset=turbo" in settings else ["sampling.steps=6"]
        assert main([*before, *given.more, *settings, *SHORT, *steps]) == 0, said
    made = sorted((tmp_path / "outputs").glob("*/video.mp4"))
    assert len(made) == len(written) * len(SWEPT.get(name, "1").split(","))

"""The second training: natural pictures, styles on them, what a style leaves open, the pools."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rerender import Clip, load_model, parts, render
from rerender.demo import weights
from rerender.demo.captions import STYLES, read
from rerender.demo.styles import Surface, paint
from rerender.demo.world import World
from rerender.video import MemoryVideo
from training import components, data, further, natural
from training.export import put, put_beside
from training.further import FurtherDiffusion, SizePool
from training.further_judge import named_styles
from training.further_pictures import OPEN, SIZES, picture
from training.natural_bench import truth
from training.variation import PLAIN, StyleVariation

SMALL = replace(SIZES[0], side=48)


def drawn(seed: int, side: int = 96) -> np.ndarray:
    return natural.drawn(np.random.default_rng(seed), side)


def test_a_natural_picture_is_its_seed_s_and_in_range() -> None:
    one, again, other = drawn(1), drawn(1), drawn(2)
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert one.shape == (96, 96, 3) and one.min() >= 0 and one.max() <= 1


def test_natural_pictures_have_the_spectrum_of_natural_ones() -> None:
    """Amplitude falls as f^-a with a of 1 to 2 (frames of real clips, measured so: 1.6)."""
    frequencies = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96)[None]) * 96
    slopes = []
    for seed in range(40):
        grey = drawn(seed).mean(-1)
        power = np.abs(np.fft.fft2(grey - grey.mean()))
        rings = [power[(frequencies >= f) & (frequencies < 2 * f)].mean() for f in (2, 4, 8, 16)]
        slopes.append(np.polyfit(np.log([2, 4, 8, 16]), np.log(rings), 1)[0])
    assert -2 < float(np.mean(slopes)) < -1


def test_edges_are_those_of_the_first_training() -> None:
    photo = World(3).frame(5)
    found = natural.edge_map(np.ascontiguousarray(photo.permute(1, 2, 0).numpy()))
    assert torch.equal(torch.from_numpy(found > 0).float()[None], data.edges(photo))


def test_a_photo_of_a_picture_is_the_picture() -> None:
    assert np.array_equal(natural.restyled(drawn(3), "photo"), drawn(3))


@pytest.mark.parametrize("style", STYLES[1:])
def test_a_flat_picture_is_painted_like_a_surface(style: str) -> None:
    """Without an edge, the picture is one surface of its colour: in front, behind, or between."""
    flat = np.full((64, 64, 3), [0.5, 0.3, 0.6], np.float32)
    y, x = np.mgrid[:64, :64].astype(np.float32) - np.float32(31.5)
    sides = [
        paint(
            style,
            Surface(
                x,
                y,
                np.full_like(x, depth),
                lambda u, v: np.broadcast_to(flat[0, 0], (*u.shape, 3)),
            ),
        )
        for depth in (900.0, 1e6)
    ]
    part = natural._FRONT.get(style, 1.0)
    wanted = sides[1] + np.float32(part) * (sides[0] - sides[1])
    assert np.abs(natural.restyled(flat, style) - wanted).max() < 1e-4


@pytest.mark.parametrize("style", STYLES)
def test_nothing_left_open_is_the_style_itself(style: str) -> None:
    world = World(5)
    assert torch.equal(world.frame(3, style, PLAIN.painter), world.frame(3, style))


def test_angle_and_phase_leave_colours_where_they_are() -> None:
    """A photo has no texture of its own: however its coordinates turn, it stays what it is."""
    world, turned = World(7), StyleVariation(0.0, 0.9, (13.0, 5.0))
    assert (world.frame(4, "photo", turned.painter) - world.frame(4)).abs().max() < 1e-3
    assert (world.frame(4, "oil", turned.painter) - world.frame(4, "oil")).abs().mean() > 0.02


def test_half_a_turn_of_the_strokes_and_back() -> None:
    """Gold's sheen depends on u + v alone: a quarter turn makes it depend on v - u."""
    y, x = np.mgrid[:32, :32].astype(np.float32)
    grey = Surface(x, y, np.full_like(x, 50), lambda u, v: np.full((*u.shape, 3), 0.5, np.float32))
    turned = StyleVariation(angle=np.pi / 2).painter("gold statue", grey)
    mirrored = paint("gold statue", grey._replace(u=-x))
    assert np.abs(turned - mirrored).max() < 1e-4


def test_a_hue_turns_and_keeps_luminance() -> None:
    image = np.random.default_rng(0).uniform(0.35, 0.65, (5, 5, 3)).astype(np.float32)
    light = np.array([0.299, 0.587, 0.114], np.float32)
    third = StyleVariation(hue=2 * np.pi / 3)
    once = third.tinted(image)
    assert np.abs(once @ light - image @ light).max() < 1e-3
    assert np.abs(once - image).max() > 0.05
    assert np.abs(third.tinted(third.tinted(once)) - image).max() < 2e-3


def test_a_fifth_of_the_captions_names_no_style() -> None:
    captions = [picture(np.random.default_rng([4, i]), SMALL).caption for i in range(300)]
    said = [any(c == s or c.endswith(f", {s}") for s in STYLES) for c in captions]
    assert abs(1 - np.mean(said) - OPEN) < 0.07
    assert all(read(c) is not None for c in captions if " over the " in c)


def test_a_caption_s_picture_is_its_style_s() -> None:
    """Where the caption names the style, the demo world's picture is that of ``World.frame``."""
    for i in range(60):
        rng = np.random.default_rng([9, i])
        frame, caption, edges, _ = picture(rng, replace(SMALL, natural=0.0))
        said = read(caption)
        assert said is not None and edges.shape == frame.shape[:2]
        if said.style == "pencil":
            grey = cv2.cvtColor(frame.astype(np.float32), cv2.COLOR_RGB2GRAY)[..., None]
            assert np.abs(frame - grey).max() < 0.03


def test_a_full_pool_gives_up_its_oldest() -> None:
    pool = SizePool(replace(SIZES[0], side=16, batch=64, kept=4), "cpu")
    for number in range(6):
        code = torch.full((1, 12, 2, 2), float(number))
        edges = torch.ones(1, 1, 16, 16, dtype=torch.bool)
        pool.add(code, -code, torch.full((1, 24), number), edges)
    codes, sources, tokens, maps = pool.batch(torch.Generator().manual_seed(0))
    assert set(codes[:, 0, 0, 0].tolist()) == {2.0, 3.0, 4.0, 5.0}
    assert torch.equal(sources, -codes)
    assert torch.equal(tokens[:, 0].float(), codes[:, 0, 0, 0]) and maps.dtype == torch.float32


def test_styles_to_name_differ_in_nothing_else() -> None:
    frames, captions = named_styles(np.random.default_rng(2), 1)
    assert frames.shape == (8, 3, 128, 128)
    assert {c.partition(", ")[0] for c in captions} == {captions[0].rpartition(", ")[0]} or all(
        c.endswith(s) for c, s in zip(captions, STYLES, strict=True)
    )


def test_weights_are_put_in_and_others_refused(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights.FOLDER, folder)
    file = folder / "text_encoder/model.safetensors"
    state = {f"text_encoder.{name}": value + 1 for name, value in load_file(file).items()}
    before = load_file(file)
    save_file(state, tmp_path / "further.safetensors")
    put(folder, [tmp_path / "further.safetensors"])
    weights.verify(folder)
    after = load_file(file)
    assert all(torch.equal(after[name], before[name] + 1) for name in before)
    save_file({"text_encoder.other": torch.zeros(1)}, tmp_path / "further.safetensors")
    with pytest.raises(ValueError, match="text_encoder"):
        put(folder, [tmp_path / "further.safetensors"])


def test_the_shipped_folder_beside_is_what_put_beside_makes(tmp_path: Path) -> None:
    state = {
        f"{name}.{key}": value
        for name in ("text_encoder", "unet", "controlnet")
        for file in (weights.NATURAL / name).glob("*.safetensors")
        for key, value in load_file(file).items()
    }
    save_file(state, tmp_path / "further.safetensors")
    put_beside(tmp_path / "made", tmp_path / "further.safetensors")
    made, shipped = (f / weights.MANIFEST for f in (tmp_path / "made", weights.NATURAL))
    assert made.read_text() == shipped.read_text()


def test_natural_pictures_come_nearer_to_their_style_s_truth() -> None:
    """What the second model is for: pictures of no world, each in a style, against the truth."""
    pictures = [torch.from_numpy(drawn(seed, 128)).permute(2, 0, 1) for seed in (5, 6)]
    choices = parts("constraint=[]", "keyframes.interval=1", "sampling.steps=6")
    found = {}
    for name in ("demo", "demo_natural"):
        model = load_model(name)
        errors = []
        for source, style in product(pictures, ("neon", "gold statue")):
            clip = Clip("one", MemoryVideo([source], Fraction(25)), prompt=style)
            (made,) = render(clip, model, choices)
            errors.append((made - truth(source, style)).square().mean())
        found[name] = -10 * float(torch.stack(errors).mean().log10())
    assert found["demo_natural"] > found["demo"] + 3


def test_the_noise_of_a_translation_is_that_of_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the noised source, a DDIM step of a model that knows the styled picture leads there."""
    scheduler = components.scheduler()
    stage = object.__new__(FurtherDiffusion)
    stage.device, stage.alphas = "cpu", scheduler.alphas_cumprod
    monkeypatch.setattr(further, "_TRANSLATED", 1.0)
    g = torch.Generator().manual_seed(3)
    code, source = torch.randn(2, 1, 12, 4, 4, generator=g)
    plain = torch.randn(code.shape, generator=torch.Generator().manual_seed(7))
    # At the last level a translation begins there: what is seen is the noised source.
    last = torch.tensor([999])
    noise = stage.noise(code, source, last, torch.Generator().manual_seed(7))
    a = scheduler.alphas_cumprod[999]
    begun = a.sqrt() * source + (1 - a).sqrt() * plain
    assert torch.allclose(a.sqrt() * code + (1 - a).sqrt() * noise, begun, atol=1e-5)
    # At an earlier one it has begun at some level before, u, and DDIM has come from there.
    noise = stage.noise(code, source, torch.tensor([200]), torch.Generator().manual_seed(7))
    share = ((noise - plain) / (source - code)).mean()
    u = int((scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod) - share**2).abs().argmin())
    assert u >= 500
    au, at = scheduler.alphas_cumprod[u], scheduler.alphas_cumprod[200]
    begun = au.sqrt() * source + (1 - au).sqrt() * plain
    guess = (begun - au.sqrt() * code) / (1 - au).sqrt()
    seen = at.sqrt() * code + (1 - at).sqrt() * guess
    assert torch.allclose(at.sqrt() * code + (1 - at).sqrt() * noise, seen, atol=1e-4)


def test_without_a_source_the_noise_is_normal() -> None:
    stage = object.__new__(FurtherDiffusion)
    stage.device = "cpu"
    code, level = torch.zeros(1, 12, 4, 4), torch.tensor([500])
    noise = stage.noise(code, None, level, torch.Generator().manual_seed(1))
    assert torch.equal(noise, torch.randn(code.shape, generator=torch.Generator().manual_seed(1)))

"""IP-Adapters: with no constraint the latents are those of the stock pipelines that are shown the
same pictures, scale 0 is the checkpoint itself, and what does not fit is refused."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from rerender.contracts import AttentionMapEdit, NoiseRequest
from rerender.errors import ConfigError, InputError, WeightsError
from rerender.model._ip_adapter import IPAdapter
from tests.model.making import our_latents, ours, save, their_latents, their_pipeline

KINDS = ("plain", "plus", "full")
WIDTH, PROJECTED = 24, 20  # of the image encoder, and of what it projects to


def encoder(folder: Path) -> Path:
    torch.manual_seed(8)
    config = transformers.CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=PROJECTED,
    )
    transformers.CLIPVisionModelWithProjection(config).eval().save_pretrained(folder)
    return folder


def _linear(out: int, into: int, bias: bool = True) -> dict[str, Tensor]:
    found = {"weight": torch.randn(out, into) * into**-0.5}
    return {**found, "bias": torch.randn(out) * 0.1} if bias else found


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _norm(width: int) -> dict[str, Tensor]:
    return {"weight": 1 + 0.1 * torch.randn(width), "bias": 0.1 * torch.randn(width)}


def projection(kind: str, depth: int) -> dict[str, Tensor]:
    """The projection of an adapter as its authors name it."""
    if kind == "plain":
        return {**_named("proj", _linear(4 * depth, PROJECTED)), **_named("norm", _norm(depth))}
    if kind == "full":
        return {
            **_named("proj.0", _linear(WIDTH, WIDTH)),
            **_named("proj.2", _linear(depth, WIDTH)),
            **_named("proj.3", _norm(depth)),
        }
    inner, heads = 16, 64  # one head, which is always of width 64
    found = {"latents": torch.randn(1, 5, inner)}
    found |= _named("proj_in", _linear(inner, WIDTH)) | _named("proj_out", _linear(depth, inner))
    found |= _named("norm_out", _norm(depth))
    for layer in range(4):  # as many as diffusers builds
        at = f"layers.{layer}"
        found |= _named(f"{at}.0.norm1", _norm(inner)) | _named(f"{at}.0.norm2", _norm(inner))
        found |= _named(f"{at}.0.to_q", _linear(heads, inner, False))
        found |= _named(f"{at}.0.to_kv", _linear(2 * heads, inner, False))
        found |= _named(f"{at}.0.to_out", _linear(inner, heads, False))
        found |= _named(f"{at}.1.0", _norm(inner))
        found |= _named(f"{at}.1.1", _linear(4 * inner, inner, False))
        found |= _named(f"{at}.1.3", _linear(inner, 4 * inner, False))
    return found


def adapter(
    folder: Path, at: Path, kind: str = "plain", seed: int = 9, **changes: Any
) -> IPAdapter:
    """One of random weights for a checkpoint, with its encoder and a picture beside it."""
    at.mkdir(exist_ok=True)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    depth = unet.config.cross_attention_dim
    torch.manual_seed(seed)
    found = _named("image_proj", projection(kind, depth))
    cross = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(cross):
        width = unet.get_submodule(name.removesuffix(".processor")).to_q.in_features
        for each in ("to_k_ip", "to_v_ip"):
            found[f"ip_adapter.{2 * number + 1}.{each}.weight"] = torch.randn(width, depth) * 0.3
    file = at / f"ip-adapter_{kind}_{seed}.safetensors"
    save_file(found, file)
    if not (at / "image_encoder").exists():
        encoder(at / "image_encoder")
    shown = at / f"shown_{seed}.png"
    pixels = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(shown)
    return IPAdapter(**{"path": str(file), "image": str(shown), "scale": 0.7, **changes})


def stock(folder: Path, adapters: list[IPAdapter], monkeypatch: Any, large: bool = False) -> Tensor:
    pipeline = their_pipeline(folder, large)
    places = [adapter.file for adapter in adapters]
    pipeline.load_ip_adapter(
        [str(place.parent) for place in places],
        subfolder=[""] * len(places),
        weight_name=[place.name for place in places],
        image_encoder_folder="image_encoder",
    )
    pipeline.set_ip_adapter_scale([adapter.scale for adapter in adapters])
    shown = [
        [Image.open(io.BytesIO(file.read_bytes())) for file in adapter.pictures]
        for adapter in adapters
    ]
    return their_latents(pipeline, monkeypatch, ip_adapter_image=shown)


def check(mine: Tensor, theirs: Tensor) -> None:
    assert mine.shape == theirs.shape
    assert torch.allclose(mine, theirs, atol=1e-4), float((mine - theirs).abs().max())


@pytest.mark.parametrize("large", [False, True], ids=["sd", "XL"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_latents_are_the_stock_pipelines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, large: bool
) -> None:
    folder = save(tmp_path / "model", large=large)
    shown = adapter(folder, tmp_path / "ip", kind)
    mine = our_latents(ours(folder, ip_adapters=(shown,)))
    check(mine, stock(folder, [shown], monkeypatch, large))
    assert not torch.allclose(mine, our_latents(ours(folder)), atol=1e-3)  # it does something


def test_several_adapters_and_several_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "model")
    one = adapter(folder, tmp_path / "ip")
    two = adapter(folder, tmp_path / "ip", "plus", seed=10, scale=0.4)
    (tmp_path / "shown").mkdir()
    for number, each in enumerate((one, two)):
        Path(each.image).rename(tmp_path / "shown" / f"{number}.png")
    both = [replace(each, image=str(tmp_path / "shown")) for each in (one, two)]
    mine = our_latents(ours(folder, ip_adapters=tuple(both)))
    check(mine, stock(folder, both, monkeypatch))


def test_scale_0_is_the_checkpoint_itself(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    shown = adapter(folder, tmp_path / "ip", scale=0.0)
    plain = our_latents(ours(folder))
    assert torch.equal(our_latents(ours(folder, ip_adapters=(shown,))), plain)
    # Beside another that acts, it adds nothing either.
    other = adapter(folder, tmp_path / "ip", seed=10)
    alone = our_latents(ours(folder, ip_adapters=(other,)))
    assert torch.equal(our_latents(ours(folder, ip_adapters=(shown, other))), alone)


def test_windows(tmp_path: Path) -> None:
    """One whose window holds every step is the adapter; one that acts in half of them is neither it
    nor the checkpoint."""
    folder = save(tmp_path / "model")
    shown = adapter(folder, tmp_path / "ip")

    def latents(*adapters: IPAdapter) -> Tensor:
        return our_latents(ours(folder, ip_adapters=adapters))

    plain, whole = latents(), latents(shown)
    half = latents(replace(shown, stop=0.5))
    assert torch.allclose(latents(replace(shown, stop=0.99999)), whole, atol=1e-5)
    assert not torch.allclose(half, whole, atol=1e-3)
    assert not torch.allclose(half, plain, atol=1e-3)


def test_maps_of_words_leave_the_pictures_part_as_it_is(tmp_path: Path) -> None:
    """Asking for the maps of cross-attention, and giving them back, changes nothing."""
    folder = save(tmp_path / "model")
    model: Any = ours(folder, ip_adapters=(adapter(folder, tmp_path / "ip"),)).load(())
    condition = model.condition("a cat", "", (), True)
    noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    seen: list[tuple[int, ...]] = []

    def edit(layer: Any, maps: Tensor) -> Tensor:
        seen.append(tuple(maps.shape))
        return maps

    asked = AttentionMapEdit(lambda layer, cells: layer.cross, edit)
    plain = model.predict_noise([NoiseRequest(noisy, 500, condition, ())])[0]
    mapped = model.predict_noise([NoiseRequest(noisy, 500, condition, (), maps=asked)])[0]
    assert torch.allclose(plain, mapped, atol=1e-5)
    words = condition.prompt_embeds.shape[1]
    assert seen and {shape[-1] for shape in seen} == {words}


def test_content_of_every_file_is_in_fingerprint_and_digest(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    shown = adapter(folder, tmp_path / "ip")
    chosen = ours(folder, ip_adapters=(shown,))
    first, digest = chosen.fingerprint(()), chosen.load(()).digest()
    assert digest != ours(folder).load(()).digest()
    assert digest != ours(folder, ip_adapters=(replace(shown, scale=0.2),)).load(()).digest()
    Image.new("RGB", (40, 50), "red").save(shown.image)
    assert chosen.fingerprint(()) != first
    assert chosen.load(()).digest() != digest
    changed = load_file(shown.file)
    changed["ip_adapter.1.to_k_ip.weight"] += 1
    second = chosen.fingerprint(())
    save_file(changed, shown.file)
    assert chosen.fingerprint(()) != second


def test_instruct_pix2pix_is_shown_the_picture_in_its_last_branch(tmp_path: Path) -> None:
    from tests.model.test_source_channels import INSTRUCT

    folder = save(tmp_path / "model", unet=INSTRUCT)
    model: Any = ours(folder, ip_adapters=(adapter(folder, tmp_path / "ip"),)).load(())
    condition = model.condition("a cat", "", (), True, 5.0, torch.rand(3, 32, 32))
    tokens = condition.image_embeds
    assert len(tokens) == 3 and torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[1], tokens[2])
    assert torch.equal(condition.positive.image_embeds, tokens[2:])


def test_what_does_not_fit_is_refused_before_loading(tmp_path: Path) -> None:
    folder, large = save(tmp_path / "model"), save(tmp_path / "xl", large=True)
    shown = adapter(folder, tmp_path / "ip")

    def refused(chosen: IPAdapter, says: str, kind: type[Exception] = WeightsError) -> None:
        with pytest.raises(kind, match=says):
            ours(folder, ip_adapters=(chosen,)).check(())

    ours(folder, ip_adapters=(shown,)).check(())
    refused(adapter(large, tmp_path / "large"), "cross-attention layers|text of width")
    refused(replace(shown, path=str(tmp_path / "no.safetensors")), "no such file")
    refused(replace(shown, path=str(tmp_path / "a.bin")), "is a pickle")
    refused(replace(shown, image=str(tmp_path / "no.png")), "no such picture|cannot", InputError)
    refused(replace(shown, image=str(tmp_path)), "no picture in it", InputError)
    refused(replace(shown, image_encoder=str(tmp_path)), "is missing")
    net = next((folder / "controlnet").glob("*.safetensors"))
    other = replace(shown, path=str(net), image_encoder=str(tmp_path / "ip" / "image_encoder"))
    refused(other, "holds no IP-Adapter")
    plain = load_file(shown.file)
    faces = {**plain, "image_proj.norm.weight": torch.ones(32)}
    faces["image_proj.proj.0.weight"] = faces.pop("image_proj.proj.weight")
    save_file(faces, tmp_path / "ip" / "face.safetensors")
    refused(replace(shown, path=str(tmp_path / "ip" / "face.safetensors")), "FaceID")
    config = tmp_path / "ip" / "image_encoder" / "config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps({**said, "projection_dim": 21}))
    refused(shown, "projection_dim is 21")
    with pytest.raises(ConfigError, match=r"-10\.\.10"):
        replace(shown, scale=11)


def test_it_is_said_on_the_command_line_and_swept() -> None:
    from rerender.config.compose import literal, preflight
    from rerender.config.job import Job

    said = [
        "model=sd15",
        "model.ip_adapters=[{path: './a b.safetensors', image: 'my picture.png', scale: 1}]",
        "model.ip_adapters.0.scale=0,0.5",
    ]
    models: list[Any] = [Job.of(job).model for job in preflight(literal(said)).jobs]
    assert [model.ip_adapters[0].scale for model in models] == [0.0, 0.5]
    assert models[0].ip_adapters[0].image == "my picture.png"

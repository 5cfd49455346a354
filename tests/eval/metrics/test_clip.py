"""CLIP metrics: a judge that sees only mean colour gives known answers; a real (random) CLIP
model shows that loading and preprocessing equal the library's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metrics import clip
from eval.metrics.clip_score import ClipScore
from eval.metrics.directional import Directional
from eval.metrics.frame_accuracy import FrameAccuracy
from eval.metrics.tem_con import TemCon
from eval.score_files import Score
from rerender.errors import ConfigError
from tests.eval.toys import measure, picture

COLOURS = {"red": (1.0, 0, 0), "green": (0, 1.0, 0), "blue": (0, 0, 1.0)}


def flat(name: str) -> Tensor:
    return torch.tensor(COLOURS[name]).view(3, 1, 1).expand(3, 8, 8).clone()


class Colours:
    """Embeds a frame as its mean colour and a prompt as the colour that it names."""

    def images(self, frames: Tensor) -> Tensor:
        return F.normalize(frames.mean((2, 3)), dim=-1)

    def texts(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([COLOURS[prompt] for prompt in prompts])


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Weights that load as the judge of colours."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"colours")
    monkeypatch.setattr(clip, "load", lambda folder, device: Colours())
    return str(tmp_path)


def judged(metric: clip.ClipMetric, source: list[str], result: list[str], **prompts: str) -> Score:
    asked = {"prompt": "red", "source_prompt": "green", **prompts}
    return measure(metric, [flat(x) for x in source], [flat(x) for x in result], prompts=asked)


def test_clip_score_is_the_mean_cosine(colours: str) -> None:
    row = judged(ClipScore(weights=colours), ["green"] * 4, ["red", "red", "red", "blue"])
    assert (row.value, row.curve, row.n) == (0.75, (1, 1, 1, 0), 4)
    assert row.note.startswith("clip ") and "sha256:" in row.note


def test_frame_accuracy_is_a_share_and_a_tie_counts(colours: str) -> None:
    row = judged(FrameAccuracy(weights=colours), ["green"] * 4, ["red", "blue", "green", "green"])
    assert (row.value, row.curve) == (0.5, (1, 1, 0, 0))


def test_directional(colours: str) -> None:
    metric = Directional(weights=colours)
    assert judged(metric, ["green"], ["red"]).value == pytest.approx(1)
    assert judged(metric, ["red"], ["green"]).value == pytest.approx(-1)
    unchanged = judged(metric, ["green"] * 2, ["green", "red"])
    assert unchanged.curve[0] is None and unchanged.n == 1
    assert unchanged.value == pytest.approx(1)


@pytest.mark.parametrize(
    ("prompts", "reason"),
    [({"source_prompt": ""}, "no source prompt"), ({"source_prompt": "red"}, "equals the prompt")],
)
def test_prompts_that_tell_nothing_apart(
    colours: str, prompts: dict[str, str], reason: str
) -> None:
    for metric in (FrameAccuracy(weights=colours), Directional(weights=colours)):
        row = judged(metric, ["green"], ["red"], **prompts)
        assert row.value is None and row.note.startswith("n/a: ") and reason in row.note


def test_tem_con_of_neighbours_and_of_all_pairs(colours: str) -> None:
    shown = ["red", "red", "blue", "blue", "red"] * 4  # more than one batch
    near = judged(TemCon(weights=colours), ["green"] * 20, shown)
    assert near.value == pytest.approx(sum(a == b for a, b in pairwise(shown)) / 19)
    assert near.curve[0] is None and near.n == 19
    every = judged(TemCon(weights=colours, pairs="all"), ["green"] * 20, shown)
    alike = [shown[i] == shown[j] for j in range(20) for i in range(j)]
    assert every.value == pytest.approx(sum(alike) / 190)
    assert every.n == 190 and every.metric == "tem_con_all"


def test_tem_con_still_is_one_and_shuffled_is_worse(colours: str) -> None:
    metric = TemCon(weights=colours)
    ordered = ["red"] * 5 + ["blue"] * 5
    assert judged(metric, ["green"] * 10, ["red"] * 10).value == pytest.approx(1)
    good, bad = (
        judged(metric, ["green"] * 10, shown).value for shown in (ordered, ["red", "blue"] * 5)
    )
    assert good is not None and bad is not None and good > bad == 0


def test_missing_weights_make_a_row_and_no_fuss(tmp_path: Path) -> None:
    for weights in (str(tmp_path), "nobody/has-this", "/no/where"):
        row = judged(ClipScore(weights=weights), ["red"], ["red"])
        assert row.value is None and row.n == 0
        assert row.note.startswith("n/a: weights not found (") and weights in row.note


def test_demo_weights_have_their_own_name() -> None:
    assert ClipScore(weights="demo").name == "clip_score_demo"
    assert TemCon(weights="demo", pairs="all").name == "tem_con_all_demo"
    assert ClipScore(weights="x").name == "clip_score"
    with pytest.raises(ConfigError, match="received 'some'"):
        TemCon(weights="demo", pairs="some")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP model in the layout of transformers."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    path = tmp_path_factory.mktemp("clip")
    letters = [*"abcdefghijklmnopqrstuvwxyz,", *(f"{x}</w>" for x in "abcdefghijklmnopqrstuvwxyz,")]
    words = [*letters, "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt"))
    tokenizer.model_max_length = 16
    tokenizer.save_pretrained(path)
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {
        **small,
        "vocab_size": len(words),
        "max_position_embeddings": 16,
        "bos_token_id": words.index("<|startoftext|>"),
        "eos_token_id": words.index("<|endoftext|>"),
    }
    vision = {**small, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(
        path
    )
    return path


def test_embeddings_equal_the_library(folder: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPModel

    judge = clip.load(folder, "cpu")
    images = torch.stack([picture(64, 48, seed) for seed in range(2)])
    images = F.interpolate(F.avg_pool2d(images, 8), (64, 48), mode="bilinear")
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    levels = [(image * 255).round().to(torch.uint8) for image in images]
    pixels = processor(levels, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        theirs = CLIPModel.from_pretrained(folder).eval().get_image_features(pixel_values=pixels)
        theirs = F.normalize(getattr(theirs, "pooler_output", theirs), dim=-1)
        ours = judge.images(torch.stack(levels).float() / 255)
    # The library rounds to 8 bit after resizing; we do not.
    assert (ours * theirs).sum(1).min() > 0.999
    assert ours.norm(dim=1) == pytest.approx(1, abs=1e-5)


def test_a_real_model_scores_a_clip(folder: Path) -> None:
    source = [picture(40, 48, i) for i in range(10)]
    for metric in (
        ClipScore(weights=str(folder)),
        TemCon(weights=str(folder)),
        FrameAccuracy(weights=str(folder)),
        Directional(weights=str(folder)),
    ):
        row = measure(metric, source, [1 - frame for frame in source])
        assert row.value is not None and -1 <= row.value <= 1
    same = measure(TemCon(weights=str(folder)), source, [source[0]] * 10)
    assert same.value == pytest.approx(1, abs=1e-6)


def test_long_prompts_are_cut_not_refused(folder: Path) -> None:
    judge = clip.load(folder, "cpu")
    with torch.inference_mode():
        assert judge.texts(["a red ball " * 50, "x"]).shape == (2, 8)


def test_the_square_is_central() -> None:
    frames = torch.zeros(1, 3, 32, 96)
    frames[..., 32:64] = 1
    assert clip.centre_square(frames, 32).min() == 1
    assert clip.centre_square(frames.transpose(2, 3), 16).shape == (1, 3, 16, 16)

"""Textual inversion (Gal et al. 2022, arXiv 2208.01618): words that stand for trained embeddings.

In use are ``{word: [D] or [n,D]}`` (diffusers), ``{emb_params: [n,D]}`` (Civitai), and for Stable
Diffusion XL ``{clip_l: [n,768], clip_g: [n,1280]}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rerender.errors import ConfigError, WeightsError
from rerender.model._described import text_encoder
from rerender.model._files import StoredTensor, header
from rerender.model._located import Located
from rerender.model._tensors import tensors

_LARGE = ("clip_l", "clip_g")


def check(embeddings: Mapping[str, str], located: Located) -> None:
    """Refuse words and files that cannot stand for embeddings of this checkpoint, by their headers.

    Raises:
        ConfigError: a word with a space in it, or one that another begins with.
        WeightsError: a file that holds none, or of another width.
    """
    widths = [text_encoder(network).get("hidden_size") for network in located.text_encoders]
    for word, path in embeddings.items():
        others = [other for other in embeddings if other != word and other in word]
        if not word or word.split() != [word] or others:
            reason = f"holds the word {others[0]!r}" if others else "is no single word"
            raise ConfigError("model.embeddings", f"{word!r} {reason}", "choose another word")
        file = _file(path)
        entries = header(file).tensors
        for name, width in zip(_names(entries, len(widths), file), widths, strict=True):
            found = entries[name].shape
            if not 1 <= len(found) <= 2 or found[-1] != width:
                problem = f"holds {list(found)}, the text encoder's width is {width}"
                raise WeightsError(file, problem, "take an embedding of this checkpoint's family")


def add(
    embeddings: Mapping[str, str], tokenizers: Sequence[Any], text_encoders: Sequence[Any]
) -> dict[str, str]:
    """Teach tokenizers and text encoders the words.

    Returns:
        What stands in prompts for words with several embeddings: as many words, with spaces.

    Raises:
        WeightsError: a tokenizer knows the word already.
    """
    written: dict[str, str] = {}
    for word, path in embeddings.items():
        file = _file(path)
        device = next(text_encoders[0].parameters()).device
        found = dict(tensors([file], torch.float32, device))
        names = _names(header(file).tensors, len(text_encoders), file)
        for name, tokenizer, encoder in zip(names, tokenizers, text_encoders, strict=True):
            rows = found[name].reshape(-1, found[name].shape[-1])
            words = [word, *(f"{word}_{number}" for number in range(1, len(rows)))]
            if tokenizer.add_tokens(words) != len(words):
                problem = f"the tokenizer has the word {word!r} already"
                raise WeightsError(file, problem, "choose another: model.embeddings={WORD: FILE}")
            _append(encoder, tokenizer.convert_tokens_to_ids(words), rows)
            if len(words) > 1:
                written[word] = " ".join(words)
    return written


def _append(encoder: Any, numbers: Sequence[int], rows: Tensor) -> None:
    """Give tokens their embeddings; the table grows where it must."""
    table = encoder.get_input_embeddings()
    old = table.weight.data
    more = max(numbers) + 1 - len(old)
    if more > 0:
        table.weight = torch.nn.Parameter(torch.cat([old, old.new_zeros(more, old.shape[1])]))
        table.num_embeddings = len(table.weight)
    table.weight.data[list(numbers)] = rows.to(old)


def _file(path: str) -> Path:
    file = Path(path).expanduser()
    if file.suffix in (".pt", ".bin", ".ckpt"):
        cure = "take the .safetensors file, or convert it once"
        raise WeightsError(file, "is a pickle, which is never opened", cure)
    if not file.is_file():
        raise WeightsError(path, "no such file of an embedding", "give a .safetensors file")
    return file


def _names(entries: Mapping[str, StoredTensor], encoders: int, file: Path) -> Sequence[str]:
    """Which tensor belongs to each text encoder."""
    if encoders > 1 and all(name in entries for name in _LARGE):
        return _LARGE
    if encoders == 1 and "emb_params" in entries:
        return ("emb_params",)
    if encoders == 1 and len(entries) == 1:
        return tuple(entries)
    listed = ", ".join(list(entries)[:4])
    problem = f"holds no embedding for {encoders} text encoders (but {listed})"
    raise WeightsError(file, problem[:300], "take an embedding of this checkpoint's family")

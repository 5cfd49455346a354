"""Prompts as embeddings: one CLIP text encoder, or the two of Stable Diffusion XL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rerender.model._prompt_weights import Piece, apply_weights, weighted
from rerender.model._prompts import tell_cut
from rerender.model._visits import Visits


class Embedded(NamedTuple):
    """Embedded prompts.

    Attributes:
        hidden: of every token, ``[B,T,D]``.
        pooled: of the whole prompt, ``[B,P]``; None with one text encoder.
    """

    hidden: Tensor
    pooled: Tensor | None = None


class TextEncoding:
    """Embeds prompts; those of the last call are kept, since all key frames of a clip share them.

    Args:
        tokenizers: ``CLIPTokenizer``, one for each encoder.
        encoders: ``CLIPTextModel``; of two the second is a ``CLIPTextModelWithProjection``.
        clip_skip: last layers of the encoder that are left out; Stable Diffusion XL always leaves
            out one more.
        empty_is_zero: whether an empty negative prompt is embedded as zeros (XL).
        words: what stands in prompts for words with several embeddings.
        prompt_weights: whether ``(words:1.3)`` weighs words.
        prompt_chunks: how many times the encoder's length a prompt may have. Every prompt is cut
            into so many chunks (75 tokens of CLIP's 77), each is embedded by itself between a
            beginning and an end, the embeddings follow each other, as in AUTOMATIC1111's web UI.
        visits: moves an encoder to the device while it works; None where it lies there.
    """

    def __init__(
        self,
        tokenizers: Sequence[Any],
        encoders: Sequence[Any],
        clip_skip: int = 0,
        empty_is_zero: bool = False,
        words: Mapping[str, str] | None = None,
        prompt_weights: bool = False,
        prompt_chunks: int = 1,
        visits: Visits | None = None,
    ) -> None:
        self.tokenizers, self.encoders = tuple(tokenizers), tuple(encoders)
        self._skip, self._empty_is_zero = clip_skip, empty_is_zero
        self._words, self._weighs = dict(words or {}), prompt_weights
        self._chunks = prompt_chunks
        self._visits = visits
        self._kept: tuple[tuple[str, ...], Embedded] | None = None
        self._told: set[str] = set()  # prompts that were looked at for words that are left out

    def __call__(self, prompts: Sequence[str]) -> Embedded:
        """Embed prompts; of two the first is the negative one."""
        if self._kept is None or self._kept[0] != tuple(prompts):
            self._kept = (tuple(prompts), self.embed(list(prompts)))
        return self._kept[1]

    def embed(self, prompts: list[str]) -> Embedded:
        """Embed prompts anew."""
        for prompt in prompts:
            if prompt not in self._told:
                self._told.add(prompt)
                tell_cut(self.tokenizers[0], self.expanded(prompt), self._chunks)
        found = [
            self._encode(tokenizer, encoder, prompts)
            for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True)
        ]
        hidden = torch.cat([each.hidden for each in found], -1)
        pooled = found[-1].pooled
        if self._empty_is_zero and len(prompts) > 1 and not prompts[0]:
            assert pooled is not None
            hidden, pooled = hidden.clone(), pooled.clone()
            hidden[0], pooled[0] = 0.0, 0.0
        return Embedded(hidden, pooled)

    def expanded(self, prompt: str) -> str:
        """A prompt with every word of several embeddings written out as that many words, without
        weights."""
        return "".join(piece.text for piece in self._pieces(prompt))

    def _pieces(self, prompt: str) -> list[Piece]:
        pieces = weighted("prompt", prompt) if self._weighs else [Piece(prompt, 1.0)]
        for word, written in self._words.items():
            pieces = [Piece(text.replace(word, written), weight) for text, weight in pieces]
        return pieces

    def token_ids(self, prompt: str) -> list[int]:
        """Token numbers of a prompt, filled up to the model's length, one chunk after the other."""
        return [int(token) for token in self._tokenized(self.tokenizers[0], [prompt]).flatten()]

    def _encode(self, tokenizer: Any, encoder: Any, prompts: list[str]) -> Embedded:
        with self._visits(encoder) if self._visits else nullcontext():
            return self._encode_weighted(tokenizer, encoder, prompts)

    def _encode_weighted(self, tokenizer: Any, encoder: Any, prompts: list[str]) -> Embedded:
        plain = self._encode_plain(tokenizer, encoder, prompts)
        weights = [self._token_weights(tokenizer, prompt) for prompt in prompts]
        if all(each is None for each in weights):
            return plain
        (empty,) = self._encode_plain(tokenizer, encoder, [""]).hidden
        hidden = [
            each if weight is None else apply_weights(each, empty, weight)
            for each, weight in zip(plain.hidden, weights, strict=True)
        ]
        # The pooled embedding is of the prompt as a whole, in which words have no place.
        return Embedded(torch.stack(hidden), plain.pooled)

    def _token_weights(self, tokenizer: Any, prompt: str) -> Tensor | None:
        """The weight of every token, ``[T]``: that of its first letter; None where all are 1."""
        pieces = self._pieces(prompt)
        letters = [weight for text, weight in pieces for _ in text]
        if all(weight == 1 for weight in letters):
            return None
        places = tokenizer(
            "".join(piece.text for piece in pieces),
            add_special_tokens=False,
            verbose=False,
            return_offsets_mapping=True,
        ).offset_mapping
        # Beginnings and ends, one of each in every chunk, have no letters and weigh 1.
        length, most = tokenizer.model_max_length, tokenizer.model_max_length - 2
        weights = torch.ones(self._chunks * length)
        for index, (start, stop) in enumerate(places[: self._chunks * most]):
            if stop > start:
                weights[index // most * length + 1 + index % most] = letters[start]
        return weights

    def _encode_plain(self, tokenizer: Any, encoder: Any, prompts: list[str]) -> Embedded:
        tokens = self._tokenized(tokenizer, prompts).to(next(encoder.parameters()).device)
        if len(self.encoders) == 1 and not self._skip:
            return Embedded(self._joined(encoder(tokens)[0]))
        output = encoder(tokens, output_hidden_states=True)
        if len(self.encoders) == 1:
            # The last norm belongs to what the UNet was trained on.
            inner = getattr(encoder, "text_model", encoder)
            hidden = inner.final_layer_norm(output.hidden_states[-1 - self._skip])
            return Embedded(self._joined(hidden))
        # The pooled embedding is of the first chunk.
        pooled = output[0][:: self._chunks]
        return Embedded(self._joined(output.hidden_states[-2 - self._skip]), pooled)

    def _joined(self, hidden: Tensor) -> Tensor:
        """Embeddings of chunks ``[B*C,T,D]`` one after the other, ``[B,C*T,D]``."""
        return hidden.reshape(-1, self._chunks * hidden.shape[1], hidden.shape[2])

    def _tokenized(self, tokenizer: Any, prompts: list[str]) -> Tensor:
        """Token numbers ``[B*C,T]`` of C chunks of every prompt; prompts are filled up to, or cut
        at, the model's length."""
        written = [self.expanded(prompt) for prompt in prompts]
        if self._chunks > 1:
            return torch.tensor([ids for text in written for ids in self._cut(tokenizer, text)])
        found: Tensor = tokenizer(
            written,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return found

    def _cut(self, tokenizer: Any, text: str) -> list[list[int]]:
        """Token numbers of all chunks of a text, each with a beginning and an end of its own."""
        most = tokenizer.model_max_length - 2
        numbers = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        first, last, fill = (
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
        )
        parts = [numbers[i * most : (i + 1) * most] for i in range(self._chunks)]
        return [[first, *part, last, *[fill] * (most - len(part))] for part in parts]

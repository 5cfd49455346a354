"""Checkpoints in the folder layout of diffusers: on disk, or by hub id where it is reachable."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rerender.config.paths import ROOT
from rerender.contracts import Checkpoint
from rerender.errors import ConfigError, WeightsError
from rerender.kinds import Device, HubModel, Word
from rerender.model import _agreement, _hub, _noising
from rerender.model._files import (
    AUTOENCODER,
    CONTROLNET,
    PIPELINE,
    SCHEDULER,
    WITHOUT_VAE,
    Layout,
    check_header,
    need,
    read,
    read_by,
    stem,
    weights_of,
)
from rerender.model._freeu import FreeU
from rerender.model._prompts import tell_cut, tell_styles
from rerender.video import sha256_file

if TYPE_CHECKING:
    import torch

    from rerender.contracts import Model

MANIFEST = "SHA256SUMS"
_FOLDER = "give a folder in diffusers layout, or a hub id such as owner/name"


@dataclass(frozen=True)
class Pretrained(Checkpoint):
    """A Stable Diffusion 1.5-family checkpoint with ControlNets.

    Attributes:
        path: folder in diffusers layout, or a hub id such as ``owner/name``. A relative folder is
            looked for in the working directory, then in the project.
        controlnets: folder or hub id of the ControlNet for each control name; relative folders
            are looked for inside ``path`` first.
        vae: another autoencoder (folder or hub id); None takes the checkpoint's own.
        dtype: what the networks compute in; auto is float32 on the CPU, float16 elsewhere.
        device: auto takes the first GPU where there is one.
        freeu: FreeU strengths; None leaves the network as it is.
        recommended: values that suit it, which other keys of the configuration take by default:
            size, guidance, and low, high and blur of Canny edges.
        styles: the styles it knows by name, where these are all; prompts without one are warned of.
    """

    path: HubModel
    controlnets: Mapping[str, HubModel] = field(default_factory=dict)
    vae: HubModel | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: Device = "auto"
    freeu: FreeU | None = None
    recommended: Mapping[str, float] = field(default_factory=dict)
    styles: tuple[Word, ...] = ()

    def check(self, controls: Sequence[str]) -> None:
        """Refuse what is missing, damaged, of another kind, or does not fit together. Of what the
        hub has and its cache has not, only the small files are fetched.

        Raises:
            ConfigError: a control has no ControlNet in ``model.controlnets``.
            WeightsError: a folder or file is missing, differs from its manifest, or belongs to
                another family of models, or the hub cannot be reached.
        """
        for control in controls:
            if control not in self.controlnets:
                raise ConfigError(
                    "control",
                    f"this model has no ControlNet for {control!r}, "
                    f"only for {', '.join(self.controlnets) or 'none'}",
                    "choose another control or add it to model.controlnets",
                )
        folder = _local(self.path)
        if folder is not None:
            _check_manifest(folder)
        base, vae, nets = self._places(controls, "small")
        _agreement.check(base, vae, nets)
        for network, folder in _agreement.networks(base, vae, nets):
            if _hub.on_its_way(folder, network):
                continue
            for name in weights_of(folder, stem(network)).files:
                if name.endswith(".safetensors"):
                    check_header(folder / name)

    def tell_cut(self, prompts: Sequence[str]) -> None:
        folder = self._places((), "nothing")[0] / "tokenizer"
        most = int(read(folder / "tokenizer_config.json")["model_max_length"])
        # A token covers a byte at least, so that short prompts need no tokenizer to be loaded.
        long = [prompt for prompt in prompts if len(prompt.encode()) + 2 > most]
        if long:
            import transformers

            tokenizer = _tokenizer(transformers, folder)
            for prompt in long:
                tell_cut(tokenizer, prompt)

    def tell_styles(self, prompts: Sequence[str]) -> None:
        tell_styles(prompts, self.styles)

    def fingerprint(self, controls: Sequence[str]) -> str | None:
        """A hash of all files that are read; None where some are still on the hub."""
        base, vae, nets = self._places(controls, "nothing")
        networks = _agreement.networks(base, vae, nets)
        if any(_hub.on_its_way(folder, network) for network, folder in networks):
            return None
        return _content(base, vae, nets)

    def load(self, controls: Sequence[str]) -> Model:
        """Read all networks from safetensors files; pickles are never opened.

        Raises:
            WeightsError: a file is unreadable, of another architecture, or not finite.
        """
        from rerender.model.diffusion import Components, StableDiffusion

        base, vae, nets = self._places(controls, "all")
        device = self._device()
        dtype = self._dtype(device)
        diffusers, transformers = _libraries()
        parts = Components(
            tokenizer=_tokenizer(transformers, base / "tokenizer"),
            scheduler=_noising.checked(read(base / SCHEDULER), base / SCHEDULER),
            text_encoder=_network(transformers.CLIPTextModel, base / "text_encoder", dtype),
            vae=_network(diffusers.AutoencoderKL, vae, dtype),
            unet=_network(diffusers.UNet2DConditionModel, base / "unet", dtype),
            controlnets=tuple(_network(diffusers.ControlNetModel, net, dtype) for net in nets),
        )
        return StableDiffusion(parts, device, dtype, self.freeu)

    def _places(
        self, controls: Sequence[str], fetching: _hub.Fetching
    ) -> tuple[Path, Path, list[Path]]:
        """The folders of the pipeline, the autoencoder and the ControlNets."""
        base = _place(self.path, PIPELINE if self.vae is None else WITHOUT_VAE, fetching)
        vae = _place(self.vae, AUTOENCODER, fetching) if self.vae else base / "vae"
        nets = [
            base / net if (base / net).is_dir() else _place(net, CONTROLNET, fetching)
            for net in (self.controlnets[control] for control in controls)
        ]
        return base, vae, nets

    def _device(self) -> torch.device:
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                "model.device", f"cannot compute on {self.device!r} ({error})", "use cpu or auto"
            ) from None
        return device

    def _dtype(self, device: torch.device) -> torch.dtype:
        import torch

        if self.dtype == "auto":
            return torch.float32 if device.type == "cpu" else torch.float16
        chosen: torch.dtype = getattr(torch, self.dtype)
        return chosen


def _local(path: str) -> Path | None:
    """The folder that a path names, or None where it is a hub id.

    Raises:
        WeightsError: it looks like a folder but there is none.
    """
    for candidate in (Path(path).expanduser(), ROOT / path):
        try:
            if candidate.is_dir():
                return candidate
            single = candidate.is_file()
        except (OSError, ValueError) as error:  # such as a name that is too long
            raise WeightsError(path[:200], f"cannot be a path ({error})", _FOLDER) from error
        if single:
            raise WeightsError(
                candidate,
                "is a single file, a folder of model weights in diffusers layout is needed",
                "convert it once: from_single_file(...).save_pretrained(FOLDER) of diffusers",
            )
    if path.startswith(("/", ".", "~")) or path.count("/") != 1:
        raise WeightsError(path, "no such folder of model weights", _FOLDER)
    return None


def _place(path: str, layout: Layout, fetching: _hub.Fetching) -> Path:
    """The folder that a path or a hub id stands for."""
    return _local(path) or _hub.place(path, layout, fetching)


def _content(base: Path, vae: Path, controlnets: Sequence[Path]) -> str:
    """A hash of all files that are read, names and contents."""
    folders = [folder for _, folder in _agreement.networks(base, vae, controlnets)]
    found = hashlib.sha256()
    for file in read_by(base, folders):
        found.update(f"{file.parent.name}/{file.name}\0{sha256_file(file)}\0".encode())
    return found.hexdigest()


def _check_manifest(folder: Path) -> None:
    """Compare every file with the folder's list of sha256 sums, where it has one."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        return
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(manifest, f"cannot be read ({error})", "restore the file") from error
    for line in lines:
        expected, _, name = line.partition("  ")
        need(folder, [name])
        found = sha256_file(folder / name)
        if found != expected:
            raise WeightsError(
                folder / name,
                f"sha256 is {found[:12]}, the manifest says {expected[:12]}",
                "the file is damaged: restore it",
            )


def _libraries() -> tuple[Any, Any]:
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers, transformers


def _tokenizer(transformers: Any, folder: Path) -> Any:
    """The tokenizer, with errors that name its folder."""
    try:
        return transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises a dozen kinds and never names the file
        raise _unreadable(folder, error) from error


def _network(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """One network with finite weights that fill it completely."""
    from torch import nn

    weights = weights_of(folder, stem(folder.name if kind.__name__ == "CLIPTextModel" else ""))
    file = folder / weights.files[0] if len(weights.files) == 1 else folder
    try:
        network, report = kind.from_pretrained(
            str(folder),
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            variant=weights.variant,
        )
    except Exception as error:  # the libraries raise a dozen kinds and never name the file
        raise _unreadable(file, error) from error
    missing = sorted(report["missing_keys"])
    if missing:
        total = len(network.state_dict())
        raise WeightsError(
            file,
            f"matches {total - len(missing)} of {total} tensors (first missing: {missing[0]})",
            f"it is not a {kind.__name__} checkpoint of this architecture",
        )
    _check_finite(network, file, "restore the file")
    before = next(network.parameters()).dtype
    # References here and not when all are loaded: only one network at a time takes twice its size.
    nn.Module.to(network, dtype=dtype)
    if dtype != before:
        _check_finite(network, file, "its numbers are too large: take model.dtype=float32")
    return network


def _check_finite(network: Any, where: Path, cure: str) -> None:
    for name, weight in network.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise WeightsError(where, f"tensor {name} holds NaN or infinity", cure)


def _unreadable(where: Path, error: Exception) -> WeightsError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return WeightsError(where, f"cannot be read ({reason})", "check or restore the folder")

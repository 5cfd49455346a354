"""Checkpoints on disk, in folders of diffusers or in single files, or by hub id where it is
reachable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from rerender.contracts import Checkpoint, MemoryDemand
from rerender.errors import ConfigError, WeightsError
from rerender.kinds import Device, HubModel, LocalModel, Word
from rerender.model import (
    _agreement,
    _described,
    _embeddings,
    _hub,
    _ip_adapter,
    _ip_adapter_fit,
    _lora,
    _memory,
    _noising,
    _single_file,
    _stored,
)
from rerender.model._files import read
from rerender.model._freeu import FreeU
from rerender.model._ip_adapter import IPAdapter
from rerender.model._located import Located, NetworkFiles, in_folder
from rerender.model._lora import Lora
from rerender.model._places import check_manifest, local, place
from rerender.model._prompt_weights import without_weights
from rerender.model._prompts import tell_cut, tell_styles
from rerender.video import sha256_file

if TYPE_CHECKING:
    import torch

    from rerender.contracts import Model
    from rerender.model._tiling import Tiles


@dataclass(frozen=True)
class Pretrained(Checkpoint):
    """A Stable Diffusion checkpoint (1, 2 or XL) with ControlNets.

    Attributes:
        path: folder in diffusers layout, a single safetensors file, or a hub id such as
            ``owner/name``. A relative path is looked for in the working directory, then in the
            project.
        controlnets: folder, file or hub id of the ControlNet for each control name; relative
            folders are looked for inside ``path`` first.
        vae: another autoencoder (folder, file or hub id); None takes the checkpoint's own.
        unet: another denoising network (folder or hub id), such as one distilled to few steps;
            None takes the checkpoint's own.
        config: folder in diffusers layout that says how a single file is built; None tells it from
            the file.
        loras: LoRAs on the checkpoint, in order.
        ip_adapters: pictures that it is shown beside the words, in order.
        embeddings: file of a textual inversion for each word that stands for it in prompts; None
            for no such words.
        scheduler: keys of scheduler_config.json that are other than the checkpoint says; None for
            no such keys.
        clip_skip: last layers of the text encoder that are left out.
        prompt_weights: whether ``(words:1.3)`` weighs words of prompts; they are letters otherwise.
        prompt_chunks: how many times 75 tokens (CLIP's 77 but for beginning and end) a prompt may
            have; all prompts are filled up to them, so that a value changes what short ones make.
        dtype: what the networks compute in; auto is float32 on the CPU, float16 elsewhere.
        device: auto takes the first GPU where there is one.
        compile: graphs captures evaluations as CUDA graphs, with networks in channels_last; eager
            calls the networks each time; auto is graphs on a CUDA device, where they can be
            captured, and eager elsewhere.
        vae_tiling: whether the autoencoder works in overlapping tiles, slower by far, which bounds
            its memory: on for pictures longer than a tile (512 pixels), auto where the short side
            exceeds 768, off never.
        memory: what lies on a GPU: full is all networks, low only those at work (the autoencoder
            and text encoders come when they are called, and are not captured) with
            ``vae_tiling=on``; auto is full where the estimate fits, else low. A processor has all.
        freeu: FreeU strengths; None leaves the network as it is.
        recommended: values that suit it, which other keys of the configuration take by default:
            size, guidance, and low, high and blur of Canny edges.
        styles: the styles it knows by name, where these are all; prompts without one are warned of.
    """

    path: HubModel
    controlnets: Mapping[str, HubModel] = field(default_factory=dict)
    vae: HubModel | None = None
    unet: HubModel | None = None
    config: LocalModel | None = None
    loras: tuple[Lora, ...] = ()
    ip_adapters: tuple[IPAdapter, ...] = ()
    embeddings: Mapping[str, LocalModel] | None = None
    scheduler: Mapping[str, bool | int | float | Word | list[float] | None] | None = None
    clip_skip: Annotated[int, Field(ge=0, le=10)] = 0
    prompt_weights: bool = False
    prompt_chunks: Annotated[int, Field(ge=1, le=8)] = 1
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: Device = "auto"
    compile: Literal["auto", "eager", "graphs"] = "auto"
    vae_tiling: Literal["auto", "on", "off"] = "off"
    memory: Literal["auto", "full", "low"] = "auto"
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
        for given in (self.path, self.unet):
            folder = local(given) if given else None
            if folder is not None and folder.is_dir():
                check_manifest(folder)
        located = self._located(controls, "small")
        _agreement.check(located)
        for network in located.networks():
            if network.single is None and _hub.on_its_way(network.folder, network.role):
                continue
            _stored.check(network)
        _lora.check(self.loras, located)
        _ip_adapter_fit.check(self.ip_adapters, located)
        _embeddings.check(self.embeddings or {}, located)

    def adapted(self, loras: Sequence[tuple[str, float]]) -> Checkpoint:
        more = tuple(Lora(path=file, scale=scale) for file, scale in loras)
        return replace(self, loras=(*self.loras, *more))

    def distilled(self) -> bool:
        return self._located((), "nothing").unet.config().get("time_cond_proj_dim") is not None

    def instructed(self) -> bool:
        return self._further() == "instruct"

    def inpaints(self) -> bool:
        return self._further() == "inpainting"

    def _further(self) -> _agreement.Further | None:
        return _agreement.further(_described.unet(self._located((), "nothing").unet))

    def words(self) -> Sequence[str]:
        return tuple(self.embeddings or ())

    def revisions(self) -> Mapping[str, str]:
        ids = [self.path, self.vae, self.unet, *self.controlnets.values()]
        found = {
            name: _hub.revision(name)
            for name in ids
            if name and name.count("/") == 1 and not Path(name).expanduser().exists()
        }
        return {name: commit for name, commit in found.items() if commit}

    def tell_cut(self, prompts: Sequence[str]) -> None:
        files = self._located((), "nothing").tokenizers[0]
        length = int(read(files.folder / "tokenizer_config.json")["model_max_length"])
        most = self.prompt_chunks * (length - 2) + 2
        # A token covers a byte at least, so that short prompts need no tokenizer to be loaded.
        long = [prompt for prompt in prompts if len(prompt.encode()) + 2 > most]
        if long:
            from rerender.model._loading import load_tokenizer

            tokenizer = load_tokenizer(files)
            for prompt in long:
                words = without_weights("prompt", prompt) if self.prompt_weights else prompt
                tell_cut(tokenizer, words, self.prompt_chunks)

    def tell_styles(self, prompts: Sequence[str]) -> None:
        tell_styles(prompts, self.styles)

    def fingerprint(
        self, controls: Sequence[str], digest: Callable[[Path], str] = sha256_file
    ) -> str | None:
        """A hash of all files that are read; None where some are still on the hub."""
        located = self._located(controls, "nothing")
        if any(
            network.single is None and _hub.on_its_way(network.folder, network.role)
            for network in located.networks()
        ):
            return None
        files = [*located.files(), *(lora.file for lora in self.loras)]
        files += [file for adapter in self.ip_adapters for file in adapter.files()]
        files += [Path(file).expanduser() for file in (self.embeddings or {}).values()]
        found = hashlib.sha256()
        for file in files:
            found.update(f"{file.parent.name}/{file.name}\0{digest(file)}\0".encode())
        return found.hexdigest()

    def fitted(self, controls: Sequence[str], demand: MemoryDemand) -> Checkpoint:
        from torch import float16

        device = self._device()
        free = _memory.free_memory(device)
        if free is None:
            return self
        located = self._located(controls, "all")
        sizes = _memory.sizes_of(
            located.unet,
            located.controlnets,
            located.text_encoders,
            located.vae,
            1 if self.distilled() else 3 if self.instructed() else 2,
        )
        itemsize = self._dtype(device).itemsize
        # As `StableDiffusion` computes it: float32 in place of float16.
        vae = located.vae.config()
        usual = vae.get("_class_name") != "AutoencoderTiny"
        upcast = len(located.text_encoders) > 1 and vae.get("force_upcast", usual)
        vae_itemsize = 4 if upcast and self._dtype(device) == float16 else itemsize
        chosen = _memory.chosen(
            self.memory,
            lambda low: _memory.estimate(
                sizes,
                demand,
                itemsize,
                vae_itemsize,
                self._graphs(device),
                low,
                self._tile(demand, low),
            ),
            free,
        )
        return replace(self, memory=chosen)

    def load(self, controls: Sequence[str]) -> Model:
        """Read all networks from safetensors files; pickles are never opened.

        Raises:
            WeightsError: a file is unreadable, of another architecture, or not finite.
        """
        import torch

        from rerender.model._components import Components
        from rerender.model._loading import load_network, load_tokenizer
        from rerender.model._replays import CudaGraphs
        from rerender.model.diffusion import StableDiffusion

        located = self._located(controls, "all")
        device = self._device()
        dtype, graphs = self._dtype(device), self._graphs(device)

        low = self.memory == "low" and device.type != "cpu"
        waiting = torch.device("cpu") if low else device  # where networks lie that are moved

        def load(network: NetworkFiles, place: torch.device = device) -> object:
            return load_network(network, dtype, place)

        tokenizers = [load_tokenizer(files) for files in located.tokenizers]
        text_encoders = [load(network, waiting) for network in located.text_encoders]
        words = _embeddings.add(self.embeddings or {}, tokenizers, text_encoders)
        unet = load(located.unet)
        loras = _lora.apply(self.loras, unet, text_encoders)
        shown = _ip_adapter.apply(self.ip_adapters, unet, device, dtype)
        parts = Components(
            tokenizers=tuple(tokenizers),
            text_encoders=tuple(text_encoders),
            vae=load(located.vae, waiting),
            unet=unet,
            controlnets=tuple(load(network) for network in located.controlnets),
            scheduler=_noising.checked(located.scheduler(), located.scheduler_file),
            modes=tuple(_agreement.mode(network) for network in located.controlnets),
            loras=[*loras, *(shown.switches if shown else ())],
            image_prompt=shown,
            words=words,
            empty_is_zero=_agreement.empty_is_zero(located),
            prompt_weights=self.prompt_weights,
            prompt_chunks=self.prompt_chunks,
        )
        return StableDiffusion(
            parts,
            device,
            dtype,
            self.freeu,
            self.clip_skip,
            capture=CudaGraphs(device) if graphs else None,
            # Without Triton, which some platforms lack, channels_last is slower than the default.
            channels_last=graphs and find_spec("triton") is not None,
            strict=self.compile == "graphs",
            tiles=self._tiles(low),
            low=low,
        )

    def _tiles(self, low: bool) -> Tiles | None:
        """How the autoencoder cuts large pictures; None where it computes all of them whole."""
        from rerender.model._tiling import Tiles

        if self.vae_tiling == "off" and not low:
            return None
        return Tiles(0 if self.vae_tiling == "on" or low else 768)

    def _tile(self, demand: MemoryDemand, low: bool) -> int | None:
        """Longest side of what the autoencoder computes of a run's pictures; None where whole."""
        tiles = self._tiles(low)
        if tiles is None or not tiles.cut(demand.height, demand.width):
            return None
        return tiles.side

    def _located(self, controls: Sequence[str], fetching: _hub.Fetching) -> Located:
        """The parts of the checkpoint."""
        base = local(self.path)
        if base is not None and base.is_file():
            config = Path(self.config).expanduser() if self.config else None
            found = _single_file.pipeline(base, config, self.vae is None)
        else:
            layout = _hub.whole(self.vae is None, self.unet is None)
            found = in_folder(place(self.path, layout, fetching))
        unet = found.unet if self.unet is None else self._other_unet(self.unet, fetching)
        vae = found.vae
        if self.vae is not None:
            file = local(self.vae)
            if file is not None and file.is_file():
                vae = _single_file.autoencoder(file, found.vae)
            else:
                vae = NetworkFiles("vae", place(self.vae, _hub.AUTOENCODER, fetching))
        return replace(
            found,
            changes={**found.changes, **(self.scheduler or {})},
            unet=unet,
            vae=vae,
            own_vae=self.vae is None,
            controlnets=tuple(
                replace(
                    self._controlnet(self.controlnets[control], found, fetching), control=control
                )
                for control in controls
            ),
        )

    @staticmethod
    def _other_unet(path: str, fetching: _hub.Fetching) -> NetworkFiles:
        file = local(path)
        if file is not None and file.is_file():
            problem = "is a single file, and says not how its network is built"
            cure = "give the folder of its config.json, or a hub id"
            raise WeightsError(file, problem, cure)
        return NetworkFiles("unet", place(path, _hub.UNET, fetching))

    def _controlnet(self, path: str, located: Located, fetching: _hub.Fetching) -> NetworkFiles:
        if (located.base / path).is_dir():
            return NetworkFiles("controlnet", located.base / path)
        file = local(path)
        if file is not None and file.is_file():
            return _single_file.controlnet(file, located.unet)
        return NetworkFiles("controlnet", place(path, _hub.CONTROLNET, fetching))

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

    def _graphs(self, device: torch.device) -> bool:
        if self.compile == "graphs" and device.type != "cuda":
            problem = f"CUDA graphs need a CUDA device, received {device.type}"
            raise ConfigError("model.compile", problem, "use auto or eager")
        return self.compile == "graphs" or (self.compile == "auto" and device.type == "cuda")

    def _dtype(self, device: torch.device) -> torch.dtype:
        import torch

        if self.dtype == "auto":
            return torch.float32 if device.type == "cpu" else torch.float16
        chosen: torch.dtype = getattr(torch, self.dtype)
        return chosen

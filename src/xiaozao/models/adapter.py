"""Adapters on disk in PEFT's format, so that PEFT, vLLM and llama.cpp read them.

    adapter_model.safetensors   base_model.model.<layer>.lora_A.weight (rank, in), .lora_B.weight (out, rank),
                                .lora_magnitude_vector (out) for DoRA, and <module>.weight of what was trained whole
    adapter_config.json         rank, alpha, names
    xiaozao.json                the base that it learned on: name, commit, the hash of its weights
    tokenizer.json, chat_template.jinja, generation_config.json ...   what it learned to talk with (chatfiles.py)

rsLoRA and PiSSA are written as the plain LoRA they are (models/layers/pissa.py): alpha is such that alpha / r is the
scale of training. There are readers that do not know `use_rslora`: to them the file would silently mean another model.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from xiaozao.errors import ArtefactError
from xiaozao.hub.adapterfile import read_adapter_settings
from xiaozao.hub.hashes import weights_hash
from xiaozao.hub.sources import ModelFolder
from xiaozao.models.artefacts.checkpoint import verify
from xiaozao.models.artefacts.manifest import MANIFEST, read_mapping
from xiaozao.models.blocks import Decoder
from xiaozao.models.layers.dora import DoraLinear
from xiaozao.models.layers.linear import Adapted, AdaptedLinear, adapt, adapters, is_plain
from xiaozao.models.trainable import is_tied, untie, whole_parameters

PREFIX = "base_model.model."
WEIGHTS = "adapter_model"
CONFIG = "adapter_config"
FACTS = "xiaozao"  # .json, beside the adapter
PARTS = (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector")


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All trained tensors, under PEFT's names."""
    named: dict[str, Tensor] = {}
    for name, layer in adapters(model).items():
        named |= {f"{PREFIX}{name}.{part}": tensor for part, tensor in layer.saved().items()}
    whole = whole_parameters(model)
    # A file holds no tensor twice by reference, so what two modules share is copied.
    return named | {f"{PREFIX}{name}": one.detach().clone() for name, one in whole.items()}


def adapter_config(model: nn.Module, base: str) -> dict[str, object]:
    """PEFT's description of the adapter. `base` is where a reader finds the base (base_name)."""
    layers = adapters(model)
    first = next(iter(layers.values()))
    rank = len(first.saved()["lora_A.weight"])
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": first.scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": isinstance(first, DoraLinear),
        "fan_in_fan_out": any(layer.transposed for layer in layers.values()),
        "inference_mode": True,
        "target_modules": sorted(layers),
        "modules_to_save": sorted({name.rpartition(".")[0] for name in whole_parameters(model)}) or None,
    }


def base_name(model: ModelFolder) -> str:
    """The name of the base for readers: its name on Hugging Face if it came from there, else its absolute folder.

    A folder's bare name, or a name on another hub, would be looked for on Hugging Face, and could be another model.
    """
    repository = "models--" + model.name.replace("/", "--")
    return model.name if repository in model.path.parts else str(model.path.absolute())


def adapter_facts(model: ModelFolder) -> dict[str, object]:
    """The identity of the base that the adapter was trained on, so that using it on another base is noticed."""
    base = {"name": model.name, "origin": model.origin, "commit": model.commit}
    return {"base": {**base, "weights_sha256": weights_hash(model.path)}}


def attach(decoder: Decoder, folder: Path) -> dict[str, Adapted]:
    """Put the adapter in `folder` onto a model.

    Raises ArtefactError where names or shapes do not match, for an adapter of a kind that we do not compute, for files
    that are not those its manifest lists, and for links that lead out of the folder.
    """
    settings, tensors = read_adapter_settings(folder), _read(folder)
    model = decoder.model
    names = sorted({name.removeprefix(PREFIX).removesuffix(PARTS[0]) for name in tensors if name.endswith(PARTS[0])})
    modules = dict(model.named_modules())
    targets = [
        name
        for name in names
        if name in modules and is_plain(modules[name]) and modules[name] is not decoder.head.linear
    ]
    kind = DoraLinear if settings.dora else AdaptedLinear
    layers = adapt(model, targets, settings.rank, settings.plain_alpha, 0, kind)
    whole = {name: one for name, one in tensors.items() if not name.endswith(PARTS)}
    _check_shapes(folder, model, layers, tensors, whole)
    if is_vouched_for(folder):
        verify(folder)
    for name, layer in layers.items():
        prefix = f"{PREFIX}{name}."
        layer.take({key.removeprefix(prefix): one for key, one in tensors.items() if key.startswith(prefix)})
    _attach_whole(decoder, {name.removeprefix(PREFIX): tensor for name, tensor in whole.items()})
    return layers


def is_vouched_for(folder: Path) -> bool:
    """Whether the adapter has a manifest with hashes; without one, changes to its files cannot be detected."""
    return (folder / MANIFEST).exists() or (folder / MANIFEST).is_symlink()


def check_base(folder: Path, base: Path) -> None:
    """Raises ArtefactError if the adapter was trained on other weights than those of `base`."""
    path = folder / f"{FACTS}.json"
    if not path.is_file():
        return
    try:
        facts = read_mapping(path)["base"]
        learned, name = str(facts["weights_sha256"]), str(facts["name"])
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise ArtefactError("adapter_unreadable", folder=folder, detail=error) from None
    now = weights_hash(base)
    if learned != now:
        raise ArtefactError("adapter_base", folder=folder, base=base, name=name, learned=learned[:12], found=now[:12])


def _check_shapes(
    folder: Path, model: nn.Module, layers: dict[str, Adapted], tensors: dict[str, Tensor], whole: dict[str, Tensor]
) -> None:
    """Raises ArtefactError unless the file's tensors are exactly those of these layers and of the model's modules."""
    wanted = {
        f"{PREFIX}{name}.{part}": tuple(one.shape)
        for name, layer in layers.items()
        for part, one in layer.saved().items()
    }
    own = dict(model.named_parameters(remove_duplicate=False))
    wanted |= {name: tuple(own[name.removeprefix(PREFIX)].shape) for name in whole if name.removeprefix(PREFIX) in own}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != shapes:
        wrong = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
        raise ArtefactError("adapter_shapes", folder=folder, count=len(wrong), first=wrong[0])


def _attach_whole(decoder: Decoder, whole: dict[str, Tensor]) -> None:
    """Load the modules that were trained whole; tied ones stay tied only if the file has the same values for both."""
    model = decoder.model
    ends = (model.get_input_embeddings(), decoder.head.linear)
    given = [
        whole[f"{name}.weight"] for name, one in model.named_modules() if one in ends and f"{name}.weight" in whole
    ]
    if is_tied(decoder) and given and not (len(given) == 2 and given[0].equal(given[1])):
        untie(decoder)
    learned: dict[nn.Parameter, nn.Parameter] = {}  # so that one matrix of two modules stays one
    for name, tensor in whole.items():
        module, last = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        old = module.get_parameter(last)
        new = nn.Parameter(tensor.to(old.device, old.dtype), requires_grad=False)
        setattr(module, last, learned.setdefault(old, new))


def _read(folder: Path) -> dict[str, Tensor]:
    for path in (folder / f"{CONFIG}.json", folder / f"{WEIGHTS}.safetensors"):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ArtefactError("link_outside", path=path, target=path.resolve())
    try:
        return load_file(folder / f"{WEIGHTS}.safetensors")
    except (ValueError, OSError, SafetensorError) as error:
        raise ArtefactError("adapter_unreadable", folder=folder, detail=error) from None

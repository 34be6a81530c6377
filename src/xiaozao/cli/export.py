"""`zao export RUN`: the trained model as plain weights for transformers and vLLM, or as GGUF for llama.cpp."""

from pathlib import Path

from xiaozao.cli.console import Output, current_output
from xiaozao.errors import NotFound, UsageError
from xiaozao.export.gguf.deliver import Exported, export_gguf
from xiaozao.export.merge import merge_adapter
from xiaozao.hub.sources import resolve
from xiaozao.models.adapter import is_vouched_for
from xiaozao.models.load import DTYPES
from xiaozao.runs.results import trained
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder, cache

MERGED, GGUF = "merged", "gguf"
LATER = ("ollama", "awq", "gptq", "quantized", "onnx")  # converters begin where we end


def work(run: str, to: str, folder: str | None, precision: str | None, type_: str | None) -> None:
    output = current_output()
    if to not in (MERGED, GGUF):
        raise UsageError("export_later" if to in LATER else "export_kind", to=to, known=f"{MERGED}, {GGUF}", run=run)
    for given, flag, kind in ((precision, "--precision", MERGED), (type_, "--type", GGUF)):
        if given is not None and to != kind:
            raise UsageError("export_option", flag=flag, to=to, kind=kind)
    source, spec = trained(run)
    if source.adapter.is_dir() and not is_vouched_for(source.adapter):
        output.note("cli.export.no_manifest", folder=source.adapter)
    if to == MERGED:
        _merge(source, spec, _target(folder, source, to), precision or "bf16", output)
    else:
        wanted = type_ or "q8_0"
        _gguf(source, spec, _target(folder, source, f"{to}-{wanted}"), wanted, output)


def _target(folder: str | None, source: RunFolder, name: str) -> Path:
    return Path(folder).expanduser().absolute() if folder else source.path / name


def _merge(source: RunFolder, spec: RunSpec, target: Path, precision: str, output: Output) -> None:
    if not source.adapter.is_dir():
        raise NotFound("nothing_to_merge", folder=source.model)
    with output.stages() as report:
        base = resolve(spec.model.model, spec.model.source, spec.model.revision, cache(), report)
        merged = merge_adapter(base.path, source.adapter, target, DTYPES[precision], spec.model.base, report)
    document = {
        "folder": str(merged.folder), "bytes": merged.bytes, "logits_gap": merged.gap,
        "logits_gap_as_trained": merged.trained_gap,
    }  # fmt: skip
    human = output.say(
        "cli.export.done", folder=merged.folder, size=f"{merged.bytes / 1e9:.2f}", gap=f"{merged.gap:.1g}"
    )
    if spec.model.base != "none":
        human += "\n" + output.say("cli.export.stored", base=spec.model.base, gap=f"{merged.trained_gap:.1g}")
    output.result(human, document, quiet=str(merged.folder))


def _gguf(source: RunFolder, spec: RunSpec, target: Path, wanted: str, output: Output) -> None:
    with output.stages() as report:
        if source.adapter.is_dir():
            base = resolve(spec.model.model, spec.model.source, spec.model.revision, cache(), report)
            done = export_gguf(base.path, source.adapter, target, source.name, wanted, report)
        else:
            done = export_gguf(source.model, None, target, source.name, wanted, report)
    written, parity = done.written, done.parity
    document = {
        "file": str(written.path), "bytes": written.bytes, "type": wanted,
        "fallbacks": {name: list(kinds) for name, kinds in written.fallbacks.items()},
        "prompts": parity and parity.prompts, "divergence_mean": parity and parity.mean,
        "divergence_largest": parity and parity.largest, "same_first_token": parity and parity.same_first,
    }  # fmt: skip
    output.result("\n".join(_sentences(done, wanted, output)), document, quiet=str(written.path))


def _sentences(done: Exported, wanted: str, output: Output) -> list[str]:
    """What was written, what had to be stored otherwise, and how far llama.cpp's answers are from the trained ones."""
    written, parity = done.written, done.parity
    said = [output.say("cli.export.gguf", file=written.path, size=f"{written.bytes / 1e9:.2f}", type=wanted)]
    if written.fallbacks:
        kinds = sorted({f"{asked} -> {stored}" for asked, stored in written.fallbacks.values()})
        said.append(output.say("cli.export.fallbacks", count=len(written.fallbacks), kinds=", ".join(kinds)))
    if parity is None:
        needed = f"{done.needed / 1e9:.1f}"
        said.append(output.say("cli.export.memory", needed=needed) if done.needed else output.say("cli.export.unread"))
    else:
        said.append(output.say("cli.export.parity", prompts=parity.prompts, same=parity.same_first,
                               mean=f"{parity.mean:.2g}", largest=f"{parity.largest:.2g}"))  # fmt: skip
    return said

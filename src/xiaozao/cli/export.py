"""`zao export RUN`: the trained model as plain weights that transformers, vLLM and converters read."""

from pathlib import Path

from xiaozao.cli.console import current_output
from xiaozao.errors import NotFound, UsageError
from xiaozao.export.merge import merge_adapter
from xiaozao.hub.sources import resolve
from xiaozao.models.adapter import is_vouched_for
from xiaozao.models.load import DTYPES
from xiaozao.runs.results import trained
from xiaozao.store.files import cache

MERGED = "merged"
LATER = (
    "gguf",
    "ollama",
    "awq",
    "gptq",
    "quantized",
    "onnx",
)  # converters begin where we end


def work(run: str, to: str, folder: str | None, precision: str) -> None:
    output = current_output()
    if to != MERGED:
        raise UsageError("export_later" if to in LATER else "export_kind", to=to, known=MERGED, run=run)
    source, spec = trained(run)
    if not source.adapter.is_dir():
        raise NotFound("nothing_to_merge", folder=source.model)
    target = Path(folder).expanduser().absolute() if folder else source.path / to
    if not is_vouched_for(source.adapter):
        output.note("cli.export.no_manifest", folder=source.adapter)
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

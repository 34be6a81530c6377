"""The held-out questions, asked before and after training, and the report made of the answers."""

import json
import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from xiaozao.data.prepare import PreparedData
from xiaozao.evaluate.contract import Answer
from xiaozao.evaluate.facts import Machine, ReportFacts, Side
from xiaozao.events import Ended, Evaluated, Reported
from xiaozao.machine.hardware import look
from xiaozao.spec.parts import data_files
from xiaozao.spec.plan import MemoryPlan
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder
from xiaozao.store.journal import read_events
from xiaozao.texts.catalogue import Language
from xiaozao.worker.report_files import write_report


@dataclass(frozen=True)
class Proof:
    """The report folder of a run: answers are kept as they come, so that a resumed run does not ask the base twice."""

    run: RunFolder
    language: Language
    writes: bool = True  # of several ranks the first does

    def has(self, who: str) -> bool:
        return self._path(who).is_file()

    def keep(self, who: str, side: Side) -> None:
        """Store the answers of `who`."""
        if not self.writes:
            return
        self.run.report.mkdir(exist_ok=True)
        document = {"answers": [asdict(one) for one in side.answers], "loss": side.loss}
        self._path(who).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")

    def write(self, spec: RunSpec, model: str, plan: MemoryPlan, data: PreparedData, ended: Ended) -> Reported:
        """report.html and report.json, from the kept answers and the journal."""
        events = list(read_events(self.run.events))
        before = [event.loss for event in events if isinstance(event, Evaluated) and event.step == 0]
        hardware = look()
        facts = ReportFacts(
            model=model,
            data=", ".join(Path(file).name for file in data_files(spec.data.data)),
            rows=data.counts.rows_used,
            base=self._side("base", before[0] if before else None),
            tuned=self._side("tuned", ended.best_validation_loss),
            steps=ended.step,
            train_seconds=ended.train_seconds,
            total_seconds=time.time() - self.run.spec.stat().st_mtime,
            tokens_per_second=ended.tokens_per_second,
            peak_rss_bytes=ended.peak_rss_bytes,
            predicted_peak_bytes=ended.predicted_peak_bytes,
            predicted_parts=plan.peak.parts,
            settings=spec.options(),
            machine=Machine(hardware.cores, hardware.memory_total, spec.model.device, platform.system()),
            versions={name: version(name) for name in ("xiaozao", "torch", "transformers")},
            curve=self.run.report / "loss.svg",
        )
        html, document = write_report(self.run.report, self.language, facts)
        return Reported(str(html), str(document))

    def _path(self, who: str) -> Path:
        return self.run.report / f"answers-{who}.json"

    def _side(self, who: str, validation_loss: float | None) -> Side:
        document = json.loads(self._path(who).read_text(encoding="utf-8"))
        return Side(tuple(Answer(**one) for one in document["answers"]), document["loss"], validation_loss)

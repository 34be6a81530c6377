"""A run from its folder to its result: the one place that composes the stages.

spec.yaml -> hub.sources -> data.prepare -> resolve -> plan -> models.load -> [answers] -> train.loop
          -> adapter/ -> [answers, report]                                              -> Ended
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from xiaozao.data.prepare import Samples
from xiaozao.events import Ended, Event, Loaded, Noticed, Progress, Rehearsed, Split, Started
from xiaozao.hub.hashes import weights_hash
from xiaozao.machine.hardware import look
from xiaozao.machine.resident import peak_rss
from xiaozao.models.adapter import CONFIG, FACTS, WEIGHTS, adapter_config, adapter_facts, adapter_tensors, base_name
from xiaozao.models.artefacts import checkpoint
from xiaozao.models.blocks import Decoder
from xiaozao.models.chatfiles import write_chat_files
from xiaozao.models.layers.bases import parameter_count
from xiaozao.models.load import DTYPES, InMemory, Paged, Streamed, Way, device_of, load
from xiaozao.models.loading.paged import store_of
from xiaozao.models.recompute import recompute
from xiaozao.models.save import write_model
from xiaozao.models.swap import fuse
from xiaozao.models.trainable import make_trainable, rate_factors, replaces
from xiaozao.plan.lengths import order_of
from xiaozao.spec.fields import marked
from xiaozao.spec.parts import NO_NUMBER
from xiaozao.spec.run import RunSpec
from xiaozao.store.files import RunFolder, cache, refuse_links
from xiaozao.store.journal import read_events
from xiaozao.texts.catalogue import language_from
from xiaozao.train.distributed import Sharded, shard, whole_adapters, whole_model
from xiaozao.train.loop import Loop, Settings
from xiaozao.train.losses import mean_loss, sft
from xiaozao.train.optim.engine import Optimizer, Options
from xiaozao.train.optim.names import OPTIMIZERS
from xiaozao.train.ranks import ALONE, Ranks
from xiaozao.train.rehearsal import rehearse
from xiaozao.train.schedules import warmup_steps
from xiaozao.train.state import Keeper, Position, load_weights
from xiaozao.worker.limits import limited
from xiaozao.worker.proof import Proof
from xiaozao.worker.ready import Ready, get_ready
from xiaozao.worker.reference import loss_of, with_reference
from xiaozao.worker.report_files import write_curve

Emit = Callable[[Event], object]


def run(folder: RunFolder, emit: Emit, ranks: Ranks = ALONE) -> Ended:
    """Run or resume the run in `folder`. Raises XiaozaoError; what was saved before stays resumable.

    Of several ranks all go this way, each with its part of the model; the first alone writes, and is heard.
    """
    start = get_start(folder, emit) if ranks.is_first else 0
    ready = ranks.in_turn(lambda: get_ready(folder, emit, ranks.place))
    ranks = ranks.connect(device_of(ready.spec.model.device))
    start = int(ranks.first(start))
    sharded = shard(get_model(ready, emit), ranks)
    decoder = sharded.decoder
    exam, proof = ready.exam, Proof(folder, language_from(), ranks.is_first)
    if exam and not ranks.first(proof.has("base")):
        proof.keep("base", sharded.together(lambda: exam.sit("base", decoder, ready.plan, answer_loss, emit)))
    loop, optimizer = get_loop(ready, sharded, emit, ranks)
    progress, stopped = train(ready, loop, optimizer, start)
    if not stopped:
        optimizer.release()
        take_best(loop, progress)
        save_result(ready, decoder, ranks)
    if ranks.is_first:
        draw(folder)
    if exam and not stopped:
        proof.keep("tuned", sharded.together(lambda: exam.sit("tuned", decoder, ready.plan, answer_loss, emit)))
        if ranks.is_first:
            facts = ready.spec, ready.model.name, ready.plan, ready.data, ended("succeeded", ready, progress, loop)
            emit(proof.write(*facts))
    ranks.first(0.0)  # nobody leaves before all is written
    return ended("stopped" if stopped else "succeeded", ready, progress, loop)


def answer_loss(decoder: Decoder, samples: Samples, size: int) -> float:
    """The mean loss of right answers, in the form that an exam needs."""
    return mean_loss(decoder, sft, samples, size).loss


def get_start(folder: RunFolder, emit: Emit) -> int:
    """The step of the newest whole checkpoint, 0 without one; tells that the run begins."""
    newest = checkpoint.newest(folder.checkpoints)
    start = checkpoint.step_of(newest.folder) if newest.folder else 0
    emit(Started(folder.name, os.getpid(), start or None))
    for path, error in newest.rejected:
        emit(
            Noticed(
                "checkpoint_rejected", {"folder": path.name, "reason": {"text": f"error.{error.key}", **error.params}}
            )
        )
    return start


def train(ready: Ready, loop: Loop, optimizer: Optimizer, start: int) -> tuple[Position, bool]:
    """Rehearse, unless that was done in an earlier life of the run, and train; within the memory there is for it."""
    past = list(read_events(ready.folder.events))
    known = tuple(event for event in past if isinstance(event, Split))
    rehearsed = loop.ranks.first(any(isinstance(event, Rehearsed) for event in past))  # the others may read it later
    device, place = loop.decoder.device, loop.ranks.place
    budget = ready.spec.train.budget if ready.own_budget else None
    with limited(device, budget, look(), ready.plan, place.local_world) as gauge:
        loop = replace(loop, gauge=gauge, known=known)
        progress = loop.keeper.load(loop.keeper.path(start), loop.decoder, optimizer) if start else Position()
        if not start and not rehearsed:
            finish = partial(rehearse_result, ready, loop.decoder) if ready.spec.paged else None
            rehearse(loop, gauge, optimizer, progress, finish)
        return loop.run(optimizer, progress)


def get_model(ready: Ready, emit: Emit) -> Decoder:
    """Load the model and make trainable what the method trains."""
    spec, begun = ready.spec, time.time()
    emit(Progress("load", 0, 1))
    frozen = spec.method.method == "lora" or spec.method.last_blocks is not None
    weights = DTYPES[spec.method.precision if frozen else spec.method.weights]
    device = device_of(spec.model.device)
    decoder = load(ready.model.path, weights, device, spec.model.attention, way_of(spec, ready.folder))
    make_trainable(decoder, spec.method, spec.train.seed)
    fuse(decoder)
    recompute(decoder, spec.train.checkpointing)
    trainable = sum(one.numel() for one in decoder.trainable().values())
    everything = parameter_count(decoder.model)
    emit(Progress("load", 1, 1))
    emit(
        Loaded(
            model=ready.model.name, parameters=everything, trainable=trainable, device=str(decoder.device),
            precision=spec.method.precision, packing=decoder.packing, seconds=time.time() - begun,
        )
    )  # fmt: skip
    if decoder.packing == "padded":
        emit(Noticed("no_packing", {"model": ready.model.name}))
    return decoder


def way_of(spec: RunSpec, folder: RunFolder) -> Way:
    """Where the weights of a resolved run are kept: in memory, streamed, or paged."""
    if spec.paged:
        return Paged(folder.path)
    if spec.model.stream == "disk":
        return Streamed(cache() / "streams", spec.model.base)
    return InMemory(spec.model.base, mapped=not replaces(spec.method))


def get_loop(ready: Ready, sharded: Sharded, emit: Emit, ranks: Ranks = ALONE) -> tuple[Loop, Optimizer]:
    """The loop of a resolved run, and its optimizer."""
    decoder, stop = sharded.decoder, ready.folder.stop
    train, method = ready.spec.train, ready.spec.method
    keeper = Keeper(ready.folder.checkpoints, identity(ready), train.keep, ranks)
    loss, known = sharded.loss(loss_of(method)), ready.folder.reference
    data = with_reference(ready.data, loss, decoder, ready.spec, known, keeper.identity, emit, ranks)
    order = order_of(ready.spec, data)
    assert train.learning_rate and train.eval_every and train.save_every
    settings = Settings(
        learning_rate=train.learning_rate, schedule=train.schedule, warmup=warmup_steps(train.warmup, order.steps),
        weight_decay=train.weight_decay, clip=train.clip, eval_every=train.eval_every, save_every=train.save_every,
        patience=train.patience, compute=DTYPES[method.precision], fused=train.fused_update,
    )  # fmt: skip
    loop = Loop(
        decoder, loss, order, data.validation, settings, keeper, emit, lambda: bool(ranks.first(stop.exists())),
        peak_bytes(decoder.device), ranks=ranks,
    )  # fmt: skip
    return loop, get_optimizer(ready.spec, decoder)


def get_optimizer(spec: RunSpec, decoder: Decoder) -> Optimizer:
    """Build the optimizer that the resolved run names, over the parameters that train."""
    train = spec.train
    factors = rate_factors(decoder, spec.method.lora_plus)
    every = train.switch_every or 1  # only those that switch have one
    store = store_of(decoder.model)
    options = Options(train.weight_decay, train.seed, factors, train.projection_rank, every, store)
    return OPTIMIZERS[train.optimizer](decoder.trainable(), options)


def identity(ready: Ready) -> dict[str, str]:
    """The identity of a run's results: the contents of model and data, and every option that changes a result."""
    options = {name: str(value) for name, value in ready.spec.options().items() if name not in marked(NO_NUMBER)}
    if ready.spec.train.steps is None:  # a run of epochs is what it was before there were steps
        del options["steps"]
    return {**options, "data": ready.data.fingerprint, "base weights": weights_hash(ready.model.path)}


def take_best(loop: Loop, progress: Position) -> None:
    """Put the weights with the best validation loss into the model, where they are not those it has."""
    if progress.best_step is None or progress.best_step == progress.step:
        return
    best = loop.keeper.path(progress.best_step)
    checkpoint.verify(best)
    with checkpoint.open_tensors(best, "weights") as tensors:
        load_weights(loop.decoder, tensors)


def save_result(ready: Ready, decoder: Decoder, ranks: Ranks = ALONE) -> None:
    """adapter/ in PEFT's format, or model/ as transformers reads it."""
    if ready.spec.method.method == "lora":
        with whole_adapters(decoder, ranks) as writes:
            if writes:
                base = ready.model
                documents = {CONFIG: adapter_config(decoder.model, base_name(base)), FACTS: adapter_facts(base)}
                tensors = {WEIGHTS: adapter_tensors(decoder.model)}
                template = ready.spec.data.template
                more = partial(write_chat_files, source=base.path, thinking=thinks(ready), template=template)
                checkpoint.write_folder(ready.folder.adapter, tensors, documents, more=more)
        return
    model = whole_model(decoder, ranks)
    if model is not None:
        with checkpoint.staged_folder(ready.folder.model) as staging:
            precision, template = DTYPES[ready.spec.method.precision], ready.spec.data.template
            write_model(model, staging, ready.model.path, precision, thinking=thinks(ready), template=template)


def thinks(ready: Ready) -> bool:
    """Whether the model learns to think before it answers: most of its rows are rendered so."""
    return 2 * ready.data.counts.reasoned > ready.data.counts.rows_used


def rehearse_result(ready: Ready, decoder: Decoder) -> None:
    """Write the result of weights that learn on disk, and remove it; the model stays as it is."""
    target = ready.folder.path / "rehearsal"
    with checkpoint.staged_folder(target) as staging:
        write_model(decoder.model, staging, ready.model.path, DTYPES[ready.spec.method.precision], keeps=False)
    checkpoint.discard(target)


def draw(folder: RunFolder) -> None:
    """The loss curve and the metrics, from the journal."""
    folder.report.mkdir(exist_ok=True)
    refuse_links(folder)
    events = list(read_events(folder.events))
    write_curve(events, folder.report, language_from())


def peak_bytes(device: torch.device) -> Callable[[], int]:
    """How the peak of memory is read: the resident set on CPU, the allocator on CUDA."""
    return torch.cuda.max_memory_allocated if device.type == "cuda" else peak_rss


def ended(state: str, ready: Ready, progress: Position, loop: Loop) -> Ended:
    """The Ended event of a run."""
    return Ended(
        state=state, code="STOPPED" if state == "stopped" else "OK", step=progress.step, steps=loop.order.steps,
        train_seconds=progress.seconds, tokens_per_second=progress.tokens / max(progress.seconds, 1e-9),
        final_loss=progress.last_loss, best_validation_loss=progress.best_loss, peak_rss_bytes=peak_rss(),
        predicted_peak_bytes=ready.plan.peak_bytes, output=str(ready.folder.path),
    )  # fmt: skip

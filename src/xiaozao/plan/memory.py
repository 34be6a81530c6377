"""Will it fit? The memory of a run in plain arithmetic, from the model's config alone. No torch.

    peak = runtime + weights + gradients + optimizer + activations, at the moment where the sum is largest

Notation: T tokens in a micro-batch, h hidden size, i MLP width, q = heads x head size, k = key-value heads x head size,
V vocabulary, L blocks, s bytes of the compute dtype. What one block keeps for backward, per token, in our engine
(LoRA on all linears; counted on the saved tensors of a Llama block):

    s (2 i + 2 h + q)   the two norms' outputs, attention's output, gate and up; what follows them is computed again
  + s 2 h + 8           the two norms' inputs, and one number per row and norm
  + s (q + 2 k)         attention's own query, key and value
  + s 7 r               the narrow products of the adapters, of rank r
"""

from xiaozao.plan.answers import as_many_as_fit, choices
from xiaozao.plan.paging import paged_moments
from xiaozao.plan.states import gradient_bytes, held_states, whole_update
from xiaozao.plan.streaming import tile_bytes
from xiaozao.plan.workload import Load, ModelShape
from xiaozao.spec.plan import MemoryPlan, Moment, Questions

# Bytes before anything is loaded, by device: a Python process with torch and transformers imported, measured with torch
# 2.13; on CUDA context and kernels outside the allocator, 0.1 to 1.4 GB on the cards that were measured.
RUNTIMES = {"cpu": 410_000_000, "cuda": 600_000_000}
CHUNK = 128  # rows of logits at a time, as in models/blocks.py
CHUNK_BYTES = 6  # per logit of a chunk: the product in bf16, and one fp32 copy in which all else happens
COMPILED = 50_000_000  # on a CPU: code that oneDNN and MKL keep, and their buffers; 40 to 90 MB were measured
# What glibc's heap may hold between its blocks: a share of what comes and goes, or so many bytes where that is more.
# Above it the heap is made to give back (train/recover.py); left alone it held 0.1 to 1 GB in runs of a 135M model.
KEPT = (0.2, 200_000_000)


def plan(shape: ModelShape, load: Load, budget: int, questions: Questions | None = None) -> MemoryPlan:
    """The moments of the run. Gradients live while others are computed when micro-batches accumulate."""
    full = load.method == "full"
    trainable = load.trainable(shape)
    gradients = gradient_bytes(shape, load) // load.devices  # what this device holds of them
    added = 0 if full else shape.adapter(load.rank, load.targets, load.adapter)
    steady = {
        "runtime": load.runtime + (COMPILED if load.cpu else 0),
        "weights": load.held(shape),
        "gradients": gradients if load.accumulates else 0,
        "optimizer": held_states(shape, load),
        "activations": 0,
    }
    cast = trainable * load.compute_bytes if full and load.compute_bytes < load.wide else 0  # autocast's copies
    if "head" in load.also:  # its gradient is computed with the loss, and once more when it is scaled
        cast += shape.matrix * (8 + load.compute_bytes)
    kept = kept_activations(shape, load) + cast
    chunk = min(CHUNK, load.tokens) * shape.vocabulary * CHUNK_BYTES
    # Pages of the weights' file that loading touches are the system's to take back; one tensor is held twice.
    twice = 0 if load.stream else shape.vocabulary * shape.hidden * (load.wide if full else load.compute_bytes)
    loading = {**steady, "weights": load.weights(shape), "gradients": 0, "optimizer": 0, "activations": twice}
    steps = [
        Moment("loss", {**steady, "activations": kept + chunk}),
        Moment("backward", {**steady, "gradients": gradients, "activations": kept + one_block_back(shape, load)}),
        Moment("optimizer step", {**steady, "gradients": gradients, "activations": whole_update(shape, load)}),
    ]
    if load.slack(shape):
        highest = max(steps, key=lambda one: one.total)
        held = heap_keeps(highest.parts["activations"], churned(shape, load))
        steps = [one.plus(held) for one in steps]
    moments: tuple[Moment, ...] = (Moment("load", loading), *steps)
    if load.paged:
        moments = paged_moments(shape, load, steady, kept_activations(shape, load), chunk, one_block_back(shape, load))
    together = 1
    if asked := choices(shape, load, questions):
        beside = {**steady, "gradients": 0, "optimizer": 0, "activations": 0}
        together, taken = as_many_as_fit(asked, max(one.total for one in moments) - sum(beside.values()))
        moments += (Moment("answers", {**beside, "activations": taken}),)
    return MemoryPlan(
        moments, budget, load.samples, load.tokens, shape.parameters + added, trainable,
        returns=load.cpu and load.stream and not load.slack(shape), together=together, cpu=load.cpu,
    )  # fmt: skip


def always(shape: ModelShape, load: Load) -> int:
    """Bytes that are there at every moment: the process, the weights and the optimizer's states."""
    return load.runtime + load.held(shape) + held_states(shape, load)


def kept_activations(shape: ModelShape, load: Load) -> int:
    """Bytes kept for backward when the forward pass has ended."""
    per_block, stream = block_activations(shape, load), load.tokens * shape.hidden * load.compute_bytes
    outside = load.tokens * shape.hidden * (4 + 2 * load.compute_bytes)  # embedding, final norm, states for the head
    blocks = shape.blocks if load.last_blocks is None else min(load.last_blocks, shape.blocks)
    if load.checkpointing == "selective":
        inside = mlp_activations(shape, load)
        return blocks * (per_block - inside) + inside + outside
    between = {"none": per_block, "block": stream, "offload": 0}[load.checkpointing]  # what each block keeps
    in_flight = 0 if load.checkpointing == "none" else per_block  # of the block that is computed again
    return blocks * between + in_flight + outside


def block_activations(shape: ModelShape, load: Load) -> int:
    """Bytes that one block keeps for its backward; see the head of this file."""
    rank = 0 if load.method == "full" else load.rank
    numbers = 4 * shape.hidden + 2 * shape.query + 2 * shape.key + 7 * rank
    if load.method == "lora" and load.adapter == "dora":  # keeps the output before the magnitude too
        numbers += sum(outs for _, outs in shape.adapted(load.targets)) // shape.blocks
    per_token = load.compute_bytes * numbers + 8
    return load.tokens * per_token + mlp_activations(shape, load)


def mlp_activations(shape: ModelShape, load: Load) -> int:
    """Bytes of them that lie inside the MLP, at its full width; a base that learns, or DoRA, is not in a fused one."""
    fused = load.method == "lora" and load.adapter != "dora"
    return load.tokens * load.compute_bytes * shape.width * (2 if fused else 4)


def churned(shape: ModelShape, load: Load) -> int:
    """Estimate how many bytes a run may newly allocate between two checks of its memory (train/recover.py).

    The estimate adds what a block keeps, what its backward pass allocates for a time, and the logits of one chunk,
    because the allocator may not use freed memory again. With weights on disk a tile of the head is added.
    bench/churn.py measured 60 to 136 MB on a 135M model (estimate: 113 MB), and 188 to 257 MB with weights on disk
    (estimate: 166 MB): it can be too low. The plan's interval allows for 40 MB and one more tile.
    """
    chunk = min(CHUNK, load.tokens) * shape.vocabulary * (load.compute_bytes + 4)
    taken = block_activations(shape, load) + one_block_back(shape, load) + chunk
    return taken + head_tile(shape, load)


def heap_keeps(activations: int, churn: int) -> int:
    """Bytes that the heap may keep unless it is made to return everything: at least what is allocated anew (churned).

    activations: bytes of the run's highest moment.
    """
    return max(churn, round(KEPT[0] * activations), KEPT[1])


def head_tile(shape: ModelShape, load: Load) -> int:
    """Bytes of a tile of a head that stays on disk, with what it is made of; 0 for one in memory."""
    return tile_bytes(shape.vocabulary * shape.hidden, load.compute_bytes, "none") if load.stream else 0


def one_block_back(shape: ModelShape, load: Load) -> int:
    """What is in flight while one block's backward runs: the gradients of gate, up and their product, of the stream in
    fp32, and a matrix of a quantised base."""
    gradients = load.tokens * (4 * shape.width * load.compute_bytes + shape.hidden * (8 + 2 * load.compute_bytes))
    return gradients + load.dequantised(shape)

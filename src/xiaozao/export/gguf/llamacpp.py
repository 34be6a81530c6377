"""llama.cpp's answers to prompts, from a GGUF file, in a process of its own: a fault of its code ends only that.

    python -m xiaozao.export.gguf.llamacpp FILE < requests > answers

Requests: a JSON list of {"messages": [...], "ids": [...], "thinking": bool}. Answers: a JSON list of {"ids": what
llama.cpp makes of the messages with the file's own template and vocabulary, "logprobs": {id: log-probability} of the
token after the given ids}. TOP tokens are asked for; the rest of the probability counts as one.
"""

import http.client
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xiaozao.errors import ArtefactError

TOP, SECONDS, FORCED = 1000, 600, 1e6
LAST_LINES = 3


def is_there() -> bool:
    """Whether llama.cpp can be asked."""
    return importlib.util.find_spec("xllamacpp") is not None


def ask(file: Path, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """llama.cpp's answers. Raises ArtefactError where it does not read the file."""
    command = [sys.executable, "-P", "-m", __spec__.name, str(file)]
    try:
        done = subprocess.run(
            command, input=json.dumps(requests), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ArtefactError("export_unread", path=file, detail=f"> {SECONDS} s") from error
    if done.returncode:
        raise ArtefactError("export_unread", path=file, detail=" ".join(done.stderr.splitlines()[-LAST_LINES:])[-300:])
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def main(file: str) -> None:
    """Answer the requests on standard input."""
    requests = json.load(sys.stdin)
    said = os.dup(1)
    os.dup2(2, 1)  # llama.cpp writes where it likes
    package = importlib.import_module("xllamacpp")
    params = package.CommonParams()
    params.model.path = file
    params.n_ctx = max(64, *(len(one["ids"]) + 8 for one in requests))
    params.n_parallel, params.use_jinja, params.warmup, params.verbosity = 1, True, False, -1
    params.n_gpu_layers = 0
    params.cache_type_k = params.cache_type_v = package.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = package.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it would round to fp16
    server = package.Server(params)
    letter = _post(server, "/tokenize", {"content": "a"})["tokens"][-1]
    answers = [
        {"ids": _ids(server, one["messages"], one["thinking"]), "logprobs": _next(server, one["ids"], letter)}
        for one in requests
    ]
    os.write(said, (json.dumps(answers) + "\n").encode())


def _ids(server: Any, messages: list[dict[str, str]], thinking: bool) -> list[int]:
    asked = {"messages": messages, "chat_template_kwargs": {"enable_thinking": thinking}}
    prompt = _post(server, "/apply-template", asked)["prompt"]
    text = {"content": prompt, "add_special": True, "parse_special": True}
    ids: list[int] = _post(server, "/tokenize", text)["tokens"]
    return ids[1:] if len(ids) > 1 and ids[0] == ids[1] else ids  # it takes a second beginning away itself


def _next(server: Any, ids: list[int], letter: int) -> dict[int, float]:
    # Nothing is told of a token that ends the answer or is half a character, so another is forced: what is told are
    # the model's own logits, whatever is taken.
    asked = {
        "prompt": ids, "n_predict": 1, "n_probs": TOP, "temperature": 0, "ignore_eos": True,
        "logit_bias": [[letter, FORCED]],
    }  # fmt: skip
    told = server.handle_completions(asked)
    return {one["id"]: one["logprob"] for one in told["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}


def _post(server: Any, path: str, document: dict[str, Any]) -> dict[str, Any]:
    """Ask the server that runs in this process, on this machine."""
    address = urlsplit(server.listening_address)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=SECONDS)
    connection.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


if __name__ == "__main__":
    main(sys.argv[1])

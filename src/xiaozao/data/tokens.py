"""Conversation -> token ids and loss mask, through the model's own chat template.

    ids      <bos> <|user|> hi <|end|> \\n <|assistant|> \\n  Hello  !  <|end|> \\n
    targets    .       .    .    .     .        .       .    1     1     1    .

`targets[i]` says that token i is to be predicted (from the tokens before it). Only what the assistant says is a target,
with the token that ends its turn; positions decide, never ids, so pad == eos changes nothing.

Where the answers lie is found by rendering prefixes: the turns before an answer with the generation prompt are what
the model sees when it is asked, so the answer begins where that text ends, and the sample's tokens up to there are
exactly the tokens of the prompt. An answer that the template renders differently once more turns follow (reasoning
that is cut from the history) is not trained in that place, only where it is the last; `untrained` counts them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xiaozao.data.formats import Conversation, Turn
from xiaozao.data.modelfiles import ChatFiles, read_chat_files
from xiaozao.data.sealing import Sealer
from xiaozao.data.templates import ChatTemplate
from xiaozao.errors import ArtefactError, DataError, UnsupportedModel

PLAIN_TEMPLATE = """{% for message in messages %}
{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant', 'tool': 'Tool'}[message.role] }}: {{ message.content }}
{%- if message.role == 'assistant' and eos_token is defined %}{{ eos_token }}{% endif %}
{{ '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}Assistant:{% endif %}"""
QUESTION, ANSWER = "zao probe question", "zao probe answer"


@dataclass(frozen=True)
class Encoded:
    """One sample. ids: int32 [n]; targets: bool [n]; untrained: answers in it that carry no loss (see above)."""

    ids: NDArray[np.int32]
    targets: NDArray[np.bool_]
    untrained: int = 0


class ChatTokenizer:
    """A tokenizer and a chat template as one thing. Training and serving both go through it, so their ids agree."""

    def __init__(self, files: ChatFiles) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(files.tokenizer_json)
        except Exception as error:
            raise ArtefactError("tokenizer_broken", path=files.folder, detail=error) from None

    @classmethod
    def from_folder(cls, folder: Path) -> "ChatTokenizer":
        """The tokenizer of a model folder. Raises UnsupportedModel, ArtefactError."""
        return cls(read_chat_files(folder))

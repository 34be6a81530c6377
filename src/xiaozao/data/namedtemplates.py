"""Chat templates for models that bring none, by name: `template=chatml`.

A template of a name needs its control tokens in the model's vocabulary; where they are missing, the model would learn
to write marks that are ordinary text and never stop at one. A file may be named as well: `template=FILE.jinja`.
"""

from pathlib import Path

from xiaozao.errors import ArtefactError, NotFound, UsageError
from xiaozao.spec.parts import TEMPLATE_FILES

OWN = "auto"  # the model's own template; where it brings none, the plain one
PLAIN = """{% for message in messages %}
{{ message.role | capitalize }}: {{ message.content }}
{%- if message.role == 'assistant' and eos_token is defined %}{{ eos_token }}{% endif %}
{{ '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}Assistant:{% endif %}"""
CHATML = """{% for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
LLAMA3 = """{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + (message.content | trim) + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
TEMPLATES: dict[str, tuple[str, tuple[str, ...]]] = {  # name -> (template, tokens that it needs)
    "plain": (PLAIN, ()),
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>")),
    "llama3": (LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
}
LIMIT = 500_000  # bytes of a file


def named_template(name: str) -> tuple[str, tuple[str, ...]]:
    """A template and the tokens that it needs, by its name or from a file.

    Raises UsageError for another name, NotFound, ArtefactError (a file that cannot be read).
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = Path(name).expanduser()
    if path.suffix not in TEMPLATE_FILES:
        raise UsageError("template_name", given=name, known=", ".join(TEMPLATES))
    if not path.is_file():
        raise NotFound("template_file", path=path)
    try:
        if path.stat().st_size > LIMIT:
            raise ArtefactError("model_file", path=path, detail=f"> {LIMIT} bytes")
        return path.read_text(encoding="utf-8-sig"), ()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError("model_file", path=path, detail=error) from None

"""Chat templates of real families, rewritten small: each writes, refuses and changes what the published one does."""

from dataclasses import dataclass

TOOLS = "{% if tools %}# Tools\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>{% endif %}"
HERMES_CALLS = (
    "{% for call in message.tool_calls %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% if not loop.last %}\n{% endif %}{% endfor %}"
)

QWEN25 = (
    "<|im_start|>system\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}You are a helpful assistant.{% endif %}"
    "{% if tools %}\n\n" + TOOLS + "{% endif %}<|im_end|>\n"
    "{% for message in messages %}"
    "{% if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% elif message.role == 'assistant' %}<|im_start|>assistant\n"
    "{% if message.content %}{{ message.content }}\n{% endif %}" + HERMES_CALLS + "<|im_end|>\n"
    "{% elif message.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ message.content }}\n</tool_response>"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (
    "{% if messages[0].role == 'system' or tools %}<|im_start|>system\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}" + TOOLS + "<|im_end|>\n{% endif %}"
    "{% set ns = namespace(searching=true, last=messages | length - 1) %}"
    "{% for message in messages[::-1] %}{% set index = (messages | length - 1) - loop.index0 %}"
    "{% if ns.searching and message.role == 'user' %}{% set ns.searching = false %}{% set ns.last = index %}{% endif %}"
    "{% endfor %}"
    "{% for message in messages %}"
    "{% if message.role == 'user' %}<|im_start|>user\n{{ message.content }}<|im_end|>\n"
    "{% elif message.role == 'assistant' %}{% set content = message.content %}{% set thought = '' %}"
    "{% if message.reasoning_content is string %}{% set thought = message.reasoning_content %}"
    "{% elif '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>assistant\n"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "<think>\n{{ thought.strip('\n') }}\n</think>\n\n{{ content.lstrip('\n') }}{% else %}{{ content }}{% endif %}"
    "{% if message.tool_calls %}{% if content %}\n{% endif %}" + HERMES_CALLS + "{% endif %}<|im_end|>\n"
    "{% elif message.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ message.content }}\n</tool_response>"
    "<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\n{% if tools %}Environment: ipython\n{% endif %}"
    "Today: 26 Jul 2024\n\n{% if tools %}"
    "{% for tool in tools %}{{ tool | tojson(indent=4) }}\n\n{% endfor %}{% endif %}{{ system }}<|eot_id|>"
    "{% for message in messages %}"
    "{% if message.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>\n\n"
    "{{ message.content | tojson }}<|eot_id|>"
    "{% elif 'tool_calls' in message %}"
    "{% if message.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "{% set call = message.tool_calls[0].function %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
    '{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|eot_id|>'
    "{% else %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{{ message.content | trim }}<|eot_id|>"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}"
    "{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if message.role == 'assistant' else message.role %}"
    "<start_of_turn>{{ role }}\n{% if loop.first %}{{ first }}{% endif %}{{ message.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}"
    "{{ bos_token }}{% for message in rest %}{% if message.role == 'user' %}"
    "{% if tools and loop.last %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "[INST]{% if system is defined and loop.last %}{{ system }}\n\n{% endif %}{{ message.content }}[/INST]"
    "{% elif message.tool_calls is defined and message.tool_calls %}[TOOL_CALLS][{% for call in message.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}"
    '{% endif %}{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}, '
    '"id": "{{ call.id }}"}{% if not loop.last %}, {% endif %}{% endfor %}]{{ eos_token }}'
    "{% elif message.role == 'assistant' %}{{ message.content }}{{ eos_token }}"
    "{% elif message.role == 'tool' %}[TOOL_RESULTS]{{ message.content }}[/TOOL_RESULTS]{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
DEEPSEEK_R1 = (
    "{{ bos_token }}{% for message in messages if message.role == 'system' %}{{ message.content }}{% endfor %}"
    "{% for message in messages %}{% if message.role == 'user' %}<｜User｜>{{ message.content }}"
    "{% elif message.role == 'assistant' %}"
    "<｜Assistant｜>{{ message.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
GLM = (
    "[gMASK]<sop>{% if tools %}<|system|>\n" + TOOLS + "{% endif %}"
    "{% set ns = namespace(last=-1) %}{% for message in messages %}"
    "{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{% if message.role == 'system' %}<|system|>\n{{ message.content }}"
    "{% elif message.role == 'user' %}<|user|>\n{{ message.content }}"
    "{{ '/nothink' if enable_thinking is defined and not enable_thinking else '' }}"
    "{% elif message.role == 'assistant' %}<|assistant|>"
    "{% if loop.index0 > ns.last and message.reasoning_content %}"
    "\n<think>{{ message.reasoning_content.strip() }}</think>"
    "{% else %}\n<think></think>{% endif %}"
    "{% if message.content.strip() %}\n{{ message.content.strip() }}{% endif %}"
    "{% for call in message.tool_calls or [] %}\n<tool_call>{{ call.function.name }}"
    "{% for key, value in call.function.arguments.items() %}\n<arg_key>{{ key }}</arg_key>\n"
    "<arg_value>{{ value if value is string else value | tojson }}</arg_value>{% endfor %}\n</tool_call>{% endfor %}"
    "{% elif message.role == 'tool' %}<|observation|>\n<tool_response>\n{{ message.content }}\n</tool_response>"
    "{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>"
    "{{ '\n<think></think>' if enable_thinking is defined and not enable_thinking else '' }}{% endif %}"
)
MINICPM = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOLLM3 = (
    "{% set thinking = enable_thinking if enable_thinking is defined else true %}"
    "<|im_start|>system\nReasoning: {{ '/think' if thinking else '/no_think' }}\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}" + TOOLS + "<|im_end|>\n"
    "{% for message in messages %}{% if message.role == 'user' %}<|im_start|>user\n{{ message.content }}<|im_end|>\n"
    "{% elif message.role == 'assistant' %}<|im_start|>assistant\n{{ message.content.lstrip('\n') }}<|im_end|>\n"
    "{% elif message.role == 'tool' %}<|im_start|>user\n{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not thinking %}<think>\n\n</think>\n{% endif %}{% endif %}"
)
HERMES = (
    "{% if tools %}<|im_start|>system\nYou are a function calling AI model. " + TOOLS + "<|im_end|>\n{% endif %}"
    "{% for message in messages %}"
    "{% if message.role in ('user', 'system') or (message.role == 'assistant' and message.tool_calls is not defined) %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% elif message.role == 'assistant' %}<|im_start|>assistant\n" + HERMES_CALLS + "<|im_end|>\n"
    "{% elif message.role == 'tool' %}<|im_start|>tool\n<tool_response>\n{{ message.content }}\n</tool_response>"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GPT_OSS = (
    "<|start|>system<|message|>Valid channels: analysis, commentary, final.<|end|>"
    "{% if messages[0].role == 'system' or tools %}<|start|>developer<|message|>"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    "{% if tools %}# Tools{% for tool in tools %}\ntype {{ tool.function.name }} = (_: { "
    "{% for name, about in tool.function.parameters.properties.items() %}{{ name }}: {{ about.type }}, {% endfor %}"
    "}) => any;{% endfor %}{% endif %}<|end|>{% endif %}"
    "{% set ns = namespace(called='') %}"
    "{% for message in messages %}{% if message.role == 'user' %}<|start|>user<|message|>{{ message.content }}<|end|>"
    "{% elif message.role == 'assistant' %}"
    "{% if message.tool_calls %}{% set call = message.tool_calls[0].function %}{% set ns.called = call.name %}"
    "{% if message.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ message.thinking }}<|end|>{% endif %}"
    "<|start|>assistant to=functions.{{ call.name }}<|channel|>commentary json<|message|>"
    "{{ call.arguments | tojson }}<|call|>"
    "{% elif loop.last and not add_generation_prompt %}"
    "{% if message.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ message.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ message.content }}<|return|>"
    "{% else %}<|start|>assistant<|channel|>final<|message|>{{ message.content }}<|end|>{% endif %}"
    "{% elif message.role == 'tool' %}<|start|>functions.{{ ns.called }} to=assistant<|channel|>commentary<|message|>"
    "{{ message.content | tojson }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A template, the names of its tokens, and what it expresses."""

    source: str
    eos: str
    bos: str = "<s>"
    tools: bool = False
    calls: bool = False
    system: bool = True
    reasoning: bool = False
    moves: bool = False  # the prompt of an answer is not what stands before it once the answer is there

    @property
    def template(self) -> str:
        """The template with its line breaks kept: Jinja takes one away behind a tag."""
        return self.source.replace("%}\n", "%}{{ '\n' }}")


FAMILIES = {
    "qwen2.5": Family(QWEN25, "<|im_end|>", tools=True, calls=True),
    "qwen3": Family(QWEN3, "<|im_end|>", tools=True, calls=True, reasoning=True),
    "llama3": Family(LLAMA3, "<|eot_id|>", "<|begin_of_text|>", tools=True, calls=True),
    "gemma3": Family(GEMMA3, "<eos>", "<bos>"),
    "mistral": Family(MISTRAL, "</s>", tools=True, calls=True, moves=True),
    "phi3": Family(PHI3, "<|endoftext|>"),
    "deepseek-r1": Family(DEEPSEEK_R1, "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", reasoning=True, moves=True),
    "glm": Family(GLM, "<|endoftext|>", tools=True, calls=True, reasoning=True),
    "minicpm": Family(MINICPM, "<|im_end|>"),
    "smollm3": Family(SMOLLM3, "<|im_end|>", tools=True, reasoning=True, moves=True),
    "hermes": Family(HERMES, "<|im_end|>", tools=True, calls=True),
    "gpt-oss": Family(GPT_OSS, "<|return|>", tools=True, calls=True, reasoning=True),
}
CONTROL = """
    <pad> <s> </s> <|im_start|> <|im_end|> <|begin_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|>
    <bos> <eos> <start_of_turn> <end_of_turn> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_CALLS]
    [TOOL_RESULTS] [/TOOL_RESULTS] <|user|> <|assistant|> <|system|> <|observation|> <|end|> <|endoftext|>
    <｜User｜> <｜Assistant｜> <｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> [gMASK] <sop>
    <|start|> <|message|> <|channel|> <|return|> <|call|>
""".split()

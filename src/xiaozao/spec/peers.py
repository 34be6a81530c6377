"""The options of other tools, and their counterparts here.

    told("lora_r", 8, {...})  ->  Told({"rank": 8}, "is")            the text problem.peer_is says it
    told("packing", True, {}) ->  Told({}, "packing")                no option here; problem.peer_packing says why

PEERS is the table: LLaMA-Factory, TRL and transformers, Axolotl, Unsloth, ms-swift and OpenAI's fine-tuning.
A function of it takes their value and all that stands beside it, because several of theirs can make one of ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Given = Mapping[str, Any]
TRUE, FALSE = (True, "true", "yes", "on", "1", 1), (False, "false", "no", "off", "0", 0, "none")
LORA_RATE = 2e-4  # what learning_rate is for LoRA where it is not named (worker/resolve.py)


@dataclass(frozen=True)
class Told:
    """The counterpart of another tool's option: our options (perhaps none), and the key of the text about it."""

    ours: Mapping[str, Any]
    text: str  # problem.peer_<text>


Convert = Callable[[Any, Given], Told]
OPEN = ("", "auto", None)


def told(name: str, value: Any, beside: Given) -> Told | None:
    """The counterpart of another tool's option; None if no table has it. Numbers may be given as text."""
    convert = PEERS.get(plain_name(name))
    if convert is None:
        return None
    if value in OPEN:
        return Told({}, "open")
    try:
        return convert(value, {plain_name(one): other for one, other in beside.items()})
    except (TypeError, ValueError, OverflowError):
        return Told({}, "value")


def plain_name(name: str) -> str:
    """`--Lora-R` -> lora_r."""
    return str(name).strip("-").replace("-", "_").lower()


def _is(name: str, text: str = "is") -> Convert:
    """The same under our name."""
    return lambda value, beside: Told({name: value}, text)


def _none(text: str) -> Convert:
    """No option here; the text says what happens instead."""
    return lambda value, beside: Told({}, text)


def _count(name: str, text: str = "is") -> Convert:
    """The same under our name, where 0 and -1 mean that nobody decided."""
    return lambda value, beside: Told({name: value}, text) if float(value) > 0 else Told({}, "open")


def _names(name: str) -> Convert:
    """A list of names, or one with commas."""

    def convert(value: Any, beside: Given) -> Told:
        names = [str(one) for one in value] if isinstance(value, list | tuple) else str(value).split(",")
        names = [one.strip() for one in names if one.strip()]
        whole = {"all", "all-linear", "all_linear"} & set(names)
        return Told({name: "all-linear" if whole else ",".join(names)}, "is")

    return convert


def _switch(yes: Mapping[str, Any], text: str = "is", no: str = "off") -> Convert:
    """Ours when it is on; off is what happens here without it."""

    def convert(value: Any, beside: Given) -> Told:
        if _off(value):
            return Told({}, no)
        return Told(yes, text) if _on(value) else Told({}, "value")

    return convert


def _choice(choices: Mapping[str, Mapping[str, Any] | str]) -> Convert:
    """By their value: ours, or the text that says why there is none."""

    def convert(value: Any, beside: Given) -> Told:
        choice = choices.get(str(value).lower())
        if choice is None:
            return Told({}, "value")
        return Told({}, choice) if isinstance(choice, str) else Told(choice, "is")

    return convert


def _on(value: Any) -> bool:
    return (value.lower() if isinstance(value, str) else value) in TRUE


def _off(value: Any) -> bool:
    return (value.lower() if isinstance(value, str) else value) in FALSE


def _first(beside: Given, names: tuple[str, ...]) -> int | None:
    """The first of these that has a number."""
    return next((int(beside[name]) for name in names if beside.get(name) not in (*OPEN, "null")), None)


PER_DEVICE = ("per_device_train_batch_size", "micro_batch_size", "per_device_batch_size", "micro_batch")
ACCUMULATION = ("gradient_accumulation_steps", "grad_accum", "accumulate_grad_batches")
DEVICES = ("devices", "num_gpus", "nproc_per_node", "num_processes")


def _batch(value: Any, beside: Given) -> Told:
    """Samples of one optimizer step: per device x accumulation x devices."""
    size, times = _first(beside, PER_DEVICE), _first(beside, ACCUMULATION)
    if size is None:
        return Told({}, "accumulation")
    return Told({"batch": size * (times or 1) * (_first(beside, DEVICES) or 1)}, "batch")


def _epochs(value: Any, beside: Given) -> Told:
    """transformers stops at max_steps, whatever the epochs."""
    steps = beside.get("max_steps")
    if steps not in OPEN and float(steps) > 0:
        return Told({}, "epochs_over")
    return Told({"epochs": value}, "is")


def _warmup_ratio(value: Any, beside: Given) -> Told:
    """transformers takes warmup_steps where there are some."""
    steps = beside.get("warmup_steps")
    if steps not in OPEN and float(steps) > 0:
        return Told({}, "warmup_over")
    return Told({"warmup": value}, "is")


def _every(name: str) -> Convert:
    """A number of steps; below 1 transformers means a share of the run."""
    return lambda value, beside: Told({name: int(value)}, "is") if float(value) >= 1 else Told({}, "every_share")


def _validation(value: Any, beside: Given) -> Told:
    """A share, or a number of rows; 0 is none."""
    return Told({"validation": "none" if float(value) == 0 else value}, "is")


def _rate_multiplier(value: Any, beside: Given) -> Told:
    """OpenAI multiplies a rate that it does not tell; here the rate itself is named."""
    return Told({"learning_rate": float(f"{LORA_RATE * float(value):.4g}")}, "rate_multiplier")


def _kept(value: Any, beside: Given) -> Told:
    return Told({"keep": max(1, int(value))}, "is")


def _bits(value: Any, beside: Given) -> Told:
    return _choice({"4": {"base": "nf4"}, "8": {"base": "int8"}, "16": "off"})(value, beside)


def _modules_to_save(value: Any, beside: Given) -> Told:
    """PEFT's modules that train whole, as far as they are embeddings and head."""
    ours = {"embed_tokens": "embeddings", "wte": "embeddings", "lm_head": "head", "norm": "norms"}
    names = [str(one) for one in value] if isinstance(value, list | tuple) else str(value).split(",")
    kept = list(dict.fromkeys(ours.get(name.strip().rpartition(".")[2], "") for name in names))
    return Told({"also": ",".join(kept)}, "is") if all(kept) else Told({}, "value")


def _datasets(value: Any, beside: Given) -> Told:
    """A file, several with commas, or Axolotl's list of {path, type}."""
    entries = value if isinstance(value, list | tuple) else [value]
    named = [one.get("path") if isinstance(one, dict) else one for one in entries]
    paths = [one for one in named if isinstance(one, str)]
    if not paths or len(paths) < len(named):
        return Told({}, "value")
    return Told({"data": ",".join(paths)}, "data")


def _test_datasets(value: Any, beside: Given) -> Told:
    data = _datasets(value, beside)
    path = data.ours.get("data", "")
    return Told({"validation": path}, "is") if path and "," not in path else Told({}, "one_validation")


def _track(value: Any, beside: Given) -> Told:
    names = [str(one) for one in value] if isinstance(value, list | tuple) else str(value).split(",")
    ours = [name for name in names if name in ("tensorboard", "wandb", "mlflow", "swanlab", "trackio")]
    return Told({"track": ",".join(ours)}, "is") if ours else Told({}, "track_none")


def _fp16(value: Any, beside: Given) -> Told:
    if _on(beside.get("bf16")):
        return Told({}, "fp16_over")
    return _switch({"precision": "fp16"}, no="precision_off")(value, beside)


def _optimizer(value: Any, beside: Given) -> Told:
    """By what it is, whoever wrote it: adamw_torch, adamw_bnb_8bit, paged_adamw_8bit, adafactor ..."""
    name = str(value).lower()
    if "lion" in name or "sgd" in name or "muon" in name or "schedule_free" in name:
        return Told({}, "optimizer_other")
    kinds = {"adafactor": "adafactor", "apollo": "apollo-mini", "galore": "galore", "badam": "badam"}
    kind = next((ours for theirs, ours in kinds.items() if theirs in name), "")
    if not kind and "adam" in name:
        kind = "adamw8bit" if "8bit" in name else "adamw"
    return Told({"optimizer": kind}, "is") if kind else Told({}, "optimizer_other")


METHODS: Mapping[str, Mapping[str, Any] | str] = {
    "lora": {"method": "lora"}, "qlora": {"method": "lora", "base": "nf4"}, "full": {"method": "full"},
    "freeze": "freeze", "dora": {"adapter": "dora"}, "rslora": {"adapter": "rslora"}, "pissa": {"adapter": "pissa"},
    "none": {"method": "full"}, "oft": "adapter_other", "llamapro": "adapter_other", "adalora": "adapter_other",
}  # fmt: skip
STAGES: Mapping[str, Mapping[str, Any] | str] = {
    "sft": {"objective": "sft"}, "pt": {"objective": "pretrain"}, "dpo": {"objective": "dpo"},
    "kto": {"objective": "kto"}, "orpo": {"objective": "orpo"}, "simpo": {"objective": "simpo"},
    "pretrain": {"objective": "pretrain"}, "sigmoid": {"objective": "dpo"}, "supervised": {"objective": "sft"},
    "ipo": "stage_other", "rm": "stage_other", "ppo": "stage_other", "grpo": "stage_other", "reward": "stage_other",
}  # fmt: skip
SCHEDULES: Mapping[str, Mapping[str, Any] | str] = {
    "cosine": {"schedule": "cosine"}, "linear": {"schedule": "linear"}, "constant": {"schedule": "constant"},
    "constant_with_warmup": {"schedule": "constant"}, "polynomial": "schedule_other", "inverse_sqrt": "schedule_other",
    "cosine_with_restarts": "schedule_other", "cosine_with_min_lr": "schedule_other", "wsd": "schedule_other",
    "warmup_stable_decay": "schedule_other", "reduce_lr_on_plateau": "schedule_other", "one_cycle": "schedule_other",
}  # fmt: skip
DTYPES: Mapping[str, Mapping[str, Any] | str] = {
    "bfloat16": {"precision": "bf16"}, "bf16": {"precision": "bf16"}, "float16": {"precision": "fp16"},
    "fp16": {"precision": "fp16"}, "float32": {"precision": "fp32"}, "fp32": {"precision": "fp32"},
    "half": {"precision": "fp16"}, "float": {"precision": "fp32"},
}  # fmt: skip
CHECKPOINTING: Mapping[str, Mapping[str, Any] | str] = {
    **{str(one).lower(): {"checkpointing": "block"} for one in (True, "yes", "on", "unsloth", 1)},
    "offload": {"checkpointing": "offload"}, **{str(one).lower(): "off" for one in (False, "no", "off", 0)},
}  # fmt: skip
ATTENTION: Mapping[str, Mapping[str, Any] | str] = {
    "sdpa": {"attention": "sdpa"}, "eager": {"attention": "eager"}, "fa2": "flash", "flash_attention_2": "flash",
    "flash_attn": "flash", "flash_attention_3": "flash", "disabled": {"attention": "eager"}, "flex": "flash",
    "flex_attention": "flash", "true": "flash", "false": "off",
}  # fmt: skip

PEERS: dict[str, Convert] = {
    # the model and the data
    "model_name_or_path": _is("model"), "base_model": _is("model"), "model_name": _is("model"),
    "model_id": _is("model"), "pretrained_model_name_or_path": _is("model"), "model_id_or_path": _is("model"),
    "model_revision": _is("revision"), "model_type": _none("model_type"), "tokenizer_type": _none("model_type"),
    "trust_remote_code": _none("remote_code"), "tokenizer_config": _none("tokenizer"), "tokenizer": _none("tokenizer"),
    "tokenizer_name": _none("tokenizer"), "use_fast_tokenizer": _none("tokenizer"), "template": _none("template"),
    "chat_template": _none("template"), "conversation_template": _none("template"),
    "adapter_name_or_path": _none("adapter_path"), "lora_model_dir": _none("adapter_path"),
    "use_modelscope_hub": _switch({"source": "modelscope"}), "use_hf": _switch({"source": "hf"}),
    "dataset": _datasets, "datasets": _datasets, "train_file": _datasets, "training_file": _datasets,
    "data_path": _datasets, "train_data": _datasets, "dataset_name": _datasets, "custom_train_dataset_path": _datasets,
    "dataset_dir": _none("dataset_dir"), "dataset_text_field": _none("columns"),
    "dataset_prepared_path": _none("cache"),
    "eval_dataset": _test_datasets, "val_dataset": _test_datasets, "test_datasets": _test_datasets,
    "validation_file": _test_datasets, "val_data": _test_datasets,
    "val_set_size": _validation, "val_size": _validation, "split_dataset_ratio": _validation,
    "test_size": _validation, "eval_split": _validation, "validation_split": _validation,
    "max_samples": _count("rows"), "max_train_samples": _count("rows"), "system_prompt": _is("system"),
    "default_system": _is("system"), "type": _none("columns"), "formatting": _none("columns"),
    "train_on_inputs": _switch({}, "on_inputs"), "train_on_prompt": _switch({}, "on_inputs"),
    "train_on_responses_only": _none("answers_only"), "assistant_only_loss": _none("answers_only"),
    "completion_only_loss": _none("answers_only"), "mask_history": _switch({}, "mask_history"),
    # length
    "cutoff_len": _is("length"), "max_seq_length": _is("length"), "max_seq_len": _is("length"),
    "sequence_len": _is("length"), "max_length": _is("length"), "model_max_length": _is("length"),
    "block_size": _is("length"), "seq_length": _is("length"), "max_prompt_length": _none("prompt_length"),
    "max_completion_length": _none("prompt_length"), "truncation_strategy": _choice(
        {"delete": {"truncation": "drop"}, "left": {"truncation": "left"}, "right": {"truncation": "right"},
         "raise": {"truncation": "error"}, "split": "value"}),
    "packing": _none("packing"), "sample_packing": _none("packing"), "neat_packing": _none("packing"),
    "eval_sample_packing": _none("packing"), "eval_packing": _none("packing"), "padding_free": _none("packing"),
    "pad_to_sequence_len": _none("packing"), "group_by_length": _none("packing"),
    # how long, how much at a time
    "num_train_epochs": _epochs, "num_epochs": _epochs, "n_epochs": _epochs, "max_epochs": _epochs,
    "train_epochs": _epochs, "max_steps": _count("steps"), "num_train_steps": _count("steps"),
    "max_train_steps": _count("steps"), "iters": _count("steps"), "total_steps": _count("steps"),
    "per_device_train_batch_size": _batch, "micro_batch_size": _batch, "per_device_batch_size": _batch,
    "gradient_accumulation_steps": _batch, "grad_accum": _batch, "accumulate_grad_batches": _batch,
    "batch_size": _is("batch"), "global_batch_size": _is("batch"), "total_batch_size": _is("batch"),
    "train_batch_size": _is("batch"), "per_device_eval_batch_size": _none("eval_batch"),
    "eval_batch_size": _none("eval_batch"), "num_gpus": _count("devices"), "nproc_per_node": _count("devices"),
    "num_processes": _count("devices"),
    # the optimizer
    "lr": _is("learning_rate"), "learning_rate_multiplier": _rate_multiplier, "peak_lr": _is("learning_rate"),
    "lr_scheduler_type": _choice(SCHEDULES), "lr_scheduler": _choice(SCHEDULES), "scheduler": _choice(SCHEDULES),
    "warmup_ratio": _warmup_ratio, "warmup_steps": _count("warmup"), "num_warmup_steps": _count("warmup"),
    "optim": _optimizer, "optimizer": _optimizer, "optimizer_type": _optimizer, "use_badam": _switch(
        {"optimizer": "badam"}), "use_galore": _switch({"optimizer": "galore"}), "use_apollo": _switch(
        {"optimizer": "apollo-mini"}), "galore_rank": _is("projection_rank"), "weightdecay": _is("weight_decay"),
    "max_grad_norm": _is("clip"), "gradient_clipping": _is("clip"), "max_norm": _is("clip"), "grad_clip": _is("clip"),
    "adam_beta1": _none("betas"), "adam_beta2": _none("betas"), "adam_epsilon": _none("betas"),
    "neftune_noise_alpha": _none("noise"), "noisy_embedding_alpha": _none("noise"),
    "label_smoothing_factor": _is("label_smoothing"), "random_state": _is("seed"), "data_seed": _none("seed_one"),
    # what is trained
    "finetuning_type": _choice(METHODS), "train_type": _choice(METHODS), "tuner_type": _choice(METHODS),
    "sft_type": _choice(METHODS), "adapter": _choice(METHODS), "use_peft": _switch({"method": "lora"}, no="peft_off"),
    "use_lora": _switch({"method": "lora"}, no="peft_off"), "method": _choice(METHODS),
    "training_type": _choice(STAGES), "stage": _choice(STAGES),
    "rlhf_type": _choice(STAGES), "rl": _choice(STAGES), "pref_loss": _choice(STAGES),
    "loss_type": _choice(STAGES), "objective": _choice(STAGES), "pref_beta": _is("beta"), "dpo_beta": _is("beta"),
    "rl_beta": _is("beta"), "kto_beta": _is("beta"), "orpo_alpha": _is("beta"), "simpo_gamma": _is("gamma"),
    "simpo_gamma_beta_ratio": _is("gamma"), "kto_chosen_weight": _is("desirable_weight"),
    "kto_rejected_weight": _is("undesirable_weight"),
    "lora_r": _is("rank"), "lora_rank": _is("rank"), "r": _is("rank"), "peft_lora_r": _is("rank"),
    "lora_alpha": _is("alpha"), "peft_lora_alpha": _is("alpha"), "lora_target": _names("targets"),
    "lora_target_modules": _names("targets"), "target_modules": _names("targets"), "lora_targets": _names("targets"),
    "lora_target_linear": _switch({"targets": "all-linear"}), "lora_dropout": _none("dropout"),
    "lora_bias": _none("bias"), "bias": _none("bias"), "lora_modules_to_save": _modules_to_save,
    "modules_to_save": _modules_to_save, "additional_target": _modules_to_save,
    "use_rslora": _switch({"adapter": "rslora"}), "peft_use_rslora": _switch({"adapter": "rslora"}),
    "use_dora": _switch({"adapter": "dora"}), "peft_use_dora": _switch({"adapter": "dora"}),
    "pissa_init": _switch({"adapter": "pissa"}), "loraplus_lr_ratio": _is("lora_plus"),
    "lorap_lr_ratio": _is("lora_plus"), "loftq_config": _none("loftq"),
    "freeze_trainable_layers": _is("last_blocks"), "num_layers_trainable": _is("last_blocks"),
    "load_in_4bit": _switch({"base": "nf4"}), "load_in_8bit": _switch({"base": "int8"}), "quantization_bit": _bits,
    "quant_bits": _bits, "bits": _bits, "bnb_4bit_quant_type": _choice({"nf4": {"base": "nf4"}, "fp4": "value"}),
    "quantization_method": _none("quant_method"), "quant_method": _none("quant_method"),
    "quantization_type": _none("quant_method"), "double_quantization": _none("quant_method"),
    "bnb_4bit_use_double_quant": _none("quant_method"), "bnb_4bit_compute_dtype": _choice(DTYPES),
    "bf16": _switch({"precision": "bf16"}, no="precision_off"), "fp16": _fp16, "float16": _fp16,
    "bfloat16": _switch({"precision": "bf16"}, no="precision_off"), "tf32": _none("tf32"),
    "pure_bf16": _switch({"weights": "bf16"}), "torch_dtype": _choice(DTYPES),
    "dtype": _choice(DTYPES), "compute_dtype": _choice(DTYPES),
    "mixed_precision": _choice(DTYPES), "precision": _choice(DTYPES),
    # memory and speed
    "gradient_checkpointing": _choice(CHECKPOINTING), "use_gradient_checkpointing": _choice(CHECKPOINTING),
    "gradient_checkpointing_kwargs": _none("automatic"), "use_reentrant_gc": _none("automatic"),
    "flash_attn": _choice(ATTENTION), "flash_attention": _choice(ATTENTION), "use_flash_attn": _choice(ATTENTION),
    "attn_implementation": _choice(ATTENTION), "attn_impl": _choice(ATTENTION), "sdp_attention": _none("automatic"),
    "xformers_attention": _none("automatic"), "use_cache": _none("automatic"), "low_cpu_mem_usage": _none("automatic"),
    "enable_liger_kernel": _none("automatic"), "use_liger_kernel": _none("automatic"),
    "use_unsloth": _none("automatic"), "torch_compile": _none("automatic"),
    "deepspeed": _none("sharded"), "fsdp": _none("sharded"),
    "fsdp_config": _none("sharded"), "zero_stage": _none("sharded"), "device_map": _none("device_map"),
    "max_memory": _none("device_map"), "dataloader_num_workers": _none("automatic"), "plugins": _none("automatic"),
    "preprocessing_num_workers": _none("automatic"), "dataset_num_proc": _none("automatic"),
    "dataset_processes": _none("automatic"), "dataloader_pin_memory": _none("automatic"),
    "dataloader_prefetch_factor": _none("automatic"), "remove_unused_columns": _none("automatic"),
    "ddp_timeout": _none("automatic"), "ddp_find_unused_parameters": _none("automatic"), "lazy_tokenize": _none(
        "automatic"), "overwrite_cache": _none("cache"), "streaming": _none("cache"), "local_rank": _none("automatic"),
    # what is written, and when
    "output_dir": _is("output"), "out_dir": _is("output"), "save_dir": _is("output"), "run_name": _none("run_name"),
    "suffix": _none("run_name"), "overwrite_output_dir": _switch({}, "overwrite"),
    "resume_from_checkpoint": _switch({}, "resume"), "auto_resume_from_checkpoints": _switch({}, "resume"),
    "eval_steps": _every("eval_every"), "evals_per_epoch": _none("per_epoch"), "saves_per_epoch": _none("per_epoch"),
    "save_steps": _every("save_every"), "save_total_limit": _kept, "eval_strategy": _none("strategy"),
    "evaluation_strategy": _none("strategy"), "save_strategy": _none("strategy"), "do_train": _none("strategy"),
    "do_eval": _none("strategy"), "eval_on_start": _none("strategy"), "logging_strategy": _none("logging"),
    "load_best_model_at_end": _switch({}, "best", no="best"), "metric_for_best_model": _none("best"),
    "greater_is_better": _none("best"), "early_stopping_patience": _is("patience"), "logging_steps": _none("logging"),
    "logging_first_step": _none("logging"), "logging_dir": _none("logging"), "plot_loss": _none("logging"),
    "log_level": _none("logging"), "report_to": _track, "save_only_model": _none("whole_checkpoints"),
    "save_safetensors": _none("whole_checkpoints"), "wandb_project": _none("wandb"), "wandb_entity": _none("wandb"),
    "wandb_name": _none("wandb"), "wandb_watch": _none("wandb"), "wandb_log_model": _none("wandb"),
    "wandb_run_id": _none("wandb"), "push_to_hub": _none("push"), "hub_model_id": _none("push"),
    "hub_token": _none("push"), "hub_strategy": _none("push"), "special_tokens": _none("special_tokens"),
    "tokens": _none("special_tokens"), "strict": _none("automatic"), "is_llama_derived_model": _none("model_type"),
}  # fmt: skip

# Everything from a fresh clone: `make demo`, `make test`. Needs Python 3.11 or newer and nothing else.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# Where pip finds torch without CUDA. Used on Linux without an NVIDIA driver, where PyPI's torch would bring 3 GB of CUDA.
TORCH_CPU ?= https://download.pytorch.org/whl/cpu

.PHONY: help demo test fast fast-everywhere real lint format docs bench bench-kills bench-fuzz bench-peers bench-gpu bench-methods bench-families bench-plan bench-budgets bench-plan-gpu bench-duration bench-contention bench-data bench-rows bench-eval bench-forgetting bench-elephant bench-floor bench-coverage clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## tune a small model on the demo's data and write a report with the proof
	$(BIN)/zao demo $(ARGS)

test: lint fast real ## everything that must pass: lint, then the fast tests, then the real ones

fast: $(READY) ## the tests while working: no real model, no whole runs, in a minute or two
	$(BIN)/python -m pytest -m "not real and not slow" -n 2 --dist loadscope $(ARGS)

fast-everywhere: $(READY) ## the fast tests as on processors with fewer instructions
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(MAKE) fast
	ONEDNN_MAX_CPU_ISA=AVX512_CORE $(MAKE) fast
	$(MAKE) fast

real: $(READY) ## the tests with a real model, traces and whole runs, in 20 to 35 minutes
	$(BIN)/python -m pytest -m "real or slow" -n 2 --dist loadgroup $(ARGS)

lint: $(READY) ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## write the pages of docs/ that are made from the code
	$(BIN)/python scripts/make_docs.py
	$(BIN)/python -m bench.article

bench: bench-kills bench-families bench-methods bench-peers ## the measurements of bench/, full size, hours

bench-kills: $(READY) ## kills a run twenty times and resumes it: the same bits
	$(BIN)/python -m bench.kills $(ARGS)

bench-fuzz: $(READY) ## 100,000 spoiled inputs: each is read or refused in words; an hour
	$(BIN)/python -m bench.fuzz $(ARGS)

bench-peers: $(READY) ## beside LLaMA-Factory and TRL on the same rows: docs/peers.md; hours
	$(BIN)/python -m bench.peers $(ARGS)
	$(BIN)/python -m bench.peers --table bases --data gpt_train.jsonl $(ARGS)

bench-gpu: $(READY) ## the same on your CUDA card
	$(BIN)/python -m bench.peers --device cuda $(ARGS)
	$(BIN)/python -m bench.peers --device cuda --table bases --data gpt_train.jsonl $(ARGS)

bench-methods: $(READY) ## every method and precision, 100 steps each: docs/methods.md
	$(BIN)/python -m bench.methods $(ARGS)

bench-elephant: $(READY) ## a model larger than memory, streamed from disk: docs/streaming.md
	$(BIN)/python -m bench.elephant $(ARGS)
	$(BIN)/python -m bench.elephant --base nf4 --pieces 4 $(ARGS)

bench-floor: $(READY) ## all parameters of a 135M model in how little memory: docs/full.md
	$(BIN)/python -m bench.full_floor $(ARGS)

bench-families: $(READY) ## every decoder that transformers knows, built small: docs/families.md
	$(BIN)/python -m bench.families $(ARGS)

bench-plan-gpu: $(READY) ## the plan of the Hugging Face stack against measured GPU runs ($$ZAO_TRUTH): docs/plan-gpu.md
	$(BIN)/python -m bench.plan_gpu $(ARGS)

bench-budgets: $(READY) ## random budgets, a run for each, beside the fastest that fits: docs/budgets.md; hours
	$(BIN)/python -m bench.budgets $(ARGS)

bench-plan: $(READY) ## the plan on the CPU against measured runs: docs/plan.md; hours
	$(BIN)/python -m bench.plan $(ARGS)

bench-duration: $(READY) ## the planned time of a step on the CPU against measured runs: docs/duration.md; an hour
	$(BIN)/python -m bench.duration $(ARGS)

bench-data: $(READY) ## how fast files are checked and prepared, beside LLaMA-Factory and TRL: docs/preparing.md; an hour
	$(BIN)/python -m bench.preparing $(ARGS)

bench-coverage: $(READY) ## how often every interval covers the truth: docs/coverage.md; half an hour
	$(BIN)/python -m bench.coverage $(ARGS)

bench-eval: $(READY) ## multiple choice beside lm-eval: docs/evaluating.md; an hour
	$(BIN)/python -m bench.evaluating $(ARGS)

bench-forgetting: $(READY) ## what each way of training forgets: docs/forgetting.md; hours
	$(BIN)/python -m bench.forgetting $(ARGS)

bench-rows: $(READY) ## what 25 to 800 rows of three kinds of data teach: docs/rows.md; hours
	$(BIN)/python -m bench.rows $(ARGS)

bench-contention: $(READY) ## a run beside a busy program: docs/duration.md; half an hour
	$(BIN)/python -m bench.contention $(ARGS)

clean: ## remove the environment and what tools leave behind; runs and models stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that was interrupted is done again.
$(READY): pyproject.toml constraints.txt
	@python=; index=; for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
		if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Xiaozao needs Python 3.11 or newer with venv; found: $$(python3 --version 2>&1 || true)." >&2; \
		echo "Install it, for example: apt install python3 python3-venv, brew install python, or https://www.python.org" >&2; \
		echo "小灶需要 Python 3.11 或更新版本（含 venv）。请先安装，例如：apt install python3 python3-venv" >&2; \
		exit 9; \
	fi; \
	echo "Installing into $(VENV) with $$($$python --version) ..."; \
	$$python -m venv $(VENV) && \
	if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1 && \
		$$python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/torch/", timeout=5)' $(TORCH_CPU) >/dev/null 2>&1; then \
		index="--extra-index-url $(TORCH_CPU)"; \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$index -c constraints.txt -e ".[dev]" && \
	touch $(READY)

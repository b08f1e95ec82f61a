# Everything runs in .venv, which the first target that needs it makes: only Python, pip and make must be there.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test check format bench conformance clean help

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --editable '.[dev]'
	touch $@

# Real questions: a local copy if there is one, else the hub.
GSM8K ?= $(wildcard ../shared/data/gsm8k)
DEMO_SIZE ?= 8

demo: $(INSTALLED) ## sweep the five caches over GSM8K questions on a tiny random model and print the table
	$(BIN)/python -m models.tiny .demo/tiny-llada
	$(BIN)/python eval.py -m cache=none,prefix,dual,dllm,d2cache model.name=tiny-llada model.path=.demo/tiny-llada \
	    dataset.name=gsm8k dataset.path=$(or $(GSM8K),null) dataset.size=$(DEMO_SIZE) dataset.n_shot=1 \
	    generation.gen_length=64 generation.block_length=16 output_dir=.demo/results
	@$(BIN)/python -m evaluation.table .demo/results
	@echo
	@echo "The model is tiny and random: it knows nothing, so its accuracy is 0. Speed and work are real."

test: $(INSTALLED) ## all tests
	$(BIN)/python -m pytest

check: $(INSTALLED) ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

conformance: $(INSTALLED) ## replay the recorded trajectories of the official implementations and count the exact ones
	$(BIN)/python -m tests.conformance

bench: $(INSTALLED) ## time one forward of each cache against its counted work
	$(BIN)/python -m benchmarks.step_cost

clean: ## remove the environment and what the demo wrote
	rm -rf .venv .demo

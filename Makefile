# Everything runs in .venv, which the first target that needs it makes: only Python, pip and make must be there.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo grid leaderboard screenshots map architecture combinations test test-slow check format bench conformance clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --editable '.[dev]'
	touch $@

DEMO_SIZE ?= 40

demo: $(INSTALLED) ## sweep the five caches over nano-gsm on the embedded model nano-llada and print the table
	HF_HUB_OFFLINE=1 $(BIN)/python eval.py -m cache=none,prefix,dual,dllm,d2cache model=nano-llada dataset=nano-gsm \
	    dataset.size=$(DEMO_SIZE) output_dir=results/demo
	@$(BIN)/cache-zoo table results/demo

GRID ?= results/grid
JOBS ?= 1

grid: $(INSTALLED) ## sweep both embedded models, both tasks, five caches, two decoders; run again to resume
	HF_HUB_OFFLINE=1 $(BIN)/python eval.py -m cache=none,prefix,dual,dllm,d2cache generation.threshold=null,0.9 \
	    model=nano-llada,nano-dream dataset=nano-gsm,nano-code generation.stop_until_eos=true \
	    allow_code_execution=true jobs=$(JOBS) output_dir=$(GRID)
	$(BIN)/cache-zoo leaderboard $(GRID) published=true

RUNS ?= results

leaderboard: $(INSTALLED) ## make the leaderboard of all runs in results, or in RUNS=FOLDER
	$(BIN)/cache-zoo leaderboard $(RUNS) published=true

screenshots: $(INSTALLED) ## take the pictures of docs/leaderboard.md again, with the machine's Chromium
	$(BIN)/cache-zoo leaderboard results/reference published=true
	$(BIN)/python -m tools.screenshots results/reference/leaderboard.html docs/leaderboard-front.png select='#fronts'
	$(BIN)/python -m tools.screenshots results/reference/leaderboard.html docs/leaderboard.png select='#table'

map: $(INSTALLED) ## take the pictures of README and docs/trace.md: none beside d2cache, a line per forward
	HF_HUB_OFFLINE=1 $(BIN)/python eval.py -m model=nano-llada dataset=nano-gsm dataset.size=10 cache=none,d2cache \
	    generation.gen_length=64 output_dir=results/map
	HF_HUB_OFFLINE=1 $(BIN)/cache-zoo trace results/map/*none* results/map/*d2cache* sample=9 out=results/map/trace.html
	$(BIN)/python -m tools.screenshots results/map/trace.html docs/map.png width=1200 select=main \
	    hide='#question, #divergence, #player, #reading, .facts, .text, .status, .row, [data-bar=ms]'
	$(BIN)/python -m tools.screenshots results/map/trace.html docs/trace.png width=1240 height=1275 click=.to

architecture: $(INSTALLED) ## draw the picture of docs/architecture.md from the imports
	$(BIN)/python -m tools.architecture

combinations: $(INSTALLED) ## run what can be combined on tiny models and write docs/combinations.md
	$(BIN)/python -m tools.combinations

# One more than the cores, since some tests wait for programs that they start.
PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() + 1, 8))')

test: $(INSTALLED) ## all tests but the slow ones, on all cores; PROCESSES=1 for one
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal

test-slow: $(INSTALLED) ## the slow tests, which guard against rare faults
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal -m slow

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
	rm -rf .venv results/demo

# `make smoke` runs the main job, `make test` all tests; each sets up what it needs first.
# Variables: PYTHON, TORCH_INDEX (see workflow/scripts/setup.sh), SCALE, PAPER, CELL, TARGET, SEEDS, GO, GPUS, DRY.

SHELL := /bin/bash
SCALE ?= smoke
PAPER ?= all
BIN := .venv/bin
INSTALLED := .venv/.installed
SNAKEMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --profile workflow/profiles/local
# The bytecode cache is what makes a dozen processes start in seconds
unexport PYTHONDONTWRITEBYTECODE
export PYTHONUNBUFFERED := 1

.PHONY: smoke site slice eval-real test tests check lint style types cells cell methods methods-smoke verify-data contamination lock lock-check \
	reference reference-render images images-pull images-check estimate cells-run doctor controller programs venv-cuda venv-appworld bench bench-kernels bench-steps bench-grading bench-scoring bench-dag bench-environments \
	bench-jobs stats cluster-test gpu-check

smoke: $(INSTALLED)
	@bash workflow/scripts/smoke.sh

# Pages to browse what a scale has: make site SCALE=paper
site: $(INSTALLED)
	@$(BIN)/entrobench site --scale $(SCALE)

# Real data, a real small model, the paper's configuration path; needs the folder of real data
slice: $(INSTALLED)
	@bash workflow/scripts/slice.sh

# Every benchmark's path on real slices with a real small model: sampled, graded, in a table; 13 minutes
eval-real: $(INSTALLED)
	@bash workflow/scripts/eval_real.sh

# Every test: long runs of training first, beside each other and beside the rest; the types beside them all
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder
test: style
	@$(MAKE) --no-print-directory -j2 types tests

tests: $(INSTALLED)
	@$(PYTEST) -n $(or $(JOBS),3) tests/integration tests/unit

# The inner loop: linters, types, layers, and the tests that start neither verl nor vLLM nor wait for processes
check: lint
	@$(PYTEST) -n 2 -m "not slow" tests/unit

lint: style types

style: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check Snakefile workflow
	@$(BIN)/lint-imports --no-logo

types: $(INSTALLED)
	@$(BIN)/mypy

cells: $(INSTALLED)
	@$(BIN)/entrobench cells --scale $(SCALE) --paper $(PAPER)

# One cell on this machine: make cell CELL=papo/7b-math/dapo/seed1 SCALE=mini (GPUS=8, DRY=--dry-run)
cell: $(INSTALLED)
	@$(BIN)/entrobench run $(CELL) --scale $(SCALE) $(if $(GPUS),--gpus $(GPUS)) $(DRY)

# What a group of cells would cost: make estimate TARGET=papo_table1 (SEEDS=3); docs/cost.md
estimate: programs
	@$(BIN)/entrobench estimate $(TARGET) --scale $(or $(filter-out smoke,$(SCALE)),paper) $(if $(SEEDS),--seeds $(SEEDS))

# The same, then the cells through SLURM; above a limit of configs/site.yaml only with GO=--go
cells-run: programs
	@$(BIN)/entrobench submit $(TARGET) --scale $(or $(filter-out smoke,$(SCALE)),paper) $(if $(SEEDS),--seeds $(SEEDS)) $(GO)

# Training and evaluation on GPUs without images: use_images: false in configs/site.yaml, or no site.yaml; 10 GB
venv-cuda:
	@bash workflow/scripts/setup.sh cuda

# AppWorld's engine, for REPO's cells where no images are used; its task data: docs/environments.md
venv-appworld: .venv-appworld/.installed

.venv-appworld/.installed: requirements/appworld.lock
	@bash workflow/scripts/setup.sh appworld

# What the login node of a cluster needs, and no more: a minute; jobs run in images (docs/cluster.md)
controller:
	@test -e $(INSTALLED) -o -e .venv/.controller || bash workflow/scripts/setup.sh controller

# Either environment
programs:
	@test -e .venv/.controller || $(MAKE) --no-print-directory $(INSTALLED)

# Is everything here that a scale needs, and what to do: make doctor SCALE=paper
doctor: programs
	@$(BIN)/entrobench doctor --scale $(SCALE)

# Kernels, attention and verl's engine against what they should compute, on this machine's GPU or, in part, its CPU
gpu-check: $(INSTALLED)
	@$(BIN)/entrobench gpu-check

# Every method with its place in the paper, in the code and in the tests
methods: $(INSTALLED)
	@$(BIN)/entrobench methods

# Three real steps of every method on CPU (METHODS="dapo adapo" for some); about 15 minutes
methods-smoke: $(INSTALLED)
	@$(SNAKEMAKE) --quiet -- results/smoke/models/smoke_tiny/model.json results/smoke/data/smoke_arithmetic/train.parquet
	@$(BIN)/entrobench methods-smoke $(METHODS)

# Several seeds of every method on one experiment, what of it is not in results/reference yet (docs/reference.md);
# goes on where it stopped: make reference HOURS=2 GROUPS=head_to_head
reference: $(INSTALLED)
	@$(BIN)/entrobench reference-run $(GROUPS) $(if $(HOURS),--hours $(HOURS))
	@$(BIN)/entrobench reference-render

# Its tables, figures and page, and the README's table, from what is there
reference-render: $(INSTALLED)
	@$(BIN)/entrobench reference-render

# Every pinned data file: present or missing (and how to get it), bytes, SHA-256, rows, schema, known counts
verify-data: $(INSTALLED)
	@$(BIN)/entrobench verify-data

# Training problems that stand in a benchmark; results/data/contamination.md
contamination: $(INSTALLED)
	@$(BIN)/entrobench contamination

# Token statistics against verl's own functions
bench-kernels: $(INSTALLED)
	@$(BIN)/python benchmarks/kernels.py

# Step time of PAPO against DAPO, and the cost of the token record
bench-steps: $(INSTALLED)
	@$(SNAKEMAKE) --quiet -- results/smoke/models/smoke_tiny/model.json results/smoke/data/smoke_arithmetic/train.parquet
	@$(BIN)/python benchmarks/step_time.py

# Answers graded per second, a burst of 4,096 requests, agreement with labelled outputs (docs/grading.md)
bench-grading: $(INSTALLED)
	@$(BIN)/python benchmarks/grading.py

# Memory and seconds of scoring MMLU-Pro at paper scale: 120,320 samples, 300 MB
bench-scoring: $(INSTALLED)
	@$(BIN)/python benchmarks/scoring.py

# How sure the numbers are: coverage of the intervals, and which printed gaps the papers' protocols can find
stats: $(INSTALLED)
	@$(BIN)/python benchmarks/intervals.py
	@echo; $(BIN)/entrobench resolution

# Dry run of every cell with three seeds: seconds, memory, cost of parsing
bench-dag: $(INSTALLED)
	@$(BIN)/python benchmarks/dag.py

# What environments cost beside the model, and 512 of them at once
bench-environments: $(INSTALLED)
	@$(BIN)/python benchmarks/environments.py

# Seconds that Snakemake and Apptainer add to a job, on a throw-away SLURM
bench-jobs: $(INSTALLED)
	@$(BIN)/python benchmarks/jobs.py

# A throw-away SLURM of two nodes on this machine: needs root and Debian's SLURM, and says what is missing; K: some of them
cluster-test: $(INSTALLED)
	@$(BIN)/python -m pytest tests/cluster $(if $(K),-k "$(K)")

bench: $(INSTALLED)
	@$(BIN)/python benchmarks/smoke.py

# Resolve the locked requirements anew
lock: $(INSTALLED)
	@bash workflow/scripts/lock.sh

# Do the locks hold what they resolve to today? Fails on a difference
lock-check: $(INSTALLED)
	@bash workflow/scripts/lock.sh --check

# Container images (docs/images.md), as root: make images IMAGES="report train" DEVICE=cuda; default: all, for CPU
DEVICE ?= cpu
images: programs
	@$(BIN)/entrobench images build $(IMAGES) --device $(DEVICE) $(PUBLISH)

# Published ones, from images_from of configs/site.yaml, checked against containers/images.lock.yaml
images-pull: programs
	@$(BIN)/entrobench images pull $(IMAGES) --device $(DEVICE)

# Are the SIF files on disk the recorded ones?
images-check: programs
	@$(BIN)/entrobench images check $(IMAGES) --device $(DEVICE)

$(INSTALLED): requirements/cpu.lock requirements/torch.txt requirements/grader.lock pyproject.toml
	@bash workflow/scripts/setup.sh

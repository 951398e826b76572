# make demo: the whole story, offline.   make test: the tests.   make lint: linters and types.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The packages' own tests are never imported, and of hundreds of architectures a few.
COMPILE = $(BIN)/python -m compileall -qq -x '/site-packages/(.*/tests|transformers/models/.*)/' $(VENV)/lib
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
unexport PYTHONDONTWRITEBYTECODE  # what COMPILE leaves out is compiled once, when it is imported

.PHONY: demo test lint env clean

env: $(VENV)/.done
$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@# The pip that comes with Python 3.11 weighs every file of every release, and takes twice as long.
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --upgrade pip
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt torch
	@# pip compiles on one core, and stops at templates that are no Python. What is there is compiled while pip is at work on the
	@# rest (a file half written is found stale later, by size and time), the rest on all cores.
	$(COMPILE) & \
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[test,ray,postgres]" \
	&& wait
	$(COMPILE) -j 0 || true
	touch $@

demo: env
	$(BIN)/foretune demo

test: env
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 15

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

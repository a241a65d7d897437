# Everything a developer or a reader does, one target each. `make quickstart` is where to begin.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
PROFILE ?= quickstart

.PHONY: help quickstart publish book release test test-fast test-gpu lint lab browser bench bench-memory kills statistics annotation situations tuning dropout mini-report screenshots colab house mutants clean

help:
	@echo "make quickstart  run the tutorial on real cells, check it, build the book"
	@echo "make lab         open JupyterLab on the notebooks"
	@echo "make test        install what the tests need, Chromium included, and run them"
	@echo "make test-fast   those that take a minute, between two edits"
	@echo "make test-gpu    run the tests of all that computes on a GPU, where there is one"
	@echo "make lint        style and types"
	@echo "make publish     run all tutorials that have changed, check them, build the book"
	@echo "make book        build the book from the tutorials that were run; drafts are marked"
	@echo "make release     build the book, refused unless every tutorial is passed"
	@echo "make browser     install the Chromium that the browser tests drive"
	@echo "make bench       speed and memory, beside other software too: book/performance.md (ONLY='embedding peers')"
	@echo "make bench-memory  peak memory of labelling a file: 200,000 cells by PCA, 2,000 by the encoder (MINI=)"
	@echo "make kills       kill clients and workers at random, compare with an undisturbed run (N=20, ONLY='embed annotate alone sweep')"
	@echo "make statistics  what a verdict is worth, counted in simulated worlds"
	@echo "make annotation SETS='a.h5ad,label,donor ...'  what a kept model's promises are worth, counted on labelled cells"
	@echo "make situations LABELLED=folder  queries of other names, values, genes, donors: the table of book/annotation.md (ONLY=)"
	@echo "make tuning      what LoRA is best trained with: genes, rate, steps, patience (KANG=file, JOBS=1)"
	@echo "make dropout     whether dropout helps adapters (FIELD=encoder_dropout or lora_dropout, KANG=file, JOBS=1, DEVICE=cpu)"
	@echo "make mini-report LABELLED=folder CORPUS='a.h5ad b.h5ad'  mini's model card"
	@echo "make screenshots  pictures of the panels for README and book, from a live JupyterLab"
	@echo "make colab       put a cell into the notebooks that installs frostline on Colab, if _config.yml names a repository"
	@echo "make house       draw the rooms of the package from its imports"
	@echo "make mutants     change the code at random (N=50, SEED=, ROOMS=) and say which changes no test notices"
	@echo "make clean       remove environment, book and pages; results in artifacts/ stay"

# Packages are compiled when they are first imported, which few of their modules are: compiling all of them takes a
# minute. What is compiled is kept, also where the environment says otherwise: every kernel and command imports it.
export PYTHONDONTWRITEBYTECODE =
INSTALL := $(BIN)/pip install --quiet --no-compile -c constraints.txt

# The pip that Python 3.11 brings takes three times as long to find out what fits together; where no newer one can be
# had, it does. Packages are installed again only when the requirements change.
$(VENV)/pip:
	$(PYTHON) -m venv $(VENV)
	-@$(BIN)/pip install --quiet --upgrade pip
	@touch $@

$(VENV)/installed: $(VENV)/pip pyproject.toml constraints.txt
	$(INSTALL) -e ".[book]"
	@touch $@

$(VENV)/installed-test: $(VENV)/pip pyproject.toml constraints.txt
	$(INSTALL) -e ".[book,test]"
	@touch $(VENV)/installed $@

quickstart: $(VENV)/installed
	$(BIN)/frostline publish cell_type_annotation --profile quickstart

publish: $(VENV)/installed
	$(BIN)/frostline publish --profile $(PROFILE)

release: $(VENV)/installed
	$(BIN)/frostline book --release

book: $(VENV)/installed
	@test -f book/published/cell_type_annotation.run.json || $(MAKE) --no-print-directory quickstart
	$(BIN)/frostline book

lab: $(VENV)/installed
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/cell_type_annotation.ipynb

# Two workers of one thread each: torch's threads of two workers would fight for the same cores.
# Files are taken in the order that tests/conftest.py gives: those that take longest come first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Where Chromium cannot be installed, the tests that drive it fail and say so; the others still run.
test: $(VENV)/installed-test
	-@$(MAKE) --no-print-directory browser
	$(PYTEST) --durations=25

# No kernel, no browser, no book, nothing marked as slow.
test-fast: $(VENV)/installed-test
	$(PYTEST) --ignore=tests/book --ignore=tests/panels --ignore=tests/publishing -m "not slow"

# What computes on a device, where torch sees a GPU; elsewhere the same tests on the CPU.
test-gpu: $(VENV)/installed-test
	$(BIN)/python -m pytest tests/encoder tests/strategies tests/evaluation/test_estimates.py

# What the project holds, and not the notebooks that somebody has run beside it.
CODE := book notebooks tests widgets
lint: $(VENV)/installed-test
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb widgets/frostline/book/template/notebooks/*.ipynb

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { command -v apt-get >/dev/null || { echo "install Chromium with your package manager" >&2; exit 1; }; \
	    if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq chromium; \
	    else sudo apt-get update -qq && sudo apt-get install -y -qq chromium; fi; }

# Three quarters of an hour on two cores; the pages are written from the lines of tests/benchmarks/performance.jsonl.
bench: $(VENV)/installed-test
	$(BIN)/python tests/benchmarks/performance.py $(if $(ONLY),--only $(ONLY))
	$(if $(ONLY),,$(BIN)/python tests/benchmarks/tokens.py)
	$(if $(ONLY),,$(BIN)/python tests/benchmarks/panels.py)
	$(if $(ONLY),,$(BIN)/python tests/benchmarks/cell_map.py)

# MINI=200000 labels as many cells with the encoder, which takes an hour.
bench-memory: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/annotation_memory.py $(if $(MINI),--mini-cells $(MINI))

# Twenty random SIGKILLs of each command, and what is there in the end beside an undisturbed run: half an hour on two cores.
kills: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/kills.py $(if $(ONLY),--only $(ONLY)) --kills $(or $(N),20)

# False claims, coverage and power by design, in worlds whose truth is known: the table of book/protocol.md.
statistics: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/worlds.py --runs 100 --write

# Stated error, unknown cells and other donors on labelled sets, those of SETS too: the tables of book/annotation.md.
annotation: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/annotation.py $(SETS) --write

# Names, values, genes and cells that a kept model was not made for: kang_muscat.h5ad and pbmc3k_seurat.h5ad in LABELLED;
# ONLY=frozen_probe replaces the rows of that strategy.
situations: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/situations.py $(LABELLED) $(ONLY) --write

# The numbers of book/decisions/0010-tuning-settings.md; a quarter of an hour on one core, and what is in the file is not done again.
tuning: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/tuning_settings.py $(if $(KANG),--kang $(KANG)) --jobs $(or $(JOBS),1)

# The numbers of book/decisions/0012-dropout-of-adapters.md, on JOBS cores or a GPU; goes on where it was stopped.
dropout: $(VENV)/installed-test
	$(BIN)/python tests/benchmarks/dropout.py $(FIELD) $(if $(KANG),--kang $(KANG)) --jobs $(or $(JOBS),1) --device $(or $(DEVICE),cpu)

# The numbers of mini's model card, from data that is not shipped: see the card for its sources.
mini-report: $(VENV)/installed-test
	for s in 1 2; do $(BIN)/frostline pretrain $(CORPUS) -o artifacts/mini/seed$$s --seed $$s || exit 1; done
	$(BIN)/python tests/benchmarks/mini_report.py --checkpoint mini artifacts/mini/seed1 artifacts/mini/seed2 \
	  --labelled $(LABELLED) --corpus $(CORPUS) --card

screenshots: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/screenshots.py

colab: $(VENV)/installed
	$(BIN)/python book/colab_cell.py

house: $(VENV)/installed
	$(BIN)/python book/draw_house.py

mutants: $(VENV)/installed-test
	$(BIN)/python tests/mutants.py $(if $(N),--number $(N)) $(if $(SEED),--seed $(SEED)) $(if $(ROOMS),--rooms $(ROOMS))

clean:
	rm -rf $(VENV) build book/published dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

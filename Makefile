# `make demo`, `make test` and `make lint` first run `make setup` if it is needed.
# PYTHON=python3.12 make setup selects an interpreter; VENV=... another folder for the environment.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.rtmdet-ready

.PHONY: setup demo test test-all browser coverage lint bench bench-gpu gpu-wheels docs

setup: $(READY)
ifneq ($(origin PYTHON),file)
	@.ci/check-python "$(PYTHON)" "$(PY)"
endif

# One pip call for all packages, because a second call could change versions that the first one chose. setuptools and
# wheel are installed first, because an isolated build environment would download them again.
$(READY): pyproject.toml setup.py constraints.txt mmdeploy-requirements.txt mmyolo-requirements.txt Makefile
	@.ci/check-python "$(PYTHON)"
	@test -x $(PY) || "$(PYTHON)" -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt "setuptools<81" wheel
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation \
		"setuptools<81" -e ".[lite,demo,test,lint,deploy,backends,mmdeploy,video,results,track]"
	$(PY) -m pip install -q --disable-pip-version-check --no-deps -r mmdeploy-requirements.txt -r mmyolo-requirements.txt
	@touch $@

demo: $(READY)
	$(PY) projects/demo/run.py

# Two processes with one thread each, because torch's thread pools would compete for the cores.
test: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal

# Includes the slow tests: kills at every step of a save, every size in every export format, interrupted trainings.
test-all: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal -m "slow or not slow"

# The suite again, with the lines and branches of each package that no test reaches; takes about twice as long.
coverage: $(READY)
	$(PY) -m coverage erase
	OMP_NUM_THREADS=1 $(PY) -m coverage run -m pytest -n 2 --dist worksteal -q
	$(PY) -m coverage combine -q
	$(PY) -m coverage report

# Install what the page of projects/browser loads, for its test; needs npm, which is part of Node.js.
browser: projects/browser/node_modules

projects/browser/node_modules: projects/browser/package-lock.json
	npm ci --prefix projects/browser --ignore-scripts --no-audit --no-fund
	@touch $@

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright --pythonpath $(PY)

# Not included: modules of the others, scripts that train for hours, need Ray or a trained
# checkpoint, and those for GPUs. The chart is drawn last.
NOT_TIMED := harness results random_model mmdet_prediction automatic_numbers demo_seeds data_to_device nms plot_speed \
	predict_at_scale ins_trained ins_deployed
BENCHMARKS := $(filter-out $(NOT_TIMED:%=benchmarks/%.py) benchmarks/gpu%,$(sort $(wildcard benchmarks/*.py)))

bench: $(READY)
	@status=0; for script in $(BENCHMARKS) benchmarks/plot_speed.py; do echo "$$script"; $(PY) $$script || status=1; done; exit $$status

# Measure what a GPU changes, in ten minutes at most. WHEELS=FOLDER is for a machine with nothing but PyTorch, without
# internet: its PYTHON is used, and the wheels of `make gpu-wheels` are put in a folder of their own.
GPU_SITE := .gpu-site

$(GPU_SITE): $(wildcard $(WHEELS)/*.whl)
	@test -n "$^" || { echo "WHEELS must be a folder with wheels, got '$(WHEELS)'; make gpu-wheels WHEELS=... fills one" >&2; exit 1; }
	rm -rf $@
	@"$(PYTHON)" -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --no-cache-dir --target $@ $^ || { rm -rf $@; exit 1; }

bench-gpu: $(if $(WHEELS),$(GPU_SITE),$(READY))
	PYTHONPATH=$(CURDIR)$(if $(WHEELS),:$(CURDIR)/$(GPU_SITE)) $(if $(WHEELS),"$(PYTHON)",$(PY)) benchmarks/gpu.py $(GPU_OPTIONS)

# Download the wheels for a machine with Python GPU_PYTHON; GPU_HAS names the packages, next to PyTorch, that it has.
GPU_PYTHON ?= 3.12

gpu-wheels: $(READY)
	@test -n "$(WHEELS)" || { echo "WHEELS must be the folder to write to, got none" >&2; exit 1; }
	$(PY) benchmarks/gpu_wheels.py $(WHEELS) --python $(GPU_PYTHON) --has $(GPU_HAS)

# Build the documentation in site/, in a separate environment. The sources are read without importing them, so neither
# PyTorch nor OpenMMLab is needed. Any warning fails the build: a broken link, a name that doesn't exist.
DOCS_VENV ?= .venv-docs
DOCS_READY := $(DOCS_VENV)/.rtmdet-docs-ready

$(DOCS_READY): pyproject.toml
	@.ci/check-python "$(PYTHON)"
	@test -x $(DOCS_VENV)/bin/python || "$(PYTHON)" -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install -q --disable-pip-version-check -e ".[docs]"
	@touch $@

docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

.PHONY: wheel smoke

# Build the wheel in dist/.
wheel:
	@.ci/check-python "$(PYTHON)"
	"$(PYTHON)" tests/wheels.py dist

# Install the wheel with one extra (lite, runtime, deploy) in a fresh environment and try it: make smoke EXTRA=lite.
# full (compiles mmcv) and onedl (the forks) run the tests that compare with mmdet as well.
smoke:
	@.ci/check-python "$(PYTHON)"
	@"$(PYTHON)" tests/smoke/run.py "$(EXTRA)"

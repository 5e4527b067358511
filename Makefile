# `make demo`, `make test` and `make lint` first run `make setup` if it is needed.
# PYTHON=python3.12 make setup selects an interpreter; VENV=... another folder for the environment.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.rtmdet-ready

.PHONY: setup demo test test-all coverage lint bench docs

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
		"setuptools<81" -e ".[lite,demo,test,lint,deploy,backends,mmdeploy]"
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

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright --pythonpath $(PY)

# demo_seeds.py isn't included, because it trains for an hour. The chart is drawn last, from the new figures.
bench: $(READY)
	@status=0; for script in $(filter-out %/harness.py %/mmdet_prediction.py %/demo_seeds.py %/plot_speed.py,$(sort $(wildcard benchmarks/*.py))) benchmarks/plot_speed.py; do echo "$$script"; $(PY) $$script || status=1; done; exit $$status

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

# Two environments, so that the service is always run without torch: .venv serves, .venv-dev has all.
PYTHON ?= python3
EXTRA ?= cpu
ARGS ?=
SERVING = .venv/installed-$(EXTRA)

.PHONY: help serve test check format bench bench-train bench-serve clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  /p' Makefile

serve: $(SERVING) ## install the service (EXTRA=gpu for CUDA) and start it on port 8080
	@.venv/bin/parallax serve $(ARGS)

test: check ## lint, types, import contracts and all tests
	.venv-dev/bin/python -m pytest $(ARGS)

check: .venv-dev/installed ## lint, types and import contracts
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy
	.venv-dev/bin/lint-imports

format: .venv-dev/installed ## let ruff mend layout and imports
	.venv-dev/bin/ruff check --fix .
	.venv-dev/bin/ruff format .

bench: bench-train bench-serve ## images/s of training, requests/s of the service

bench-train: .venv-dev/installed
	.venv-dev/bin/python tests/bench/bench_train.py

bench-serve: .venv-dev/installed
	.venv-dev/bin/python tests/bench/bench_serve.py

# The stamp names the extra: `make serve EXTRA=gpu` after a CPU install makes the environment anew, as
# onnxruntime and onnxruntime-gpu hold the same module and cannot stand side by side.
$(SERVING): EXTRAS = $(EXTRA)
.venv-dev/installed: EXTRAS = gpu,train,dev
$(SERVING) .venv-dev/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Parallax needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	@touch $@

clean: ## remove environments and caches
	rm -rf .venv .venv-dev .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info

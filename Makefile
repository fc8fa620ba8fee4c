# Two environments, so that the service is always run without torch: .venv serves, .venv-dev has all.
PYTHON ?= python3
EXTRA ?= cpu
ARGS ?=
SLOT ?= 0
RUN ?= runs/cifar10-jpeg-fast
NAME ?= cifar10-jpeg
MODELS ?= models
COUNT ?=
EXPERIMENT ?= training/configs/mnist-fast.toml
TAG ?= mnist8
EVALUATE ?= --attack linf:0.3:0.01:40 --attack linf:0.3:0.01:10
REPORT ?= runs/reproduction.md
SERVING = .venv/installed-$(EXTRA)

.PHONY: help serve test test-docker check format lock train-cifar10 reproduce bench bench-train bench-serve clean

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1  /p' Makefile

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

# One command a slot of GPU time: SLOT=540 stops after so many seconds and leaves a checkpoint that the
# same command goes on from, on another machine too if RUN is carried there. COUNT=... for fewer images.
# The weights are rounded to half precision before anything is measured: what is measured is shipped.
train-cifar10: .venv-dev/installed ## train CIFAR-10 (JPEG) or go on (SLOT=seconds), then round, evaluate, stress and export
	timeout --signal=INT $(SLOT) .venv-dev/bin/parallax-train train training/configs/cifar10-jpeg-fast.toml --run $(RUN) $(ARGS)
	.venv-dev/bin/parallax-train round $(RUN)
	.venv-dev/bin/parallax-train evaluate $(RUN)/float16 --data-name "CIFAR-10 (JPEG)" $(if $(COUNT),--count $(COUNT)) \
		--attack linf:8/255:2/255:20 --attack l2:0.5:0.1:20 --attack l2_sign:0.3:0.1:20
	-.venv-dev/bin/parallax-train stress $(RUN)/float16 --data-name "CIFAR-10 (JPEG)" --eps 2/255 --eps 4/255 --eps 8/255 $(if $(COUNT),--count $(COUNT))
	.venv-dev/bin/parallax-train export $(RUN)/float16 --name $(NAME) --models $(MODELS)

# The runs behind docs/reproduction.md: methods, then the terms of Eq. 11 one by one. Each goes on where it
# was stopped. On CIFAR-10 (JPEG): EXPERIMENT=training/configs/cifar10-jpeg-fast.toml TAG=cifar10
# EVALUATE='--data-name "CIFAR-10 (JPEG)" --attack linf:8/255:2/255:20 --attack l2_sign:0.3:0.1:20'.
reproduce: .venv-dev/installed ## train, evaluate and report the paper's methods (EXPERIMENT=, TAG=, ARGS=overrides)
	@set -e; made=; for run in "st method=st" "at method=at" "aat method=aat" "aatpp method=aat++" \
		"lst loss.asymmetric=0 loss.robust=0 loss.nonrobust=0" "lar loss.nonrobust=0"; do \
		set -- $$run; name=$(TAG)-$$1; shift; \
		.venv-dev/bin/parallax-train train $(EXPERIMENT) name=$$name "$$@" $(ARGS); \
		.venv-dev/bin/parallax-train evaluate runs/$$name $(EVALUATE) $(if $(COUNT),--count $(COUNT)); \
		made="$$made runs/$$name"; \
	done; .venv-dev/bin/parallax-train report --paper $$made --out $(REPORT)

# What the images hold, by hash. The interpreter and the platform are the base image's.
LOCK = .venv-dev/bin/uv pip compile --quiet --upgrade --generate-hashes --no-header \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28

lock: .venv-dev/installed ## renew docker/requirements-*.txt from pyproject.toml
	$(LOCK) --output-file docker/requirements-build.txt docker/requirements-build.in
	$(LOCK) --output-file docker/requirements-cpu.txt --extra cpu pyproject.toml
	$(LOCK) --output-file docker/requirements-gpu.txt --extra gpu pyproject.toml docker/requirements-gpu.in
	$(LOCK) --output-file docker/requirements-training.txt --extra cpu --extra train pyproject.toml docker/requirements-training.in

test-docker: .venv-dev/installed ## build, run and question the images (root, Docker; IMAGES="cpu gpu training")
	.venv-dev/bin/python -m pytest docker/test $(ARGS)

bench: bench-train bench-serve ## images/s of training, requests/s of the service beside others

bench-train: .venv-dev/installed
	.venv-dev/bin/python tests/bench/bench_train.py

# Peers are installed into .venv-peers on first use. ARGS="--out docs" makes docs/performance.md anew.
bench-serve: .venv-dev/installed $(SERVING)
	.venv-dev/bin/python -m tests.bench.bench_serve $(ARGS)

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
	rm -rf .venv .venv-dev .venv-peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info

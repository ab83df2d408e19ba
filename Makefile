# Everything runs in .venv, which the first target makes. Works in any folder, also one with a space in its path.
#   make start DATA=file.csv TARGET=column     a file of your own instead of the sample

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Passed on as they are, whatever quotes or spaces they hold.
export DATA TARGET

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
# Entry points break on a space in the path of their interpreter, so every tool is called as a module.
RUN := .venv/bin/python
# Two workers: most tests wait for processes that they start.
PYTEST ?= -n 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# $(call install,FILES): a line a package is too much to read, silence for a minute too little.
install = set -o pipefail; $(RUN) -m pip install --disable-pip-version-check --progress-bar off $(1) 2>&1 | awk ' \
	BEGIN { "test -t 2 && echo 1" | getline live } \
	/^(Collecting|Processing) / { n++; sub(/.*\//, "", $$2); sub(/(==|-[0-9]).*/, "", $$2); \
		if (live) printf "\r\033[K  %d packages: %s", n, $$2 > "/dev/stderr" } \
	/^Installing collected/ { if (live) printf "\r\033[K" > "/dev/stderr"; print "  installing " n " packages, half a minute" } \
	/^(ERROR|error|  *ERROR)/ { print > "/dev/stderr" }'

.PHONY: help start test lint soak benchmark containers requirements clean
help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

start: .venv/installed ## server, scheduler and MLflow UI, on the sample or on DATA=… TARGET=…
ifdef DATA
	@test -n "$$TARGET" || { echo 'make start DATA=… needs TARGET=… too: the column to predict' >&2; exit 2; }
	@$(RUN) main.py init --data "$$DATA" --target "$$TARGET"
else
	@$(RUN) generate_sample_data.py --if-needed
endif
	@$(RUN) main.py start

test: .venv/installed-dev lint ## linters, types, floors of the architecture, and the whole suite
	@$(RUN) -m pytest $(PYTEST)

lint: .venv/installed-dev ## ruff, mypy and import-linter
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy .
	@$(RUN) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

soak: .venv/installed-dev ## the long versions of what the suite runs scaled down: hours of load, ten million rows
	@MLOPS_SOAK=1 $(RUN) -m pytest -m soak --timeout 0 $(PYTEST)

benchmark: .venv/installed-dev ## times and memory against bare scikit-learn
	@$(RUN) benchmarks/training.py

containers: ## the whole system in Docker: secrets if there are none, images, services, and a look at it from outside
	@test -e docker/.env || '$(PYTHON)' docker/init_env.py
	@docker compose --file docker/docker-compose.yml up --detach --build
	@'$(PYTHON)' docker/smoke_check.py

requirements: .venv/installed-dev ## pin what the requirements*.in name again; needs uv, and keeps what may stay
	@pin() { uv pip compile "$$1.in" "$${@:2}" --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command 'make requirements' --output-file "$$1.txt"; }; \
	pin requirements && pin requirements-serving --constraint requirements.txt && pin requirements-dev

clean: ## remove the environment and the caches; data, models and logs stay
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: requirements.txt
	@test -n '$(PYTHON)' || { echo 'no Python 3.11 or newer with venv was found; name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'making the environment in .venv (a minute or two, once)'
	@test -x $(RUN) && $(RUN) -m pip --version >/dev/null 2>&1 || '$(PYTHON)' -m venv --clear .venv
	@$(call install,-r requirements.txt)
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	@echo 'adding what the tests need'
	@$(call install,-r requirements.txt -r requirements-dev.txt)
	@touch $@

# One word per chore. `make serve` and `make test` do their own set-up.
VENV ?= .venv
BIN = $(VENV)/bin
TRAINING_VENV ?= .venv-training
export VENV TRAINING_VENV

.DEFAULT_GOAL := help
.PHONY: help setup serve chat test schemas kills check format sanitize bench wheel clean \
  setup-training train-vision train-vision-smoke

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv, build the native extension, fetch the default model
	@tools/setup.sh

serve: setup ## serve the Messages API on 127.0.0.1:8080
	@exec $(BIN)/hokku serve $(ARGS)

test: setup ## every test; the tests themselves need no network
	@PYTHON=$(BIN)/python tools/setup_clients.sh
	$(BIN)/pytest $(ARGS)

schemas: setup ## a thousand forced calls and documents of the default model, each validated
	HOKKU_TEST_REPLIES=1000 $(BIN)/pytest tests/house/test_forced.py $(ARGS)

kills: setup ## kill -9 at fifty moments of a batch of two thousand, on both databases
	HOKKU_TEST_KILLS=50 HOKKU_TEST_REQUESTS=2000 $(BIN)/pytest -s tests/kills $(ARGS)

check: setup ## style, types, floors, and C++ warnings as errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	tools/check_native.sh

format: setup ## put the Python into the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sanitize: setup ## the kernels under the address and undefined-behaviour sanitizers
	tools/sanitize.sh

setup-training: setup ## PyTorch for training/, in an environment of its own
	@tools/setup_training.sh

train-vision: setup-training ## train the default model's eyes, or go on with it
	$(TRAINING_VENV)/bin/python -m training.train --config training/eyes.toml --out build/eyes

train-vision-smoke: setup-training ## the whole way of training the eyes, in two minutes
	$(TRAINING_VENV)/bin/python -m pytest -q -W ignore tests/training/smoke.py $(ARGS)

bench: setup ## Hokku beside other engines, on this machine
	$(BIN)/python -m benchmarks $(ARGS)

wheel: setup ## a wheel in dist/
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

clean: ## forget what was built (the model cache stays)
	rm -rf build dist $(VENV)/.setup-done $(VENV)/.model-ready

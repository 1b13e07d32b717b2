# Each target sets up all that it needs: Python and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo mnist test check tests generate bench verify clean

demo: $(VENV)/lab
	$(BIN)/adamite demo

# The article's network on Keras's three backends: some ten minutes. Each is a process of its own, and the table grows.
mnist: $(VENV)/test
	mkdir -p adamite-mnist
	rm -f adamite-mnist/results.json
	for backend in tensorflow jax torch; do \
		KERAS_BACKEND=$$backend $(BIN)/python examples/mnist_keras.py --optimizers sgd keras-adam adam \
			--results adamite-mnist/results.json --out adamite-mnist/$$backend.png || exit 1; \
	done

# Side by side: types take one core for a minute.
test: $(VENV)/test
	$(MAKE) --jobs=2 check tests

# One thread of torch's for each worker: they spin, and would keep each other from the cores. A module is one worker's, in
# the order of their names: those that take longest (JAX, Keras, the lab) are begun first.
tests: $(VENV)/test
	OMP_NUM_THREADS=1 PYTHONUTF8=1 $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder

check: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# From the catalogue of optimizers: the signatures that editors and type checkers read, and the table in the docs.
generate: $(VENV)/test
	$(BIN)/python scripts/generate.py

bench: $(VENV)/lab
	$(BIN)/adamite bench

verify: $(VENV)/lab
	$(BIN)/adamite verify

# A virtual environment with the extra of the target's name.
$(VENV)/lab $(VENV)/test: $(VENV)/%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) adamite-demo adamite-mnist

# make demo | test | test-models | test-gpu | test-slow | test-vllm | models | docs | test-oldest | test-newest | test-wheel | check | proof | real-base | real-proof | fix | hooks | clean.
# Each creates .venv first; only Python 3.11+ is required.
BIN := .venv/bin
.PHONY: demo test test-gpu test-models test-slow test-vllm models docs test-oldest test-newest test-wheel check proof real-base real-proof fix hooks venv clean
.DEFAULT_GOAL := demo

venv:
	@.ci/venv

demo: venv  ## the whole workflow on the built-in pool and model, offline
	@$(BIN)/thresher demo

check: venv  ## style, types, import contracts
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo 'Some files are not formatted: run `make fix`.' >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/mypy -p benchmarks
	@output=$$($(BIN)/lint-imports --no-logo) || { printf '%s\n' "$$output" >&2; exit 1; }; printf '%s\n' "$$output" | tail -n 1

# One OpenMP thread: on a busy machine, spinning threads make torch many times slower.
test: export OMP_NUM_THREADS := 1
# Workers and the processes that tests start share compiled modules, whatever the shell's setting.
test: export PYTHONDONTWRITEBYTECODE :=
test: check  ## required for every change: `check`, then the tests; pytest's summary comes last
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-models: export OMP_NUM_THREADS := 1
test-models: venv  ## tests of model code on every family of models, not only the most used
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m 'not slow and not gpu and not browser' \
		tests/backends/hf tests/signals/test_reading.py tests/training/test_loss_targets.py

models: export OMP_NUM_THREADS := 1
models: venv  ## every family of tiny models against the slow reference: prints the worst differences, writes docs/models.md
	@$(BIN)/python -m tools.models_page

test-slow: export OMP_NUM_THREADS := 1
test-slow: venv  ## slow tests, one after the other
	@$(BIN)/python -m pytest -m slow

test-gpu: venv  ## tests that need a CUDA device, skipped without one; benchmarks: python -m benchmarks.gpu
	@$(BIN)/python -m pytest -m gpu

test-vllm: venv  ## the slow tests of vLLM itself, on the CPU, installed into .venv-vllm (3 GB)
	@.ci/vllm

test-oldest:  ## tests of code that depends on other packages, with the oldest versions in pyproject.toml (Python 3.11), in .venv-oldest
	@.ci/bounds oldest-core
	@.ci/bounds oldest

test-newest:  ## the same with the newest versions within the bounds, in .venv-newest
	@.ci/bounds newest

test-wheel:  ## the wheel without extras and constraints, in a temporary environment
	@.ci/wheel

proof: export OMP_NUM_THREADS := 1
proof: venv  ## every method against random on the built-in world: docs/results/proof.md and winnow.md; takes hours, resumes after an interruption
	@$(BIN)/python -m benchmarks.proof $(ARGS)

# the cache folder of both: ~/.cache/thresher/real; ARGS="--out DIR" chooses another one
real-base: export OMP_NUM_THREADS := 1
real-base: venv  ## trains the base model of real-proof, once: about 2 CPU-hours without a GPU, resumes after an interruption
	@$(BIN)/python -m pip install --quiet -c constraints.txt -r benchmarks/real/requirements.txt
	@$(BIN)/python -m benchmarks.real.base $(ARGS)

real-proof: export OMP_NUM_THREADS := 1
real-proof: venv  ## methods against random on photographs, with that base; takes many hours, resumes after an interruption
	@$(BIN)/python -m benchmarks.real.proof $(ARGS)

docs: venv  ## the diagrams in docs/ that are generated from the code
	@$(BIN)/python tools/draw_layers.py
	@$(BIN)/python tools/bytes_per_row.py

fix: venv  ## auto-fix with ruff
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

hooks: venv  ## install git hooks that run the checks at every commit
	@$(BIN)/pre-commit install

clean:
	rm -rf .venv .venv-oldest .venv-newest .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

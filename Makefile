# make demo | test | test-slow | docs | test-oldest | test-newest | test-wheel | check | proof | fix | hooks | clean.  Each makes .venv first, on a machine with Python 3.11+ and nothing else.
BIN := .venv/bin
.PHONY: demo test test-slow docs test-oldest test-newest test-wheel check proof fix hooks venv clean
.DEFAULT_GOAL := demo

venv:
	@.ci/venv

demo: venv  ## the whole job on the built-in pool and model, offline
	@$(BIN)/thresher demo

check: venv  ## style, types, who may import whom
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo 'Some files are not formatted: run `make fix`.' >&2; exit 1; }
	@$(BIN)/mypy
	@said=$$($(BIN)/lint-imports --no-logo) || { printf '%s\n' "$$said" >&2; exit 1; }; printf '%s\n' "$$said" | tail -n 1

# One OpenMP thread: on a busy machine more of them spin and make torch many times slower.
test: export OMP_NUM_THREADS := 1
# Workers and the processes that tests start share the compiled modules, whatever the shell says.
test: export PYTHONDONTWRITEBYTECODE :=
test: check  ## what a change must pass: `check`, then the tests; pytest's closing line comes last
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-slow: export OMP_NUM_THREADS := 1
test-slow: venv  ## tests that take long, one after the other
	@$(BIN)/python -m pytest -m slow

test-oldest:  ## what depends on other packages, with the oldest versions that pyproject.toml allows (Python 3.11), in .venv-oldest
	@.ci/bounds oldest-core
	@.ci/bounds oldest

test-newest:  ## the same with the newest that there are within the bounds, in .venv-newest
	@.ci/bounds newest

test-wheel:  ## the wheel without extras and constraints, in an environment that is made and thrown away
	@.ci/wheel

proof: export OMP_NUM_THREADS := 1
proof: venv  ## every method against random on the built-in world: docs/results/proof.md; hours at first, goes on when stopped
	@$(BIN)/python -m benchmarks.proof

docs: venv  ## the pictures in docs/ that are drawn from the code
	@$(BIN)/python tools/draw_layers.py

fix: venv  ## let ruff mend what it can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

hooks: venv  ## run the checks at every git commit
	@$(BIN)/pre-commit install

clean:
	rm -rf .venv .venv-oldest .venv-newest .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

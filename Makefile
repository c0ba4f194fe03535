# `make demo` and `make test` set up all they need, from Python 3.11 and a package index, in .venv.

PYTHON := $(shell command -v python3.11 >/dev/null && python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
VERSION_CHECK := import sys; sys.version_info >= (3, 11) or sys.exit("maskgan_jax needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0])

.PHONY: demo test lint weights clean

demo: weights
	.venv/bin/maskgan demo --out=demo

test: lint weights
	.venv/bin/pytest -n 2

lint: .venv/installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check

clean:
	rm -rf .venv demo build dist *.egg-info .pytest_cache .ruff_cache

# A stamp is written last, and `--clear` begins with an empty folder: an installation that was interrupted is begun anew.
# `promise`, which tensorflow-datasets needs, comes as source only: without isolation it is built with the pinned setuptools.
.venv/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c '$(VERSION_CHECK)'
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --constraint=constraints.txt pip setuptools
	.venv/bin/python -m pip install --quiet --constraint=constraints.txt --no-build-isolation --editable '.[test]'
	touch $@

# Fetches only what is missing from the cache, which outlives .venv.
weights: .venv/installed
	.venv/bin/maskgan weights

# `make demo` and `make test` set up all they need, from Python 3.11 and a package index, in .venv; PYTHON=python3.12 takes another
# Python, up to 3.14. `make test-newest` does the same in .venv-newest, with the newest releases of all libraries and, if there are
# several, with the newest Python.

PYTHON := $(shell command -v python3.11 >/dev/null && python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ifeq ($(VERSION),)
$(error there is no $(PYTHON) here; give another, such as PYTHON=python3.11)
endif
CONSTRAINTS := $(if $(filter 3.11,$(VERSION)),constraints.txt,constraints-py312.txt)
# One for each Python: with another one, .venv is made anew.
INSTALLED := .venv/installed-$(VERSION)
VERSION_CHECK := import sys; sys.version_info >= (3, 11) or sys.exit("maskgan_jax needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0])

# Some releases are only for newer Pythons.
PYTHONS := python3.14 python3.13 python3.12 $(shell ls -rd $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python3 2>/dev/null) $(PYTHON)
NEWEST_PYTHON := $(shell for python in $(PYTHONS); do if $$python -c '' 2>/dev/null; then echo $$python; break; fi; done)
# What calls libraries most: a build, training and resuming, photos, videos, and files in the formats of other programs.
NEWEST_TESTS := tests/test_end_to_end.py tests/training/test_checkpoints.py tests/export tests/unmasking/test_photos.py \
	tests/unmasking/test_video.py tests/unmasking/test_video_files.py

.PHONY: demo test test-newest lint weights clean

demo: weights
	.venv/bin/maskgan demo --out=demo

# What the tests of web pages serve; they are skipped without it.
test: lint weights
	-@if command -v npm >/dev/null; then .venv/bin/maskgan javascript; fi
	.venv/bin/pytest -n 2 --dist=worksteal

# Not editable, so that files missing from the package show; PYTHONSAFEPATH keeps the checkout itself from being imported.
test-newest: weights
	$(NEWEST_PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade pip setuptools
	.venv-newest/bin/python -m pip install --quiet --no-build-isolation '.[test]'
	PYTHONSAFEPATH=1 .venv-newest/bin/pytest -n 2 $(NEWEST_TESTS)

lint: $(INSTALLED)
	.venv/bin/ruff check
	.venv/bin/ruff format --check

clean:
	rm -rf .venv .venv-newest demo build dist *.egg-info .pytest_cache .ruff_cache

# A stamp is written last, and `--clear` begins with an empty folder: an installation that was interrupted is begun anew.
# `promise`, which tensorflow-datasets needs, comes as source only: without isolation it is built with the pinned setuptools.
$(INSTALLED): setup.cfg pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c '$(VERSION_CHECK)'
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --constraint=$(CONSTRAINTS) pip setuptools
	.venv/bin/python -m pip install --quiet --constraint=$(CONSTRAINTS) --no-build-isolation --editable '.[test,test_browser,gcs,s3,test_buckets]'
	touch $@

# Fetches only what is missing from the cache, which outlives .venv.
weights: $(INSTALLED)
	.venv/bin/maskgan weights

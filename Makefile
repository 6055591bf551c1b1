# make demo   the main job on the embedded sample archive, into demo/
# make test   the tests without kills and clusters of their own (about 6 minutes on 2 cores)
# make test-system   all other tests: kills, S3, a cluster, a browser, damaged videos (about 10 minutes)
# make check  formatting, lint, types
# make docs   the generated part of docs/development/architecture.md
# make fuzz   10,000 damaged videos through the decoder, with counts
# make chaos  50 kills of an extraction's driver, workers, decoders and nodes, with counts (about 30 minutes)
# make lock   requirements.lock anew from requirements.txt (needs uv on the path)
# Each sets up .venv (about 2 minutes, 7.1 GB) when it is missing or requirements.txt has changed.

PYTHON ?= python3
VENV := .venv/bin

.PHONY: demo test test-system check docs fuzz chaos lock

demo: .venv/installed
	$(VENV)/python examples/demo.py

# Two processes, of which one runs all tests that share a Ray.
test: .venv/installed
	$(VENV)/python -m pytest -m "unit or ray" -n 2 --dist loadgroup

test-system: .venv/installed
	$(VENV)/python -m pytest -m system -n 2 --dist loadgroup

docs: .venv/installed
	$(VENV)/python docs/generate.py

fuzz: .venv/installed
	VIDCLF_FUZZ_MUTATIONS=10000 $(VENV)/python -m pytest -s tests/system/test_fuzz.py

chaos: .venv/installed
	VIDCLF_CHAOS_ROUNDS=10 $(VENV)/python -m pytest -s tests/system/test_chaos.py

check: .venv/installed
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy

lock:
	sed -n '1,3p' requirements.lock > requirements.lock.new
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements.txt >> requirements.lock.new
	mv requirements.lock.new requirements.lock

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"vidclf needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# make demo   the main job on the embedded sample archive, into demo/
# make test   the fast tests, and all jobs one after the other with a kill (about 4 minutes on 2 cores)
# make test-system   all other tests: whole jobs, kills, S3, a cluster, a browser, damaged videos (about 12 minutes)
# make check  formatting, lint, types
# make docs   the generated part of docs/development/architecture.md
# make fuzz   10,000 damaged videos through the decoder, with counts
# make chaos  50 kills of an extraction's driver, workers, decoders and nodes, with counts (about 30 minutes)
# make lock   requirements.lock and constraints.txt anew from requirements.txt (needs uv and the registry)
# make check-pins   whether every package has a wheel for every supported Python (needs uv and the registry)
# Each sets up .venv (7.6 GB) when it is missing, incomplete or older than requirements.txt. tools/set_up.py does it with
# the first of these interpreters that fits; `make PYTHON=python3.12 …` names another.

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
VERSIONS := 3.11 3.12 3.13 3.14
VENV := .venv/bin

.PHONY: demo test test-system check docs fuzz chaos lock check-pins

demo: .venv/installed
	$(VENV)/python examples/demo.py

# Two processes, of which one begins with the tests that share a Ray.
test: .venv/installed
	$(VENV)/python -m pytest -m "unit or ray" -n 2

test-system: .venv/installed
	$(VENV)/python -m pytest -m system -n 2

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

# Versions in the lock that still fit are kept. `check-pins` follows, because a version may lack a wheel for one Python.
lock:
	cp requirements.lock requirements.lock.new
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --output-file requirements.lock.new requirements.txt
	(sed -n '1,3p' requirements.lock; cat requirements.lock.new) > requirements.lock.newer
	mv requirements.lock.newer requirements.lock
	rm requirements.lock.new
	(sed -n '1,3p' constraints.txt; grep -v '^ \|^#' requirements.lock | sed 's/ *\\$$//') > constraints.txt.new
	mv constraints.txt.new constraints.txt
	$(MAKE) check-pins

check-pins:
	for version in $(VERSIONS); do \
	    uv pip compile --quiet --python-version $$version --python-platform x86_64-manylinux_2_28 --only-binary :all: \
	        --no-header --no-annotate --output-file /dev/null requirements.lock || exit 1; \
	    echo "Python $$version: every package of requirements.lock has a wheel"; \
	done

.venv/installed: requirements.txt
	@for python in $(PYTHON); do \
	    if reason=$$("$$python" tools/set_up.py --check 2> /dev/null); then exec "$$python" tools/set_up.py; fi; \
	    reasons="$$reasons$$python $${reason:-does not run}; "; \
	done; \
	echo "vidclf needs Python 3.11 to 3.14: $${reasons}install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2

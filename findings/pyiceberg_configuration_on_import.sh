#!/usr/bin/env bash
# pyiceberg 0.12.0: the variables PYICEBERG_CATALOG__… count only if they are set before pyiceberg.catalog is imported.
#
# Expected: `load_catalog("prod")` reads the environment when it is called, so that a notebook that sets the variables
# before the call finds its catalog, whatever it imported before.
# Seen: variables that are set after the import have no effect, and the call fails because the URI is missing. The same
# call finds the catalog in a process that sets them first.
# What follows for vidclf: set them before the process starts, as jobs do. A test that sets them reads the configuration
# again.
#
# Usage: findings/pyiceberg_configuration_on_import.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    "pyiceberg[sql-sqlite]==0.12.0" pyarrow==26.0.1
cd "$work"
for order in before after; do
    "$work/venv/bin/python" - "$order" <<'PY'
import os
import sys

order = sys.argv[1]
if order == "after":
    import pyiceberg.catalog
os.environ["PYICEBERG_CATALOG__PROD__TYPE"] = "sql"
os.environ["PYICEBERG_CATALOG__PROD__URI"] = "sqlite:///catalog.db"
os.environ["PYICEBERG_CATALOG__PROD__WAREHOUSE"] = f"file://{os.getcwd()}"
from pyiceberg.catalog import load_catalog

try:
    seen = type(load_catalog("prod")).__name__
except ValueError as error:
    seen = str(error).split(",")[0]
print(f"variables set {order} the import: {seen}")
expected = {"before": "SqlCatalog", "after": "URI missing"}[order]
sys.exit(0 if seen == expected else "the behaviour has changed")
PY
done
echo "as described"

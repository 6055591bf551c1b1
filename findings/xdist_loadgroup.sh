#!/usr/bin/env bash
# pytest-xdist 3.8.0 with pytest 9.2.0: `--dist loadgroup` has no effect, without an error or a warning.
#
# Expected: all tests with the mark xdist_group("one") run in one process, as the documentation of loadgroup says, and
# their ids end in "@one".
# Seen: the tests of the group run in both processes, and their ids have no ending. pytest-xdist writes the ending into an
# attribute of the item that pytest 9.2 no longer reads for the id. `--dist loadfile` works.
# What follows for vidclf: tests/conftest.py shares the tests out by a scheduler of its own.
#
# Usage: findings/xdist_loadgroup.sh   (installs the packages below in a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pytest==9.2.0 pytest-xdist==3.8.0
cd "$work"
cat > test_group.py <<'PY'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_of_the_group(number):
    time.sleep(0.5)
    with open(f"{os.environ['PYTEST_XDIST_WORKER']}.ran", "a") as file:
        file.write(os.environ["PYTEST_CURRENT_TEST"] + "\n")
PY
processes() {
    rm -f ./*.ran
    "$work/venv/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist "$1" test_group.py > log
    ls ./*.ran | wc -l
}
group=$(processes loadgroup)
endings=$(cat ./*.ran | grep -c "@one" || true)
file=$(processes loadfile)
echo "processes that ran tests of the group: $group with loadgroup, $file with loadfile; ids with an ending: $endings"
[ "$group" = 2 ] && [ "$endings" = 0 ] && [ "$file" = 1 ] || { echo "the behaviour has changed"; exit 1; }
echo "as described"

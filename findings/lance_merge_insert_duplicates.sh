#!/usr/bin/env bash
# Lance 14.0.2 (package pylance): `merge_insert` on an id adds a new id twice if the source has it twice, and the same
# call then fails for ever.
#
# Expected: an upsert by `video_id` leaves one row per id, or refuses a source with duplicates. (It does refuse them for
# ids that the dataset already has: "Ambiguous merge inserts are prohibited".)
# Seen: two source rows with an id that the dataset lacks are both inserted, without a warning. When the same rows are
# merged again, which a retry does, the two source rows match existing ones and the call is refused.
# What follows for vidclf: the rows of a run have unique ids, which `audit` checks. Rows from several runs must be made
# unique before they are merged into a Lance dataset; a successful first merge does not prove that they are.
#
# Usage: findings/lance_merge_insert_duplicates.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    pylance==14.0.2 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import lance
import pyarrow as pa

lance.write_dataset(pa.table({"video_id": ["a", "b"], "label": ["cat", "dog"]}), "videos.lance")
source = pa.table({"video_id": ["c", "c"], "label": ["cat", "bird"]})


def merge():
    """Merge the source by `video_id`; return the error's first words, if any, and all ids of the dataset."""
    dataset, outcome = lance.dataset("videos.lance"), "done"
    try:
        dataset.merge_insert("video_id").when_matched_update_all().when_not_matched_insert_all().execute(source)
    except OSError as error:
        outcome = str(error).split(":")[1].strip()
    return outcome, sorted(lance.dataset("videos.lance").to_table()["video_id"].to_pylist())


seen = [merge(), merge()]
for number, result in enumerate(seen, 1):
    print("merge", number, *result)
ids = ["a", "b", "c", "c"]
is_as_seen = seen == [("done", ids), ("Ambiguous merge inserts are prohibited", ids)]
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"

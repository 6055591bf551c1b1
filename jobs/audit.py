"""Prove from the output files of extract or classify alone that every video has exactly one result.

A result is a row of output or a reject reason. The exit code is 1 if a video has none or several.

python jobs/audit.py --run features/|predictions/ [--stale]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa

from vidclf import cli
from vidclf.config import AuditConfig
from vidclf.number_words import counted
from vidclf.runs import audit as audit_module
from vidclf.runs import layout
from vidclf.runs.audit import report
from vidclf.runs.state import locations_of


def main(config: AuditConfig) -> int:
    """Check each output directory and print what differs. Returns the exit code: 1 if anything differs, otherwise 0."""
    num_differences = 0
    for run in layout.runs_in(config.run):
        audit = audit_module.audit(run)
        state, differences = audit.state, list(audit.differences)
        print(
            f"{run}: {counted(state.num_input_videos, 'video')} = {state.num_ok} ok + "
            f"{state.num_quarantined} quarantined + {state.num_pending} pending"
        )
        if config.stale:
            from vidclf.runs.content_checks import stale_videos  # imported here: it imports PyAV, which takes longer

            stale, gone = stale_videos(run)
            report(run, differences, pa.array(stale, pa.string()), "stale: changed since they were done")
            if gone:
                print(f"  {len(gone)} of the ok videos cannot be read now (for one {locations_of(run, gone[:1])[0]})")
        for difference in differences:
            print(f"  {difference}")
        num_differences += len(differences)
    print("the numbers add up" if not num_differences else f"{num_differences} difference(s)")
    return cli.EXIT_DIFFERENCES if num_differences else cli.EXIT_OK


if __name__ == "__main__":
    cli.run(AuditConfig, main)

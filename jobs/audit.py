"""Prove from a run's files alone that every video is accounted for exactly once.

python jobs/audit.py --run features/|predictions/
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vidclf import cli, ledger
from vidclf.config import AuditConfig


def main(config: AuditConfig) -> int:
    audit = ledger.audit(config.run)
    state = audit.state
    print(
        f"{config.run}: {state.num_input_videos} videos = {state.num_ok} ok + {state.num_quarantined} quarantined "
        f"+ {state.num_pending} pending"
    )
    for difference in audit.differences:
        print(f"  {difference}")
    print("the numbers add up" if not audit.differences else f"{len(audit.differences)} difference(s)")
    return cli.EXIT_DIFFERENCES if audit.differences else cli.EXIT_OK


if __name__ == "__main__":
    cli.run(AuditConfig, main)

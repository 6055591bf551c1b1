"""A directory that a model hub takes as it is: the files of an ensemble that classify videos, with its model card.

Left out is what names the videos of the archive (`splits.parquet`, `leakage.parquet`, `folds.parquet`), what only a
continued training reads, and the configuration of the job.
"""

from __future__ import annotations

from vidclf import storage
from vidclf.ensemble import model_card, split_record
from vidclf.ensemble.calibration_file import TRUST_FILE, read_trust
from vidclf.ensemble.files import load_linear, load_member
from vidclf.ensemble.info import ENSEMBLE_FILE, EnsembleInfo, read_info
from vidclf.ensemble.linear_member import LINEAR_FILE
from vidclf.runs import output_allowlist, outputs, signed_text
from vidclf.runs.output_allowlist import Kind


def export_ensemble(directory: str, location: str, *, dry_run: bool) -> str:
    """Write the files of the ensemble in `directory` into the directory `location`, and return a line about it.

    Nothing is written if they are there already. `ensemble.json` is written last, so that a killed job leaves no
    ensemble behind. Raises ConfigError if the ensemble is damaged.
    """
    info = read_info(directory)
    for index in range(len(info.members)):
        load_member(directory, info, index)
    load_linear(directory, info)
    linear = [LINEAR_FILE] if info.linear is not None else []
    names = [*(member.file for member in info.members), *linear, TRUST_FILE, ENSEMBLE_FILE]
    card = _card(directory, info)
    kind = output_allowlist.EXPORTS["hub-directory"]
    assert isinstance(kind, Kind)
    there = outputs.contents(kind, location).job_files
    stale = [name for name in there if name.startswith(("member_", LINEAR_FILE)) and name not in names]
    head = f"{location}: ensemble {info.ensemble_id} with {len(info.members)} members"
    card_there = storage.join(location, model_card.CARD_FILE)
    keeps_card = storage.exists(card_there) and not signed_text.is_unchanged(card_there)
    is_same = all(_is_copied(storage.join(directory, name), storage.join(location, name)) for name in names)
    if is_same and not stale and (keeps_card or _holds(card_there, card)):
        return f"{head}: unchanged, it is there already"
    if dry_run:
        return f"{head}: would be written"
    outputs.begin(kind, location)
    if storage.exists(storage.join(location, ENSEMBLE_FILE)):
        storage.delete_file(storage.join(location, ENSEMBLE_FILE))
    for name in stale:
        storage.delete_file(storage.join(location, name))
    if not keeps_card:
        storage.publish_bytes(card_there, card)
    for name in names:
        storage.publish_bytes(storage.join(location, name), storage.read_bytes(storage.join(directory, name)))
    note = f"; its {model_card.CARD_FILE} was edited, so it stays as it is" if keeps_card else ""
    return f"{head}: written{note}"


def _card(directory: str, info: EnsembleInfo) -> bytes:
    """The model card in the ensemble's directory, or a new one if there is none."""
    location = storage.join(directory, model_card.CARD_FILE)
    trust = read_trust(directory, info)
    if storage.exists(location):
        return storage.read_bytes(location)
    has_record = storage.exists(storage.join(directory, split_record.SPLITS_FILE))
    videos = split_record.read_record(directory).rows if has_record else None
    return signed_text.signed(model_card.card(info, trust.full, videos))


def _is_copied(source: str, copy: str) -> bool:
    """Whether two files have the same content. The sizes are compared first."""
    return (
        storage.exists(copy) and storage.size(copy) == storage.size(source) and _holds(copy, storage.read_bytes(source))
    )


def _holds(location: str, content: bytes) -> bool:
    """Whether there is a file with this content at a location."""
    return storage.exists(location) and storage.read_bytes(location) == content

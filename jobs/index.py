"""List the videos of an archive in a manifest (a table with one row per video), and split them into train, val and
test.

Videos of one source, such as clips of the same recording, get the same split. When the archive is indexed again, every
known video keeps its split.

python jobs/index.py --input DIR|URI|LIST --output manifest.parquet [--split 0.7,0.2,0.1] [--seed 0]
python jobs/index.py --labels answers.json --continue-from manifest.parquet --output labelled.parquet
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collections import Counter, defaultdict
from dataclasses import replace

import pyarrow as pa

from vidclf import cli, credentials, preflight, storage
from vidclf.archive import continuation, splits
from vidclf.archive.directory import FileRules
from vidclf.archive.existence import none_found
from vidclf.archive.label_overlay import relabelled
from vidclf.archive.limit import limited
from vidclf.archive.manifest import Listing, ListingOptions, list_archive, read_manifest
from vidclf.archive.source_names import NONE_FOUND
from vidclf.archive.taxonomy_file import TaxonomyFile
from vidclf.config import IndexConfig
from vidclf.config.fields import parse_fractions
from vidclf.errors import ConfigError
from vidclf.number_words import counted
from vidclf.runs import outputs
from vidclf.schema import SPLITS


def main(config: IndexConfig) -> int:
    """List the videos, assign splits, write the manifest and print a summary. Returns the exit code 0."""
    taxonomy = TaxonomyFile.read(config.taxonomy) if config.taxonomy is not None else None
    preflight.check_outputs(config)
    earlier = _earlier_manifest(config)
    # With sources of file names, some known videos would move to another split.
    take_sources = earlier is None or _has_sources(earlier)
    listing = list_archive(config.input, options=options(config, take_sources=take_sources)) if config.input else None
    notes, choice = [], ""
    if listing is None:
        assert earlier is not None, "without --input, an earlier manifest is required"
        listing = Listing(manifest=earlier, ignored={})
    elif listing.source_lines and not take_sources:
        listing = replace(listing, source_lines=None)
        notes.append(
            "  sources in file names are not taken, because the earlier manifest has none and its videos keep their "
            "splits; --continue-from none takes them and draws all splits anew"
        )
    if config.input and earlier is not None:
        found = continuation.continued(listing.manifest, earlier, config.root)
        listing = replace(listing, manifest=found.manifest)
        notes.append(f"  compared with {config.continue_from or config.output}: {found.text}")
    manifest = listing.manifest
    if config.labels:
        # With a taxonomy, spellings are checked after it has renamed them.
        keep_spelling = config.keep_label_spelling or taxonomy is not None
        changed = relabelled(manifest, config.labels, keep_spelling=keep_spelling)
        manifest = changed.manifest
        notes += [f"  {line}" for line in changed.lines]
    if taxonomy is not None:
        manifest, line = taxonomy.apply(
            manifest,
            keep_spelling=config.keep_label_spelling,
            before=listing.manifest,
            is_renamed=not config.input,
        )
        notes.append(f"  {line}")
    if config.limit is not None:
        manifest, choice = limited(manifest, config.limit)
    manifest = _split(config, manifest, earlier, found_sources=bool(listing.source_lines))
    notes += _sources_across_splits(manifest) if listing.source_lines else []
    if earlier is not None and (num_changed := continuation.num_other_splits(manifest, earlier)):
        are = "is" if num_changed == 1 else "are"
        notes.append(f"  {counted(num_changed, 'known video')} {are} in another split than before")
    unchanged = storage.exists(config.output) and read_manifest(config.output).equals(manifest)
    if not unchanged and storage.exists(config.output) and not config.overwrite:
        raise ConfigError(f"--output {config.output}: holds another manifest; choose another name or --overwrite")
    if not config.dry_run and not unchanged:
        storage.publish_table(outputs.real(config.output), manifest)
    print(summary(config, manifest, listing, unchanged, choice), *notes, sep="\n")
    return cli.EXIT_OK


def _has_sources(manifest: pa.Table) -> bool:
    """Whether any source of the manifest has more than one video."""
    return bool(len(set(manifest["group"].to_pylist())) < manifest.num_rows)


def options(config: IndexConfig, *, take_sources: bool) -> ListingOptions:
    """Return the configuration's choices about how the archive is read. `take_sources`: as in `ListingOptions`."""
    return ListingOptions(
        group_pattern=config.group_pattern if config.group_pattern not in ("auto", "none") else None,
        find_sources=config.group_pattern == "auto",
        take_sources=take_sources,
        find_splits=config.split_directories == "auto",
        keep_label_spelling=config.keep_label_spelling,
        files=FileRules(include=config.include, exclude=config.exclude, sniff=config.sniff, strict=config.strict),
    )


def _earlier_manifest(config: IndexConfig) -> pa.Table | None:
    """The manifest whose videos keep their ids and splits: `--continue-from`, or the existing output; None if there is
    none. Raises ConfigError if it cannot be read, or if there is none although `--root` or `--labels` needs one."""
    flag = "--continue-from" if config.continue_from else "--output"
    location = config.continue_from or (config.output if storage.exists(config.output) else "none")
    if location != "none" and not storage.exists(location):
        raise ConfigError(f"--continue-from {location}: no such file; name a manifest of jobs/index.py, or 'none'")
    if location != "none":
        return read_manifest(location, flag=flag)
    if not config.input:
        raise ConfigError(
            f"--labels {config.labels}: needs a manifest whose labels it changes; name one with --continue-from, or "
            "the archive with --input"
        )
    if config.root is not None:
        raise ConfigError(
            f"--root {config.root}: needs an earlier manifest of the archive; name it with --continue-from"
        )
    return None


def _split(config: IndexConfig, manifest: pa.Table, earlier: pa.Table | None, *, found_sources: bool) -> pa.Table:
    """The manifest with a split for every labelled video, if not all videos have one. Known sources keep theirs.

    Only `--labels` leaves videos without a label. `found_sources`: file names gave sources, which an error message must
    say.
    """
    fractions = parse_fractions(config.split)
    labelled = manifest.filter(manifest["label"].is_valid())
    if fractions is None or not labelled.num_rows or not labelled["split"].null_count:
        return manifest
    labels, sublabels, groups = (labelled[name].to_pylist() for name in ("label", "sublabel", "group"))
    kept = continuation.kept_splits(manifest, earlier) if earlier is not None else None
    try:
        names = splits.assign(labels, sublabels, groups, fractions, config.seed, kept)
    except ConfigError as error:
        if not found_sources:
            raise
        raise ConfigError(
            f"{error}; sources were found in file names: --group-pattern none takes every video for its own"
        ) from error
    assigned = iter(names)
    pairs = zip(manifest["label"].to_pylist(), manifest["split"].to_pylist(), strict=True)
    values = [(split or name) if label is not None and (name := next(assigned)) else split for label, split in pairs]
    return manifest.set_column(manifest.column_names.index("split"), "split", pa.array(values, pa.string()))


def _sources_across_splits(manifest: pa.Table) -> list[str]:
    """A line about sources with videos in several splits, which splits given by directories or a list can cause."""
    splits_of: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(manifest["group"].to_pylist(), manifest["split"].to_pylist(), strict=True):
        splits_of[group].add(split)
    across = [group for group, names in splits_of.items() if len(names) > 1]
    if not across:
        return []
    return [
        f"  {len(across)} of these sources {'is' if len(across) == 1 else 'are'} in several splits (one is "
        f"{across[0]!r}), so that the test repeats training; jobs/train.py --split assigns splits anew"
    ]


def summary(config: IndexConfig, manifest: pa.Table, listing: Listing, unchanged: bool, choice: str = "") -> str:
    """Text that the job prints at its end: numbers of videos per label and split, of locations with credentials, and
    of files that are left out. `unchanged` says that the manifest had the same content before, `choice` how `--limit`
    chose the videos."""
    would = "would be replaced" if storage.exists(config.output) else "would be written"
    state = "unchanged" if unchanged else would if config.dry_run else "written"
    lines = [
        f"{config.output}: {counted(manifest.num_rows, 'video')} from "
        f"{counted(len(set(manifest['group'].to_pylist())), 'source')}, {state}"
    ]
    if choice:
        lines.append(f"  {choice}")
    has_splits = manifest["split"].null_count < manifest.num_rows
    silent_names = [NONE_FOUND] if listing.source_lines == () and has_splits else []
    lines += [f"  {line}" for line in listing.source_lines or silent_names]
    rows = Counter(zip(manifest["label"].to_pylist(), manifest["split"].to_pylist(), strict=True))
    for label in sorted({label for label, _ in rows if label}):
        shares = ", ".join(f"{split} {rows[label, split]}" for split in SPLITS if rows[label, split])
        lines.append(f"  {label}: {shares or rows[label, None]}")
    num_with_credentials = sum(map(credentials.has_credentials, manifest["video_uri"].to_pylist()))
    if num_with_credentials:
        lines.append(
            f"  credentials: {counted(num_with_credentials, 'location contains', 'locations contain')} a password, a "
            "signature or a token, and so does "
            f"{config.output}, because jobs need them to read the videos; to keep it free of them, list s3:// or gs:// "
            "locations and give credentials by the environment or a profile (AWS_PROFILE)"
        )
    missing = none_found(manifest["video_uri"].to_pylist())
    if missing is not None:
        lines.append(f"  {missing}")
    lines += [f"  {line}" for line in listing.left_out()]
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(IndexConfig, main)

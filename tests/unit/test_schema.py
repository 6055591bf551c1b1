"""Schemas of the files, and the check of a table against its schema."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from vidclf import arrow, schema, storage
from vidclf.arrow import SchemaError, conform
from vidclf.schema import RejectReason
from vidclf.storage import Shard

PAIR = pa.schema([pa.field("name", pa.string(), nullable=False), pa.field("size", pa.int64())])


def test_a_table_that_keeps_the_contract_comes_back_with_its_schema() -> None:
    table = pa.table({"name": ["a", "b"], "size": pa.array([1, None], pa.int64())})
    conformed = conform(table, PAIR, "pairs")
    assert conformed.schema == PAIR
    assert conformed.to_pylist() == [{"name": "a", "size": 1}, {"name": "b", "size": None}]


def test_columns_come_back_in_the_order_of_the_schema() -> None:
    table = pa.table({"size": [1], "name": ["a"]})
    assert conform(table, PAIR, "pairs").column_names == ["name", "size"]


def test_an_empty_table_conforms() -> None:
    assert conform(PAIR.empty_table(), PAIR, "pairs").num_rows == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"name": ["a"]}), "pairs: columns missing ['size'], unexpected []"),
        (
            pa.table({"name": ["a"], "size": [1], "colour": ["red"]}),
            "pairs: columns missing [], unexpected ['colour']",
        ),
        (pa.table({"Name": ["a"], "size": [1]}), "pairs: columns missing ['name'], unexpected ['Name']"),
        (
            pa.table({"name": ["a"], "size": pa.array([1], pa.int32())}),
            "pairs: column 'size' must be int64, is int32",
        ),
        (
            pa.table({"name": pa.array(["a"], pa.large_string()), "size": [1]}),
            "pairs: column 'name' must be string, is large_string",
        ),
        (
            pa.table({"name": pa.array(["a", None, None], pa.string()), "size": [1, 2, 3]}),
            "pairs: column 'name' has 2 nulls",
        ),
    ],
    ids=["missing", "extra", "renamed", "narrower", "wider", "nulls"],
)
def test_a_drift_is_refused_by_name(table: pa.Table, message: str) -> None:
    with pytest.raises(SchemaError) as error:
        conform(table, PAIR, "pairs")
    assert str(error.value) == message


def test_a_feature_of_another_dimension_is_refused() -> None:
    wanted = pa.schema([schema.features(4).field("features")])
    table = pa.table(
        {"features": pa.array([[[0.5] * 3]], pa.list_(pa.list_(pa.float16(), 3)))},
    )
    with pytest.raises(SchemaError, match=r"^rows: column 'features' must be list<.*\[4\]>, is list<.*\[3\]>$"):
        conform(table, wanted, "rows")


def test_the_reject_reasons_are_these() -> None:
    assert sorted(RejectReason) == [
        "decode_error",
        "decode_timeout",
        "decoder_crashed",
        "empty_file",
        "encrypted",
        "features_not_finite",
        "no_video_stream",
        "not_a_video",
        "not_found",
        "out_of_memory",
        "permission_denied",
        "read_error",
        "too_few_frames",
        "too_large",
        "truncated",
        "unsupported_codec",
        "unsupported_container",
    ]


def test_a_manifest_row_has_these_columns() -> None:
    assert schema.MANIFEST.names == ["video_id", "video_uri", "label", "sublabel", "group", "split", "size_bytes"]
    assert [field.name for field in schema.MANIFEST if not field.nullable] == ["video_id", "video_uri", "group"]


def test_a_decoded_row_holds_frames_of_the_models_resolution_and_facts_that_may_be_null() -> None:
    decoded = schema.decoded([3, 2])
    views = [decoded.field(f"view_{index}").type for index in range(2)]
    assert [view.field("frames").type for view in views] == [pa.list_(pa.binary(27)), pa.list_(pa.binary(12))]
    assert [field.name for field in decoded if not field.nullable] == ["video_id", "video_uri", "group"]


def test_a_feature_row_keeps_the_manifest_with_the_size_that_was_decoded() -> None:
    names = schema.features(4).names
    assert names[:6] == ["video_id", "video_uri", "label", "sublabel", "group", "split"]
    assert not schema.features(4).field("size_bytes").nullable
    assert schema.features(4).field("features").type == pa.list_(pa.list_(pa.float16(), 4))


def test_a_prediction_has_one_probability_a_class() -> None:
    assert schema.predictions(5).field("probabilities").type == pa.list_(pa.float32(), 5)


def test_types_read_the_same_before_and_after_parquet(tmp_path: Path) -> None:
    storage.publish_table(f"{tmp_path}/f.parquet", schema.features(3).empty_table())
    ((_, shard),) = storage.read_all([f"{tmp_path}/f.parquet"], ["video_id"])
    assert isinstance(shard, Shard)
    assert shard.types == arrow.column_types(schema.features(3))
    assert shard.types["features"] == "list<element: fixed_size_list<element: halffloat>[3]>"

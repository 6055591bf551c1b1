#!/usr/bin/env bash
# label-studio-sdk 2.1.2: `LabelInterface.validate_task` raises TypeError for every task with predictions or annotations.
#
# Expected: it returns whether a task, as Label Studio imports it, fits the labelling interface: its data, and the
# predictions that it carries.
# Seen: for a task with data only it answers. As soon as the task has the key `predictions` or `annotations`, even with an
# empty list, it calls `validate_prediction()` or `validate_annotation()` without their argument. The two functions
# themselves work, one prediction or annotation at a time, and find a class that the interface lacks.
# What follows for vidclf: tasks of `export --to label-studio` always have predictions. Check their data with
# `validate_task` and each of their predictions with `validate_prediction`.
#
# Usage: findings/label_studio_validate_task.sh   (installs into a temporary directory; exit code 1 if this changes)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check --no-compile \
    label-studio-sdk==2.1.2
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

from label_studio_sdk.label_interface import LabelInterface

interface = LabelInterface(
    '<View><Video name="video" value="$video"/><Choices name="label" toName="video" choice="single">'
    '<Choice value="goal"/><Choice value="foul"/></Choices></View>'
)


def chosen(name):
    """A choice of a class, as tasks and annotations have it."""
    return {"from_name": "label", "to_name": "video", "type": "choices", "value": {"choices": [name]}}


def answer(function, argument):
    """The result of a function, or the name of the error that it raises."""
    try:
        return function(argument)
    except Exception as error:
        return type(error).__name__


data = {"video": "/archive/a.mp4"}
predictions = {name: {"model_version": "m", "score": 0.9, "result": [chosen(name)]} for name in ("goal", "corner")}
annotation = {"result": [chosen("goal")]}
tasks = {
    "without the video": {"data": {}},
    "with data only": {"data": data},
    "with a prediction": {"data": data, "predictions": [predictions["goal"]]},
    "with an empty list of predictions": {"data": data, "predictions": []},
    "with an annotation": {"data": data, "annotations": [annotation]},
}
found = {name: answer(interface.validate_task, task) for name, task in tasks.items()}
for name, result in found.items():
    print(f"validate_task, {name}: {result}")
alone = [answer(interface.validate_prediction, prediction) for prediction in predictions.values()]
alone.append(answer(interface.validate_annotation, annotation))
print("validate_prediction of a known and of an unknown class, validate_annotation:", alone)
is_as_seen = list(found.values()) == [False, True, *["TypeError"] * 3] and alone == [True, False, True]
sys.exit(0 if is_as_seen else "the behaviour has changed")
PY
echo "as described"

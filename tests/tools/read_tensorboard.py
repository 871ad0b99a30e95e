#!/usr/bin/env python3
"""Prints what TensorBoard reads in a run folder, as JSON: {"scalars": {tag: [[step, value], ...]}, "texts": {tag: text},
"hparams": {name: value}, "columns": [names], "metrics": [tags], "status": number or null}."""
import json
import sys

from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

events = event_accumulator.EventAccumulator(sys.argv[1], {event_accumulator.SCALARS: 0, event_accumulator.TENSORS: 0})
events.Reload()
tags = events.Tags()
found = {"scalars": {tag: [[point.step, point.value] for point in events.Scalars(tag)] for tag in tags["scalars"]},
         "texts": {}, "hparams": {}, "columns": [], "metrics": [], "status": None}
for tag in tags["tensors"]:
    plugin = events.SummaryMetadata(tag).plugin_data
    if plugin.plugin_name == "text":
        found["texts"][tag] = tensor_util.make_ndarray(events.Tensors(tag)[-1].tensor_proto).item().decode()
    elif tag == metadata.EXPERIMENT_TAG:
        experiment = metadata.parse_experiment_plugin_data(plugin.content)
        found["columns"] = [info.name for info in experiment.hparam_infos]
        found["metrics"] = [info.name.tag for info in experiment.metric_infos]
    elif tag == metadata.SESSION_START_INFO_TAG:
        start = metadata.parse_session_start_info_plugin_data(plugin.content)
        found["hparams"] = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    elif tag == metadata.SESSION_END_INFO_TAG:
        found["status"] = metadata.parse_session_end_info_plugin_data(plugin.content).status
print(json.dumps(found))

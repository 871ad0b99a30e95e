#!/usr/bin/env python3
"""Prints what the offline W&B runs in a folder hold, as JSON: {"ids", "config", "summary", "exit_codes", "history": {name:
[[step, value], ...]}}. A .wandb file is a log in LevelDB's format whose records are protocol buffers of the library."""
import json
import pathlib
import struct
import sys

from wandb.proto import wandb_internal_pb2

BLOCK = 32768


def records(data):
    """Records of blocks of 32 KiB, each [crc32 4 | length 2 | type 1 | bytes]; the first 7 bytes are W&B's own. Types: 1 whole,
    2 first, 3 middle, 4 last piece."""
    at, pieces = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at:at + 7])
        if kind == 0:
            break
        pieces += data[at + 7:at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield pieces
            pieces = b""


found = {"ids": [], "config": {}, "summary": {}, "exit_codes": [], "history": {}}
for path in sorted(pathlib.Path(sys.argv[1]).glob("offline-run-*/*.wandb")):
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["ids"].append(record.run.run_id)
        if kind in ("run", "config"):
            update = record.run.config.update if kind == "run" else record.config.update
            found["config"].update({item.key: json.loads(item.value_json) for item in update if item.key})
        if kind == "summary":
            for item in record.summary.update:
                found["summary"]["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        if kind == "exit":
            found["exit_codes"].append(record.exit.exit_code)
        if kind == "history":
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            for name, value in row.items():
                if name != "step" and not name.startswith("_"):
                    found["history"].setdefault(name, []).append([row.get("step"), value])
print(json.dumps(found))

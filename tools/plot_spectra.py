#!/usr/bin/env python3
"""Draws the two rows of maps on the first screen of `pastur report` from the files of runs, as a template for figures of
your own: capacity kept (stable rank over its value at step 0) and spike (largest eigenvalue over the null's edge), layer
by step, one scale for all. Runs of one variant are seeds and are averaged, unless --separate. Needs NumPy and matplotlib."""
import argparse
import json
import pathlib
import sys

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

NAMES = {"qk": "whole", "qk_content": "content", "qk_rope": "rotary"}


def fail(message, code):
    print(f"plot_spectra.py: {message}", file=sys.stderr)
    sys.exit(code)


def lines(path):
    """The objects of a file of JSON lines; a killed run may have left the last one incomplete."""
    if not path.is_file():
        fail(f"{path}: no such file; expected a run folder of pastur train with spectra", 66)
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def by_null(line):
    """The records of a line of summary.jsonl: one per null. Runs of former versions have a line per null."""
    return [{**line, **own, "null": null} for null, own in line["nulls"].items()] if "nulls" in line else [line]


def read_run(folder, null):
    """The variant of a run, and {matrix: (steps, layers, kept, spike)} of its whole layers against a null."""
    start = [event for event in lines(folder / "metrics.jsonl") if event.get("event") == "start"]
    variant = start[0].get("variant", folder.name) if start else folder.name
    records = {}
    nulls = set()
    for line in lines(folder / "spectra/summary.jsonl"):
        for record in by_null(line):
            nulls.add(record["null"])
            if record["head"] == -1 and record["null"] == null and record["matrix"] in NAMES:
                records.setdefault(record["matrix"], {})[record["step"], record["layer"]] = record
    if not records:
        fail(f"{folder}: no query-key form of whole layers against {null}; it measured {', '.join(sorted(nulls)) or 'none'}", 66)
    forms = {}
    for matrix, cells in records.items():
        steps, layers = (sorted(set(values)) for values in zip(*cells))
        value = lambda step, layer, key: (cells.get((step, layer)) or {}).get(key) or np.nan
        grid = lambda key: np.array([[value(step, layer, key) for step in steps] for layer in layers], float)
        rank = grid("stable_rank")
        forms[matrix] = steps, layers, rank / rank[:, :1], grid("lambda_max") / grid("lambda_plus")
    return variant, forms


def average(members):
    """The geometric mean of several runs' grids, at the steps that all of them have."""
    steps = sorted(set.intersection(*(set(member[0]) for member in members)))
    pick = lambda member, which: member[which][:, [member[0].index(step) for step in steps]]
    mean = lambda which: np.exp(np.mean([np.log(pick(member, which)) for member in members], axis=0))
    return steps, members[0][1], mean(2), mean(3)


def columns_of(runs, null, separate):
    """[(title, steps, layers, kept, spike)]"""
    groups = {}
    for folder in runs:
        variant, forms = read_run(folder, null)
        for matrix, form in forms.items():
            groups.setdefault(folder.name if separate else variant, {}).setdefault(matrix, []).append(form)
    return [(f"{name}, {NAMES[matrix]}", *average(forms[matrix]))
            for name, forms in groups.items() for matrix in NAMES if matrix in forms]


def draw_row(figure, axes, columns, which, norm, colours, label, ticks, text):
    for axis, column in zip(axes, columns):
        _, steps, layers, *values = column
        image = axis.pcolormesh(values[which], norm=norm, cmap=colours)
        axis.invert_yaxis()
        every = 1 + len(steps) // 7
        axis.set_xticks(np.arange(0, len(steps), every) + 0.5, [str(step) for step in steps[::every]])
        axis.set_yticks(np.arange(len(layers)) + 0.5, [str(layer) for layer in layers])
        axis.set_xlabel("step")
    axes[0].set_ylabel("layer")
    bar = figure.colorbar(image, ax=axes, label=label, pad=0.01, extend="min" if which == 0 else "neither")
    bar.set_ticks(ticks, labels=[text(tick) for tick in ticks])
    bar.minorticks_off()


class KeptNorm(LogNorm):
    """A logarithmic scale from `vmin` to 1 whose white lies at 32 %, half a decade below 1."""

    def __call__(self, value, clip=None):
        decades, low = np.log10(np.clip(value, self.vmin, self.vmax)), np.log10(self.vmin)
        return np.ma.masked_invalid(np.where(decades > -0.5, 1 + decades, 0.5 * (decades - low) / (-0.5 - low)))

    def inverse(self, place):
        place, low = np.asarray(place), np.log10(self.vmin)
        return 10 ** np.where(place > 0.5, place - 1, low + place / 0.5 * (-0.5 - low))


class OneIsWhite(LogNorm):
    """A logarithmic scale whose white lies at 1; the lower half of the colours has as many decades as the upper half."""

    def __call__(self, value, clip=None):
        reach = max(np.log10(self.vmax), -np.log10(self.vmin))
        return np.ma.masked_invalid(0.5 + np.log10(value) / (2 * reach))

    def inverse(self, place):
        return 10 ** ((np.asarray(place) - 0.5) * 2 * max(np.log10(self.vmax), -np.log10(self.vmin)))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("runs", nargs="+", type=pathlib.Path)
parser.add_argument("--null", default="product", help="the null of the spike")
parser.add_argument("--separate", action="store_true", help="one column for each run instead of a mean over seeds")
parser.add_argument("--out", default="spectra.png", help="PNG, SVG or PDF by its ending")
args = parser.parse_args()
columns = columns_of(args.runs, args.null, args.separate)
figure, axes = plt.subplots(2, len(columns), figsize=(2 + 2.4 * len(columns), 5.4), squeeze=False, layout="constrained")
for axis, column in zip(axes[0], columns):
    axis.set_title(column[0], fontsize=10)
kept = np.concatenate([column[3].ravel() for column in columns])
low = next((10.0 ** -p for p in (1, 1.5, 2, 2.5, 3) if 10.0 ** -p <= np.nanquantile(kept, 0.05)), 1e-3)
draw_row(figure, axes[0], columns, 0, KeptNorm(low, 1), "RdBu", "capacity kept",
         [10 ** -p for p in np.arange(0, -np.log10(low) + 0.1, 0.5)], lambda v: f"{100 * v:.3g} %".replace("31.6", "32").replace("3.16", "3.2"))
spike = np.concatenate([column[4].ravel() for column in columns])
top, bottom = max(np.nanmax(spike), 2), min(np.nanmin(spike), 1)
draw_row(figure, axes[1], columns, 1, OneIsWhite(bottom, top), "PuOr_r", f"spike: λmax / edge of {args.null}",
         [10.0 ** p for p in range(int(np.ceil(np.log10(bottom))), int(np.log10(top)) + 1)], lambda v: f"{v:g}")
figure.savefig(args.out, dpi=150)

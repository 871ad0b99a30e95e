#!/usr/bin/env python3
"""Redraws the main figures of `pastur report` from the files of runs, as a template for your own figures.

It draws losses, the ratio of the largest eigenvalue to the null's edge by layer and step, and the last spectrum
with its null. Needs NumPy and matplotlib."""
import argparse
import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np


def lines(path):  # skips the last line if a killed run left it incomplete
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def by_null(line):
    """The records of a line of summary.jsonl: one per null. Runs of former versions have a line per null."""
    return [{**line, **own, "null": null} for null, own in line["nulls"].items()] if "nulls" in line else [line]


def product_density(dims, variance_product):
    """Eigenvalues and density of a product of Gaussian matrices. Parametrised by u = rho exp(-i phi): the
    arguments of the factors sum to -phi."""
    b = dims.index(min(dims))
    others = np.array(dims[:b] + dims[b + 1:], float)
    phi = np.linspace(1e-3, np.pi - 1e-3, 800)
    low, high = np.full_like(phi, 1e-12), np.full_like(phi, 1e12)
    for _ in range(120):
        rho = np.sqrt(low * high)
        factors = [1 + c * rho * np.exp(-1j * phi) for c in (1.0, *(dims[b] / others))]
        small = np.angle(factors).sum(axis=0) > -phi
        low, high = np.where(small, rho, low), np.where(small, high, rho)
    x, scale = np.abs(factors).prod(axis=0) / rho, others.prod() * variance_product
    return x * scale, rho * np.sin(phi) / (np.pi * x) / scale


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("runs", nargs="+", type=pathlib.Path)
parser.add_argument("--matrix", default="qk")
parser.add_argument("--null", default="product")
parser.add_argument("--layer", type=int, default=0)
parser.add_argument("--head", type=int, default=-1, help="-1: the whole layer")
parser.add_argument("--out", default="spectra.png")
args = parser.parse_args()
figure, axes = plt.subplots(3, len(args.runs), figsize=(5 * len(args.runs), 11), squeeze=False, layout="constrained")
for run, (top, middle, bottom) in zip(args.runs, axes.T):
    for kind, style in (("train", "-"), ("val", "o")):
        events = [e for e in lines(run / "metrics.jsonl") if e["event"] == kind and e["loss"] is not None]
        top.plot([e["step"] for e in events], [e["loss"] for e in events], style, label=kind, ms=4)
    top.set(title=run.name, xlabel="step", ylabel="loss (nats / token)")
    top.legend()
    records = {(r["step"], r["layer"]): r for line in lines(run / "spectra/summary.jsonl") for r in by_null(line)
               if (r["matrix"], r["null"], r["head"]) == (args.matrix, args.null, args.head)}
    if not records:
        continue
    steps, layers = (sorted(set(values)) for values in zip(*records))
    ratio = lambda r: r["lambda_max"] / r["lambda_plus"] if r and r["lambda_max"] and r["lambda_plus"] else np.nan
    image = middle.pcolormesh([[ratio(records.get((s, l))) for s in steps] for l in layers], norm="log")
    middle.set(xlabel="step", ylabel="layer", xticks=np.arange(len(steps)) + 0.5, yticks=np.arange(len(layers)) + 0.5)
    middle.set_xticklabels([s if i % (1 + len(steps) // 8) == 0 else "" for i, s in enumerate(steps)])
    middle.set_yticklabels(layers)
    figure.colorbar(image, ax=middle, label="largest eigenvalue / edge")
    with np.load(run / f"spectra/step_{steps[-1]:08d}.npz") as arrays:
        name = f"layers.{args.layer}.{args.matrix}"
        eigenvalues = arrays[name] if args.head < 0 else arrays[name + ".heads"][args.head]
    positive, record = eigenvalues[eigenvalues > eigenvalues[0] * 1e-8], records[steps[-1], args.layer]
    bins = np.geomspace(positive[-1], positive[0] * 1.01, 40)
    bottom.hist(positive, bins, weights=np.full_like(positive, 1 / len(eigenvalues) / np.log(bins[1] / bins[0])), alpha=0.5)
    # The density of a sum of products is not drawn.
    if args.null == "product" and "terms" not in record:
        x, density = product_density(record["dims"], record["variance_product"])
        bottom.plot(x, x * density, "k", label=f"{args.null} null")
    bottom.axvline(record["lambda_plus"], ls="--", c="crimson", label="edge")
    place = f"layer {args.layer}" + (f", head {args.head}" if args.head >= 0 else "")
    bottom.set(xscale="log", xlabel=f"eigenvalue of M Mᵀ, {place}, step {steps[-1]}", ylabel="density per unit of ln λ")
    bottom.legend()
figure.savefig(args.out, dpi=150)

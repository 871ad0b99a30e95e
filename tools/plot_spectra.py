#!/usr/bin/env python3
"""Redraws the main figures of `pastur report` from the files of one or several runs, as a start for your own.

  tools/plot_spectra.py RUN_DIR... [--matrix qk] [--null product] [--layer L] [--head H] [--step N] [--out FILE]

Needs NumPy and matplotlib. Losses; lambda_max over the null's edge, layer by step; one spectrum with its null.
"""
import argparse
import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np


def lines(path):
    """The JSON objects of a .jsonl file; a killed run leaves its last line cut."""
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except ValueError:
            pass


def product_density(dims, variance_product):
    """Density of a product of independent Gaussian factors dims[0] x ... x dims[-1], on a curve of eigenvalues."""
    count, b = min(dims), dims.index(min(dims))
    others = np.array([n for i, n in enumerate(dims) if i != b], float)
    phi = np.linspace(1e-3, np.pi - 1e-3, 800)
    low, high = np.full_like(phi, 1e-12), np.full_like(phi, 1e12)
    factors = lambda rho: [1 + c * rho * np.exp(-1j * phi) for c in (1.0, *(count / others))]
    for _ in range(120):  # the arguments sum to -phi
        rho = np.sqrt(low * high)
        small = sum(np.angle(f) for f in factors(rho)) > -phi
        low, high = np.where(small, rho, low), np.where(small, high, rho)
    x = np.prod(np.abs(factors(rho)), axis=0) / rho
    scale = others.prod() * variance_product
    return x * scale, rho * np.sin(phi) / (np.pi * x) / scale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--matrix", default="qk")
    parser.add_argument("--null", default="product")
    parser.add_argument("--layer", type=int, default=0)
    parser.add_argument("--head", type=int, default=-1, help="-1: the whole layer")
    parser.add_argument("--step", type=int, help="default: the last measured")
    parser.add_argument("--out", default="spectra.png")
    args = parser.parse_args()
    figure, axes = plt.subplots(3, len(args.runs), figsize=(5 * len(args.runs), 11), squeeze=False, layout="constrained")
    for run, (top, middle, bottom) in zip(args.runs, axes.T):
        events = list(lines(run / "metrics.jsonl"))
        for kind, style in (("train", "-"), ("val", "o")):
            points = [(e["step"], e["loss"]) for e in events if e.get("event") == kind and e["loss"] is not None]
            top.plot(*zip(*points) if points else ([], []), style, label=kind, ms=4)
        top.set(title=run.name, xlabel="step", ylabel="loss (nats / token)")
        top.legend()
        records = {(r["step"], r["layer"]): r for r in lines(run / "spectra/summary.jsonl")
                   if (r["matrix"], r["null"], r["head"]) == (args.matrix, args.null, args.head)}
        if not records:
            continue
        steps, layers = (sorted(set(values)) for values in zip(*records))
        ratio = [[r["lambda_max"] / r["lambda_plus"] if (r := records.get((s, l))) and r["lambda_max"] else np.nan
                  for s in steps] for l in layers]
        image = middle.imshow(ratio, aspect="auto", norm="log", interpolation="nearest")
        middle.set(xlabel="step", ylabel="layer", xticks=range(len(steps)), yticks=range(len(layers)), yticklabels=layers)
        middle.set_xticklabels([s if i % (1 + len(steps) // 8) == 0 else "" for i, s in enumerate(steps)])
        figure.colorbar(image, ax=middle, label="largest eigenvalue / edge")
        step = args.step if args.step is not None else steps[-1]
        with np.load(run / f"spectra/step_{step:08d}.npz") as arrays:
            name = f"layers.{args.layer}.{args.matrix}"
            eigenvalues = arrays[name] if args.head < 0 else arrays[name + ".heads"][args.head]
        record = records[step, args.layer]
        positive = eigenvalues[eigenvalues > eigenvalues[0] * 1e-8]
        bins = np.geomspace(positive[-1], positive[0] * 1.01, 40)
        bottom.hist(positive, bins, weights=np.full(len(positive), 1 / len(eigenvalues) / np.log(bins[1] / bins[0])), alpha=0.5)
        if "dims" in record:
            x, density = product_density(record["dims"], record["variance_product"])
            bottom.plot(x, x * density, "k", label=f"{args.null} null")
        bottom.axvline(record["lambda_plus"], ls="--", c="crimson", label="edge")
        place = f"layer {args.layer}" + (f", head {args.head}" if args.head >= 0 else "")
        bottom.set(xscale="log", xlabel=f"eigenvalue of M Mᵀ, {place}, step {step}", ylabel="density per unit of ln λ")
        bottom.legend()
    figure.savefig(args.out, dpi=150)
    print(args.out)


if __name__ == "__main__":
    main()

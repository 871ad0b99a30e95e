#!/usr/bin/env python3
"""Draws tools/nulls.svg, which shows that the Marchenko-Pastur law does not describe untrained query-key matrices.

The figure compares the eigenvalues of random weights of a 130m layer (width 768, 12 heads) with the
Marchenko-Pastur law and with the law of a product of Gaussian matrices. Needs NumPy and matplotlib."""
import matplotlib.pyplot as plt
import numpy as np

plt.rcParams.update({"svg.hashsalt": "pastur", "svg.fonttype": "none", "font.size": 9})


def product_density(inner, outer, count):
    """Density of the eigenvalues of M M^T over their mean, for a product M of two Gaussian matrices (outer x inner
    and inner x outer) with `count` non-zero eigenvalues. Parametrised by u = rho exp(-i phi): the arguments of
    the factors sum to -phi."""
    ratios = np.array([count / outer, count / outer] if inner == count and inner < outer else [1.0, count / outer])
    phi = np.linspace(1e-3, np.pi - 1e-3, 1500)
    low, high = np.full_like(phi, 1e-12), np.full_like(phi, 1e12)
    for _ in range(120):
        rho = np.sqrt(low * high)
        factors = [1 + c * rho * np.exp(-1j * phi) for c in (1.0, *ratios)]
        small = np.angle(factors).sum(axis=0) > -phi
        low, high = np.where(small, rho, low), np.where(small, high, rho)
    x = np.abs(factors).prod(axis=0) / rho
    return x, rho * np.sin(phi) / (np.pi * x)


rng = np.random.default_rng(1)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for axis, inner, title in ((axes[0], 768, "a layer: 768 eigenvalues"), (axes[1], 64, "a head: 64 eigenvalues")):
    product = rng.standard_normal((768, inner)) @ rng.standard_normal((inner, 768))
    eigenvalues = np.linalg.svd(product, compute_uv=False)[:inner] ** 2 / 768 / 768
    # The Marchenko-Pastur law of the whole 768 x 768 matrix, whose entries have variance `inner`.
    edge = 4 * inner / 768
    grid = edge * np.sin(np.linspace(0.01, np.pi / 2, 400)) ** 2
    naive = np.sqrt(grid * (edge - grid)) / (2 * np.pi * grid * edge / 4) * 768 / inner
    x, density = product_density(inner, 768, inner)
    outliers = int((eigenvalues > edge).sum())
    bins = 50 if inner == 768 else 16
    axis.hist(eigenvalues, bins, density=True, color="0.8", label="random weights")
    axis.plot(grid, naive, "C3", label=f"mp: {outliers} of {inner} beyond its edge")
    axis.axvline(edge, color="C3", ls="--", lw=1)
    axis.plot(x, density, "C0", label=f"product: {int((eigenvalues > x.max()).sum())}")
    axis.axvline(x.max(), color="C0", ls="--", lw=1)
    top = np.histogram(eigenvalues, bins, density=True)[0]
    axis.set(title=title, xlabel="eigenvalue of M Mᵀ over its mean", ylabel="density", xlim=(0, None),
             ylim=(0, (0.25 if inner == 768 else 1.6) * top.max()))
    axis.legend(frameon=False)
figure.savefig("tools/nulls.svg", metadata={"Date": None})

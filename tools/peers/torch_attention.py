#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention on the shapes of a `pastur bench --ops --json` file.

It times each backend (cuDNN, FlashAttention, ...) on the same shapes and dtype as Pastur did and in the same
way: sustained (bursts for a second) and, on CUDA, rested (the first hundredths of a second after a pause). On
CUDA it also times each backward under torch.use_deterministic_algorithms if the backend has such a mode;
Pastur's backward is always deterministic. On the CPU PyTorch chooses the backend.
Where Pastur rotates queries and keys inside attention, this script first runs a rotation fused by
torch.compile, which also copies a shared rotary key to all heads. For all other shapes the copied key is part
of the input. Prints one JSON line per measurement.

    pastur bench --ops --json ops.json && torch_attention.py ops.json
"""
import argparse
import json
import math
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F

from torch_peer import BACKENDS, backend_context, synchronize

BURST_SECONDS, TOTAL_SECONDS, FEWEST_BURSTS, REST_SECONDS = 5e-3, 1.0, 5, 0.25  # engine/model/measure.cpp


class Bursts:
    """Measures the seconds per call of many calls in a row."""

    def __init__(self, call, device):
        self.call, self.device = call, device
        self.burst(1)
        self.calls = math.ceil(BURST_SECONDS / max(self.burst(2), 1e-7))

    def burst(self, calls):
        if self.device == "cpu":
            begin = time.perf_counter()
            for _ in range(calls):
                self.call()
            return (time.perf_counter() - begin) / calls
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            self.call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3 / calls

    def sustained(self):
        times, spent = [], 0
        while len(times) < FEWEST_BURSTS or spent < TOTAL_SECONDS:
            times.append(self.burst(self.calls))
            spent += times[-1] * self.calls
        return statistics.median(times)

    def rested(self):
        synchronize(self.device)
        time.sleep(REST_SECONDS)
        self.burst(self.calls)
        return statistics.median(self.burst(self.calls) for _ in range(FEWEST_BURSTS))


def parse_shape(text):
    """Parses "B 16 H 16 T 4096 d_qk 128 + 64 shared d_v 128" as [16, 16, 4096, 128, 64, 128]; without "shared"
    the fifth number is 0."""
    pattern = r"B (\d+) H (\d+) T (\d+) d_qk (\d+)(?: \+ (\d+) shared)? d_v (\d+)"
    return [int(number or 0) for number in re.fullmatch(pattern, text).groups()]


def rotate(x, cos, sin):
    low, high = x.float().chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).to(x.dtype)


@torch.compile
def rotate_all(q, k, cos, sin):
    return rotate(q, cos, sin), rotate(k, cos, sin)


@torch.compile
def rotate_shared(q, k, k_rotary, cos, sin):
    content = k.shape[-1]
    q = torch.cat((q[..., :content], rotate(q[..., content:], cos, sin)), dim=-1)
    k_rotary = rotate(k_rotary, cos, sin).expand(-1, -1, q.shape[2], -1)
    return q, torch.cat((k, k_rotary), dim=-1)


class Core:
    """Inputs [B, T, H, D], the layout that projections write, and attention over them."""

    def __init__(self, shape, rotated, device):
        batch, heads, steps, content, shared, v = parse_shape(shape)
        keys = content if rotated else content + shared

        def leaf(heads, columns):
            return torch.randn(batch, steps, heads, columns, device=device, requires_grad=True,
                               dtype=torch.bfloat16 if device == "cuda" else torch.float32)

        self.rotated = rotated
        self.leaves = [leaf(heads, content + shared), leaf(heads, keys), leaf(heads, v)]
        if shared and rotated:
            self.leaves.append(leaf(1, shared))
        angles = torch.rand(1, steps, 1, (shared or content) // 2, device=device)
        self.table = angles.cos(), angles.sin()

    def attend(self):
        q, k, v = self.leaves[:3]
        if self.rotated and len(self.leaves) > 3:
            q, k = rotate_shared(q, k, self.leaves[3], *self.table)
        elif self.rotated:
            q, k = rotate_all(q, k, *self.table)
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=True)


def forward_call(core):
    def call():
        with torch.no_grad():
            core.attend()

    return call


def backward_call(core):
    out = core.attend()
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, core.leaves, gradient, retain_graph=True)


def measure(op, backend, deterministic, device):
    torch.use_deterministic_algorithms(deterministic)
    try:
        with backend_context(backend):
            core = Core(op["shape"], op["name"].endswith(", rotated"), device)
            bursts = Bursts((backward_call if "backward" in op["name"] else forward_call)(core), device)
            ms = {"rested_ms": bursts.rested() * 1e3} if device == "cuda" else {}
            ms["ms"] = bursts.sustained() * 1e3
    finally:
        torch.use_deterministic_algorithms(False)
    return ms | {name.replace("ms", "tflops"): op["tflops"] * op["ms"] / value for name, value in ms.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", help="file written by `pastur bench --ops --json`")
    parser.add_argument("--backends", default="cudnn,flash", help=f"backends on CUDA, out of {', '.join(BACKENDS)} (default: %(default)s)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.backends.split(",") if name not in BACKENDS]
    if unknown:
        parser.error(f"--backends: unknown {unknown[0]!r}; expected some of {', '.join(BACKENDS)}")
    with open(arguments.bench) as file:
        bench = json.load(file)
    device = "cuda" if bench["backend"] == "cuda" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch_attention.py: install a PyTorch with CUDA: Pastur ran on CUDA, but PyTorch finds no CUDA device")
    for op in bench["ops"]:
        if not op["name"].startswith("attention"):
            continue
        for backend in arguments.backends.split(",") if device == "cuda" else (None,):
            for deterministic in (False, True) if device == "cuda" and "backward" in op["name"] else (False,):
                result = {"peer": "pytorch " + torch.__version__, "op": op["name"], "shape": op["shape"],
                          "sdpa": backend or "default", "deterministic": deterministic}
                try:
                    result |= measure(op, backend, deterministic, device)
                except RuntimeError as error:  # the backend does not support this shape or mode
                    result["error"] = f"{type(error).__name__}: {error}"[:200]
                print(json.dumps(result), flush=True)
                if device == "cuda":
                    torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())

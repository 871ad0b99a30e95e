#!/usr/bin/env python3
"""Writes golden files from an independent implementation of the model and its optimizer in float64 PyTorch.

This script shares no code with the engine. Shapes and formulas are those of the published models: Llama's, and
DeepSeek-V2's for `mla-decoupled`, `mla-rope` and `mla-nope`. Gradients come from autograd.

    make_golden.py            writes <case>.safetensors next to this script
    make_golden.py --check    recomputes everything and compares it with the committed files
    make_golden.py --float32  prints the error of this script in float32, the scale for tolerances
    make_golden.py --bfloat16 the same in bfloat16

Each case has one safetensors file. Weights are float32 values, so an fp32 engine starts from the same numbers. All
results are float64 ("F64").

    tokens, targets   I32 [B, T]      the only batch
    param.<name>      F32             initial weights, [out, in], Hugging Face names
    logits            F64 [B, T, V]
    losses            F64 [B, T]      cross-entropy of each position, in nats
    loss              F64 []          mean of losses
    grad.<name>       F64             gradient of loss, not clipped
    step10.<name>     F64             weights after ten AdamW steps on the same batch
    step_losses       F64 [10]        loss before each step; the first is `loss`
    step_norms        F64 [10]        global gradient norm of each step, before clipping
    step_max_logits   F64 [10]        with qk_clip: largest attention logit of each step, over layers and heads
    step_clipped      F64 [10]        with qk_clip: heads whose weights are scaled after it

The metadata holds the case's settings: each as a key, and all as the text of a recipe under "recipe".
"""
import argparse
import itertools
import json
import math
import pathlib
import struct
import sys

import numpy as np
import torch

from attention import Attention, attention_shapes, clipped_rows, head_norms, rms_norm, tensor_name

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 10
# With these seeds, no gradient is so near zero that Adam, which divides by its magnitude, amplifies float32
# rounding: after ten steps the float32 weights are within 1e-5. A case without a seed of its own has the next one
# from FIRST_SEED.
FIRST_SEED = 801

# Sizes are small and unusual on purpose: widths differ wherever they can.
BASE = dict(vocab=37, d_model=24, layers=2, heads=4, kv_heads=4, head_dim=6, ffn=16, rope_theta=100.0, norm_eps=1e-3,
            tie_embeddings=False, batch=2, time=7)
NARROW = dict(d_model=20)  # d_model differs from heads * head_dim = 24
TRAIN = dict(lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, grad_clip=1.0)
CASES = {
    "mha": dict(BASE, variant="mha", rope_theta=10000.0, norm_eps=1e-6),
    "mha-gqa": dict(BASE, **NARROW, variant="mha", kv_heads=2),
    "mha-tied": dict(BASE, **NARROW, variant="mha", tie_embeddings=True),
    "mla-prerope": dict(BASE, variant="mla-prerope", prerope_site="keys", latent_norm=False, k_rank=7, v_rank=5),
    "mla-prerope-latent-norm": dict(BASE, **NARROW, variant="mla-prerope", prerope_site="keys", latent_norm=True,
                                    k_rank=7, v_rank=5),
    "mla-prerope-input": dict(BASE, variant="mla-prerope", prerope_site="input", latent_norm=False, kv_rank=9),
    "mla-decoupled": dict(BASE, variant="mla-decoupled", kv_rank=9, nope_dim=4, rope_dim=2, v_dim=5, q_rank=0),
    "mla-decoupled-q-rank": dict(BASE, **NARROW, variant="mla-decoupled", kv_rank=9, nope_dim=3, rope_dim=4, v_dim=5,
                                 q_rank=8),
    "mha-nope": dict(BASE, **NARROW, variant="mha-nope", seed=831, kv_heads=2),
    "mha-shared-rope": dict(BASE, **NARROW, variant="mha-shared-rope", seed=832, nope_dim=3, rope_dim=4, v_dim=5),
    "mla-rope": dict(BASE, variant="mla-rope", seed=833, kv_rank=9, v_dim=5, q_rank=0),
    "mla-rope-q-rank": dict(BASE, **NARROW, variant="mla-rope", seed=834, kv_rank=9, v_dim=5, q_rank=8),
    "mla-nope": dict(BASE, **NARROW, variant="mla-nope", seed=835, kv_rank=9, v_dim=5, q_rank=0),
    "mtla": dict(BASE, variant="mtla", kv_rank=9, nope_dim=4, rope_dim=2, v_dim=5, stride=2, seed=852),
    "mtla-stride-3": dict(BASE, **NARROW, variant="mtla", kv_rank=8, nope_dim=3, rope_dim=4, v_dim=5, stride=3,
                          seed=854),
    "mla-decoupled-gain": dict(BASE, variant="mla-decoupled", seed=836, kv_rank=9, nope_dim=4, rope_dim=2, v_dim=5,
                               q_rank=8, latent_gain="sqrt"),
    "mla-prerope-gain": dict(BASE, **NARROW, variant="mla-prerope", seed=837, prerope_site="keys", latent_norm=True,
                             k_rank=7, v_rank=5, latent_gain="sqrt"),
    "mha-qk-norm": dict(BASE, **NARROW, variant="mha", seed=838, kv_heads=2, qk_norm="head"),
    "mla-decoupled-qk-norm": dict(BASE, variant="mla-decoupled", seed=839, kv_rank=9, nope_dim=3, rope_dim=4, v_dim=5,
                                  q_rank=0, qk_norm="head"),
    "mla-prerope-qk-norm": dict(BASE, **NARROW, variant="mla-prerope", seed=840, prerope_site="keys",
                                latent_norm=False, k_rank=7, v_rank=5, qk_norm="head"),
    "mha-qk-clip": dict(BASE, **NARROW, variant="mha", seed=841, qk_clip=0.8),
    "mha-gqa-qk-clip": dict(BASE, variant="mha", seed=842, kv_heads=2, qk_clip=0.8),
    "mla-decoupled-qk-clip": dict(BASE, variant="mla-decoupled", seed=843, kv_rank=9, nope_dim=4, rope_dim=2, v_dim=5,
                                  q_rank=0, qk_clip=0.8),
    "mla-prerope-qk-clip": dict(BASE, **NARROW, variant="mla-prerope", seed=844, prerope_site="keys", latent_norm=False,
                                k_rank=7, v_rank=5, qk_norm="head", qk_clip=0.8),
}


def weight_shapes(c):
    d, f, v = c["d_model"], c["ffn"], c["vocab"]
    shapes = {"model.embed_tokens.weight": (v, d)}
    for layer in range(c["layers"]):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "input_layernorm.weight"] = (d,)
        for name, width in head_norms(c).items():
            shapes[f"{prefix}self_attn.{name}.weight"] = (width,)
        for name, shape in attention_shapes(c).items():
            shapes[f"{prefix}self_attn.{tensor_name(name)}"] = shape
        shapes[prefix + "post_attention_layernorm.weight"] = (d,)
        for name, shape in {"gate_proj": (f, d), "up_proj": (f, d), "down_proj": (d, f)}.items():
            shapes[f"{prefix}mlp.{name}.weight"] = shape
    shapes["model.norm.weight"] = (d,)
    if not c["tie_embeddings"]:
        shapes["lm_head.weight"] = (v, d)
    return shapes


def forward(c, weights, tokens, targets):
    """Returns logits [B, T, V], losses [B, T] and the largest attention logits [layers, heads]."""
    max_logits = []
    w, eps = weights, c["norm_eps"]
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(c["layers"]):
        prefix = f"model.layers.{layer}."
        attention = Attention(c, w, prefix + "self_attn.", max_logits)
        x = x + attention(rms_norm(x, w[prefix + "input_layernorm.weight"], eps))
        xn = rms_norm(x, w[prefix + "post_attention_layernorm.weight"], eps)
        gate, up = (xn @ w[f"{prefix}mlp.{name}.weight"].T for name in ("gate_proj", "up_proj"))
        x = x + (gate * torch.sigmoid(gate) * up) @ w[prefix + "mlp.down_proj.weight"].T
    head = w["model.embed_tokens.weight" if c["tie_embeddings"] else "lm_head.weight"]
    logits = rms_norm(x, w["model.norm.weight"], eps) @ head.T
    losses = logits.logsumexp(-1) - logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return logits, losses, torch.stack(max_logits)


def gradients(c, weights, tokens, targets):
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    logits, losses, max_logits = forward(c, leaves, tokens, targets)
    grads = torch.autograd.grad(losses.mean(), list(leaves.values()))
    return logits.detach(), losses.detach(), dict(zip(leaves, grads)), max_logits


class AdamW:
    """g <- g min(1, clip / |g|); m, v: moving means of g, g^2; w -= lr (mhat / (sqrt(vhat) + eps) + decay w).
    Weight decay applies to matrices, including the embedding, and not to norms."""

    def __init__(self, weights):
        self.m, self.v = ({name: torch.zeros_like(w) for name, w in weights.items()} for _ in range(2))
        self.count = 0

    def step(self, weights, grads):
        t = TRAIN
        self.count += 1
        norm = torch.sqrt(sum(g.square().sum() for g in grads.values()))
        factor = min(1.0, t["grad_clip"] / norm.item())
        for name, w in weights.items():
            g = grads[name] * factor
            self.m[name] = t["beta1"] * self.m[name] + (1 - t["beta1"]) * g
            self.v[name] = t["beta2"] * self.v[name] + (1 - t["beta2"]) * g.square()
            mhat = self.m[name] / (1 - t["beta1"] ** self.count)
            vhat = self.v[name] / (1 - t["beta2"] ** self.count)
            decay = t["weight_decay"] if w.dim() > 1 else 0.0
            weights[name] = w - t["lr"] * (mhat / (torch.sqrt(vhat) + t["eps"]) + decay * w)
        return norm


def clip_queries_and_keys(c, weights, max_logits):
    """QK-Clip: scales the weights of each head whose largest logit exceeds the limit. Returns the number of such heads."""
    gammas = (c["qk_clip"] / max_logits).clamp(max=1)  # of positive logits
    gammas[max_logits <= 0] = 1
    for layer, head in (gammas < 1).nonzero().tolist():
        for name, rows, first, stride, exponent in clipped_rows(c):
            begin = first + head * stride
            weights[f"model.layers.{layer}.self_attn.{name}.weight"][begin:begin + rows] *= gammas[layer, head] ** exponent
    return (gammas < 1).sum()


def initial_values(c, seed):
    """Weights well above the usual 0.02 and norms that differ from 1, so wrong terms have visible effects."""
    rng, weights = np.random.default_rng(seed), {}
    for name, shape in weight_shapes(c).items():
        noise = rng.standard_normal(shape)
        mean, spread = (0, 0.2) if len(shape) > 1 or name.endswith(".bias") else (1, 0.1)
        weights[name] = (mean + spread * noise).astype(np.float32)
    # Squared uniforms make low ids repeat, so rows of the embedding sum several gradients.
    ids = (c["vocab"] * rng.random((c["batch"], c["time"] + 1)) ** 2).astype(np.int32)
    return weights, ids[:, :-1], ids[:, 1:]


def make_case(c, seed, dtype=torch.float64):
    initial, tokens, targets = initial_values(c, seed)
    weights = {name: torch.from_numpy(w).to(dtype) for name, w in initial.items()}
    batch = [torch.from_numpy(ids.astype(np.int64)) for ids in (tokens, targets)]
    logits, losses, grads, _ = gradients(c, weights, *batch)
    out = {"logits": logits, "losses": losses, "loss": losses.mean()} | {"grad." + n: g for n, g in grads.items()}
    optimizer, steps = AdamW(weights), []
    for _ in range(STEPS):
        _, losses, grads, max_logits = gradients(c, weights, *batch)
        steps.append({"step_losses": losses.mean(), "step_norms": optimizer.step(weights, grads)})
        if "qk_clip" in c:
            steps[-1] |= {"step_max_logits": max_logits.max(),
                          "step_clipped": clip_queries_and_keys(c, weights, max_logits)}
    out |= {"step10." + name: w for name, w in weights.items()}
    out |= {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
    tensors = {name: value.double().numpy() for name, value in out.items()}
    tensors |= {"param." + name: w for name, w in initial.items()}
    return tensors | {"tokens": tokens, "targets": targets}


def recipe(name, c):
    model = "vocab d_model layers heads head_dim ffn rope_theta norm_eps tie_embeddings".split()
    attention = ("variant kv_rank k_rank v_rank nope_dim rope_dim v_dim q_rank latent_norm latent_gain "
                 "qk_norm prerope_site stride").split()
    if c["variant"] in ("mha", "mha-nope"):  # the other variants do not have this key
        model.append("kv_heads")
    settings, lines = c | TRAIN, []
    for section, keys in {"model": model, "attention": attention, "train": [*TRAIN, "qk_clip"]}.items():
        # TOML and JSON write strings, numbers and booleans alike.
        lines += [f"[{section}]"] + [f"{key} = {json.dumps(settings[key])}" for key in keys if key in settings]
    lines += [f"steps = {STEPS}", f"global_batch = {c['batch']}", 'schedule = "constant"', "warmup_steps = 0"]
    lines += ["[data]", f"seq_len = {c['time']}", "[run]", f'name = "golden-{name}"']
    return "\n".join(lines) + "\n"


def write_safetensors(path, tensors, metadata):
    dtypes = {"float64": "F64", "float32": "F32", "int32": "I32"}
    header, offset, parts = {"__metadata__": metadata}, 0, []
    for name, array in sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize):  # wide dtypes first, for alignment
        parts.append(np.ascontiguousarray(array).tobytes())
        header[name] = {"dtype": dtypes[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [offset, offset + len(parts[-1])]}
        offset += len(parts[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def read_safetensors(path):
    raw = path.read_bytes()
    begin = 8 + struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:begin])
    metadata, dtypes, tensors = header.pop("__metadata__"), {"F64": "<f8", "F32": "<f4", "I32": "<i4"}, {}
    for name, entry in header.items():
        first, last = (begin + at for at in entry["data_offsets"])
        tensors[name] = np.frombuffer(raw[first:last], dtypes[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def distance(a, b):
    """Returns the largest difference over the largest magnitude of b."""
    if a.shape != b.shape:
        return math.inf
    return float(np.abs(a.astype(np.float64) - b).max() / max(np.abs(b).max(), 1e-30))


def check(name, tensors, metadata, tolerance=1e-9):
    """Checks that inputs agree exactly and results up to the rounding of other library versions."""
    committed, committed_metadata = read_safetensors(HERE / f"{name}.safetensors")
    if tensors.keys() != committed.keys() or metadata != committed_metadata:
        return [f"{name}: other tensors or settings than committed"]
    errors = {key: distance(value, committed[key]) for key, value in tensors.items()}
    limits = {key: tolerance if value.dtype == np.float64 else 0 for key, value in committed.items()}
    return [f"{name}: {key} differs by {error:.1e}" for key, error in errors.items() if not error <= limits[key]]


def print_distance(name, exact, rounded):
    worst = {}
    for key, value in exact.items():
        kind = key.split(".")[0]
        worst[kind] = max(worst.get(kind, 0.0), distance(rounded[key], value))
    print(f"{name:24s}" + "  ".join(f"{kind} {error:.1e}" for kind, error in worst.items() if error > 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    for name in ("float32", "bfloat16"):
        parser.add_argument(f"--{name}", dest="rounded", action="store_const", const=getattr(torch, name),
                            help=f"print the distance of {name} results, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)  # fixes the order of summation
    wrong = []
    seeds = itertools.count(FIRST_SEED)
    for name, c in CASES.items():
        seed = c["seed"] if "seed" in c else next(seeds)
        metadata = {key: str(value) for key, value in (c | TRAIN).items()} | {"recipe": recipe(name, c)}
        tensors = make_case(c, seed)
        if options.rounded:
            print_distance(name, tensors, make_case(c, seed, options.rounded))
        elif options.check:
            wrong += check(name, tensors, metadata)
        else:
            write_safetensors(HERE / f"{name}.safetensors", tensors, metadata)
    if options.check:
        print("\n".join(wrong) if wrong else f"{len(CASES)} goldens reproduced")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

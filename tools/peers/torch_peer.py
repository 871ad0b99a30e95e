#!/usr/bin/env python3
"""Trains the models of a `pastur bench --json` file in PyTorch and times them in the same way.

The models are what a PyTorch user would write: nn.Linear, F.scaled_dot_product_attention with the fastest
backend for the shape, torch.compile, fused AdamW and, on CUDA, bf16 autocast over fp32 master weights. Prints
one JSON line per variant and mode, with the ratio of Pastur's tokens/s to PyTorch's.

    pastur bench --json bench.json && torch_peer.py bench.json [--modes compiled,eager] [--steps N]
"""
import argparse
import contextlib
import itertools
import json
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class Rotary(nn.Module):
    """Rotates pairs (i, i + D/2) of the last dimension of [B, T, H, D]."""

    def __init__(self, width, time_steps, theta):
        super().__init__()
        frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles = torch.outer(torch.arange(time_steps, dtype=torch.float64), frequencies)
        self.register_buffer("cos", angles.cos().float()[None, :, None], persistent=False)
        self.register_buffer("sin", angles.sin().float()[None, :, None], persistent=False)

    def forward(self, x):
        low, high = x.float().chunk(2, dim=-1)
        rotated = (low * self.cos - high * self.sin, high * self.cos + low * self.sin)
        return torch.cat(rotated, dim=-1).to(x.dtype)


class CausalCore(nn.Module):
    """Causal attention over q, k, v [B, T, H, D], then the output projection."""

    def __init__(self, inner, width):
        super().__init__()
        self.o_proj = linear(inner, width)

    def forward(self, q, k, v):
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class MultiHead(nn.Module):
    def __init__(self, model, attention, time_steps):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = model["heads"], model["kv_heads"], model["head_dim"]
        self.qkv_proj = linear(model["d_model"], (self.heads + 2 * self.kv_heads) * self.head_dim)
        self.rotary = Rotary(self.head_dim, time_steps, model["rope_theta"])
        self.core = CausalCore(self.heads * self.head_dim, model["d_model"])

    def forward(self, x):
        qkv = self.qkv_proj(x).unflatten(-1, (-1, self.head_dim))
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        q, k = self.rotary(q), self.rotary(k)
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=2) for t in (k, v))
        return self.core(q, k, v)


class PreRope(nn.Module):
    """Rotates full keys, then compresses and expands them; values have a separate latent."""

    def __init__(self, model, attention, time_steps):
        super().__init__()
        if attention["prerope_site"] != "keys":
            raise NotImplementedError('prerope_site = "input" is not implemented in PyTorch')
        width, inner = model["d_model"], model["heads"] * model["head_dim"]
        self.heads, self.head_dim, self.inner = model["heads"], model["head_dim"], inner
        self.qkc_proj = linear(width, 2 * inner + attention["v_rank"])
        self.k_a_proj, self.k_b_proj = linear(inner, attention["k_rank"]), linear(attention["k_rank"], inner)
        self.v_b_proj = linear(attention["v_rank"], inner)
        norm = attention["latent_norm"]
        self.k_norm = nn.RMSNorm(attention["k_rank"], eps=model["norm_eps"]) if norm else nn.Identity()
        self.v_norm = nn.RMSNorm(attention["v_rank"], eps=model["norm_eps"]) if norm else nn.Identity()
        self.rotary = Rotary(self.head_dim, time_steps, model["rope_theta"])
        self.core = CausalCore(inner, width)

    def forward(self, x):
        per_head = (self.heads, self.head_dim)
        qkc = self.qkc_proj(x)
        q, k, c_v = qkc.split((self.inner, self.inner, qkc.shape[-1] - 2 * self.inner), dim=-1)
        q, k = (self.rotary(t.unflatten(-1, per_head)) for t in (q, k))
        k = self.k_b_proj(self.k_norm(self.k_a_proj(k.flatten(2))))
        v = self.v_b_proj(self.v_norm(c_v))
        return self.core(q, k.unflatten(-1, per_head), v.unflatten(-1, per_head))


class Decoupled(nn.Module):
    """Content keys and values share a latent; one rotary key is shared by all heads."""

    def __init__(self, model, attention, time_steps):
        super().__init__()
        width, heads = model["d_model"], model["heads"]
        self.heads, self.nope, self.rope = heads, attention["nope_dim"], attention["rope_dim"]
        self.v_dim, self.kv_rank, self.q_rank = attention["v_dim"], attention["kv_rank"], attention["q_rank"]
        q_width = heads * (self.nope + self.rope)
        self.in_widths = (self.q_rank or q_width, self.kv_rank, self.rope)
        self.in_proj = linear(width, sum(self.in_widths))
        if self.q_rank:
            self.q_norm = nn.RMSNorm(self.q_rank, eps=model["norm_eps"])
            self.q_b_proj = linear(self.q_rank, q_width)
        self.kv_norm = nn.RMSNorm(self.kv_rank, eps=model["norm_eps"])
        self.kv_b_proj = linear(self.kv_rank, heads * (self.nope + self.v_dim))
        self.rotary = Rotary(self.rope, time_steps, model["rope_theta"])
        self.core = CausalCore(heads * self.v_dim, width)

    def forward(self, x):
        q, c, k_rope = self.in_proj(x).split(self.in_widths, dim=-1)
        if self.q_rank:
            q = self.q_b_proj(self.q_norm(q))
        q_nope, q_rope = q.unflatten(-1, (self.heads, -1)).split((self.nope, self.rope), dim=-1)
        kv = self.kv_b_proj(self.kv_norm(c)).unflatten(-1, (self.heads, -1))
        k_nope, v = kv.split((self.nope, self.v_dim), dim=-1)
        k_rope = self.rotary(k_rope.unsqueeze(2)).expand(-1, -1, self.heads, -1)
        q = torch.cat((q_nope, self.rotary(q_rope)), dim=-1)
        return self.core(q, torch.cat((k_nope, k_rope), dim=-1), v)


ATTENTION = {"mha": MultiHead, "mla-prerope": PreRope, "mla-decoupled": Decoupled}


class Layer(nn.Module):
    def __init__(self, model, attention, time_steps):
        super().__init__()
        width, ffn = model["d_model"], model["ffn"]
        self.input_norm = nn.RMSNorm(width, eps=model["norm_eps"])
        self.attention = ATTENTION[attention["variant"]](model, attention, time_steps)
        self.post_norm = nn.RMSNorm(width, eps=model["norm_eps"])
        self.gate_up_proj, self.down_proj = linear(width, 2 * ffn), linear(ffn, width)

    def forward(self, x):
        x = x + self.attention(self.input_norm(x))
        gate, up = self.gate_up_proj(self.post_norm(x)).chunk(2, dim=-1)
        return x + self.down_proj(F.silu(gate) * up)


class LanguageModel(nn.Module):
    def __init__(self, model, attention, time_steps):
        super().__init__()
        self.embedding = nn.Embedding(model["vocab"], model["d_model"])
        self.layers = nn.ModuleList(Layer(model, attention, time_steps) for _ in range(model["layers"]))
        self.norm = nn.RMSNorm(model["d_model"], eps=model["norm_eps"])
        self.head = linear(model["d_model"], model["vocab"])
        if model["tie_embeddings"]:
            self.head.weight = self.embedding.weight
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1).float(), targets.flatten())


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def backend_context(name):
    return sdpa_kernel(BACKENDS[name]) if name else contextlib.nullcontext()


def fastest_backend(model, attention, batch, time_steps, device):
    """Returns the backend with the fastest forward and backward of attention; None lets PyTorch choose."""
    if device != "cuda":
        return None
    qk, v_width = model["head_dim"], model["head_dim"]
    if attention["variant"] == "mla-decoupled":
        qk, v_width = attention["nope_dim"] + attention["rope_dim"], attention["v_dim"]
    make = lambda width: torch.randn(batch, model["heads"], time_steps, width, device=device,
                                     dtype=torch.bfloat16, requires_grad=True)
    q, k, v = make(qk), make(qk), make(v_width)
    gradient = torch.randn(v.shape, device=device, dtype=torch.bfloat16)
    seconds = {}
    for name in ("cudnn", "flash", "efficient"):
        try:
            with backend_context(name):
                for i in range(8):
                    if i == 3:
                        synchronize(device)
                        begin = time.perf_counter()
                    F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(gradient)
                synchronize(device)
            seconds[name] = time.perf_counter() - begin
        except RuntimeError:
            torch.cuda.synchronize()
    return min(seconds, key=seconds.get) if seconds else None


def flops_per_token(net, model, attention, time_steps):
    """6 x matmul parameters (with the LM head, without the embedding) + causal attention, as Pastur counts."""
    matmul = sum(p.numel() for p in net.parameters() if p.dim() == 2)
    if not model["tie_embeddings"]:
        matmul -= net.embedding.weight.numel()
    qk, v_width = model["head_dim"], model["head_dim"]
    if attention["variant"] == "mla-decoupled":
        qk, v_width = attention["nope_dim"] + attention["rope_dim"], attention["v_dim"]
    return 6 * matmul + 3 * model["layers"] * model["heads"] * (qk + v_width) * time_steps


def measure(entry, bench, mode, steps, warmup, device):
    model, attention, train = entry["config"]["model"], entry["config"]["attention"], entry["config"]["train"]
    time_steps = bench["seq_len"]
    micro, micro_batches = bench["micro_batch"], bench["global_batch"] // bench["micro_batch"]
    torch._dynamo.reset()
    torch.manual_seed(train["seed"])
    backend = fastest_backend(model, attention, micro, time_steps, device)
    with torch.device(device):
        net = LanguageModel(model, attention, time_steps)
    parameters = sum(p.numel() for p in net.parameters())
    flops = flops_per_token(net, model, attention, time_steps)
    if (parameters, flops) != (entry["parameters"], entry["flops_per_token"]):
        raise ValueError(f"not Pastur's model: {parameters} parameters and {flops} FLOPs per token, "
                         f"against {entry['parameters']} and {entry['flops_per_token']:.0f}")
    optimizer = torch.optim.AdamW(net.parameters(), lr=train["lr"], betas=(train["beta1"], train["beta2"]),
                                  eps=train["eps"], weight_decay=train["weight_decay"], fused=True)
    batches = [torch.randint(0, model["vocab"], (micro, time_steps + 1)) for _ in range(8)]
    forward = torch.compile(net) if mode == "compiled" else net
    if device == "cuda":
        batches = [batch.pin_memory() for batch in batches]
        torch.cuda.reset_peak_memory_stats()
    bf16 = bench["dtype"] == "bf16"
    seconds, losses = [], []
    with backend_context(backend):
        settled = math.inf
        for step in itertools.count():
            if len(seconds) == steps:
                break
            synchronize(device)
            begin = time.perf_counter()
            if step == warmup:  # now compiled: from here, settle as long as Pastur did
                settled = begin + bench.get("settle_s", 0)
            total = 0
            for i in range(micro_batches):
                batch = batches[(step * micro_batches + i) % len(batches)].to(device, non_blocking=True)
                with torch.autocast(device, torch.bfloat16, enabled=bf16):
                    loss = forward(batch[:, :-1], batch[:, 1:]) / micro_batches
                loss.backward()
                total = total + loss.detach()
            if train["grad_clip"] > 0:
                nn.utils.clip_grad_norm_(net.parameters(), train["grad_clip"])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(total.item())
            synchronize(device)
            if begin >= settled:
                seconds.append(time.perf_counter() - begin)
    p50 = statistics.median(seconds)
    rate = micro * micro_batches * time_steps / p50
    return {
        "peer": "pytorch " + torch.__version__, "mode": mode, "sdpa": backend or "default",
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu ({torch.get_num_threads()} threads)",
        "dtype": bench["dtype"], "preset": bench["preset"], "variant": attention["variant"],
        "seq_len": time_steps, "global_batch": bench["global_batch"], "micro_batch": micro,
        "parameters": parameters, "flops_per_token": flops,
        "ms_p50": p50 * 1e3, "ms_p95": sorted(seconds)[int(0.95 * (len(seconds) - 1))] * 1e3,
        "tokens_per_s": rate, "tflops": rate * flops / 1e12,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "first_loss": losses[0], "last_loss": losses[-1],
        "pastur_tokens_per_s": entry["tokens_per_s"], "ratio": entry["tokens_per_s"] / rate,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", help="file written by `pastur bench --json`")
    parser.add_argument("--modes", help="compiled, eager or both (default: compiled on CUDA, both on the CPU)")
    parser.add_argument("--steps", type=int, help="measured steps (default: as many as Pastur measured)")
    parser.add_argument("--warmup", type=int, default=5, help="steps before the measured ones, including compilation")
    arguments = parser.parse_args()
    with open(arguments.bench) as file:
        bench = json.load(file)
    device = "cuda" if bench["backend"] == "cuda" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch_peer.py: install a PyTorch with CUDA: Pastur ran on CUDA, but PyTorch finds no CUDA device")
    torch.set_float32_matmul_precision("highest")  # fp32 runs use fp32 GEMMs, not TF32
    failed = False
    for entry in bench["variants"]:
        for mode in (arguments.modes or ("compiled" if device == "cuda" else "compiled,eager")).split(","):
            try:
                result = measure(entry, bench, mode, arguments.steps or bench["steps"], arguments.warmup, device)
            except Exception as error:  # continue with the other variants
                failed = True
                result = {"peer": "pytorch " + torch.__version__, "mode": mode, "variant": entry["variant"],
                          "error": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps(result), flush=True)
            if device == "cuda":
                torch.cuda.empty_cache()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Writes tiny models with Hugging Face transformers and compares `pastur spectra` with NumPy's singular values.

    pip install numpy torch transformers
    tests/golden/check_hf_spectra.py build/pastur

The models are Llama with grouped queries (one file, and bf16 in shards) and DeepSeek-V3 with and without a query
latent. Every eigenvalue of every layer and head must agree within 1e-10 of the largest.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM

LLAMA = dict(vocab_size=64, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=6,
             num_key_value_heads=2, head_dim=8)
DEEPSEEK = dict(vocab_size=64, hidden_size=48, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=20, qk_nope_head_dim=10,
                qk_rope_head_dim=6, v_head_dim=12, first_k_dense_replace=2, n_routed_experts=4, num_experts_per_tok=2,
                n_group=1, topk_group=1)


def llama_maps(config, weight, layer):
    """Returns [(query [D, C], key [D, C])] of all heads, in float64."""
    q, k = weight(layer, "q_proj"), weight(layer, "k_proj")
    dim, per_group = config.head_dim, config.num_attention_heads // config.num_key_value_heads
    return {"qk": [(q[h * dim:][:dim], k[h // per_group * dim:][:dim]) for h in range(config.num_attention_heads)]}


def deepseek_maps(config, weight, layer):
    if config.q_lora_rank:
        q = weight(layer, "q_b_proj") * weight(layer, "q_a_layernorm") @ weight(layer, "q_a_proj")
    else:
        q = weight(layer, "q_proj")
    down = weight(layer, "kv_a_proj_with_mqa")
    up = weight(layer, "kv_b_proj") * weight(layer, "kv_a_layernorm")
    nope, rope, rank = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank
    maps = {"qk": [], "qk_content": [], "qk_rope": []}
    for h in range(config.num_attention_heads):
        query = q[h * (nope + rope):][:nope + rope]
        content, rotary = up[h * (nope + config.v_head_dim):][:nope] @ down[:rank], down[rank:]
        maps["qk"].append((query, np.concatenate([content, rotary])))
        maps["qk_content"].append((query[:nope], content))
        maps["qk_rope"].append((query[nope:], rotary))
    return maps


def check(pastur, name, model, maps_of, **save):
    with tempfile.TemporaryDirectory() as folder:
        for parameter in model.parameters():  # norms start as ones, which would hide a missing gain
            torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.2)
        model.save_pretrained(folder, **save)
        archive = Path(folder) / "spectra.npz"
        subprocess.run([pastur, "spectra", folder, "--npz", archive, "--device", "cpu"], check=True,
                       stdout=subprocess.DEVNULL)
        spectra, state, worst, count = np.load(archive), model.state_dict(), 0.0, 0

        def weight(layer, module):
            return state[f"model.layers.{layer}.self_attn.{module}.weight"].double().numpy()

        for layer in range(model.config.num_hidden_layers):
            for matrix, heads in maps_of(model.config, weight, layer).items():
                products = [q.T @ k for q, k in heads]
                rows = list(spectra[f"layers.{layer}.{matrix}.heads"]) + [spectra[f"layers.{layer}.{matrix}"]]
                for product, row in zip(products + [sum(products)], rows, strict=True):
                    exact = np.linalg.svd(product, compute_uv=False) ** 2
                    exact[:len(row)] -= row
                    worst, count = max(worst, abs(exact).max() / row[0]), count + 1
        assert count and worst < 1e-10, (name, count, worst)
        print(f"{name}: {count} spectra, worst difference {worst:.1e} of the largest eigenvalue")


def main():
    pastur = Path(sys.argv[1]).resolve()
    torch.manual_seed(0)
    check(pastur, "Llama, fp32", LlamaForCausalLM(LlamaConfig(**LLAMA)), llama_maps)
    check(pastur, "Llama, bf16 in shards", LlamaForCausalLM(LlamaConfig(**LLAMA)).bfloat16(), llama_maps,
          max_shard_size="20KB")
    for rank in (None, 16):
        check(pastur, f"DeepSeek-V3, query rank {rank}",
              DeepseekV3ForCausalLM(DeepseekV3Config(**DEEPSEEK, q_lora_rank=rank)), deepseek_maps)


if __name__ == "__main__":
    main()

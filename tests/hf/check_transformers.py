#!/usr/bin/env python3
"""Loads what Pastur writes with Hugging Face transformers, and what transformers writes with Pastur.

    pip install numpy torch transformers
    tests/hf/check_transformers.py build/pastur

A tiny model of every attention variant and switch is trained for a few steps. transformers must load its checkpoint
folder unchanged and give the logits of `pastur eval --logits` on 256 tokens within 1e-4, and continue a prompt
greedily with the tokens that Pastur finds most likely. The exported folder must give the same, and export, import,
export must give the same bytes. Random models of transformers are imported and must give the same logits.
"""
import argparse
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    import torch
    import transformers
    from safetensors.numpy import load_file
    from transformers import AutoConfig, AutoModelForCausalLM
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = Path(__file__).resolve().parents[2]
TOKENS, PROMPT, GREEDY, TOLERANCE = 256, 8, 48, 1e-4
# Variant, settings, and the class that transformers must choose.
VARIANTS = {
    "mha": ("mha", {}, "LlamaForCausalLM"),
    "mha, grouped": ("mha", {"model.kv_heads": 2, "model.rope_theta": 500000}, "LlamaForCausalLM"),
    "mha, tied": ("mha", {"model.tie_embeddings": "true"}, "LlamaForCausalLM"),
    "mha, wide heads": ("mha", {"model.head_dim": 48, "model.norm_eps": 1e-5}, "LlamaForCausalLM"),
    "mha, 3 heads": ("mha", {"model.head_dim": 32, "model.heads": 3}, "PasturForCausalLM"),
    "mha, qk_norm": ("mha", {"attention.qk_norm": "head", "model.kv_heads": 2}, "Qwen3ForCausalLM"),
    "mha-nope": ("mha-nope", {"model.kv_heads": 2}, "PasturForCausalLM"),
    "mha-nope, qk_norm": ("mha-nope", {"attention.qk_norm": "head"}, "PasturForCausalLM"),
    "mha-shared-rope": ("mha-shared-rope", {"model.tie_embeddings": "true"}, "PasturForCausalLM"),
    "mha-shared-rope, qk_norm": ("mha-shared-rope", {"attention.qk_norm": "head"}, "PasturForCausalLM"),
    "mla-nope": ("mla-nope", {}, "PasturForCausalLM"),
    "mla-nope, q_rank, gain": ("mla-nope", {"attention.q_rank": 40, "attention.latent_gain": "sqrt"}, "PasturForCausalLM"),
    "mla-rope": ("mla-rope", {"attention.v_dim": 24}, "PasturForCausalLM"),
    "mla-rope, q_rank, qk_norm": ("mla-rope", {"attention.q_rank": 40, "attention.qk_norm": "head"}, "PasturForCausalLM"),
    "mla-decoupled": ("mla-decoupled", {}, "DeepseekV3ForCausalLM"),
    "mla-decoupled, q_rank": ("mla-decoupled", {"attention.q_rank": 40, "attention.v_dim": 24, "attention.nope_dim": 20,
                                                "model.tie_embeddings": "true"}, "DeepseekV3ForCausalLM"),
    "mla-decoupled, gain": ("mla-decoupled", {"attention.q_rank": 40, "attention.latent_gain": "sqrt"},
                            "PasturForCausalLM"),
    "mla-decoupled, qk_norm": ("mla-decoupled", {"attention.qk_norm": "head"}, "PasturForCausalLM"),
    "mla-prerope": ("mla-prerope", {"attention.k_rank": 40}, "PasturForCausalLM"),
    "mla-prerope, latent_norm, gain": ("mla-prerope", {"attention.latent_norm": "true",
                                                       "attention.latent_gain": "sqrt"}, "PasturForCausalLM"),
    "mla-prerope, qk_norm": ("mla-prerope", {"attention.qk_norm": "head"}, "PasturForCausalLM"),
    "mla-prerope, input": ("mla-prerope", {"attention.prerope_site": "input"}, "PasturForCausalLM"),
    "mla-prerope, input, latent_norm": ("mla-prerope", {"attention.prerope_site": "input",
                                                        "attention.latent_norm": "true"}, "PasturForCausalLM"),
    "mtla": ("mtla", {}, "PasturForCausalLM"),
    "mtla, stride 3": ("mtla", {"attention.stride": 3, "attention.kv_rank": 42}, "PasturForCausalLM"),
}


class Checker:
    def __init__(self, pastur, folder):
        self.pastur, self.folder, self.failures = pastur, folder, []
        self.run("data", "synth", "--docs", 400, "--seed", 1, "--out", folder / "stories.txt")
        self.run("data", "prepare", "--input", folder / "stories.txt", "--tokenizer", "train:512", "--out",
                 folder / "tokens", "--val-fraction", 0.1)

    def run(self, *arguments):
        result = subprocess.run([self.pastur, *map(str, arguments)], capture_output=True, text=True, cwd=self.folder)
        if result.returncode != 0:
            raise RuntimeError(f"pastur {' '.join(map(str, arguments))}: exit {result.returncode}: {result.stderr}")
        return result.stdout

    def fail(self, name, what):
        self.failures.append(f"{name}: {what}")
        print(f"FAILED {name}: {what}")

    def train(self, name, variant, settings):
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        settings = {"model.vocab": 512, "model.layers": 3, "train.steps": 3, "train.global_batch": 2, "train.lr": 0.01,
                    "train.warmup_steps": 0, "data.seq_len": TOKENS, "data.dir": self.folder / "tokens",
                    "diagnostics.every": 0, "diagnostics.early": "[]", "run.tensorboard": "false"} | settings
        self.run("train", ROOT / f"tools/recipes/nano-{variant}.toml", "--run", run, "--device", "cpu",
                 *(f"--{key}={value}" for key, value in settings.items()))
        return run / "checkpoints" / "step_00000003"

    def pastur_logits(self, checkpoint, data, length=TOKENS):
        """Returns tokens [T] and logits [T, V] of the first sequence."""
        out = self.folder / "logits.safetensors"
        self.run("eval", "--checkpoint", checkpoint, "--data", data, "--tokens", length, "--seq-len", length, "--device",
                 "cpu", "--logits", out)
        arrays = load_file(out)
        return arrays["tokens.0"].astype(np.int64), arrays["logits.0"]

    def load(self, folder):
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
        return model.eval()

    def compare(self, name, folder, model=None, data=None, expected_class=None):
        """Compares the logits of Pastur on `folder` with those of transformers' model, by default of the folder."""
        model = model or self.load(folder)
        if expected_class and type(model).__name__ != expected_class:
            self.fail(name, f"loaded as {type(model).__name__}, expected {expected_class}")
        tokens, ours = self.pastur_logits(folder, data or self.folder / "tokens")
        with torch.no_grad():
            theirs = model(torch.from_numpy(tokens)[None]).logits[0].numpy()
        worst = float(np.abs(theirs - ours).max())
        if not worst <= TOLERANCE:
            self.fail(name, f"logits differ by {worst:.1e}")
        return model, tokens, worst

    def write_shard(self, tokens):
        """A validation shard in the format of llm.c."""
        header = [20240520, 1, len(tokens)] + [0] * 253
        shard = self.folder / "greedy_000000.bin"
        shard.write_bytes(struct.pack("<256i", *header) + np.asarray(tokens, np.uint16).tobytes())
        return shard

    def compare_greedy(self, name, folder, model, prompt):
        """Pastur's most likely token after each prefix of transformers' greedy continuation must be the next one."""
        prompt = torch.from_numpy(prompt)[None]
        with torch.no_grad():
            chain = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                                   max_new_tokens=GREEDY, min_new_tokens=GREEDY,
                                   eos_token_id=None, pad_token_id=0)[0].numpy()
        _, logits = self.pastur_logits(folder, self.write_shard(chain), len(chain) - 1)
        equal = int((logits.argmax(-1)[PROMPT - 1:] == chain[PROMPT:]).sum())
        if equal != GREEDY:
            self.fail(name, f"{equal} of {GREEDY} greedy tokens are equal")
        return equal

    def check_variant(self, name):
        variant, settings, hf_class = VARIANTS[name]
        checkpoint = self.train(name, variant, settings)
        model, tokens, worst = self.compare(name, checkpoint, expected_class=hf_class)
        greedy = self.compare_greedy(name, checkpoint, model, tokens[:PROMPT])
        print(f"{name:32s} {hf_class:22s} logits {worst:.1e}, {greedy} greedy tokens")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pastur", type=Path)
    parser.add_argument("--only", help="names of cases that contain this")
    options = parser.parse_args()
    torch.manual_seed(0)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(options.pastur.resolve(), Path(folder))
        for name in VARIANTS:
            if not options.only or options.only in name:
                checker.check_variant(name)
    print(f"transformers {transformers.__version__}: {len(checker.failures)} failures")
    sys.exit(1 if checker.failures else 0)


if __name__ == "__main__":
    main()

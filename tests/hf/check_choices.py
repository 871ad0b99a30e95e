#!/usr/bin/env python3
"""Compares `pastur eval --choices` and `--stride` with the same measurements made by Hugging Face transformers.

    pip install numpy torch transformers
    tests/hf/check_choices.py build/pastur

A nano model is trained for a few steps and exported. The log-likelihoods of the choices in tests/hf/choices, which have the
shapes of HellaSwag, ARC and PIQA, must agree within 1e-4 and give the same accuracies; so must the loss of a text in
overlapping windows.
"""
import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import sentencepiece  # noqa: F401, which AutoTokenizer needs for tokenizer.model
    import numpy as np
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = Path(__file__).resolve().parents[2]
SEQ_LEN, STRIDE, TOLERANCE = 128, 48, 1e-4


def question(kind, row):
    """Context, choices, index of the right one."""
    if kind == "hellaswag":
        def clean(text):
            return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")
        context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
        return clean(context), [clean(ending) for ending in row["endings"]], int(row["label"])
    if kind == "arc":
        return (f"Question: {row['question']}\nAnswer:", row["choices"]["text"],
                row["choices"]["label"].index(row["answerKey"]))
    return f"Question: {row['goal']}\nAnswer:", [row["sol1"], row["sol2"]], int(row["label"])


def loglikelihood(model, tokenizer, context, continuation):
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    head = len(tokenizer.encode(context, add_special_tokens=False))
    whole = tokenizer.encode(context + continuation, add_special_tokens=False)
    count = len(whole) - head
    ids = torch.tensor(whole[-(SEQ_LEN + 1):])
    with torch.no_grad():
        logs = model(ids[None, :-1]).logits[0].double().log_softmax(-1)
    return logs.gather(1, ids[1:, None])[-count:].sum().item()


def check_choices(pastur, model, tokenizer, folder, kind):
    file, out = ROOT / f"tests/hf/choices/{kind}.jsonl", folder.parent / f"{kind}.json"
    pastur("eval", "--checkpoint", folder, "--choices", file, "--seq-len", SEQ_LEN, "--device", "cpu", "--json", out)
    ours = json.loads(out.read_text())
    right, right_norm, right_bytes, worst = [], [], [], 0.0
    for line, found in zip(file.read_text().splitlines(), ours["per_document"], strict=True):
        context, choices, gold = question(kind, json.loads(line))
        theirs = np.array([loglikelihood(model, tokenizer, context, " " + choice) for choice in choices])
        worst = max(worst, float(np.abs(theirs - found["loglikelihoods"]).max()))
        right.append(theirs.argmax() == gold)
        right_norm.append((theirs / [len(choice) for choice in choices]).argmax() == gold)
        right_bytes.append((theirs / [len(choice.encode()) for choice in choices]).argmax() == gold)
    scores = {}
    for name, hits in (("acc", right), ("acc_norm", right_norm), ("acc_bytes", right_bytes)):
        scores[name] = float(np.mean(hits))
        scores[name + "_stderr"] = float(np.std(hits, ddof=1) / math.sqrt(len(hits)))
    failed = worst > TOLERANCE or any(abs(ours[name] - value) > 1e-12 for name, value in scores.items())
    print(f"{kind:10s} {len(right)} questions, log-likelihoods {worst:.1e}, acc {ours['acc']:.3f}, acc_norm "
          f"{ours['acc_norm']:.3f}, acc_bytes {ours['acc_bytes']:.3f}{': FAILED ' + str(scores) if failed else ''}")
    return failed


def check_stride(pastur, model, tokenizer, folder, text):
    """Windows of SEQ_LEN inputs that begin STRIDE tokens apart; each scores what was not scored before."""
    found = json.loads(pastur("eval", "--checkpoint", folder, "--data", text, "--seq-len", SEQ_LEN, "--stride", STRIDE,
                              "--device", "cpu", "--json"))
    eos = model.config.eos_token_id
    eos = eos[0] if isinstance(eos, list) else eos
    documents = [part.strip("\r\n") for part in text.read_text().split("<|doc|>\n")]
    ids, size = [eos], 0
    for document in filter(None, documents):
        ids += tokenizer.encode(document, add_special_tokens=False) + [eos]
        size += len(document.encode())
    nats = text_nats = end = 0
    for begin in range(0, len(ids), STRIDE):
        window = torch.tensor(ids[begin:begin + SEQ_LEN + 1])
        with torch.no_grad():
            logs = model(window[None, :-1]).logits[0].double().log_softmax(-1)
        losses = -logs.gather(1, window[1:, None])[:, 0]
        losses, targets = losses[max(end - begin, 0):], window[1:][max(end - begin, 0):]
        nats, text_nats = nats + losses.sum().item(), text_nats + losses[targets != eos].sum().item()
        end = begin + len(window) - 1
        if begin + SEQ_LEN + 1 >= len(ids):
            break
    loss, bits = nats / (len(ids) - 1), text_nats / math.log(2) / size
    failed = (abs(loss - found["loss"]) > TOLERANCE or abs(bits - found["bits_per_byte"]) > TOLERANCE
              or found["tokens"] != len(ids) - 1 or found["bytes"] != size)
    print(f"stride {STRIDE}: loss {found['loss']:.6f}, {loss:.6f}; bits per byte {found['bits_per_byte']:.6f}, {bits:.6f}; "
          f"{found['tokens']} tokens{': FAILED' if failed else ''}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pastur", type=Path)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)

        def pastur(*arguments):
            result = subprocess.run([options.pastur.resolve(), *map(str, arguments)], capture_output=True, text=True,
                                    cwd=work)
            if result.returncode != 0:
                raise RuntimeError(f"pastur {' '.join(map(str, arguments))}: exit {result.returncode}: {result.stderr}")
            return result.stdout

        pastur("data", "synth", "--docs", 400, "--seed", 1, "--out", "stories.txt")
        pastur("data", "prepare", "--input", "stories.txt", "--tokenizer", "train:512", "--out", "tokens")
        pastur("data", "synth", "--docs", 4, "--seed", 2, "--out", "text.txt")
        failures = 0
        for variant in ("mha", "mla-decoupled"):
            pastur("train", ROOT / f"tools/recipes/nano-{variant}.toml", "--run", variant, "--device", "cpu",
                   "--model.vocab=512", "--data.dir=tokens", "--data.seq_len=128", "--train.steps=8", "--train.warmup_steps=0",
                   "--train.global_batch=4", "--train.lr=0.003", "--diagnostics.every=0", "--diagnostics.early=[]",
                   "--run.tensorboard=false")
            folder = work / f"hf-{variant}"
            pastur("export", "--checkpoint", variant, "--out", folder)
            model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
            tokenizer = AutoTokenizer.from_pretrained(folder)
            print(f"{variant}: {type(model).__name__}")
            failures += sum(check_choices(pastur, model, tokenizer, folder, kind) for kind in ("hellaswag", "arc", "piqa"))
            failures += check_stride(pastur, model, tokenizer, folder, work / "text.txt")
    print(f"transformers {transformers.__version__}: {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

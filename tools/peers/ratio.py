#!/usr/bin/env python3
"""Prints Pastur's and PyTorch's speed next to each other, from the files that compare.sh makes: JSON files of
`pastur bench --json` and the JSON lines of torch_peer.py or torch_attention.py.

    ratio.py peer.jsonl pastur.1.json [pastur.2.json ...]
"""
import json
import sys


def step_table(peers, variants):
    """Yields a table of training steps; each program's best round counts."""
    best = {}
    for variant in variants:
        if variant["tokens_per_s"] > best.get(variant["variant"], {"tokens_per_s": 0})["tokens_per_s"]:
            best[variant["variant"]] = variant
    yield f"{'variant':<15}{'pastur tok/s':>14}{'TFLOP/s':>9}{'PyTorch tok/s':>15}{'TFLOP/s':>9}{'ratio':>7}  PyTorch's best"
    for name, ours in best.items():
        start = f"{name:<15}{ours['tokens_per_s']:>14.0f}{ours['tflops']:>9.3g}"
        rivals = [p for p in peers if p["variant"] == name and "error" not in p]
        if not rivals:
            yield f"{start}  PyTorch failed"
            continue
        rival = max(rivals, key=lambda p: p["tokens_per_s"])
        yield (f"{start}{rival['tokens_per_s']:>15.0f}{rival['tflops']:>9.3g}"
               f"{ours['tokens_per_s'] / rival['tokens_per_s']:>7.2f}"
               f"  {rival['peer']}, {rival['mode']}, sdpa {rival['sdpa']}")


def attention_table(peers, ops):
    """Yields a table of attention in FLOP/s, sustained and, on a GPU, rested (after a pause)."""
    columns = []
    for peer in peers:
        column = (peer["sdpa"], peer["deterministic"])
        if column not in columns and "error" not in peer:
            columns.append(column)

    def fewest_ms(rows, key):
        return min((row[key] for row in rows if row.get(key)), default=None)  # failed ops and ops on a CPU lack the key

    titles = ["pastur"] + [name + (", det." if deterministic else "") for name, deterministic in columns]
    unit, per_tera = ("GFLOP/s", 1e3) if max(op["tflops"] for op in ops) < 10 else ("TFLOP/s", 1)  # below 10 TFLOP/s: a CPU
    yield f"{unit + ', sustained / rested':<78}" + "".join(f"{title:>18}" for title in titles) + f"{'ratio to best':>16}"
    for name, shape in dict.fromkeys((op["name"], op["shape"]) for op in ops):
        ours = [op for op in ops if (op["name"], op["shape"]) == (name, shape)]
        flops = ours[0]["tflops"] * ours[0]["ms"] * per_tera
        groups = [ours] + [[p for p in peers if (p["op"], p["shape"], p["sdpa"], p["deterministic"]) ==
                            (name, shape, *column)] for column in columns]
        ms = {key: [fewest_ms(rows, key) for rows in groups] for key in ("ms", "rested_ms")}
        line = f"{name:<30}{shape:<48}"
        for sustained, rested in zip(ms["ms"], ms["rested_ms"]):
            line += f"{flops / sustained:>10.1f}" if sustained else f"{'-':>10}"
            line += f" / {flops / rested:>5.1f}" if rested else " " * 8
        for times in ms.values():
            best = min((x for x in times[1:] if x), default=None)
            line += f"{best / times[0]:>8.2f}" if best else ""
        yield line.rstrip()


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as file:
        peers = [json.loads(line) for line in file]
    benches = []
    for name in sys.argv[2:]:
        with open(name) as file:
            benches.append(json.load(file))
    variants = [variant for bench in benches for variant in bench["variants"]]
    attention = [op for bench in benches for op in bench["ops"] if op["name"].startswith("attention")]
    for line in attention_table(peers, attention) if attention else step_table(peers, variants):
        print(line)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Kills or signals a training run of several ranks at random moments, resumes it each time, and compares what it
ends in with an unbroken run: every byte of weights and moments, every digit of every loss, every spectrum.

    tests/engine/train/kill_test.py --kills 100 --signals 100      # a quarter of an hour; --help for the rest

A kill is SIGKILL to mpirun and all ranks at once; half of them must hit the run while a checkpoint is being written.
A signal is USR1 (to mpirun, which hands it on, or to one rank or all of them), TERM or INT (to ranks): the run must
save, and exit with 75. One run after the other is driven to its end until there were enough. tests/engine/train/kill_test.txt is
what it last said.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

RECIPE = """
[model]
vocab = 512
d_model = 64
ffn = 172
layers = 3
heads = 4
[data]
dir = "corpus"
seq_len = 32
[train]
steps = {steps}
global_batch = 8
micro_batch = 4
val_every = {val_every}
val_tokens = 2048
[checkpoint]
every = 5
[diagnostics]
every = {spectra_every}
[run]
log_every = 1
tensorboard = true
"""
VAL_EVERY, SPECTRA_EVERY = 7, 3
MARK = "PASTUR_KILL_TEST"


class Failed(Exception):
    pass


def marked_processes(mark):
    """Ids of all processes that a launch started, mpirun included, whoever their parent is by now."""
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and wanted in pathlib.Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                yield int(entry)
        except OSError:
            pass  # it has just ended, or is not ours


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Life:
    """One launch of the run, from its start or its last checkpoint."""

    count = 0

    def __init__(self, options, work, run):
        Life.count += 1
        self.mark = f"{os.getpid()}-{Life.count}"
        self.program = options.pastur
        environment = dict(os.environ, OMP_NUM_THREADS="1", TMPDIR=str(work), **{MARK: self.mark})
        launcher = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(options.ranks),
                    "--mca", "btl_vader_backing_directory", str(work), "--mca", "mpi_yield_when_idle", "1"]
        command = [options.pastur, "train", "r.toml", "--run", run.name, "--device", "cpu", "--resume"]
        self.log = open(work / "log", "w+b")
        self.process = subprocess.Popen((launcher if options.ranks > 1 else []) + command, cwd=work,
                                        env=environment, stdout=self.log, stderr=self.log)

    def ended(self):
        return self.process.poll() is not None

    def ranks(self):
        """Ids of the ranks that have installed their signal handlers."""
        ready, name = [], os.path.basename(self.program)[:15]
        for pid in marked_processes(self.mark):
            try:
                status = pathlib.Path("/proc", str(pid), "status").read_text()
            except OSError:
                continue
            caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
            if status.startswith(f"Name:\t{name}\n") and caught >> (signal.SIGUSR2 - 1) & 1:
                ready.append(pid)
        return ready

    def kill(self):
        """Everything at once; what was being started meanwhile, too."""
        while pids := list(marked_processes(self.mark)):
            for pid in pids:
                send(pid, signal.SIGKILL)
            self.process.poll()
            if pids == [self.process.pid] and self.ended():
                break
        self.process.wait()

    def wait(self):
        try:
            code = self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"hangs: {self.said()}") from None
        return code

    def said(self):
        self.log.seek(0)
        return self.log.read()[-2000:].decode(errors="replace")


def is_saving(run):
    return any((run / "checkpoints").glob(".tmp-step_*"))


def tensors(path):
    """The XXH3-free way: SHA-256 of each tensor of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    return {name: hashlib.sha256(body[slice(*entry["data_offsets"])]).hexdigest()
            for name, entry in header.items() if name != "__metadata__"}


def outcome(run):
    """What must not depend on what happened on the way."""
    checkpoint = run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()
    result = {"state": json.loads((checkpoint / "state.json").read_text())}
    for path in sorted(checkpoint.glob("*.safetensors")):
        result[path.name] = tensors(path)
    losses = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        if "loss" in event:
            key = f'{event["event"]} {event["step"]}'
            if key in losses:
                raise Failed(f"{key} was logged twice")
            losses[key] = (event["loss"], event.get("grad_norm"))
    result["losses"] = losses
    result["spectra"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                         for path in (run / "spectra").iterdir() if path.is_file() and "abandoned" not in path.name}
    return result


def compare(expected, found):
    for part, value in expected.items():
        if found.get(part) != value:
            names = [name for name in value if found.get(part, {}).get(name) != value[name]]
            raise Failed(f"{part} differs from the unbroken run's: {names[:5]}")
    if set(found) != set(expected):
        raise Failed(f"other files than the unbroken run's: {set(found) ^ set(expected)}")


def check_intact(options, work, run):
    """The newest checkpoint, if there is one yet, is right in every byte."""
    if not any((run / "checkpoints").glob("step_*")):
        return
    verify = subprocess.run([options.pastur, "verify", run.name], cwd=work, capture_output=True, text=True,
                            check=False)
    if verify.returncode != 0:
        raise Failed(f"after a kill: {verify.stderr}")


def wait_for_save(life, run, dice):
    """Until the first, second or third save begins, and then a moment of what it takes."""
    for number in range(dice.randint(1, 3)):
        while number > 0 and is_saving(run) and not life.ended():
            time.sleep(0.0002)
        while not is_saving(run) and not life.ended():
            time.sleep(0.0002)
    time.sleep(dice.uniform(0, 0.02))


def last_logged_step(metrics):
    """0 where the last line is none of a step, or there is none yet."""
    try:
        with open(metrics, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1024))
            event = json.loads(file.read().splitlines()[-1])
    except (OSError, IndexError, ValueError):
        return 0
    return event["step"] if event["event"] == "train" else 0


def wait_for_step(life, run, dice, every, offset):
    """Until the step `offset` after a multiple of `every` is the last thing that was logged, once or a few times
    after the start."""
    metrics = run / "metrics.jsonl"
    for _ in range(dice.randint(1, 3)):
        seen = None
        while not life.ended():
            step = last_logged_step(metrics)
            if step > 0 and step % every == offset and seen is not None and step != seen:
                break
            seen = step
            time.sleep(0.0002)


def kill_once(options, work, run, dice, counts):
    """One life that ends in a kill; True when the run was done before."""
    life = Life(options, work, run)
    if 2 * counts["kills while saving"] <= counts["kills"]:
        wait_for_save(life, run, dice)
    else:
        end = time.monotonic() + dice.uniform(0, options.life_s)
        while time.monotonic() < end and not life.ended():
            time.sleep(0.001)
    if life.ended():
        if life.wait() != 0:
            raise Failed(life.said())
        return True
    life.kill()
    counts["kills"] += 1
    counts["kills while saving"] += is_saving(run)
    check_intact(options, work, run)
    return False


def signal_once(options, work, run, dice, counts):
    """One life that ends in a signal; True when the run was done."""
    life = Life(options, work, run)
    while len(life.ranks()) < options.ranks and not life.ended():
        time.sleep(0.001)
    moment = dice.choice(["any", "any", "saving", "start", "validation", "spectra"])
    if moment == "saving":
        wait_for_save(life, run, dice)
    elif moment == "validation":
        wait_for_step(life, run, dice, VAL_EVERY, 0)
        time.sleep(dice.uniform(0, 0.01))
    elif moment == "spectra":
        wait_for_step(life, run, dice, SPECTRA_EVERY, SPECTRA_EVERY - 1)
        time.sleep(dice.uniform(0, 0.02))
    elif moment == "any":
        end = time.monotonic() + dice.uniform(0, options.life_s)
        while time.monotonic() < end and not life.ended():
            time.sleep(0.001)
    ranks = life.ranks()
    number = dice.choice([signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
    targets = dice.choice([ranks, ranks[:1], ranks[-1:]])
    if number == signal.SIGUSR1 and dice.random() < 0.5 and not life.ended():
        targets = [life.process.pid]
    for pid in targets:
        send(pid, number)
    code = life.wait()
    if targets:
        counts["signals"] += 1
        counts[f"signals {moment}"] = counts.get(f"signals {moment}", 0) + 1
        counts[signal.Signals(number).name] = counts.get(signal.Signals(number).name, 0) + 1
    if code not in (0, 75):
        raise Failed(f"{signal.Signals(number).name} ({moment}): exit code {code}: {life.said()}")
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    saved = (run / "checkpoints" / "latest").read_text().strip()
    if last["event"] != "end" or saved != f'step_{last["step"]:08}':
        raise Failed(f"{signal.Signals(number).name}: the log ends in {last}, the newest checkpoint is {saved}")
    check_intact(options, work, run)
    return code == 0


def enough(kind, wanted, counts):
    return counts[kind] >= wanted and (kind != "kills" or 2 * counts["kills while saving"] >= wanted)


def drive(options, work, once, wanted, kind, expected, counts):
    """Runs, each driven to its end and compared, until there were enough kills or signals."""
    dice = random.Random(f"{options.seed} {kind}")
    runs = missed = 0
    while not enough(kind, wanted, counts):
        runs += 1
        run = work / f"{kind}-{runs}"
        try:
            before = counts[kind]
            while not once(options, work, run, dice, counts):
                if enough(kind, wanted, counts):
                    life = Life(options, work, run)
                    if life.wait() != 0:
                        raise Failed(life.said())
                    break
            compare(expected, outcome(run))
            if (missed := missed + 1 if counts[kind] == before else 0) > 20:
                raise Failed("20 runs on end were over before anything reached them")
        except Failed as failure:
            raise Failed(f"{run.name}, {counts}: {failure}") from None
        subprocess.run(["rm", "-r", str(run)], check=True)
        print(f"{kind}: {counts[kind]} of {wanted}, {runs} runs ended in the bits of the unbroken one", flush=True)
    return runs


def prepare(options, work):
    def pastur(*arguments):
        subprocess.run([options.pastur, *arguments], cwd=work, check=True, stdout=subprocess.DEVNULL)

    pastur("data", "synth", "--docs", "400", "--seed", "1", "--out", "stories.txt")
    pastur("data", "prepare", "--input", "stories.txt", "--tokenizer", "bytes", "--out", "corpus",
           "--val-fraction", "0.1")
    (work / "r.toml").write_text(RECIPE.format(steps=options.steps, val_every=VAL_EVERY, spectra_every=SPECTRA_EVERY))
    begin = time.monotonic()
    life = Life(options, work, work / "whole")
    if life.wait() != 0:
        raise Failed(life.said())
    options.life_s = options.life_s or 0.6 * (time.monotonic() - begin)
    return outcome(work / "whole")


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pastur", default=str(here / "build-cpu" / "pastur"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--steps", type=int, default=60, help="of each run")
    parser.add_argument("--life-s", type=float, default=0,
                        help="longest time to a kill, in seconds (default: 0.6 of an unbroken run's time)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args()
    options.pastur = os.path.abspath(options.pastur)
    counts = {"kills": 0, "kills while saving": 0, "signals": 0}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pastur-kill-") as folder:
        work = pathlib.Path(folder)
        try:
            expected = prepare(options, work)
            runs = drive(options, work, kill_once, options.kills, "kills", expected, counts)
            runs += drive(options, work, signal_once, options.signals, "signals", expected, counts)
        except Failed as failure:
            sys.exit(f"FAILED: {failure}")
    print(f"{runs} runs of {options.ranks} ranks: {json.dumps(counts)}; weights, moments, losses and spectra of each "
          f"bit-identical to the unbroken run's ({time.monotonic() - begin:.0f} s)")


if __name__ == "__main__":
    main()

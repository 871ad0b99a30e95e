#!/usr/bin/env python3
"""Kills or signals a training run of several ranks at random moments, resumes it each time, and compares what it
ends in with an unbroken run: every byte of weights and moments, every digit of every loss, every spectrum.

    tests/engine/train/kill_test.py --kills 100 --signals 100      # a quarter of an hour; --help for the rest

A kill is SIGKILL to mpirun and all ranks at once; half of them must hit the run while a checkpoint is being written.
A signal is USR1 (to mpirun, which hands it on, or to one rank or all of them), TERM or INT (to ranks): the run must
save, and exit with 75. One run after the other is driven to its end until there were enough.

    tests/engine/train/kill_test.py --kills 0 --signals 0 --resumes 100 --starts 50 --orphans 20
    tests/engine/train/kill_test.py --kills 0 --signals 0 --calls 1000 --power-losses 200 --steps 12

Of two owners of a run folder, the second must exit with 2 and name the first. A call is a change of a file or folder
at which a run of one rank is killed. A power loss keeps what was synced and some of the rest (power_loss.py).
tests/engine/train/kill_test.txt is what these commands last said.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from kill_harness import SPECTRA_EVERY, VAL_EVERY, Failed, Life, check_intact, compare, finish, is_saving, outcome
from kill_harness import prepare, send
from power_loss import kill_at_calls, lose_power
from two_owners import drive_owners


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
        finish(life)
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


def next_variant(options, work):
    """Gives the next run the next of --variants, and returns the outcome of that variant's unbroken run."""
    variant = options.variants[options.turn % len(options.variants)]
    options.turn += 1
    options.setting = options.settings_of_all + [f"attention.variant={variant}"]
    if variant not in options.outcomes:
        whole = work / f"whole-{variant}"
        finish(Life(options, work, whole))
        options.outcomes[variant] = outcome(whole)
    return options.outcomes[variant]


def drive(options, work, once, wanted, kind, expected, counts):
    """Runs, each driven to its end and compared, until there were enough kills or signals."""
    dice = random.Random(f"{options.seed} {kind}")
    runs = missed = 0
    while not enough(kind, wanted, counts):
        runs += 1
        run = work / f"{kind}-{runs}"
        if options.variants:
            expected = next_variant(options, work)
        try:
            before = counts[kind]
            while not once(options, work, run, dice, counts):
                if enough(kind, wanted, counts):
                    finish(Life(options, work, run))
                    break
            compare(expected, outcome(run))
            if (missed := missed + 1 if counts[kind] == before else 0) > 20:
                raise Failed("20 runs on end were over before anything reached them")
        except Failed as failure:
            raise Failed(f"{run.name}, {counts}: {failure}") from None
        subprocess.run(["rm", "-r", str(run)], check=True)
        print(f"{kind}: {counts[kind]} of {wanted}, {runs} runs ended in the bits of the unbroken one", flush=True)
    return runs


def main():
    here = pathlib.Path(__file__).resolve().parents[3]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pastur", default=str(here / "build-cpu" / "pastur"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--resumes", type=int, default=0, help="overlapping with a run")
    parser.add_argument("--starts", type=int, default=0, help="pairs of simultaneous ones")
    parser.add_argument("--orphans", type=int, default=0, help="kills of mpirun alone")
    parser.add_argument("--calls", type=int, default=0, help="kills at changes of files")
    parser.add_argument("--power-losses", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60, help="of each run")
    parser.add_argument("--life-s", type=float, default=0,
                        help="longest time to a kill, in seconds (default: 0.6 of an unbroken run's time)")
    parser.add_argument("--setting", action="append", default=[],
                        help="of every run, such as train.optimizer=muon; may be given several times")
    parser.add_argument("--variants", type=lambda text: text.split(","), default=[],
                        help="of attention, for one killed or signalled run after another: mha,mtla")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args()
    options.pastur = os.path.abspath(options.pastur)
    options.turn, options.outcomes, options.settings_of_all = 0, {}, options.setting
    counts = {"kills": 0, "kills while saving": 0, "signals": 0, "resumes": 0, "starts": 0, "orphans": 0, "calls": 0,
              "power losses": 0}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pastur-kill-") as folder:
        work = pathlib.Path(folder)
        try:
            expected = prepare(options, work)
            runs = drive(options, work, kill_once, options.kills, "kills", expected, counts)
            runs += drive(options, work, signal_once, options.signals, "signals", expected, counts)
            options.setting = options.settings_of_all
            dice = random.Random(f"{options.seed} owners")
            for kind, wanted in ("resumes", options.resumes), ("starts", options.starts), ("orphans", options.orphans):
                runs += drive_owners(options, work, dice, kind, wanted, expected, counts)
            if options.calls > 0:
                kill_at_calls(options, work, dice, options.calls, counts)
            if options.power_losses > 0:
                lose_power(options, work, dice, options.power_losses, counts)
        except Failed as failure:
            sys.exit(f"FAILED: {failure}")
    counts = {name: count for name, count in counts.items() if count > 0}
    print(f"{runs} runs of {options.ranks} ranks: {json.dumps(counts)}; weights, moments, losses and spectra of each "
          f"bit-identical to the unbroken run's ({time.monotonic() - begin:.0f} s)")


if __name__ == "__main__":
    main()

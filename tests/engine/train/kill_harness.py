"""Runs of the kill tests: launches of a small recipe, and what must not depend on what happened to them."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
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
    """Ids of all processes that a launch started, mpirun included, whatever their parent is by now."""
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

    def __init__(self, options, work, run, resume=True, ranks=None, environment=None):
        Life.count += 1
        ranks = ranks or options.ranks
        self.mark = f"{os.getpid()}-{Life.count}"
        self.program = options.pastur
        # Of one folder, an mpirun that ends removes the session files of another one that starts.
        session = work / f"t{Life.count}"
        session.mkdir()
        environment = dict(os.environ, OMP_NUM_THREADS="1", TMPDIR=str(session), **{MARK: self.mark},
                           **(environment or {}))
        launcher = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(ranks),
                    "--mca", "btl_vader_backing_directory", str(session), "--mca", "mpi_yield_when_idle", "1"]
        command = [options.pastur, "train", "r.toml", "--run",
                   str(run.relative_to(work)), "--device", "cpu"] + (["--resume"] if resume else []) + ["--" + text for text in options.setting]
        self.log = tempfile.TemporaryFile(dir=work)
        self.process = subprocess.Popen((launcher if ranks > 1 else []) + command, cwd=work,
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
        """Everything at once, and what was being started meanwhile."""
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
        return self.log.read()[-20000:].decode(errors="replace")


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
            losses[key] = [event.get(name) for name in ("loss", "grad_norm", "max_logit", "qk_clipped")]
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
    verify = subprocess.run([options.pastur, "verify", str(run.relative_to(work))], cwd=work, capture_output=True, text=True,
                            check=False)
    if verify.returncode != 0:
        raise Failed(f"after a kill: {verify.stderr}")


def finish(life):
    """Waits for the end of a run that must succeed."""
    if life.wait() != 0:
        raise Failed(life.said())


def prepare(options, work):
    def pastur(*arguments):
        subprocess.run([options.pastur, *arguments], cwd=work, check=True, stdout=subprocess.DEVNULL)

    pastur("data", "synth", "--docs", "400", "--seed", "1", "--out", "stories.txt")
    pastur("data", "prepare", "--input", "stories.txt", "--tokenizer", "bytes", "--out", "corpus",
           "--val-fraction", "0.1")
    (work / "r.toml").write_text(RECIPE.format(steps=options.steps, val_every=VAL_EVERY, spectra_every=SPECTRA_EVERY))
    begin = time.monotonic()
    finish(Life(options, work, work / "whole"))
    options.life_s = options.life_s or 0.6 * (time.monotonic() - begin)
    return outcome(work / "whole")

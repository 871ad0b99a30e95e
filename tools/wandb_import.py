#!/usr/bin/env python3
"""Brings run folders of `pastur train` into Weights & Biases or MLflow: settings, metrics by step, spectral metrics and
events. Works on finished runs, and with --follow on one that goes on, also across its resumes. Repeating the command
adds what is new. WANDB_MODE=offline writes a local run for `wandb sync`; MLflow writes where MLFLOW_TRACKING_URI says."""
import argparse
import collections
import hashlib
import json
import math
import os
import pathlib
import secrets
import shutil
import signal
import sys
import time
import tomllib

# Fields of an event that differ between two executions of the same steps.
VOLATILE = {"v", "time", "elapsed_s", "tokens_per_s", "tflops", "mfu", "step_ms", "data_ms", "diag_ms", "mem_gib", "gpu_power_w",
            "gpu_clock_mhz", "gpu_utilisation", "blocking_ms", "total_ms", "seconds"}
# Metrics of the whole spectrum and, of each null, those against it.
SPECTRAL = ["stable_rank", "entropy_rank", "kept_step0", "kept_null", "mp_gap_ratio", "outlier_count", "outlier_energy"]
ENDED = {"done": 0, "nonfinite": 72, "data": 65}  # a run that was stopped ("requeue") may continue


def fail(message, code):
    print(f"wandb_import.py: {message}", file=sys.stderr)
    sys.exit(code)


class Tail:
    """The JSON objects of a file that grows, is missing at first, or is replaced by a shorter one when a run resumes: it is
    then read from its beginning again. Cut and damaged lines are passed over."""

    def __init__(self, path):
        self.path, self.file, self.identity = path, None, None

    def read(self):
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return
        if self.file is None or self.identity != (status.st_dev, status.st_ino) or status.st_size < self.file.tell():
            if self.file:
                self.file.close()
            self.file = self.path.open("rb")
            status = os.fstat(self.file.fileno())
            self.identity = status.st_dev, status.st_ino
        while True:
            begin = self.file.tell()
            line = self.file.readline()
            if not line.endswith(b"\n"):
                self.file.seek(begin)  # read again when it is complete
                return
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield event


def digest(event):
    """Names what an event says, so that steps that a resumed run repeats are logged once, unless their numbers differ."""
    content = json.dumps({key: value for key, value in event.items() if key not in VOLATILE}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Journal:
    """What has been logged, in a file of the run folder: the id of the remote run, then a digest per line."""

    def __init__(self, path, fresh_id, again):
        self.path, self.seen, self.id, self.new = path, set(), fresh_id, []
        lines = [] if again or not path.exists() else path.read_text().split("\n")
        if lines and lines[0].startswith("id "):
            self.id, self.seen = lines[0][3:], set(lines[1:])
            self.resumes = True
            return
        self.resumes = False
        self.write("w", f"id {self.id}\n")

    def write(self, mode, text):
        try:
            with self.path.open(mode) as file:
                file.write(text)
        except OSError as error:
            print(f"wandb_import.py: the next import of this run will log everything again: {error}", file=sys.stderr)
            self.write = lambda mode, text: None

    def is_new(self, event):
        name = digest(event)
        if name in self.seen:
            return False
        self.seen.add(name)
        self.new.append(name)
        return True

    def commit(self):
        if self.new:
            self.write("a", "".join(name + "\n" for name in self.new))
        self.new = []


def numbers(event, skip=()):
    """The finite numbers of an event. A number that was not finite is null in the file."""
    return {key: value for key, value in event.items()
            if key not in skip and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)}


class Spectra:
    """Groups the records of spectra/summary.jsonl by step. A group is complete when one of another step begins, or when the
    file has not grown between two looks."""

    def __init__(self, path, metrics):
        self.tail, self.metrics = Tail(path), metrics
        self.step, self.sums, self.grew = None, collections.defaultdict(list), False

    def read(self, last):
        self.grew = False
        for record in self.tail.read():
            self.grew = True
            if not isinstance(record.get("step"), int):
                continue
            if record["step"] != self.step:
                yield from self.flush()
                self.step = record["step"]
            self.add(record)
        if last or not self.grew:
            yield from self.flush()

    def add(self, record):
        if "null" in record:  # a line per null, as former versions wrote
            record = {**record, "nulls": {record["null"]: record}}
            record = {key: value for key, value in record.items() if key in ("layer", "head", "matrix", "nulls")}
        place = [record.get(key, -1) for key in ("layer", "head")]
        if not all(isinstance(number, int) for number in place):
            return
        layer = f"L{place[0]:02}" if place[0] >= 0 else "model"
        heads = ".heads" if place[1] >= 0 else ""
        matrix = "".join(c if c.isalnum() or c in "_.-" else "-" for c in str(record.get("matrix")))
        nulls = record.get("nulls")
        nulls = {null: own for null, own in nulls.items() if isinstance(own, dict)} if isinstance(nulls, dict) else {}
        for name in self.metrics:
            for label, values in [(name, record)] + [(f"{name}.{null}", own) for null, own in nulls.items()]:
                if isinstance(values.get(name), (int, float)) and math.isfinite(values[name]):
                    # A head's records are averaged over the layer; of the same place in two lines the later one counts.
                    self.sums[f"spectral.{label}.{matrix}/{layer}{heads}"].append((place[1], values[name]))

    def flush(self):
        if self.sums:
            means = {}
            for name, values in self.sums.items():
                by_head = dict(values)
                means[name] = math.fsum(by_head.values()) / len(by_head)
            yield {"event": "spectra", "step": self.step, **means}
        self.sums = collections.defaultdict(list)


class Run:
    """A run folder as rows: (kind, step, time in seconds or None, {name: number}, event)."""

    def __init__(self, folder, metrics):
        self.folder, self.name = folder, folder.resolve().name
        if not (folder / "metrics.jsonl").is_file():
            fail(f"{folder / 'metrics.jsonl'}: no such file; expected a run folder of pastur train", 66)
        self.tail = Tail(folder / "metrics.jsonl")
        self.spectra = Spectra(folder / "spectra/summary.jsonl", metrics)
        self.status, self.time, self.onsets = None, None, collections.defaultdict(set)

    def config(self):
        try:
            return tomllib.loads((self.folder / "config.toml").read_text())
        except (OSError, ValueError) as error:
            print(f"wandb_import.py: no settings: {self.folder / 'config.toml'}: {error}", file=sys.stderr)
            return {}

    def environment(self):
        try:
            found = json.loads((self.folder / "env.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def fresh_id(self, again):
        """Names the run by its first start, wherever its folder is and however often it is resumed."""
        if again:
            return f"pastur-{secrets.token_hex(8)}"
        times = [event["time"] for name in ("metrics.abandoned.jsonl", "metrics.jsonl")
                 for event in Tail(self.folder / name).read()
                 if event.get("event") == "start" and isinstance(event.get("time"), (int, float))]
        first = min(times) if times else str(self.folder.resolve())
        return f"pastur-{hashlib.sha256(f'{self.name} {first}'.encode()).hexdigest()[:16]}"

    def rows(self, last):
        for event in self.tail.read():
            kind, step = event.get("event"), event.get("step")
            self.time = event["time"] if isinstance(event.get("time"), (int, float)) else self.time
            if kind == "start":
                self.status = None
            if kind == "end":
                self.status = event.get("status")
            if isinstance(kind, str) and isinstance(step, int):
                yield kind, step, event
        for event in self.spectra.read(last):
            yield "spectra", event["step"], event

    def values(self, kind, event):
        """The numbers of an event under the names that they get."""
        skip = {"v", "step", "time", "event"} | ({"elapsed_s"} if kind != "train" else set())
        if kind == "spectra":
            return numbers(event, skip)
        if kind in ("spike", "collapse"):
            self.onsets[kind].add(digest(event))
            return {f"events/{kind}s": len(self.onsets[kind])}
        # Events of whole runs are settings and results, not curves.
        return {} if kind in ("start", "end") else {f"{kind}/{key}": value for key, value in numbers(event, skip).items()}


class WandbSink:
    def __init__(self, args, run, journal):
        try:
            import wandb
        except ImportError as error:
            fail(f"install W&B first, with `pip install wandb`: {error}", 69)
        self.wandb = wandb
        # What the library finds out about this process would mislead. Versions differ in what they can leave out.
        wanted = {"quiet": True, "console": "off", "disable_git": True, "save_code": False, "x_disable_stats": True,
                  "x_disable_machine_info": True}
        known = getattr(wandb.Settings, "model_fields", {"console": None})
        settings = wandb.Settings(**{key: value for key, value in wanted.items() if key in known})
        try:
            self.run = wandb.init(project=args.project, entity=args.entity, group=args.group, name=args.name or run.name,
                                  id=journal.id, resume="allow", config={**run.config(), "env": run.environment()},
                                  job_type="pastur", settings=settings)
        except Exception as error:  # wandb has many: no login, no network, a wrong project
            fail(f"W&B refuses (WANDB_MODE=offline needs no account): {error}", 1)
        # Spectra arrive later than the losses of their step, so the axis is Pastur's step, not the order of rows.
        self.run.define_metric("step", hidden=True)
        self.run.define_metric("*", step_metric="step")
        for name, goal in (("train/loss", "min"), ("val/loss", "min")):
            self.run.define_metric(name, step_metric="step", summary=f"{goal},last")
        self.events = []

    def log(self, kind, step, when, values, event):
        if values:
            self.run.log({"step": step, **values})
        if kind not in ("train", "val", "spectra"):
            self.events.append([kind, step, json.dumps({k: v for k, v in event.items() if k not in ("v", "event", "step")})])
        if kind in ("start", "end"):
            for key, value in event.items():
                if key not in ("v", "event", "step", "time"):
                    self.run.summary[f"{kind}/{key}"] = value

    def flush(self):
        pass  # the library sends by itself

    def finish(self, run):
        if self.events:
            self.run.log({"events/log": self.wandb.Table(columns=["event", "step", "fields"], data=self.events)})
        for name in ("config.toml", "env.json", "report.html"):
            if (run.folder / name).is_file():  # a copy, because the library would keep a link
                shutil.copy(run.folder / name, self.run.dir)
                self.run.save(str(pathlib.Path(self.run.dir) / name), base_path=self.run.dir, policy="now")
        # A run that can go on is no failure.
        self.run.finish(exit_code=ENDED.get(run.status, 0))


def flat(settings, prefix=""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


class MlflowSink:
    BATCH = 1000  # metrics of one request, MLflow's limit

    def __init__(self, args, run, journal):
        try:
            import mlflow
            from mlflow import entities
        except ImportError as error:
            fail(f"install MLflow first, with `pip install mlflow`: {error}", 69)
        self.entities, self.pending = entities, []
        try:
            self.client = mlflow.MlflowClient()
            found = self.client.get_experiment_by_name(args.project)
            experiment = found.experiment_id if found else self.client.create_experiment(args.project)
            self.id = self.find(experiment, journal) or self.create(experiment, args, run, journal)
        except mlflow.exceptions.MlflowException as error:
            fail(f"MLflow refuses: {error}", 1)

    def find(self, experiment, journal):
        if not journal.resumes:
            return None
        runs = self.client.search_runs([experiment], f"tags.`pastur.id` = '{journal.id}'")
        return runs[0].info.run_id if runs else None

    def create(self, experiment, args, run, journal):
        tags = {"pastur.id": journal.id, **({"pastur.group": args.group} if args.group else {})}
        made = self.client.create_run(experiment, run_name=args.name or run.name, tags=tags)
        params = [self.entities.Param(key, str(value)[:6000]) for key, value in flat(run.config())]
        for begin in range(0, len(params), 100):
            self.client.log_batch(made.info.run_id, params=params[begin:begin + 100])
        env = [self.entities.RunTag(key, str(value)[:5000]) for key, value in flat(run.environment(), "env.")]
        for begin in range(0, len(env), 100):
            self.client.log_batch(made.info.run_id, tags=env[begin:begin + 100])
        # A journal without a run of this store: everything is new.
        journal.seen.clear()
        return made.info.run_id

    def log(self, kind, step, when, values, event):
        stamp = int(1000 * (when or time.time()))
        self.pending += [self.entities.Metric(name, float(value), stamp, step) for name, value in values.items()]
        if kind in ("start", "end"):
            for key, value in event.items():
                if key not in ("v", "event", "step", "time"):
                    self.client.set_tag(self.id, f"{kind}.{key}", str(value)[:5000])
        if len(self.pending) >= self.BATCH:
            self.flush()

    def flush(self):
        for begin in range(0, len(self.pending), self.BATCH):
            self.client.log_batch(self.id, metrics=self.pending[begin:begin + self.BATCH])
        self.pending = []

    def finish(self, run):
        self.flush()
        for name in ("config.toml", "env.json", "metrics.jsonl", "report.html"):
            if (run.folder / name).is_file():
                self.client.log_artifact(self.id, str(run.folder / name))
        status = {"done": "FINISHED", "requeue": "SCHEDULED", None: "RUNNING"}.get(run.status, "FAILED")
        self.client.set_terminated(self.id, status) if status in ("FINISHED", "FAILED") else \
            self.client.update_run(self.id, status)


stopping = False


def stop(*_):
    global stopping
    stopping = True


def bring(folder, args):
    run = Run(folder, SPECTRAL if args.metrics is None else args.metrics.split(","))
    name = "".join(c if c.isalnum() or c in "_.-" else "-" for c in args.project)
    journal = Journal(folder / f".imported-{args.to}-{name}", run.fresh_id(args.again), args.again)
    sink = {"wandb": WandbSink, "mlflow": MlflowSink}[args.to](args, run, journal)
    count = 0
    while True:
        last = stopping or not args.follow or run.status in ENDED
        for kind, step, event in run.rows(last):
            values = run.values(kind, event)
            if journal.is_new(event):
                sink.log(kind, step, event.get("time", run.time), values, event)
                count += 1
        sink.flush()
        journal.commit()
        if last:
            break
        until = time.monotonic() + args.every
        while time.monotonic() < until and not stopping:
            time.sleep(0.05)
    sink.finish(run)
    print(f"{folder}: {count} events to {args.to} as {journal.id}, {run.status or 'not ended'}", flush=True)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="run folders of pastur train")
parser.add_argument("--to", choices=["wandb", "mlflow"], default="wandb", help="default: wandb")
parser.add_argument("--project", default="pastur", help="project of W&B, or experiment of MLflow (default: pastur)")
parser.add_argument("--entity", help="user or team of W&B")
parser.add_argument("--group", help="group of runs in W&B, such as a study; a tag in MLflow")
parser.add_argument("--name", help="name of the run (default: that of its folder)")
parser.add_argument("--metrics", help=f"spectral metrics of summary.jsonl, with commas (default: {','.join(SPECTRAL)})")
parser.add_argument("--follow", action="store_true", help="stay until the run has ended, also across its resumes; Ctrl-C stops")
parser.add_argument("--every", type=float, default=10, help="seconds between two looks with --follow (default: 10)")
parser.add_argument("--again", action="store_true", help="make a new run of everything instead of adding what is new")
args = parser.parse_args()
if args.follow and len(args.runs) > 1:
    fail("--follow takes one run; start the command once for each", 2)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
for folder in args.runs:
    bring(folder, args)

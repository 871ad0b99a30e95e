#!/usr/bin/env python3
"""Trains with one CPU rank on each of two hosts, over a link that delays, loses and cuts.

    sudo tests/engine/ranks/netns_test.py --pastur build/pastur            # --short: the trials of the test suite

A host is a network namespace with a host name of its own. The link between the two is a TAP device in each, joined by
this process, which holds frames back, drops them or stops passing them on; that needs neither netem nor a second
machine. Ranks are started by variables and, unless --short, by mpirun. A run over a bad link must end in the losses of
a single rank, digit by digit; a run whose link is cut, or whose host vanishes, must end with exit code 71 on every
host that is left, name the other host, and do so within the timeout. Exits with 77 where namespaces or TAP devices
cannot be made.
"""

import argparse
import fcntl
import heapq
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

SKIPPED = 77
TIMEOUT = 3  # train.comm_timeout_s
GRACE = 5  # seconds beyond it
ADDRESSES = ["10.77.0.1", "10.77.0.2"]
RECIPE = """
[model]
vocab = 512
d_model = 64
ffn = 172
layers = 2
heads = 4
[data]
dir = "corpus"
seq_len = 32
[train]
steps = 8
global_batch = 4
micro_batch = 2
val_every = 4
val_tokens = 1024
deterministic_comm = true
comm_timeout_s = {timeout}
[diagnostics]
every = 0
[run]
log_every = 1
tensorboard = false
"""


class Failed(Exception):
    pass


def run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


class Link:
    """The cable between two hosts."""

    def __init__(self, names):
        self.delay, self.loss, self.cut, self.frames, self.lost = 0.0, 0.0, False, 0, 0
        self.taps = [self.tap(f"pastur{i}", name, ADDRESSES[i]) for i, name in enumerate(names)]
        threading.Thread(target=self.pass_on, daemon=True).start()

    @staticmethod
    def tap(device, namespace, address):
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", device.encode(), 0x0002 | 0x1000))  # TUNSETIFF
        run("ip", "link", "set", device, "netns", namespace)
        for command in (["addr", "add", f"{address}/24", "dev", device], ["link", "set", device, "up"],
                        ["link", "set", "lo", "up"]):
            run("ip", "-n", namespace, *command)
        return tap

    def pass_on(self):
        pick, queue, number = random.Random(1), [], 0
        while True:
            wait = max(0, queue[0][0] - time.monotonic()) if queue else 0.2
            for tap in select.select(self.taps, [], [], wait)[0]:
                frame = os.read(tap, 65536)
                self.frames += 1
                if self.cut or pick.random() < self.loss:
                    self.lost += 1
                    continue
                number += 1
                to = self.taps[1 - self.taps.index(tap)]
                heapq.heappush(queue, (time.monotonic() + self.delay, number, to, frame))
            while queue and queue[0][0] <= time.monotonic():
                _, _, to, frame = heapq.heappop(queue)
                if not self.cut:
                    os.write(to, frame)


class Hosts:
    """Two namespaces and their link; what runs in them ends with the object."""

    def __init__(self):
        self.names = [f"pastur-{os.getpid()}-{letter}" for letter in "ab"]
        self.processes = []
        try:
            for name in self.names:
                run("ip", "netns", "add", name)
            self.link = Link(self.names)
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            why = getattr(error, "stderr", None) or str(error)
            print(f"skipped: this machine cannot make two hosts: {why.strip()}")
            sys.exit(SKIPPED)

    def close(self):
        for process in self.processes:
            self.kill(process)
        for host, name in enumerate(self.names):
            self.kill_all(host)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def wrap(self, host):
        """A command line that runs what follows it on a host."""
        return ["ip", "netns", "exec", self.names[host], "unshare", "--uts", "sh", "-c",
                f'hostname host{"ab"[host]}; exec "$@"', "sh"]

    def start(self, host, command, log, **variables):
        environment = dict(os.environ, OMP_NUM_THREADS="1", **variables)
        process = subprocess.Popen(self.wrap(host) + command, cwd=log.parent, env=environment, stdout=open(log, "w"),
                                   stderr=subprocess.STDOUT, start_new_session=True)
        self.processes.append(process)
        return process

    @staticmethod
    def kill(process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def end_host(self, host):
        """The host falls silent: no process of it says goodbye."""
        self.link.cut = True
        self.kill_all(host)

    def kill_all(self, host):
        for pid in self.pids(host):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def pids(self, host):
        listed = subprocess.run(["ip", "netns", "pids", self.names[host]], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    def wait_until_empty(self, program, seconds):
        """Waits until no host runs the program."""
        end = time.monotonic() + seconds
        while True:
            left = [pid for host in (0, 1) for pid in self.pids(host) if self.runs(pid, program)]
            if not left:
                return
            if time.monotonic() > end:
                raise Failed(f"processes {left} are left")
            time.sleep(0.1)

    @staticmethod
    def runs(pid, program):
        try:
            return os.readlink(f"/proc/{pid}/exe") == program
        except OSError:
            return False


class Job:
    """One run on both hosts."""

    count = 0

    def __init__(self, hosts, work, options, launcher, *more):
        Job.count += 1
        self.run = work / f"run{Job.count}"
        self.logs = [work / f"{self.run.name}.{host}" for host in "ab"]
        train = [options.pastur, "train", "r.toml", "--device", "cpu", "--run", self.run.name, *more]
        if launcher == "mpirun":
            self.processes = [hosts.start(0, self.mpirun(hosts, work) + train, self.logs[0])]
            return
        port = str(20000 + Job.count)
        self.processes = [
            hosts.start(host, train, self.logs[host], PASTUR_SECRET="a secret of the trials", WORLD_SIZE="2",
                        RANK=str(host), LOCAL_RANK="0", MASTER_ADDR=ADDRESSES[0], MASTER_PORT=port)
            for host in (0, 1)]

    @staticmethod
    def mpirun(hosts, work):
        """mpirun on host a, which reaches host b through an agent in place of ssh. Like ssh, the agent does not notice
        that the other host vanished."""
        agent = work / "agent.sh"
        words = " ".join(f"'{word}'" for word in hosts.wrap(1))
        agent.write_text(f'#!/bin/sh\nshift\n{words} sh -c "$*" &\nwait $!\n'
                         'code=$?\n[ $code -lt 128 ] || sleep 1000\nexit $code\n')
        agent.chmod(0o755)
        network = "10.77.0.0/24"
        return ["mpirun", "--allow-run-as-root", "-q", "--bind-to", "none", "-np", "2", "--map-by", "node",
                "-host", ",".join(ADDRESSES), "--mca", "plm_rsh_agent", str(agent),
                "--mca", "btl_tcp_if_include", network, "--mca", "oob_tcp_if_include", network,
                # By default mpirun notices after 480 s that it cannot reach the other host's daemon.
                "--mca", "oob_tcp_keepalive_time", "1", "--mca", "oob_tcp_keepalive_intvl", "1",
                "--mca", "oob_tcp_keepalive_probes", str(TIMEOUT),
                "--mca", "orte_tmpdir_base", str(work), "-x", "OMP_NUM_THREADS"]

    def metrics(self):
        path = self.run / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def losses(self):
        return [(e["event"], e["step"], e["loss"]) for e in self.metrics() if e["event"] in ("train", "val")]

    def wait_for_step(self, step):
        end = time.monotonic() + 60
        while not any(name == "train" and at >= step for name, at, _ in self.losses()):
            if time.monotonic() > end or any(p.poll() is not None for p in self.processes):
                raise Failed(f"{self.run.name} does not reach step {step}:\n{self.said()}")
            time.sleep(0.05)

    def wait(self, seconds):
        """The exit codes by host."""
        end, codes = time.monotonic() + seconds, []
        for process in self.processes:
            try:
                codes.append(process.wait(timeout=max(0, end - time.monotonic())))
            except subprocess.TimeoutExpired:
                raise Failed(f"{self.run.name} does not end within {seconds} s:\n{self.said()}") from None
        return codes

    def said(self, host=None):
        logs = [self.logs[host]] if host is not None else self.logs
        return "".join(f"{log.name}: {log.read_text()[-2000:]}\n" for log in logs if log.exists())


class Trials:
    def __init__(self, options, work):
        self.options, self.work, self.hosts = options, work, Hosts()
        self.link = self.hosts.link
        self.launchers = ["variables"] if options.short or not shutil.which("mpirun") else ["variables", "mpirun"]
        (work / "r.toml").write_text(RECIPE.format(timeout=TIMEOUT))
        for command in (["data", "synth", "--docs", "300", "--seed", "5", "--out", "stories.txt"],
                        ["data", "prepare", "--input", "stories.txt", "--tokenizer", "bytes", "--val-fraction",
                         "0.1", "--out", "corpus"],
                        ["train", "r.toml", "--device", "cpu", "--run", "alone"]):
            # As many threads as the ranks have: the BLAS library may round differently with others.
            done = subprocess.run([options.pastur, *command], cwd=work, capture_output=True, text=True,
                                  env=dict(os.environ, OMP_NUM_THREADS="1"))
            if done.returncode != 0:
                raise Failed(f"{command}: {done.stderr}")
        alone = [json.loads(line) for line in (work / "alone" / "metrics.jsonl").read_text().splitlines()]
        self.expected = [(e["event"], e["step"], e["loss"]) for e in alone if e["event"] in ("train", "val")]

    def over(self, launcher, delay_ms, loss, outage_s):
        """The right result over a bad link, which is interrupted after some steps."""
        self.link.delay, self.link.loss, self.link.cut = delay_ms * 1e-3, loss, False
        self.link.frames = self.link.lost = 0
        begin = time.monotonic()
        # A connection that retransmits is silent for a while; that is not what this trial is about.
        job = Job(self.hosts, self.work, self.options, launcher, "--train.comm_timeout_s=60")
        job.wait_for_step(3)
        self.link.cut = outage_s > 0
        time.sleep(outage_s)
        self.link.cut = False
        codes = job.wait(240)
        if set(codes) != {0} or job.losses() != self.expected:
            raise Failed(f"{launcher}, {delay_ms} ms, loss {loss}: exit {codes}, losses {job.losses()}\n{job.said()}")
        print(f"{launcher:9}  delay {delay_ms:3} ms, loss {loss:4.1%}, outage {outage_s} s: right in {time.monotonic() - begin:.1f} s, "
              f"{self.link.lost} of {self.link.frames} frames lost", flush=True)

    def broken(self, launcher, what):
        """A cut link ends the ranks on both hosts, a host that vanishes those on the other."""
        self.link.delay, self.link.loss, self.link.cut = 0, 0, False
        job = Job(self.hosts, self.work, self.options, launcher, "--train.steps=1000000", "--train.val_every=0")
        job.wait_for_step(3)
        begin = time.monotonic()
        if what == "cut":
            self.link.cut = True
        else:
            self.hosts.end_host(1)
        codes = job.wait(TIMEOUT + GRACE)
        seconds = time.monotonic() - begin
        said = job.said(0)
        left = codes[:1] if what == "vanish" else codes
        self.hosts.wait_until_empty(self.options.pastur, 1)
        good = set(left) == {71} and re.search(r"rank 1 \(host hostb, process \d+\) is lost: no sign of life", said)
        if len(left) == 2:
            good = good and "rank 0 (host hosta, process" in job.said(1)
        if not good:
            raise Failed(f"{launcher}, {what}: exit {codes} after {seconds:.1f} s\n{job.said()}")
        print(f"{launcher:9}  {what}: exit 71 on every host that is left after {seconds:.1f} s", flush=True)

    def wrong_address(self):
        """Rank 0 on a host that has no such address."""
        command = [self.options.pastur, "train", "r.toml", "--device", "cpu", "--run", "never"]
        log = self.work / "never.log"
        process = self.hosts.start(1, command, log, PASTUR_SECRET="a secret of the trials", WORLD_SIZE="2", RANK="0",
                                   LOCAL_RANK="0", MASTER_ADDR=ADDRESSES[0], MASTER_PORT="19999")
        code = process.wait(timeout=20)
        if code != 2 or "not an address of its host (host hostb" not in log.read_text():
            raise Failed(f"rank 0 at another host's address: exit {code}: {log.read_text()}")
        print("variables  rank 0 at another host's address: exit 2 with its own addresses", flush=True)

    def all(self):
        conditions = [(1, 0.002, 1)] if self.options.short else [(0, 0, 0), (20, 0, 0), (5, 0.02, 2), (40, 0.05, 0)]
        for launcher in self.launchers:
            for delay_ms, loss, outage_s in conditions:
                self.over(launcher, delay_ms, loss, outage_s)
            for what in ["cut"] if self.options.short else ["cut", "vanish"]:
                self.broken(launcher, what)
        self.wrong_address()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pastur", default="build/pastur", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--short", action="store_true", help="few trials, without mpirun")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        print("skipped: two hosts on one machine need root, ip (iproute2) and unshare")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        trials = None
        try:
            trials = Trials(options, pathlib.Path(folder))
            trials.all()
        except Failed as failure:
            print(f"FAILED: {failure}")
            return 1
        finally:
            if trials:
                trials.hosts.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

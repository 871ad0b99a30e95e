"""A kill at every change of a file, and the states that a power loss may leave, replayed from recorded writes."""

import collections
import json
import os
import shutil

from kill_harness import Failed, Life, check_intact, compare, finish, outcome

Change = collections.namedtuple("Change", "kind path more data")


def faults(options, run, log, kind, at=0):
    library = os.path.join(os.path.dirname(options.pastur), "libpastur_faults.so")
    return {"LD_PRELOAD": library, "PASTUR_FAULT_UNDER": str(run.parent), "PASTUR_FAULT_KIND": kind,
            "PASTUR_FAULT_AT": str(at), "PASTUR_FAULT_LOG": str(log), "ASAN_OPTIONS": "verify_asan_link_order=0"}


def read_changes(log):
    changes, data, at = [], log.read_bytes(), 0
    while at < len(data):
        end = data.index(b"\n", at)
        kind, path, *more = data[at:end].decode().split("\t")
        at = end + 1
        size = int(more[1]) if kind == "write" else 0
        changes.append(Change(kind, os.path.normpath(path), more, data[at : at + size]))
        at += size
    return changes


class Disk:
    """Files as contents and folders as names, of which a power loss keeps what was synced and some of the rest.

    Names (create, rename, remove, mkdir) are kept in the order in which they were changed, up to a random one that is
    not before the last one in any synced folder: file systems with a journal promise that. Writes to a file since its
    last fsync are kept all, not at all, or up to a random one, the last of them in part.
    """

    def __init__(self, changes, dice):
        synced = max((self.last_name_change(changes, at) for at, change in enumerate(changes)
                      if change.kind == "fsync"), default=0)
        self.names_kept = dice.randint(synced, len(changes))
        self.dice = dice
        self.files = {}  # the file that each name leads to; None: a folder
        self.pending = collections.defaultdict(list)  # the changes of each file since its last fsync
        live = {}  # names before the power loss
        for at, change in enumerate(changes):
            self.change_names(live, change, change.more)
            if at < self.names_kept:
                self.change_names(self.files, change, change.more, live)
            if change.kind in ("write", "truncate") and (file := live.get(change.path)) is not None:
                self.pending[id(file)].append(change)
            if change.kind == "fsync" and (file := live.get(change.path)) is not None:
                for write in self.pending.pop(id(file), []):
                    self.apply(file, write)
        self.all_files = live

    @staticmethod
    def last_name_change(changes, at):
        """One past the last change of a name in the folder that changes[at] synced."""
        folder = changes[at].path
        return max((i + 1 for i, change in enumerate(changes[:at])
                    if change.kind in ("create", "rename", "remove", "mkdir")
                    and os.path.dirname(change.more[0] if change.kind == "rename" else change.path) == folder),
                   default=0)

    @staticmethod
    def change_names(names, change, more, source=None):
        path = change.path
        if change.kind == "create":
            names[path] = source[path] if source is not None and path in source else bytearray()
        elif change.kind == "mkdir":
            names[path] = None
        elif change.kind == "remove":
            names.pop(path, None)
        elif change.kind == "rename":
            target = os.path.normpath(more[0])
            for name in [name for name in names if name == target or name.startswith(target + "/")]:
                del names[name]
            for name in [name for name in names if name == path or name.startswith(path + "/")]:
                names[target + name[len(path):]] = names.pop(name)

    @staticmethod
    def apply(file, change, part=1.0):
        at = int(change.more[0])
        if change.kind == "truncate":
            file.extend(bytes(max(0, at - len(file))))
            del file[at:]
            return
        data = change.data[: int(part * len(change.data))]
        file.extend(bytes(max(0, at - len(file))))
        file[at : at + len(data)] = data

    def lose_power(self):
        for file in {id(file): file for file in self.files.values() if file is not None}.values():
            writes = self.pending.get(id(file), [])
            kept = self.dice.choice([0, len(writes), self.dice.randint(0, len(writes))])
            for write in writes[:kept]:
                self.apply(file, write)
            if kept < len(writes):
                self.apply(file, writes[kept], self.dice.random() if writes[kept].kind == "write" else 1.0)

    def write_to(self, old, new):
        for name, file in sorted(self.files.items()):
            path = str(new) + name[len(str(old)):]
            if file is None:
                os.makedirs(path, exist_ok=True)
            elif os.path.isdir(os.path.dirname(path)):
                with open(path, "wb") as out:
                    out.write(file)


def check_promises(options, work, run):
    """A checkpoint that the log announces is there and intact, and no other one is damaged."""
    metrics = run / "metrics.jsonl"
    announced = []
    for line in metrics.read_bytes().split(b"\n") if metrics.exists() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # cut off or lost
        if isinstance(event, dict) and event.get("event") == "checkpoint":
            announced.append(run / event["path"])
    # Older ones are removed, and the newest one while it is replaced.
    if announced and not announced[-1].exists():
        raise Failed(f"{announced[-1]} was announced and is gone")
    check_intact(options, work, run)
    life = Life(options, work, run, ranks=1)
    finish(life)
    if "is damaged and skipped" in life.said():
        raise Failed(life.said())


def lose_power(options, work, dice, wanted, counts):
    """Resumes from what power losses leave of one recorded run, and compares each with the recorded run."""
    recorded, run = work / "recorded", work / "power"
    recorded.mkdir()
    finish(Life(options, work, recorded / "run", ranks=1,
                environment=faults(options, recorded / "run", work / "changes", "record")))
    expected, changes = outcome(recorded / "run"), read_changes(work / "changes")
    for number in range(wanted):
        disk = Disk(changes[: dice.randint(1, len(changes))], dice)
        disk.lose_power()
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        disk.write_to(recorded, run)
        try:
            check_promises(options, work, run / "run")
            compare(expected, outcome(run / "run"))
        except Failed as failure:
            raise Failed(f"power loss {number + 1}, {disk.names_kept} of {len(changes)} changes: {failure}") from None
        counts["power losses"] += 1
    print(f"power losses: {wanted} among {len(changes)} recorded changes, each resumed to the same bits", flush=True)


def kill_at_calls(options, work, dice, wanted, counts):
    """Kills a run of one rank at `wanted` of its changes of files (0 < wanted; more than there are: at each)."""
    log, run = work / "call", work / "calls" / "run"
    run.parent.mkdir()
    finish(Life(options, work, run, ranks=1, environment=faults(options, run, work / "every", "record")))
    expected = outcome(run)
    total = sum(change.kind != "fsync" for change in read_changes(work / "every"))
    for at in sorted(dice.sample(range(1, total + 1), min(wanted, total))):
        shutil.rmtree(run)
        log.unlink(missing_ok=True)
        Life(options, work, run, ranks=1, environment=faults(options, run, log, "kill", at)).wait()
        if not log.exists():
            break  # the run's number of changes varies a little with the time that others take
        call = log.read_text().strip()
        try:
            check_promises(options, work, run)
            compare(expected, outcome(run))
        except Failed as failure:
            raise Failed(f"killed at change {at}, {call}: {failure}") from None
        counts["calls"] += 1
    print(f"calls: {counts['calls']} kills at changes of files, of {total}, each resumed to the same bits", flush=True)

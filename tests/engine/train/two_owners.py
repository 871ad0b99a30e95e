"""Two processes in one run folder: overlapping resumes, simultaneous starts, and ranks that outlive their mpirun."""

import time

from kill_harness import Failed, Life, compare, finish, marked_processes, outcome, send, signal

IN_USE = "in use by pid "


def owner_named(life):
    """The process that a refused launch names."""
    said = life.said()
    if IN_USE not in said or " on host " not in said:
        raise Failed(f"a second owner was refused without naming the first: {said}")
    return int(said.split(IN_USE)[1].split()[0])


def overlap_once(options, work, run, dice, counts):
    """One run from its start to its end, and launches with --resume beside it for as long as it takes."""
    first, ours = Life(options, work, run), set()
    while not (run / ".owner").exists() and not first.ended():
        time.sleep(0.001)
    while not first.ended():
        time.sleep(dice.uniform(0, 0.3))
        second = Life(options, work, run)
        while not second.ended():
            ours.update(marked_processes(first.mark))
            time.sleep(0.02)
        code = second.wait()
        if code == 2:
            if owner_named(second) not in ours:
                raise Failed(f"the process named is not the first owner's: {second.said()}")
            counts["resumes"] += 1
        elif code != 0 or not first.ended():
            raise Failed(f"a second resume: exit code {code}: {second.said()}")
    finish(first)


def start_once(options, work, run, dice, counts):
    """Two starts at nearly the same time: one runs, the other one is refused."""
    lives = [Life(options, work, run, resume=False)]
    time.sleep(dice.choice([0, 0, dice.uniform(0, 0.1)]))
    lives.append(Life(options, work, run, resume=False))
    codes = [life.wait() for life in lives]
    if sorted(codes) != [0, 2]:
        raise Failed(f"two starts: exit codes {codes}: {lives[0].said()} {lives[1].said()}")
    refused = lives[codes.index(2)]
    if "give --resume" not in refused.said():  # that is what it says when the other one is already done
        owner_named(refused)
    counts["starts"] += 1


def orphan_once(options, work, run, dice, counts):
    """mpirun alone is killed, and the run is resumed at once, while its ranks may still be there."""
    first = Life(options, work, run)
    time.sleep(dice.uniform(0, options.life_s))
    if first.ended():
        return finish(first)
    send(first.process.pid, signal.SIGKILL)
    first.process.wait()
    counts["orphans"] += 1
    begin = time.monotonic()
    while True:
        life = Life(options, work, run)
        code = life.wait()
        if code == 0:
            break
        owner_named(life)
        counts["resumes refused beside orphans"] = counts.get("resumes refused beside orphans", 0) + 1
        if code != 2 or time.monotonic() - begin > 60:
            raise Failed(f"a resume after mpirun was killed: exit code {code}: {life.said()}")
    first.kill()


def drive_owners(options, work, dice, kind, wanted, expected, counts):
    """Runs, each compared with the unbroken one, until there were enough."""
    once = {"resumes": overlap_once, "starts": start_once, "orphans": orphan_once}[kind]
    runs = 0
    while counts[kind] < wanted:
        runs += 1
        run = work / f"{kind}-{runs}"
        try:
            once(options, work, run, dice, counts)
            compare(expected, outcome(run))
        except Failed as failure:
            raise Failed(f"{run.name}, {counts}: {failure}") from None
        print(f"{kind}: {counts[kind]} of {wanted}, {runs} runs ended in the bits of the unbroken one", flush=True)
    return runs

"""R2: each command of a script, under strace, dies or fails at each of its calls that write, sync, rename or remove.
Afterwards the store is as before the command or as after it, fsck has nothing to say, and done again it works."""

import collections
import os
import re
import shutil
import subprocess

import steps
from rig import Failed, Rig, Store, count, expect, need, rng, say

CALLS = "pwrite64 pwritev pwritev2 fdatasync fsync fallocate ftruncate rename renameat renameat2 unlink unlinkat mkdir mkdirat linkat".split()
# A fault, and whether it stays; EINTR is no fault, for the call is made again.
FAULTS = ["signal=KILL", "error=EIO", "error=ENOSPC", "error=EINTR", "error=EIO+", "error=ENOSPC+"]
POINTS = os.environ.get("RIGS_POINTS") or count("RIGS_CYCLES", 60, 200)

need("strace")


def copy(source, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def counted(store, step, log):
    """How often each thread of a command makes each of the calls; the most of all threads."""
    expression = "trace=" + ",".join("?" + call for call in CALLS)
    done = steps.run(store, step, ["strace", "-f", "-qq", "-o", log, "-e", expression])
    expect(done.returncode == 0, f"{steps.text(step)}: exit {done.returncode}: {done.stderr.decode()}")
    by_thread = collections.Counter()
    with open(log) as lines:
        for line in lines:
            call = re.match(r"(\d+) +(\w+)\(", line)
            if call:
                by_thread[call.groups()] += 1
    most = collections.Counter()
    for (_, call), times in by_thread.items():
        most[call] = max(most[call], times)
    return most


def prepared(rig):
    """The store before each step and after the last, what is seen of it, and all points."""
    store = steps.new_store(rig.path("s0"))
    states, points = [steps.seen(store)], []
    for index, step in enumerate(steps.STEPS):
        copy(rig.path(f"s{index}"), rig.path(f"s{index + 1}"))
        store = Store(rig.path(f"s{index + 1}"))
        for call, times in counted(store, step, rig.path("log")).items():
            points += [(index, call, number, fault) for number in range(1, times + 1) for fault in FAULTS]
        states.append(steps.seen(store))
    return states, points


def injection(call, number, fault):
    fault, stays = (fault[:-1], "+") if fault.endswith("+") else (fault, "")
    return f"inject={call}:{fault}:when={number}{stays}"


def check(store, step, before, after, code, erases):
    """What is left after the fault."""
    store.fsck()
    now = steps.seen(store)
    if code == 0:
        expect(now == after, f"it said it was done: {now}, not {after}")
    if now == after:
        # It goes on.
        store.run("volume", "create", "probe", "--size", "64K")
        return "after"
    name = step[0][2] if len(step[0]) > 2 else None
    unreadable = erases and now.get(name, [0, ""])[1].startswith("exit")
    if unreadable:
        # Its keys are gone, and it is still on the list: said in docs/guarantees.md.
        now[name] = before[name]
    expect(now == before, f"neither before nor after: {now}, before {before}, after {after}")
    done = steps.run(store, step)
    expect(done.returncode == 0, f"again: exit {done.returncode}: {done.stderr.decode()}")
    again = steps.seen(store)
    expect(again == after, f"again: {again}, not {after}")
    return "before"


def try_point(rig, states, point):
    index, call, number, fault = point
    step = steps.STEPS[index]
    work = rig.path("work")
    copy(rig.path(f"s{index}"), work)
    store = Store(work)
    log = rig.path("strace")
    prefix = ["strace", "-f", "-qq", "-o", log, "-e", f"trace={call}", "-e", injection(call, number, fault)]
    try:
        done = steps.run(store, step, prefix, timeout=60)
    except subprocess.TimeoutExpired:
        raise Failed("it hangs")
    with open(log) as lines:
        text = lines.read()
    hit = "(INJECTED)" in text or "killed by SIGKILL" in text
    if not hit:
        return "not reached"
    code = done.returncode
    if fault == "signal=KILL":
        expect(code in (-9, 137), f"it was to be killed: exit {code}")
    else:
        expect(code >= 0 and code < 128, f"exit {code}: {done.stderr.decode()}")
        expect(b"panicked" not in done.stderr, done.stderr.decode())
    if fault == "error=EINTR":
        expect(code == 0, f"an interrupted call is made again: exit {code}: {done.stderr.decode()}")
    erases = "--erase" in step[0]
    return check(store, step, states[index], states[index + 1], code, erases)


with Rig() as rig:
    states, points = prepared(rig)
    rig.result["points_of_all"] = len(points)
    if POINTS != "all":
        points = rng(0).sample(points, min(int(POINTS), len(points)))
    ends = collections.Counter()
    failures = []
    for point in points:
        index, call, number, fault = point
        try:
            ends[try_point(rig, states, point)] += 1
        except Failed as failed:
            what = f"{steps.text(steps.STEPS[index])}: {injection(call, number, fault)}: {failed}"
            say(what)
            failures.append(what)
            if len(failures) > 20:
                break
    rig.result.update(points=sum(ends.values()), **{key.replace(" ", "_"): ends[key] for key in sorted(ends)})
    expect(not failures, f"{len(failures)} points, the first: {failures[:1]}")

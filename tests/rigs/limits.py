"""R6, the part of limits: each command of a script under RLIMIT_FSIZE and RLIMIT_NOFILE, and on a file system that is
read-only. Whatever a command answers, the store is as before it or as after it, and without the limit it works."""

import os

import steps
from rig import Failed, Rig, Store, expect, need, need_root, run

LIMITS = [
    ("--fsize=0", "none"),
    ("--fsize=4096", "a page"),
    ("--fsize=600000", "half a segment"),
    ("--fsize=1048575", "a byte less than a segment"),
    ("--nofile=8", "8 files"),
    ("--nofile=16", "16 files"),
    ("--nofile=32", "32 files"),
]

need("prlimit")


def settle(store, step, before, after, done):
    expect(0 <= done.returncode < 128, f"exit {done.returncode}: {done.stderr.decode()}")
    expect(b"panicked" not in done.stderr, done.stderr.decode())
    store.fsck()
    now = steps.seen(store)
    if done.returncode == 0:
        expect(now == after, f"it said it was done: {now}, not {after}")
    name = step[0][2] if len(step[0]) > 2 else None
    if "--erase" in step[0] and now.get(name, [0, ""])[1].startswith("exit"):
        now[name] = before[name]
    expect(now in (before, after), f"neither before nor after: {now}, before {before}, after {after}")
    if now == before != after:
        steps_done = steps.run(store, step)
        expect(steps_done.returncode == 0, f"without the limit: {steps_done.stderr.decode()}")
        expect(steps.seen(store) == after, "without the limit it is something else")


def under(limit):
    """All steps, each first under the limit. How many were refused."""
    with_limit = Store(rig.path(limit.strip("-")))
    without = Store(rig.path("plain"))
    run("rm", "-rf", with_limit.home, without.home)
    for store in (with_limit, without):
        store.run("store", "init", *steps.SMALL)
    refused = 0
    before = steps.seen(without)
    for step in steps.STEPS:
        done = steps.run(without, step)
        expect(done.returncode == 0, f"{steps.text(step)}: {done.stderr.decode()}")
        after = steps.seen(without)
        try:
            done = steps.run(with_limit, step, ["prlimit", limit, "--"])
            settle(with_limit, step, before, after, done)
        except Failed as failed:
            raise Failed(f"{steps.text(step)} under {limit}: {failed}") from None
        refused += done.returncode != 0
        before = after
    return refused


def read_only():
    """A file system that is made read-only: what reads goes on, what writes is refused, and nothing is lost."""
    mnt = rig.path("mnt")
    os.mkdir(mnt)
    if run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", mnt).returncode:
        print("rigs: SKIPPED limits on a read-only file system: it cannot be mounted here", flush=True)
        return
    rig.undo("umount", "-l", mnt)
    # The KMS has its lock on the same file system, so whoever needs keys is refused, too.
    store = steps.new_store(os.path.join(mnt, "home"))
    for step in steps.STEPS[:4]:
        expect(steps.run(store, step).returncode == 0, steps.text(step))
    before = steps.seen(store)
    expect(run("mount", "-o", "remount,ro", mnt).returncode == 0, "it is remounted")
    for step in steps.STEPS[4:8]:
        done = steps.run(store, step)
        expect(0 < done.returncode < 128, f"{steps.text(step)} on a read-only file system: exit {done.returncode}")
    expect(run("mount", "-o", "remount,rw", mnt).returncode == 0, "it is remounted")
    expect(steps.seen(store) == before, "what was refused changed something")
    for step in steps.STEPS[4:8]:
        done = steps.run(store, step)
        expect(done.returncode == 0, f"{steps.text(step)}: {done.stderr.decode()}")
    rig.result["read_only"] = "refused, then done"


with Rig() as rig:
    for limit, what in LIMITS:
        rig.result[limit.strip("-")] = f"{under(limit)} of {len(steps.STEPS)} refused"
    need_root()
    read_only()

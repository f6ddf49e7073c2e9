"""R3: the file system under a store is shut down in the middle of work (what was not synced is gone, and names with
it); it is mounted again, its journal is replayed, and what was acknowledged before is there. ext4 and xfs.

What counts is what was answered before the shutdown began. A sync that is under way then may succeed and its data be gone, on
both file systems: `lie()` shows it without a store."""

import os
import shutil
import threading
import time

from rig import Client, Ledger, Rig, Store, count, expect, need, need_root, rng, run

CYCLES = count("RIGS_CYCLES", 6, 50)
# Without writing the log of the file system, or with it but without data.
HOW = ("shutdown", "shutdown -f")

need_root()
need("xfs_io", "mkfs.ext4", "mkfs.xfs", "mount")


def mount(rig, kind, image, mnt):
    done = run("mount", "-o", "loop", image, mnt)
    expect(done.returncode == 0, f"{kind} cannot be mounted again: {done.stderr.decode()}")
    rig.undo("umount", "-l", mnt)


def umount(mnt):
    for _ in range(100):
        if run("umount", mnt).returncode == 0:
            return
        time.sleep(0.05)
    run("umount", "-l", mnt)


def cycles(rig, kind):
    image, mnt = rig.path(f"{kind}.image"), rig.path(kind)
    os.mkdir(mnt)
    with open(image, "wb") as file:
        file.truncate(320 << 20)
    mkfs = ["mkfs.ext4", "-qF", image] if kind == "ext4" else ["mkfs.xfs", "-qf", image]
    if run(*mkfs).returncode or run("mount", "-o", "loop", image, mnt).returncode:
        print(f"rigs: SKIPPED shutdown on {kind}: it cannot be mounted here", flush=True)
        return False
    rig.undo("umount", "-l", mnt)
    store = Store(os.path.join(mnt, "home"))
    ledger = Ledger(store)
    ledger.create()
    run("sync", "-f", mnt)
    done = lost = 0
    for cycle in range(CYCLES):
        random = rng(cycle)
        server = rig.serve(store)
        client = Client(server.socket, Ledger.VOLUME, timeout=20)
        how = random.choice(HOW)

        def shut_down():
            ledger.doubt()
            run("xfs_io", "-x", "-c", how, mnt)

        timer = threading.Timer(random.uniform(0.05, 0.5), shut_down)
        timer.start()
        deadline = time.monotonic() + 15
        ledger.work(client, random, lambda: time.monotonic() > deadline)
        timer.join()
        server.kill()
        umount(mnt)
        if os.environ.get("RIGS_KEEP"):
            run("cp", "--sparse=always", image, f"{image}.crashed")
        mount(rig, kind, image, mnt)
        sent = ledger.sent
        lost += sent - ledger.check()
        done += 1
    # After many cycles it may have left too little room for `lie`.
    shutil.rmtree(store.home)
    umount(mnt)
    rig.result[kind] = done
    rig.result[f"{kind}_lost_unflushed"] = lost
    return True


def lie(rig, kind):
    """How often a plain program that writes a page and syncs it, again and again, loses a page whose sync succeeded."""
    mnt, image = rig.path(kind), rig.path(f"{kind}.image")
    lost = 0
    for cycle in range(CYCLES):
        mount(rig, kind, image, mnt)
        random = rng(cycle)
        path = os.path.join(mnt, "plain")
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(file, 0, 8 << 20)
        os.fsync(file)
        run("sync", "-f", mnt)
        command = ["xfs_io", "-x", "-c", random.choice(HOW), mnt]
        timer = threading.Timer(random.uniform(0.02, 0.2), run, command)
        timer.start()
        synced = 0
        try:
            for number in range(2000):
                os.pwrite(file, bytes([1 + number % 255]) * 4096, number * 4096)
                os.fdatasync(file)
                synced += 1
        except OSError:
            pass
        timer.join()
        os.close(file)
        umount(mnt)
        mount(rig, kind, image, mnt)
        with open(path, "rb") as file:
            found = file.read()
        lost += any(found[number * 4096] != 1 + number % 255 for number in range(synced))
        os.remove(path)
        umount(mnt)
    rig.result[f"{kind}_syncs_of_a_plain_program_that_lied"] = lost


with Rig() as rig:
    for kind in os.environ.get("RIGS_KIND", "ext4,xfs").split(","):
        if cycles(rig, kind):
            lie(rig, kind)

"""R5: a store on ext4 on a device that records what it is asked (`offshoot serve nbd --record`, with nbdfuse and loop
between), and the device as a power loss at any moment would leave it: all writes up to the last flush before that
moment, and of those after it some. ext4 replays its journal; the store holds all that was acknowledged by then."""

import os
import struct
import subprocess
import threading
import time

from rig import Client, Failed, Ledger, Rig, Store, count, expect, need, need_root, rng, run, skip

CUTS = count("RIGS_CUTS", 24, 300)
SECONDS = count("RIGS_SECONDS", 4, 20)
MIB = 128

need_root()
need("nbdfuse", "losetup", "mkfs.ext4", "fusermount3")
if not os.path.exists("/dev/fuse"):
    skip("there is no FUSE here")


class Device:
    """A volume of another store as a block device, with a record of its requests."""

    def __init__(self, rig):
        self.outer = Store(rig.path("outer"))
        self.outer.run("store", "init")
        self.outer.run("volume", "create", "disk", "--size", f"{MIB}M")
        self.record = rig.path("record")
        socket, pid, disk = rig.path("device"), rig.path("device.pid"), rig.path("disk")
        command = self.outer.args("serve", "nbd", "disk", "--socket", socket, "--pid-file", pid, "--record", self.record)
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rig.undo("kill", str(self.server.pid))
        self.wait(lambda: os.path.exists(pid) and os.path.getsize(pid), "the device does not start")
        open(disk, "w").close()
        command = ["nbdfuse", disk, f"nbd+unix:///disk?socket={socket}"]
        self.fuse = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rig.undo("kill", str(self.fuse.pid))
        rig.undo("fusermount3", "-uz", disk)
        self.wait(lambda: os.path.getsize(disk), "nbdfuse does not start")
        found = run("losetup", "--find", "--show", disk)
        expect(found.returncode == 0, found.stderr.decode())
        self.loop = found.stdout.decode().strip()
        rig.undo("losetup", "-d", self.loop)
        self.mnt = rig.path("mnt")
        os.mkdir(self.mnt)
        expect(run("mkfs.ext4", "-qF", self.loop).returncode == 0, "mkfs")
        expect(run("mount", self.loop, self.mnt).returncode == 0, "it cannot be mounted")
        rig.undo("umount", "-l", self.mnt)

    @staticmethod
    def wait(is_there, otherwise):
        deadline = time.monotonic() + 30
        while not is_there():
            expect(time.monotonic() < deadline, otherwise)
            time.sleep(0.01)

    def recorded(self):
        return os.path.getsize(self.record)


class Noting(Ledger):
    """A ledger that notes how long the record was when something had been acknowledged."""

    def __init__(self, store, device):
        self.notes = []
        self.device = device
        super().__init__(store)

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "flushed" and value:
            self.notes.append((self.device.recorded(), value))


def requests(path):
    """Where each write, zeroing and flush of a record ends, its command, offset, and bytes."""
    found, at = [], 0
    with open(path, "rb") as file:
        data = file.read()
    while at + 28 <= len(data):
        magic, flags, command, _, offset, length = struct.unpack(">IHHQQI", data[at : at + 28])
        at += 28
        if magic == 0x25609514:
            continue
        expect(magic == 0x25609513, "not a record")
        if command == 1:
            found.append((at + length, "write", offset, data[at : at + length]))
            at += length
        elif command in (4, 6):
            found.append((at, "write", offset, bytes(length)))
        if command == 3 or flags & 1:
            found.append((at, "flush", 0, b""))
    return found


def rebuild(path, log, cut, random):
    """The disk after a power loss when the record was so long."""
    before = [request for request in log if request[0] <= cut]
    flushes = [index for index, request in enumerate(before) if request[1] == "flush"]
    safe = flushes[-1] if flushes else 0
    keep = random.choice([0.0, 0.5, 0.9, 1.0])
    with open(path, "wb") as file:
        file.truncate(MIB << 20)
        for index, (_, kind, offset, data) in enumerate(before):
            if kind == "write" and (index < safe or random.random() < keep):
                file.seek(offset)
                file.write(data)
    return len(before) - safe


def check_cut(rig, ledger, log, cut, number):
    image, mnt = rig.path("cut"), rig.path("cutmnt")
    os.makedirs(mnt, exist_ok=True)
    pending = rebuild(image, log, cut, rng(1000 + number))
    acknowledged = max([flushed for length, flushed in ledger.notes if length <= cut], default=0)
    done = run("mount", "-o", "loop", image, mnt)
    expect(done.returncode == 0, f"ext4 cannot be mounted: {done.stderr.decode()}")
    try:
        store = Store(os.path.join(mnt, "home"))
        store.fsck(keys=True)
        written = store_written(store)
        expect(acknowledged <= written <= ledger.sent, f"{acknowledged} acknowledged, {written} there")
    except Failed as failed:
        raise Failed(f"cut {number} at byte {cut} of the record: {failed}") from None
    finally:
        for _ in range(100):
            if run("umount", mnt).returncode == 0:
                break
            time.sleep(0.05)
    return pending, written - acknowledged


def store_written(store):
    return Ledger(store).written(Ledger.VOLUME)


with Rig() as rig:
    device = Device(rig)
    store = Store(os.path.join(device.mnt, "home"))
    ledger = Noting(store, device)
    ledger.create()
    run("sync", "-f", device.mnt)
    begin = device.recorded()
    server = rig.serve(store)
    client = Client(server.socket, Ledger.VOLUME)
    deadline = time.monotonic() + SECONDS
    failed = ledger.work(client, rng(0), lambda: time.monotonic() > deadline)
    expect(not failed, f"a request failed: {failed}")
    server.kill()
    end = device.recorded()
    log = requests(device.record)
    random = rng(1)
    # At the moments of acknowledgement, where most is at stake, and anywhere.
    ends = [length for length, _ in ledger.notes if length >= begin]
    cuts = [random.choice(ends) if number % 3 == 0 and ends else random.randint(begin, end) for number in range(CUTS)]
    rig.result.update(cuts=0, requests=len(log), writes=ledger.sent, with_unflushed=0, kept_unacknowledged=0)
    for number, cut in enumerate(cuts):
        pending, more = check_cut(rig, ledger, log, cut, number)
        rig.result["cuts"] += 1
        rig.result["with_unflushed"] += pending > 1
        rig.result["kept_unacknowledged"] += more > 0

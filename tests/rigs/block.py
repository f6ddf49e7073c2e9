"""R4: a store on ext4 on a block device (nbdkit, nbdfuse, loop) that begins to fail writes, or syncs, or reads. Nothing is
acknowledged that is not there when the device is well again; nothing wrong is read."""

import os
import subprocess
import threading
import time

from rig import Client, Failed, Ledger, Rig, Store, count, expect, need, need_root, rng, run, skip

CYCLES = count("RIGS_CYCLES", 2, 12)
MEMORY = ["--filter=error", "memory", "96M"]
# The filter has no error for flushes, so here each request is a line of shell, on a file.
FLUSHES = [
    "eval",
    "get_size=echo 96M",
    "pread=dd if=BACKING skip=$4 count=$3 iflag=count_bytes,skip_bytes bs=64K status=none",
    "pwrite=dd of=BACKING seek=$4 oflag=seek_bytes conv=notrunc bs=64K iflag=fullblock status=none",
    "flush=if [ -e BAD ]; then echo EIO the flush fails >&2; exit 1; fi",
]
# What fails, as nbdkit does it. It asks for the file "bad" each time.
KINDS = {
    "writes": [*MEMORY, "error-pwrite=EIO", "error-pwrite-rate=100%", "error-pwrite-file=BAD"],
    "space": [*MEMORY, "error-pwrite=ENOSPC", "error-pwrite-rate=100%", "error-pwrite-file=BAD"],
    "some writes": [*MEMORY, "error-pwrite=EIO", "error-pwrite-rate=30%", "error-pwrite-file=BAD"],
    "flushes": FLUSHES,
    "reads": [*MEMORY, "error-pread=EIO", "error-pread-rate=100%", "error-pread-file=BAD"],
}
if "RIGS_KIND" in os.environ:
    KINDS = {kind: KINDS[kind] for kind in os.environ["RIGS_KIND"].split(",")}

need_root()
need("nbdkit", "nbdfuse", "losetup", "mkfs.ext4", "fusermount3")
if not os.path.exists("/dev/fuse"):
    skip("there is no FUSE here")


class Device:
    """A disk whose calls fail while a file is there."""

    def __init__(self, rig, kind):
        self.rig, self.bad = rig, rig.path("bad")
        self.mnt, disk = rig.path("mnt"), rig.path("disk")
        os.makedirs(self.mnt, exist_ok=True)
        open(disk, "w").close()
        backing = rig.path("backing")
        with open(backing, "wb") as file:
            file.truncate(96 << 20)
        parts = [part.replace("BAD", self.bad).replace("BACKING", backing) for part in KINDS[kind]]
        nbdkit = ["nbdkit", "-s", "--exit-with-parent", *parts]
        self.fuse = subprocess.Popen(
            ["nbdfuse", disk, "--command", *nbdkit], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        rig.undo("kill", str(self.fuse.pid))
        rig.undo("fusermount3", "-uz", disk)
        deadline = time.monotonic() + 20
        while os.path.getsize(disk) == 0:
            expect(time.monotonic() < deadline, "nbdfuse does not start")
            time.sleep(0.02)
        found = run("losetup", "--find", "--show", disk)
        expect(found.returncode == 0, found.stderr.decode())
        self.loop, self.disk = found.stdout.decode().strip(), disk
        rig.undo("losetup", "-d", self.loop)
        expect(run("mkfs.ext4", "-qF", self.loop).returncode == 0, "mkfs")
        self.mount()

    def mount(self):
        done = run("mount", self.loop, self.mnt)
        expect(done.returncode == 0, f"it cannot be mounted: {done.stderr.decode()}")
        self.rig.undo("umount", "-l", self.mnt)

    def umount(self):
        for _ in range(200):
            if run("umount", self.mnt).returncode == 0:
                return
            time.sleep(0.05)
        raise Failed("it cannot be unmounted")

    def has_journal(self):
        """Whether the file system still takes changes, so its journal has not been aborted."""
        path = os.path.join(self.mnt, "change")
        try:
            os.mkdir(path)
            os.rmdir(path)
        except OSError:
            return False
        return True

    def fail(self):
        open(self.bad, "w").close()

    def heal(self):
        if os.path.exists(self.bad):
            os.remove(self.bad)

    def end(self):
        self.heal()
        self.umount()
        run("losetup", "-d", self.loop)
        for _ in range(200):
            if run("fusermount3", "-u", self.disk).returncode == 0:
                break
            time.sleep(0.05)
        self.fuse.wait(timeout=20)


class Plain:
    """A plain program beside the store: it writes a page of a preallocated file and syncs it, again and again. What it
    loses though the sync succeeded, no program could keep."""

    LEN = 4 << 20

    def __init__(self, device):
        self.path = os.path.join(device.mnt, "plain")
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(self.file, 0, self.LEN)
        os.fsync(self.file)
        self.synced = {}
        self.is_over = False
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        number = 0
        try:
            while not self.is_over:
                number += 1
                page = number % (self.LEN // 4096)
                os.pwrite(self.file, number.to_bytes(8, "little") * 512, page * 4096)
                os.fdatasync(self.file)
                self.synced[page] = number
        except OSError:
            pass

    def end(self):
        self.is_over = True
        self.thread.join()
        os.close(self.file)

    def lost(self):
        """Pages that are older than a sync that succeeded says."""
        with open(self.path, "rb") as file:
            found = file.read()
        os.remove(self.path)
        at = {page: int.from_bytes(found[page * 4096 : page * 4096 + 8], "little") for page in self.synced}
        return sum(at[page] < number for page, number in self.synced.items())


def writing(rig, device, ledger, store, random):
    """Clients write while the device begins to fail; then it is well again, as after a reboot."""
    server = rig.serve(store)
    client = Client(server.socket, Ledger.VOLUME)

    def begin_to_fail():
        # When the journal of ext4 fails in the middle of a sync, that can succeed and its data be gone, of any
        # program (docs/campaigns/2026-11-rigs.md). So what is answered from now on counts only if the journal lives on.
        ledger.doubt()
        device.fail()

    plain = Plain(device)
    timer = threading.Timer(random.uniform(0.05, 0.4), begin_to_fail)
    timer.start()
    deadline = time.monotonic() + 20
    failed = ledger.work(client, random, lambda: time.monotonic() > deadline)
    timer.join()
    if failed:
        rig.result["refused"] += 1
        device.heal()
        error, _ = client.request(Client.FLUSH)
        # After a failed sync nothing is acknowledged, whatever the device says now. A write may have been refused before
        # anything was appended, as when no segment could be made: then all before it is there.
        expect(error != 0 or failed == "write", "a store whose sync failed acknowledged a flush")
        if error == 0:
            ledger.claimed = ledger.sent - 1
            rig.result["went_on"] += 1
    server.kill()
    plain.end()
    device.heal()
    if device.has_journal():
        ledger.believe()
        rig.result["journal_lived"] += 1
    device.umount()
    run("e2fsck", "-fy", device.loop)
    device.mount()
    claimed = ledger.claimed
    written = ledger.check()
    rig.result["flushes_that_lied"] += written < claimed
    rig.result["syncs_of_a_plain_program_that_lied"] += plain.lost() > 0


def reading(rig, device, ledger, store, _random):
    """What cannot be read is an error, and is there again when the device is well."""
    device.umount()
    device.mount()
    device.fail()
    done = store.try_run("volume", "read", Ledger.VOLUME)
    if done.returncode == 0:
        expect(done.stdout == ledger.contents(ledger.sent), "wrong bytes were read")
    else:
        rig.result["refused"] += 1
        expect(done.returncode < 128 and b"panicked" not in done.stderr, done.stderr.decode())
    device.heal()
    device.umount()
    device.mount()
    ledger.check()


with Rig() as rig:
    rig.result.update(cycles=0, refused=0, went_on=0, journal_lived=0, flushes_that_lied=0, syncs_of_a_plain_program_that_lied=0)
    for kind in KINDS:
        device = Device(rig, kind)
        store = Store(os.path.join(device.mnt, "home"))
        ledger = Ledger(store)
        ledger.create()
        for cycle in range(CYCLES):
            step = reading if kind == "reads" else writing
            try:
                step(rig, device, ledger, store, rng(cycle))
            except Failed as failed:
                raise Failed(f"{kind}, cycle {cycle}: {failed}") from None
            rig.result["cycles"] += 1
        device.end()

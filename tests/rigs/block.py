"""R4: a store on ext4 on a block device (nbdkit, nbdfuse, loop) that begins to fail writes, or syncs, or reads, while its
client flushes, makes and deletes clones, has space reclaimed, or works with keys. Nothing is acknowledged that is not
there when the device is well again; nothing wrong is read.

In half of all cycles the file system goes on when the device is well, with what its page cache has: after a sync that
failed that is more than the medium has, and no later sync writes it (Rebello et al., "Can Applications Recover from fsync
Failures?", USENIX ATC 2020)."""

import json
import mmap
import os
import subprocess
import threading
import time

from rig import Client, Failed, Ledger, Mix, Rig, Store, count, expect, need, need_root, rng, run, skip

CYCLES = count("RIGS_CYCLES", 4, 16)
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
# What is done meanwhile: each in turn.
TARGETS = {
    "flush": Mix(),
    "clone": Mix(flush=0.05, branch=0.25, delete=0.2, clones=True),
    "reclaim": Mix(flush=0.1, branch=0.03, delete=0.03, compact=0.1),
    "keys": None,
}
if "RIGS_TARGET" in os.environ:
    TARGETS = {target: TARGETS[target] for target in os.environ["RIGS_TARGET"].split(",")}
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
        # Through the page cache a write of which nbdfuse gets two requests, and refuses the second, succeeds (Linux 6.18).
        found = run("losetup", "--find", "--show", "--direct-io=on", disk)
        expect(found.returncode == 0, found.stderr.decode())
        self.loop, self.disk = found.stdout.decode().strip(), disk
        rig.undo("losetup", "-d", self.loop)
        if kind == "some writes":
            self.check()
        expect(run("mkfs.ext4", "-qF", self.loop).returncode == 0, "mkfs")
        self.mount()

    def check(self):
        """What it does not refuse must be there: else what is found is the rig's."""
        random, refused = rng(-1), 0
        disk = os.open(self.loop, os.O_RDWR | os.O_DIRECT)
        buffer = mmap.mmap(-1, 256 << 10)
        self.fail()
        kept = []
        for at in range(0, 48 << 20, 512 << 10):
            start, length = at + random.randrange(256) * 512, random.randrange(1, 512) * 512
            buffer[:length] = random.randbytes(length)
            try:
                os.pwrite(disk, memoryview(buffer)[:length], start)
                kept.append((start, bytes(buffer[:length])))
            except OSError:
                refused += 1
        self.heal()
        for start, data in kept:
            os.preadv(disk, [memoryview(buffer)[: len(data)]], start)
            expect(buffer[: len(data)] == data, f"the device lost a write at {start} that it did not refuse")
        os.close(disk)
        expect(kept and refused, "the device refuses all or nothing")

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


class Bulk:
    """A volume of which half is overwritten here and there, so that reclaim has something to copy."""

    NAME, LEN, PIECE = "bulk", 6 << 20, 64 << 10

    def __init__(self, store):
        self.store, self.contents = store, bytearray(self.LEN)
        store.run("volume", "create", self.NAME, "--size", str(self.LEN))

    def overwrite(self, server, random):
        """Durable when it returns."""
        client = Client(server.socket, self.NAME)
        for piece in random.sample(range(self.LEN // self.PIECE), self.LEN // self.PIECE // 2):
            at, data = piece * self.PIECE, random.randbytes(self.PIECE)
            expect(client.request(Client.WRITE, at, len(data), data)[0] == 0, "a write fails")
            self.contents[at : at + len(data)] = data
        expect(client.request(Client.FLUSH)[0] == 0, "a flush fails")

    def check(self):
        expect(self.store.read(self.NAME) == bytes(self.contents), "what was flushed before is not what is read")


class Keys:
    """Keys of the KMS, and all the states that they went through since what is known to be durable."""

    def __init__(self, store):
        self.store, self.names, self.claimed = store, 0, 0
        self.states = [self.seen()]

    def seen(self):
        keys = json.loads(self.store.run("key", "list", "--json"))["keys"]
        # A key is made first and then named: cut off in between it has no name, and nothing is under it.
        return {key["aliases"][0]: [key["status"], key["version"]] for key in keys if key["aliases"]}

    def step(self, random):
        """A change of some key; the command, and the state after it."""
        state = {alias: list(key) for alias, key in self.states[-1].items()}
        ours = [alias for alias in state if alias.startswith("alias/k")]
        if not ours or len(ours) < 8 and random.random() < 0.3:
            self.names += 1
            alias = f"alias/k{self.names}"
            state[alias] = ["enabled", 1]
            return ["create", "--alias", alias], state
        alias = random.choice(ours)
        key = state[alias]
        if key[0] == "disabled":
            key[0] = "enabled"
            return ["enable", alias], state
        if random.random() < 0.5:
            key[0] = "disabled"
            return ["disable", alias], state
        key[1] += 1
        return ["rotate", alias], state

    def work(self, random, is_over, ledger):
        """Changes keys until that is over or a change fails."""
        while not is_over():
            command, state = self.step(random)
            self.states.append(state)
            if self.store.try_run("key", *command).returncode != 0:
                return "command"
            if ledger.trusts:
                self.states = [state]
            else:
                self.claimed = len(self.states) - 1
        return None

    def believe(self):
        self.states, self.claimed = self.states[self.claimed :], 0

    def check(self):
        found = self.seen()
        expect(found in self.states, f"keys: {found}, not one of {self.states}")
        self.states, self.claimed = [found], 0
        self.store.run("key", "audit", "--verify")


class Home:
    """All that is on the device, and what must be there."""

    def __init__(self, rig, device):
        self.rig, self.device = rig, device
        self.store = Store(os.path.join(device.mnt, "home"))
        self.ledger = Ledger(self.store)
        self.ledger.create()
        self.bulk = Bulk(self.store)
        self.keys = Keys(self.store)

    def work(self, server, mix, random, is_over):
        """Until that is over or something is refused."""
        client = Client(server.socket, Ledger.VOLUME)
        if mix is None:
            return self.keys.work(random, is_over, self.ledger), client
        return self.ledger.work(client, random, is_over, mix), client

    def believe(self):
        self.ledger.believe()
        self.keys.believe()

    def check(self):
        written = self.ledger.check()
        self.bulk.check()
        self.keys.check()
        return written


def writing(rig, home, target, random, goes_on):
    """A client works while the device begins to fail; then it is well again: of itself after a moment, which a journal may
    survive, if the file system is to go on."""
    device, ledger = home.device, home.ledger
    server = rig.serve(home.store)
    deadline = time.monotonic() + 20
    moment = random.uniform(0.002, 0.03)
    if target == "reclaim":
        home.bulk.overwrite(server, random)

    def begin_to_fail():
        # When the journal of ext4 fails in the middle of a sync, that can succeed and its data be gone, of any
        # program (docs/campaigns/2026-11-rigs.md). So what is answered from now on counts only if the journal lives on.
        nonlocal deadline
        ledger.doubt()
        device.fail()
        if goes_on:
            time.sleep(moment)
            device.heal()
            deadline = time.monotonic() + 0.2

    plain = Plain(device)
    timer = threading.Timer(random.uniform(0.05, 0.4), begin_to_fail)
    timer.start()
    failed, client = home.work(server, TARGETS[target], random, lambda: time.monotonic() > deadline)
    timer.join()
    if failed:
        rig.result["refused"] += 1
        device.heal()
        error, _ = client.request(Client.FLUSH)
        # After a failed sync nothing is acknowledged, whatever the device says now. A write may have been refused before
        # anything was appended, as when no segment could be made: then all before it is there. Keys are not the store's.
        expect(error != 0 or failed in ("write", "command"), "a store whose sync failed acknowledged a flush")
        if error == 0:
            ledger.answered("flush", ledger.sent - (failed == "write"))
            rig.result["went_on"] += 1
    server.kill()
    plain.end()
    device.heal()
    if device.has_journal():
        home.believe()
        rig.result["journal_lived"] += 1
        if goes_on:
            home.check()
            server = rig.serve(home.store)
            deadline = time.monotonic() + 0.2
            failed, _ = home.work(server, TARGETS[target], random, lambda: time.monotonic() > deadline)
            expect(failed is None, f"on the same file system, all well again, a {failed} fails")
            server.kill()
            rig.result["on_the_same_file_system"] += 1
    device.umount()
    run("e2fsck", "-fy", device.loop)
    device.mount()
    claimed = ledger.claimed()
    written = home.check()
    rig.result["flushes_that_lied"] += written < claimed
    rig.result["syncs_of_a_plain_program_that_lied"] += plain.lost() > 0


# What is tried of each target while nothing can be read.
READS = {
    "flush": ["volume", "read", Ledger.VOLUME],
    "clone": ["clone", "create", Ledger.VOLUME, "c0"],
    "reclaim": ["store", "compact"],
    "keys": ["key", "rotate", "alias/default"],
}


def reading(rig, home, target, _random, _goes_on):
    """What cannot be read is an error, and is there again when the device is well."""
    device, ledger, store = home.device, home.ledger, home.store
    device.umount()
    device.mount()
    device.fail()
    done = store.try_run(*READS[target])
    device.heal()
    expect(done.returncode >= 0 and b"panicked" not in done.stderr, done.stderr.decode())
    if done.returncode != 0:
        rig.result["refused"] += 1
    elif target == "flush":
        expect(done.stdout == ledger.contents(ledger.sent), "wrong bytes were read")
    device.umount()
    device.mount()
    if target == "clone":
        is_there = "c0" in ledger.there()
        expect(is_there or done.returncode != 0, "a clone that was made is not there")
        if is_there:
            expect(store.read("c0") == ledger.contents(ledger.sent), "the clone is not its source")
            store.run("volume", "delete", "c0", "--yes")
    if target == "keys":
        before = home.keys.states[-1]
        status, version = before["alias/default"]
        after = {**before, "alias/default": [status, version + 1]}
        home.keys.states = [after] if done.returncode == 0 else [before, after]
    home.check()


with Rig() as rig:
    counts = "refused went_on journal_lived on_the_same_file_system flushes_that_lied"
    rig.result.update(dict.fromkeys(["cycles", *counts.split(), "syncs_of_a_plain_program_that_lied"], 0))
    for kind in KINDS:
        device = Device(rig, kind)
        home = Home(rig, device)
        for cycle in range(CYCLES):
            target = list(TARGETS)[cycle % len(TARGETS)]
            step = reading if kind == "reads" else writing
            try:
                step(rig, home, target, rng(cycle), cycle // len(TARGETS) % 2 == 1)
            except Failed as failed:
                raise Failed(f"{kind}, {target}, cycle {cycle}: {failed}") from None
            rig.result["cycles"] += 1
        device.end()

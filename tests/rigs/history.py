"""R8: eight clients read, write and flush the same few pages at the same time, and every call is written down with its
times. Each page is a register: there must be one order of all calls that fits the times and in which each read gives
what was written last. The server is killed again and again, and the pages as they are then are reads like any other: a
kill loses nothing that was answered. Last, the file system (ext4) under the store is shut down: what a flush covered
must be there or something newer.

Values are numbers that are written once, so whether there is such an order can be told page by page from when each
value was there at the earliest and the latest (Gibbons and Korach, "Testing Shared Memories", 1997)."""

import bisect
import os
import struct
import threading
import time

from rig import PAGE, Client, Failed, Gone, Rig, Store, count, expect, rng, run

CLIENTS = 8
PAGES = 12
SECONDS = count("RIGS_SECONDS", 20, 120)
CYCLES = count("RIGS_CYCLES", 4, 12)
LOSSES = count("RIGS_LOSSES", 3, 20)
VOLUME = "pages"
NEVER = float("inf")


class Call:
    """A read or write of a page: of what value, from when to when. A write that was not answered may happen at any time
    after it began, or never."""

    def __init__(self, kind, page, value, begun):
        self.kind, self.page, self.value = kind, page, value
        self.begun, self.ended = begun, NEVER


class History:
    """All calls, of all processes of the server."""

    def __init__(self):
        self.lock = threading.Lock()
        self.numbers = 0
        # What pages hold before the first call.
        self.calls = [Call("write", page, 0, -2.0) for page in range(PAGES)]
        for call in self.calls:
            call.ended = -1.0
        self.flushes = []

    def number(self):
        with self.lock:
            self.numbers += 1
            return self.numbers

    def add(self, calls, flushes=()):
        with self.lock:
            self.calls += calls
            self.flushes += flushes

    def check(self):
        for page in range(PAGES):
            check_page(page, [call for call in self.calls if call.page == page])

    def after_loss(self, page, value):
        """A power loss may take a write only if no flush that was answered began after it had been answered."""
        writes = {call.value: call for call in self.calls if call.page == page and call.kind == "write"}
        expect(value in writes, f"page {page} holds {value}, which nobody wrote")
        found = writes[value]
        for newer in writes.values():
            is_after = found.ended < newer.begun
            covered = any(begun > newer.ended for begun, _ in self.flushes)
            expect(not (is_after and covered), f"page {page} holds {value}; {newer.value} came after and was flushed")


def check_page(page, calls):
    """Whether a page's calls have an order as they must."""
    values = {}
    for call in calls:
        values.setdefault(call.value, []).append(call)
    forward, backward = [], []
    for value, of in values.items():
        writes = [call for call in of if call.kind == "write"]
        expect(len(writes) == 1, f"page {page}: {value} was read and never written")
        # A write that nobody was answered nor saw says nothing.
        if len(of) == 1 and writes[0].ended == NEVER:
            continue
        early = [call for call in of if call.ended < writes[0].begun]
        expect(not early, f"page {page}: {value} was read before it was written")
        first_end = min(call.ended for call in of)
        last_begin = max(call.begun for call in of)
        if first_end < last_begin:
            # It was there all the time from the one to the other.
            forward.append((first_end, last_begin, value))
        else:
            # It was there at some time between.
            backward.append((last_begin, first_end, value))
    forward.sort()
    for (_, end, one), (begin, _, other) in zip(forward, forward[1:]):
        expect(end <= begin, f"page {page}: {one} and {other} were there at the same time")
    starts = [start for start, _, _ in forward]
    for begin, end, one in backward:
        # They do not overlap, so only the last that starts before it can hold it.
        before = bisect.bisect_left(starts, begin)
        if before > 0:
            _, stop, other = forward[before - 1]
            expect(end >= stop, f"page {page}: {one} has no place while {other} was there")


def value_of(data):
    expect(data == data[:8] * (PAGE // 8), "a page is torn")
    return struct.unpack_from("<Q", data)[0]


def work(history, server, random, is_over, counts):
    """A client, until the server is gone."""
    calls, flushes = [], []
    try:
        client = Client(server.socket, VOLUME, timeout=20)
        while not is_over():
            page, dice = random.randrange(PAGES), random.random()
            begun = time.monotonic()
            if dice < 0.45:
                call = Call("write", page, history.number(), time.monotonic())
                calls.append(call)
                data = struct.pack("<Q", call.value) * (PAGE // 8)
                error, _ = client.request(Client.WRITE, page * PAGE, PAGE, data)
                if error:
                    break
                call.ended = time.monotonic()
            elif dice < 0.9:
                error, data = client.request(Client.READ, page * PAGE, PAGE)
                if error:
                    break
                call = Call("read", page, value_of(data), begun)
                call.ended = time.monotonic()
                calls.append(call)
            else:
                error, _ = client.request(Client.FLUSH)
                if error:
                    break
                flushes.append((begun, time.monotonic()))
    except Gone:
        pass
    except Failed as failed:
        counts["failed"] = str(failed)
    finally:
        history.add(calls, flushes)


def play(history, server, cycle, seconds, at_end):
    """All clients for some time; then `at_end` while they go on."""
    over = threading.Event()
    counts = {}
    clients = [
        threading.Thread(target=work, args=(history, server, rng(cycle * 100 + number), over.is_set, counts))
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    time.sleep(seconds)
    at_end()
    for client in clients:
        client.join(timeout=60)
        expect(not client.is_alive(), "a client waits for ever")
    over.set()
    expect("failed" not in counts, counts.get("failed"))


def pages_of(store):
    found = store.read(VOLUME)
    return [value_of(found[page * PAGE : (page + 1) * PAGE]) for page in range(PAGES)]


def create(store):
    store.run("store", "init", "--segment-size", "1M")
    store.run("volume", "create", VOLUME, "--size", str(PAGES * PAGE))


def kills(rig):
    store, history = Store(rig.path("home")), History()
    create(store)
    for cycle in range(CYCLES):
        server = rig.serve(store)
        play(history, server, cycle, SECONDS / CYCLES, server.kill)
        begun = time.monotonic()
        store.fsck(keys=True)
        reads = [Call("read", page, value, begun) for page, value in enumerate(pages_of(store))]
        for read in reads:
            read.ended = time.monotonic()
        history.add(reads)
        history.check()
    rig.result.update(kills=CYCLES, calls=len(history.calls), flushes=len(history.flushes))


def losses(rig):
    """Power losses: here as a file system that is shut down, whose log may be written and whose data is not."""
    image, mnt = rig.path("image"), rig.path("mnt")
    os.mkdir(mnt)
    with open(image, "wb") as file:
        file.truncate(128 << 20)
    if os.geteuid() or run("mkfs.ext4", "-qF", image).returncode or run("mount", "-o", "loop", image, mnt).returncode:
        print("rigs: SKIPPED history after a power loss: ext4 cannot be mounted here", flush=True)
        return
    rig.undo("umount", "-l", mnt)
    store = Store(os.path.join(mnt, "home"))
    create(store)
    run("sync", "-f", mnt)
    taken = calls = 0
    for cycle in range(LOSSES):
        history = History()
        for page, value in enumerate(pages_of(store)):
            history.calls[page].value = value
        history.numbers = max(call.value for call in history.calls) + 1
        server = rig.serve(store)
        shut_down = []

        def lose():
            # What is answered from here on proves nothing: see shutdown.py.
            shut_down.append(time.monotonic())
            run("xfs_io", "-x", "-c", "shutdown", mnt)
            time.sleep(0.2)
            server.kill()

        play(history, server, 50 + cycle, rng(cycle).uniform(0.2, 1.0), lose)
        history.flushes = [flush for flush in history.flushes if flush[1] < shut_down[0]]
        history.check()
        for _ in range(100):
            if run("umount", mnt).returncode == 0:
                break
            time.sleep(0.05)
        expect(run("mount", "-o", "loop", image, mnt).returncode == 0, "it cannot be mounted again")
        store.fsck(keys=True)
        for page, value in enumerate(pages_of(store)):
            history.after_loss(page, value)
            newest = max(call.value for call in history.calls if call.page == page and call.kind == "write")
            taken += value != newest
        calls += len(history.calls)
    run("umount", mnt)
    rig.result.update(losses=LOSSES, calls_before_losses=calls, pages_not_newest=taken)


def prove():
    """That the check notices: what it says of histories that are wrong."""

    def history(*calls):
        found = []
        for kind, value, begun, ended in calls:
            found.append(Call(kind, 0, value, begun))
            found[-1].ended = ended
        return found

    def is_wrong(*calls):
        try:
            check_page(0, history(*calls))
            return False
        except Failed:
            return True

    one, two = ("write", 1, 0, 1), ("write", 2, 2, 3)
    expect(not is_wrong(one, two, ("read", 2, 4, 5)), "a sound history")
    expect(not is_wrong(one, ("write", 2, 2, 9), ("read", 1, 3, 4), ("read", 2, 5, 6)), "a write under way")
    expect(not is_wrong(one, ("write", 2, 2, NEVER), ("read", 1, 3, 4)), "a write that was not answered")
    expect(is_wrong(one, two, ("read", 1, 4, 5)), "a stale read is not noticed")
    expect(is_wrong(one, ("write", 2, 2, 9), ("read", 2, 3, 4), ("read", 1, 5, 6)), "a read that goes back is not noticed")
    expect(is_wrong(one, ("read", 7, 2, 3)), "a value from nowhere is not noticed")
    expect(is_wrong(("write", 1, 5, 6), ("read", 1, 2, 3)), "a read of what is to come is not noticed")
    lost = History()
    lost.add(history(one, two), [(4, 5)])
    try:
        lost.after_loss(0, 1)
        raise Failed("a lost flushed write is not noticed")
    except Failed as failed:
        expect("was flushed" in str(failed), str(failed))


with Rig() as rig:
    prove()
    kills(rig)
    losses(rig)

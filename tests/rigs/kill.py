"""R1: the server of a store is killed (SIGKILL) at any moment, again and again; what clients were answered is there."""

import os
import threading

from rig import Client, Ledger, Rig, Store, count, expect, rng

CYCLES = count("RIGS_CYCLES", 40, 300)
# What a store with so little in it may take, though no process lives long: 256 MiB beside its target, and what is
# written before that is noticed.
MIB_MAX = 400


def taken(store):
    """MiB of its files."""
    files = (os.path.join(path, name) for path, _, names in os.walk(store.home) for name in names)
    return sum(os.stat(file).st_blocks for file in files) >> 11


with Rig() as rig:
    store = Store(rig.path("home"))
    ledger = Ledger(store)
    ledger.create()
    rig.result.update(cycles=0, writes=0, acknowledged=0)
    for cycle in range(CYCLES):
        random = rng(cycle)
        before = ledger.sent
        server = rig.serve(store)
        client = Client(server.socket, Ledger.VOLUME)
        killer = threading.Timer(random.uniform(0, 0.4), server.process.kill)
        killer.start()
        failed = ledger.work(client, random, lambda: False)
        killer.join()
        server.kill()
        # A command whose server is killed fails.
        expect(failed in (None, "command"), f"cycle {cycle}: a request failed")
        rig.result["acknowledged"] += ledger.flushed - before
        ledger.check()
        rig.result["writes"] += ledger.sent - before
        rig.result["cycles"] += 1
        expect(taken(store) <= MIB_MAX, f"cycle {cycle}: the store takes {taken(store)} MiB")

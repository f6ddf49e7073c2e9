"""What deletions give back, by the command line on a real directory: what the dry run says, what the store counts, what `du`
says before and after. A source with clones and snapshots, deleted source first. RIGS_MIB is what the source maps."""

import json
import os

from rig import Rig, Store, count, expect, rng, run, say

MIB = 1 << 20
SOURCE = count("RIGS_MIB", 48, 2048)
CLONES = 12


def random_bytes(random, length):
    """Pages that are all different, and made fast."""
    block = random.randbytes(MIB)
    at = 0
    while at < length:
        yield at.to_bytes(8, "little") + block[8:]
        at += MIB


def write(rig, store, random, volume, offset, length):
    name = rig.path("data")
    with open(name, "wb") as file:
        file.writelines(random_bytes(random, length))
    store.run("volume", "write", volume, name, "--offset", str(offset), timeout=600)
    os.remove(name)


def family(rig, store):
    random = rng(0)
    part = SOURCE * MIB // 24
    part -= part % MIB
    store.run("volume", "create", "source", "--size", str(SOURCE * MIB))
    write(rig, store, random, "source", 0, SOURCE * MIB)
    for number in range(CLONES):
        store.run("clone", "create", "source", f"c{number}")
        if number % 4 == 0:
            store.run("snapshot", "create", "source", f"s{number}")
        # Each clone changes another part, and the source goes on, too.
        write(rig, store, random, f"c{number}", random.randrange(0, 22) * part, part)
        write(rig, store, random, "source", random.randrange(0, 22) * part, part // 2)


def settled(store):
    """All is given back that can be: live bytes by the store's count, and what the disk says."""
    store.run("store", "compact", timeout=600)
    store_dir = os.path.join(store.home, "regions", "local")
    space = json.loads(store.run("store", "stats", "--json"))["store-stats"]
    said = run("du", "-s", "--block-size=1", store_dir).stdout.split()[0]
    return space["page_bytes"] + space["table_bytes"], int(said)


ORDER = [
    ["source"],
    ["@s0", "@s8"],
    ["c3"],
    ["c0", "c1", "c2"],
    ["@s4"],
    ["c4", "c5", "c6", "c7", "c8"],
    ["c9", "c10", "c11"],
]

with Rig() as rig:
    store = Store(rig.path("home"))
    store.run("store", "init", *(["--segment-size", "1M"] if SOURCE < 256 else []))
    segment = MIB if SOURCE < 256 else 64 * MIB
    family(rig, store)
    live, before = settled(store)
    say(f"{'deleted':32} {'du before':>14} {'predicted':>14} {'live count':>14} {'du after':>14} {'du gave':>14}")
    total = 0
    for names in ORDER:
        plan = json.loads(store.run("volume", "delete", *names, "--dry-run", "--json"))
        predicted = plan["freed_bytes"] + plan["freed_metadata_bytes"]
        store.run("volume", "delete", *names, "--yes")
        now, after = settled(store)
        row = [before, predicted, live - now, after, before - after]
        say(f"{' '.join(names):32} " + " ".join(f"{value:>14,}" for value in row))
        expect(live - now == predicted, f"{names}: {predicted} was predicted, the store counts {live - now}")
        off = abs(before - after - predicted)
        expect(off <= 6 * segment, f"{names}: {predicted} was predicted, the disk has {before - after} more")
        total += predicted
        live, before = now, after
    expect(live == 0, f"{live} bytes are left")
    rig.result.update(deletions=len(ORDER), predicted_bytes=total)

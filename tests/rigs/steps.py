"""Commands of the binary, one after the other, and what can be seen of a store between them. Each command is a process that
opens the store, does one thing, and closes it: so a fault in it leaves what was before, or what is after."""

import hashlib
import json
import random

import rig
from rig import Store

SMALL = ["--segment-size", "1M"]


def data(name, length):
    """Bytes that are the same each time."""
    return random.Random(name).randbytes(length)


def write(volume, offset, length):
    """A write that is one change of the volume."""
    command = ["volume", "write", volume, "--offset", str(offset)]
    return command, data(f"{volume} {offset} {length}", length)


def command(*args):
    return list(args), b""


MIB = 1 << 20
STEPS = [
    command("volume", "create", "a", "--size", "4M"),
    write("a", 0, 900_000),
    write("a", 2 * MIB, 4096),
    command("snapshot", "create", "a", "s"),
    write("a", 3 * 4096 + 7, 100_000),
    command("clone", "create", "a", "c"),
    write("c", MIB, 300_000),
    command("volume", "discard", "a", "--offset", "65536", "--length", "262144"),
    command("volume", "resize", "a", "--size", "8M"),
    command("key", "create", "--alias", "alias/other"),
    command("clone", "create", "@s", "d", "--kms-key", "alias/other"),
    write("d", 0, 500_000),
    command("key", "rotate", "alias/default"),
    command("key", "rewrap"),
    command("store", "pin", "create", "c", "held"),
    command("volume", "rekey", "c"),
    command("volume", "rename", "d", "e"),
    command("snapshot", "delete", "s", "--yes"),
    command("store", "reclaim"),
    write("a", 6 * MIB, 700_000),
    command("volume", "delete", "c", "--erase", "--yes"),
    command("store", "pin", "release", "held"),
    command("store", "compact"),
    command("store", "quota", "set", "--heads", "40"),
    command("key", "disable", "alias/other"),
    command("volume", "delete", "e", "--yes"),
]


def run(store, step, prefix=(), **options):
    """Runs a step, perhaps under another program."""
    args, given = step
    return rig.run(*prefix, *store.args(*args), input=given, **options)


def text(step):
    return " ".join(step[0])


def seen(store):
    """All that a user sees of a store: names, sizes, contents or why they cannot be read, keys, pins, quota."""
    found = {}
    for noun in ("volume", "snapshot"):
        listed = json.loads(store.run(noun, "list", "--json"))[f"{noun}s"]
        for item in listed:
            ref = item["name"] if noun == "volume" else "@" + item["name"]
            read = store.try_run("volume", "read", ref)
            contents = hashlib.sha256(read.stdout).hexdigest()[:16]
            found[ref] = [item["size_bytes"], contents if read.returncode == 0 else f"exit {read.returncode}"]
    keys = json.loads(store.run("key", "list", "--json"))["keys"]
    # A key is made first and then named: cut off in between it has no name, and nothing is under it.
    named = [key for key in keys if key["aliases"]]
    found["keys"] = [[key["aliases"], key["status"], key["version"]] for key in named]
    pins = json.loads(store.run("store", "pin", "list", "--json"))["pins"]
    found["pins"] = [pin["name"] for pin in pins]
    quota = json.loads(store.run("store", "quota", "show", "--json"))["quota"]
    found["quota"] = [quota["quota_bytes"], quota["quota_heads"]]
    return found


def new_store(home):
    store = Store(home)
    store.run("store", "init", *SMALL)
    return store

"""What the rigs have in common: a directory of their own, the binary, results, and a client of the store that knows
what must be there after a crash."""

import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

OFFSHOOT = os.environ["OFFSHOOT"]
SEED = int(os.environ["RIGS_SEED"])
NAME = os.path.basename(sys.argv[0]).removesuffix(".py")
PAGE = 4096


def count(variable, short, full):
    """How much to do: as a variable says, else by the scale."""
    if variable in os.environ:
        return int(os.environ[variable])
    return full if os.environ["RIGS_SCALE"] == "full" else short


def say(text):
    print(f"rigs: {NAME}: {text}", flush=True)


def skip(why):
    print(f"rigs: SKIPPED {NAME}: {why}", flush=True)
    sys.exit(0)


def need(*programs):
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        skip(f"there is no {' '.join(missing)}")


def need_root():
    if os.geteuid() != 0:
        skip("only root can do this")


class Failed(Exception):
    """Something is not as it must be."""


def expect(is_so, what):
    if not is_so:
        raise Failed(what)


def run(*args, **options):
    """Runs a program; how it ended and what it said."""
    options = {"capture_output": True, "timeout": 300, **options}
    return subprocess.run(args, **options)


class Rig:
    """A directory that goes away at the end, and with it all that was mounted or started there."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix=f"offshoot-{NAME}.", dir=os.environ.get("TMPDIR"))
        self.undone = []
        self.begun = time.monotonic()
        self.result = {"rig": NAME, "seed": SEED}
        return self

    def undo(self, *command):
        self.undone.append(lambda: subprocess.run(command, capture_output=True, timeout=60))

    def serve(self, store):
        """A server that does not outlive the rig. Only this very process is killed: its number may be another's by then."""
        server = Server(store, self.dir)
        self.undone.append(server.process.kill)
        return server

    def path(self, name):
        return os.path.join(self.dir, name)

    def __exit__(self, kind, error, trace):
        for undo in reversed(self.undone):
            try:
                undo()
            except (OSError, subprocess.TimeoutExpired):
                pass
        if kind is not None and os.environ.get("RIGS_KEEP"):
            say(f"kept {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        if kind is SystemExit:
            return False
        if Client.longest:
            self.result["longest_answer_ms"] = round(Client.longest * 1000)
        self.result["seconds"] = round(time.monotonic() - self.begun, 1)
        self.result["failed"] = str(error) if error else None
        if os.environ.get("RIGS_RESULTS"):
            with open(os.environ["RIGS_RESULTS"], "a") as results:
                results.write(json.dumps(self.result) + "\n")
        if kind is not None:
            say(f"FAILED with seed {SEED}: {error}")
            if not issubclass(kind, Failed):
                return False
            sys.exit(1)
        counts = {key: value for key, value in self.result.items() if key not in ("rig", "failed")}
        say(", ".join(f"{key} {value}" for key, value in counts.items()))
        return False


class Store:
    """A store and its KMS in a home directory."""

    def __init__(self, home):
        self.home = home

    def args(self, *args):
        return [OFFSHOOT, "--home", self.home, *args]

    def try_run(self, *args, **options):
        return run(*self.args(*args), **options)

    def run(self, *args, **options):
        done = self.try_run(*args, **options)
        text = done.stderr.decode(errors="replace").strip()
        expect(done.returncode == 0, f"{' '.join(args)}: exit {done.returncode}: {text}")
        return done.stdout

    def read(self, ref):
        return self.run("volume", "read", ref)

    def names(self, noun):
        done = self.run(noun, "list", "--json")
        key = noun + "s"
        items = json.loads(done)
        items = items[key] if isinstance(items, dict) else items
        return sorted(item["name"] for item in items)

    def fsck(self, keys=False):
        """Nothing worse than a copy of a superblock that is old."""
        args = ["fsck", "--read-data", "--json"] + (["--keys"] if keys else [])
        done = self.try_run(*args)
        if done.returncode == 0:
            return
        report = json.loads(done.stdout or b"{}").get("fsck", {})
        classes = {finding["class"] for finding in report.get("findings", [])}
        text = f"fsck: exit {done.returncode}: {done.stdout.decode()[:2000]}{done.stderr.decode()[:500]}"
        expect(classes and classes <= {"redundancy_lost", "leak"}, text)


class Server:
    """`serve nbd --all` on a store."""

    def __init__(self, store, directory):
        self.socket = os.path.join(directory, "s")
        pid = os.path.join(directory, "pid")
        for path in (self.socket, pid):
            if os.path.exists(path):
                os.remove(path)
        command = store.args("serve", "nbd", "--all", "--socket", self.socket, "--pid-file", pid)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while not (os.path.exists(pid) and os.path.getsize(pid)):
            if self.process.poll() is not None:
                text = self.process.stderr.read().decode(errors="replace")
                raise Failed(f"the server did not start: exit {self.process.returncode}: {text}")
            expect(time.monotonic() < deadline, "the server does not start")
            time.sleep(0.005)

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def end(self):
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode


class Gone(Exception):
    """The server does not answer any more."""


class Client:
    """As much of an NBD client as is needed here."""

    READ, WRITE, FLUSH = 0, 1, 3
    # Of all clients, the longest wait for an answer that came.
    longest = 0.0

    def __init__(self, path, export, timeout=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.cookie = 0
        try:
            self.socket.connect(path)
            self.receive(18)
            self.socket.sendall(struct.pack(">I", 3))
            name = export.encode()
            self.socket.sendall(struct.pack(">QII", 0x49484156454F5054, 1, len(name)) + name)
            self.receive(10)
        except OSError as error:
            raise Gone from error

    def receive(self, length):
        parts = []
        while length:
            part = self.socket.recv(length)
            if not part:
                raise Gone
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def request(self, kind, offset=0, length=0, data=b""):
        """The error number of the reply, and the data of a read."""
        self.cookie += 1
        begun = time.monotonic()
        try:
            self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, self.cookie, offset, length) + data)
            magic, error, cookie = struct.unpack(">IIQ", self.receive(16))
            Client.longest = max(Client.longest, time.monotonic() - begun)
            expect(magic == 0x67446698 and cookie == self.cookie, "not a reply")
            return error, self.receive(length) if kind == self.READ and not error else b""
        except OSError as error:
            raise Gone from error


class Mix:
    """How often a ledger's client does what, beside writing."""

    def __init__(self, flush=0.2, branch=0.03, delete=0.01, compact=0.0, clones=False):
        self.flush, self.branch, self.delete, self.compact = flush, branch, delete, compact
        # Branches are clones, not snapshots.
        self.clones = clones


class Ledger:
    """Numbered writes to one volume, so that what a crash leaves can be told to be a prefix of them.

    Write number n is two pages, one call, at pair n mod PAIRS. Branches (snapshots and clones) are made in between: each
    is the state after a known number of writes."""

    PAIRS = 96
    VOLUME = "ledger"
    # Branches there may be, so that a fast disk is not filled by what they alone keep.
    MOST = 24

    def __init__(self, store):
        self.store = store
        # Writes that were sent, those that a flush has covered.
        self.sent = 0
        self.flushed = 0
        self.proof = "nothing"
        # Branches that are there, after how many writes each was made; those that may be there, or be gone.
        self.branches = {}
        self.maybe = {}
        self.gone = set()
        self.names = 0
        # Whether an answer proves anything; and what the answers since it does not would prove.
        self.trusts = True
        self.claims = []

    def doubt(self):
        """From now on an answer proves nothing: what is below the store is being taken away."""
        self.trusts = False

    def believe(self):
        """What was answered since then does prove something."""
        for claim in self.claims:
            self.prove(*claim)
        self.claims = []

    def answered(self, what, written, name=""):
        """A flush covers so many writes, or a branch was made after them, or was deleted."""
        if self.trusts:
            self.prove(what, written, name)
        else:
            self.claims.append((what, written, name))

    def prove(self, what, written, name):
        if what == "made":
            self.branches[name] = written
            self.maybe.pop(name, None)
        elif what == "deleted":
            self.branches.pop(name, None)
            self.gone.discard(name)
        # All three make what was written before durable.
        self.flushed, self.proof = max(self.flushed, written), f"{what} {name}".strip()

    def claimed(self):
        """How many writes are durable if the answers prove something."""
        return max([self.flushed, *(written for _, written, _ in self.claims)])

    def create(self):
        self.store.run("store", "init", "--segment-size", "1M")
        self.store.run("volume", "create", self.VOLUME, "--size", str(self.PAIRS * 2 * PAGE))

    @classmethod
    def pair(cls, number):
        return struct.pack("<Q", number) * (2 * PAGE // 8)

    @classmethod
    def contents(cls, written):
        """What the volume holds after exactly so many writes."""
        last = [0] * cls.PAIRS
        for number in range(max(1, written - cls.PAIRS + 1), written + 1):
            last[number % cls.PAIRS] = number
        return b"".join(cls.pair(number) for number in last)

    def written(self, ref):
        """After how many writes it holds what it does: all of them and no other."""
        found = self.store.read(ref)
        numbers = [struct.unpack_from("<Q", found, at)[0] for at in range(0, len(found), 2 * PAGE)]
        written = max(numbers)
        expect(found == self.contents(written), f"{ref} holds no prefix of the writes: {numbers}")
        return written

    def work(self, client, rng, is_over, mix=Mix()):
        """Does what the mix says until that is over, a command fails or the server is gone. What was answered with an
        error: "write", "flush", or "command" (which may be because the server is gone); or nothing."""
        try:
            while not is_over():
                self.sent += 1
                at = self.sent % self.PAIRS * 2 * PAGE
                sent = self.sent
                if client.request(Client.WRITE, at, 2 * PAGE, self.pair(sent))[0]:
                    return "write"
                dice = rng.random()
                if (dice := dice - mix.flush) < 0:
                    if client.request(Client.FLUSH)[0]:
                        return "flush"
                    self.answered("flush", sent)
                elif (dice := dice - mix.branch) < 0:
                    if not self.branch(sent, mix.clones):
                        return "command"
                elif (dice := dice - mix.delete) < 0 and self.branches or len(self.branches) > self.MOST:
                    if not self.delete(rng.choice(sorted(self.branches)), sent):
                        return "command"
                elif 0 <= dice < mix.compact:
                    if self.store.try_run("store", "compact").returncode != 0:
                        return "command"
        except Gone:
            pass
        return None

    def branch(self, written, is_clone=False):
        self.names += 1
        noun, name = ("clone", f"c{self.names}") if is_clone else ("snapshot", f"s{self.names}")
        self.maybe[name] = written
        if self.store.try_run(noun, "create", self.VOLUME, name).returncode != 0:
            return False
        self.answered("made", written, name)
        return True

    def delete(self, name, written):
        self.gone.add(name)
        noun = "volume" if name.startswith("c") else "snapshot"
        if self.store.try_run(noun, "delete", name, "--yes").returncode != 0:
            return False
        self.answered("deleted", written, name)
        return True

    def there(self):
        """The branches in the store."""
        clones = {name for name in self.store.names("volume") if name.startswith("c")}
        return clones | set(self.store.names("snapshot"))

    def check(self):
        """After a crash and with nobody at the store."""
        self.store.fsck(keys=True)
        written = self.written(self.VOLUME)
        by = f"{self.flushed} acknowledged ({self.proof})"
        acknowledged = f"{by}, {self.sent} sent, {written} there"
        expect(self.flushed <= written <= self.sent, f"not what was acknowledged: {acknowledged}")
        there = self.there()
        for name, count in self.maybe.items():
            if name in there:
                self.branches[name] = count
        for name in self.gone - there:
            self.branches.pop(name, None)
        self.maybe, self.gone, self.claims = {}, set(), []
        self.trusts = True
        expect(there == set(self.branches), f"branches: {sorted(there)}, not {sorted(self.branches)}")
        for name, count in self.branches.items():
            found = self.written(name if name.startswith("c") else f"@{name}")
            expect(found == count, f"{name} was made after {count} writes and has {found}")
        # The next process goes on from what is there.
        self.sent = self.flushed = written
        while len(self.branches) > 6:
            name = sorted(self.branches)[0]
            expect(self.delete(name, written), f"{name} is not deleted")
        return written


def rng(number):
    return random.Random(SEED * 1_000_003 + number)

#!/usr/bin/env python3
"""Reads a store of format version 0, written from docs/format.md and docs/kms-format.md alone.

    read.py FOLDER

FOLDER has the directories `store` and `kms`. Prints a line for each volume, snapshot and pin: kind, name,
length, SHA-256 of its bytes. Needs nothing but Python: AES-GCM and BLAKE3 are in crypto.py,
slow and not fit for secrets.
"""

import hashlib
import os
import struct
import sys
import zlib

from crypto import aes_encrypt, blake3, gcm_open, hkdf

SLOT = 4096


def need(condition, what):
    if not condition:
        sys.exit(f"read.py: {what}")


def u16(data, at):
    return int.from_bytes(data[at : at + 2], "little")


def u32(data, at):
    return int.from_bytes(data[at : at + 4], "little")


def u64(data, at):
    return int.from_bytes(data[at : at + 8], "little")


def derive(secret, label):
    return hkdf(secret, b"offshoot v0 " + label)


def unwrap(key, wrapped, aad, commitment=None):
    secret = gcm_open(key, wrapped[:12], aad, wrapped[12:44], wrapped[44:60])
    need(secret is not None, "a wrapped key has a wrong tag")
    need(commitment in (None, derive(secret, b"commit")), "a key is not the one meant")
    return secret


class Kms:
    """The simulated KMS (kms-format.md)."""

    def __init__(self, path):
        def read(name):
            with open(os.path.join(path, name), "rb") as file:
                return file.read()

        keys, heads = read("keys"), read("heads")
        need(keys[:8] == b"offskeys" and heads[:8] == b"offshead", "no KMS")
        need(u32(keys, 8) == 0 and u32(heads, 8) == 0, "a newer KMS")
        need(zlib.crc32(keys[:12] + bytes(4) + keys[16:]) == u32(keys, 12), "keys: checksum")
        self.secrets = {}
        for index in range(u32(keys, 40)):
            record = keys[128 + 144 * index :][:144]
            if record[20] == 1:  # enabled
                self.secrets[record[:16], u32(record, 16)] = record[112:144]
        self.heads = {}
        for index in range(u32(heads, 32)):
            slot = heads[512 * (index + 1) :][:512]
            if slot[0] == 0:
                continue
            need(zlib.crc32(slot[:12] + bytes(4) + slot[16:]) == u32(slot, 12), "heads: checksum")
            self.heads[slot[16:32]] = slot

    def data_key(self, key, wrapped, store, resource, purpose):
        version = wrapped[:4]
        fields = [b"offshoot v0 data key", store, resource, purpose, key, version]
        aad = b"".join(struct.pack("<I", len(field)) + field for field in fields)
        return unwrap(self.secrets[key, u32(version, 0)], wrapped[4:], aad)

    def head_key(self, head_key, store):
        slot = self.heads[head_key]
        need(slot[48:64] == store, "a head key of another store")
        kek = self.secrets[slot[32:48], u32(slot, 4)]
        return unwrap(kek, slot[96:156], b"offshoot v0 head key" + store + head_key, slot[64:96])


class Store:
    def __init__(self, path, kms):
        self.path, self.kms = path, kms
        self.read_superblock()
        self.segments = {
            int(name[8:], 16): self.read_segment(name)
            for name in os.listdir(path)
            if name.startswith("segment-") and not name.endswith(".tmp")
        }
        self.heads, self.epochs, self.salts, self.opened = {}, {}, {}, {}
        if self.tables[0]:
            self.load_tables()
        self.roll_forward()

    # Superblock

    def read_superblock(self):
        found = []
        for mirror, name in enumerate(["superblock-a", "superblock-b"]):
            try:
                with open(os.path.join(self.path, name), "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                continue
            for index in range(2):
                slot = data[index * SLOT : (index + 1) * SLOT]
                if (
                    slot[:8] == b"OFFSHOOT"
                    and zlib.crc32(slot[:4092]) == u32(slot, 4092)
                    and u32(slot, 8) == 0
                    and u32(slot, 12) == mirror
                    and u64(slot, 32) % 2 == index
                ):
                    found.append((u64(slot, 32), -mirror, slot))
        for _, _, slot in sorted(found, reverse=True):
            self.id, kms_key = slot[16:32], slot[168:184]
            wrapped = slot[220 : 220 + u32(slot, 216)]
            secret = self.kms.data_key(kms_key, wrapped, self.id, self.id, b"store-key")
            mac = blake3(slot[:4060], derive(secret, b"superblock"))
            if derive(secret, b"commit") == slot[184:216] and mac == slot[4060:4092]:
                break
        else:
            sys.exit("read.py: no authentic superblock")
        self.log_key = derive(secret, b"log")
        self.page_len, self.segment_slots = u32(slot, 48), u32(slot, 52)
        self.seq, self.durable_through = u64(slot, 72), u64(slot, 80)
        self.chain, self.end = slot[88:120], (u32(slot, 120), u32(slot, 124))
        self.tables = (u32(slot, 128), u32(slot, 132), slot[136:168])

    # Segments and batches

    def read_segment(self, name):
        with open(os.path.join(self.path, name), "rb") as file:
            data = file.read()
        need(len(data) == self.segment_slots * SLOT, f"{name}: length")
        need(data[:8] == b"OFFSHSEG" and u32(data, 8) == 0, f"{name}: header")
        need(zlib.crc32(data[:4092]) == u32(data, 4092), f"{name}: checksum")
        need(u32(data, 12) == int(name[8:], 16) and data[16:32] == self.id, f"{name}: identity")
        return data

    def slots(self, at, count):
        segment, slot = at
        return self.segments[segment][slot * SLOT : (slot + count) * SLOT]

    def batch(self, at):
        """The batch at an address, or None."""
        if at[0] not in self.segments or at[1] >= self.segment_slots:
            return None
        slot = self.slots(at, 1)
        header_slots, body_slots = u32(slot, 112), u32(slot, 116)
        if (
            slot[:8] != b"OFFSHBAT"
            or u32(slot, 12) != 0
            or (u32(slot, 96), u32(slot, 100)) != at
            or header_slots == 0
            or at[1] + header_slots + body_slots > self.segment_slots
        ):
            return None
        header = self.slots(at, header_slots)
        records_len = u32(slot, 120)
        if zlib.crc32(header[12:]) != u32(slot, 8):
            return None
        if -(-(136 + records_len) // SLOT) != header_slots or any(header[136 + records_len :]):
            return None
        return {
            "at": at,
            "chain": slot[16:48],
            "previous_chain": slot[48:80],
            "seq": u64(slot, 80),
            "durable_through": u64(slot, 88),
            "previous": (u32(slot, 104), u32(slot, 108)),
            "body": (at[0], at[1] + header_slots),
            "end": (at[0], at[1] + header_slots + body_slots),
            "salt": slot[124:136],
            "records": header[136 : 136 + records_len],
            "header": header,
        }

    def is_authentic(self, batch):
        return blake3(batch["header"][48:], self.log_key) == batch["chain"]

    def records(self, batch):
        data = batch["records"]
        while data:
            need(len(data) >= 8 and u16(data, 2) == 0, "a record header")
            length = u32(data, 4)
            need(len(data) >= 8 + length, "a record's length")
            yield u16(data, 0), data[8 : 8 + length]
            data = data[8 + length :]

    # Tables

    def load_tables(self):
        parts = []
        segment, slot, wanted = self.tables
        while segment:
            batch = self.batch((segment, slot))
            need(batch and blake3(batch["header"]) == wanted, "a table batch")
            (kind, first), *rest = self.records(batch)
            need(kind == 10, "not a table batch")
            parts.append((u32(first, 0), rest))
            segment, slot, wanted = u32(first, 4), u32(first, 8), first[12:44]
        parts.reverse()
        need([part for part, _ in parts] == list(range(len(parts))), "parts of the tables")
        for _, records in parts:
            for kind, body in records:
                self.apply(kind, body, in_tables=True)

    # The log

    def follows(self, batch, position):
        seq, chain, end = position
        return (
            batch
            and batch["seq"] == seq + 1
            and batch["previous"] == end
            and batch["previous_chain"] == chain
            and self.is_authentic(batch)
        )

    def roll_forward(self):
        later = [self.batch((s, 1)) for s in sorted(self.segments, reverse=True) if s > self.end[0]]
        position, found = (self.seq, self.chain, self.end), []
        while True:
            candidates = later + [self.batch(position[2])]
            batch = next((b for b in candidates if self.follows(b, position)), None)
            if batch is None:
                break
            found.append(batch)
            position = (batch["seq"], batch["chain"], batch["end"])
        durable = max([self.seq, self.durable_through] + [b["durable_through"] for b in found])
        last, end = self.seq, self.end
        for batch in found:
            if batch["seq"] > durable and not self.body_is_whole(batch):
                break
            last, end = batch["seq"], batch["end"]
            self.salts[batch["at"]] = batch["salt"]
            records = list(self.records(batch))
            if not records or records[0][0] != 10:
                for kind, body in records:
                    self.apply(kind, body)
        need(durable <= last, "the log lost batches that were durable")
        for segment in self.segments:
            first = end[1] if segment == end[0] else 1
            for slot in range(first, self.segment_slots if segment >= end[0] else 0):
                batch = self.batch((segment, slot))
                lost = batch and batch["durable_through"] > last and self.is_authentic(batch)
                need(not lost, "the log lost batches that were durable")

    def body_is_whole(self, batch):
        segment, slot = batch["body"]
        for kind, body in self.records(batch):
            if kind == 1:
                units = [
                    (self.page_len // SLOT, u32(body, 8 + 64 * index + 20))
                    for index in range(u32(body, 4))
                ]
            elif kind == 4:
                units = [(1, u32(body, at)) for at in range(0, len(body), 4)]
            else:
                continue
            for count, crc in units:
                if zlib.crc32(self.slots((segment, slot), count)) != crc:
                    return False
                slot += count
        return (segment, slot) == batch["end"]

    def apply(self, kind, body, in_tables=False):
        if kind == 1:
            pages = self.heads[u32(body, 0)]["pages"]
            for index in range(u32(body, 4)):
                delta = body[8 + 64 * index :][:64]
                pages[u64(delta, 0)] = delta[8:52]
        elif kind in (2, 3):
            pages = self.heads[u32(body, 0)]["pages"]
            first, count = u64(body, 8), u64(body, 16)
            for page in [page for page in pages if first <= page < first + count]:
                del pages[page]
            # An explicit zero reads as a hole does.
        elif kind == 15:
            pages = self.heads[u32(body, 0)]["pages"]
            lost = bytes([0] * 7 + [4]) + body[4:8] + bytes(32)
            first, count = u64(body, 8), u64(body, 16)
            pages.update((page, lost) for page in range(first, first + count))
        elif kind == 5:
            self.apply_head(body, in_tables)
        elif kind == 7:
            self.epochs[u32(body, 0)] = body
        elif kind == 9:
            need(in_tables, "a salt record in the log")
            self.salts[u32(body, 0), u32(body, 4)] = body[8:20]
        else:
            need(kind in (4, 6, 8, 11, 12, 13), f"an unknown kind of record: {kind}")

    def apply_head(self, body, in_tables):
        number, root_kind = u32(body, 0), body[6]
        if root_kind == 1:
            pages = self.heads[number]["pages"]
        elif root_kind == 2:
            pages = dict(self.heads[u32(body, 8)]["pages"])
        elif root_kind == 3:
            pages = {}
        else:
            need(root_kind == 4 and in_tables, "the root of a head")
            pages = {}
            reference = body[188:232]
            self.walk(reference, reference[7], 0, 1 << 64, pages)
        self.heads[number] = {"record": body, "pages": pages}

    # Page tables

    def walk(self, reference, level, low, high, pages):
        at = (u32(reference, 0), u32(reference, 4) & 0xFFFFFF)
        slot = self.slots(at, 1)
        need(blake3(slot) == reference[12:44], "a node is not what its parent names")
        need(slot[:4] == b"OFND" and zlib.crc32(slot[8:]) == u32(slot, 4), "a node")
        need(slot[10] == level == reference[7], "the level of a node")
        need(u32(slot, 16) == u32(reference, 8), "the key epoch of a node")
        items = [slot[32 + 52 * index :][:52] for index in range(u16(slot, 12))]
        starts = [u64(item, 0) for item in items]
        need(starts == sorted(set(starts)), "the order of items")
        for item, start, after in zip(items, starts, starts[1:] + [high]):
            need(low <= start < high, "an item outside its node")
            if level == 0:
                pages[start] = item[8:]
            else:
                self.walk(item[8:], level - 1, start, after, pages)

    # Pages

    def epoch_key(self, head, target):
        """The key of a key epoch, from the head's open one upwards."""
        record = head["record"]
        number = u32(record, 16)
        epoch = self.epochs[number]
        head_key = self.kms.head_key(record[112:128], self.id)
        aad = b"offshoot head v0" + record[24:40] + epoch[24:40]
        secret = unwrap(head_key, record[128:188], aad, epoch[40:72])
        while number != target:
            far, depth = u32(epoch, 12), u32(self.epochs[target], 16)
            is_far = far and u32(self.epochs[far], 16) >= depth
            number = far if is_far else u32(epoch, 8)
            wrapped = epoch[132:192] if is_far else epoch[72:132]
            above = self.epochs[number]
            aad = b"offshoot link v0" + epoch[24:40] + above[24:40]
            secret = unwrap(derive(secret, b"wrap"), wrapped, aad, above[40:72])
            epoch = above
        return secret

    def page(self, head, number, entry):
        at = (u32(entry, 0), u32(entry, 4) & 0xFFFFFF)
        flags, epoch = entry[7], u32(entry, 8)
        if flags == 2:
            return bytes(self.page_len)
        need(flags != 4, f"page {number} is lost")
        need(flags == 1, "the flags of an entry")
        ciphertext = self.slots(at, self.page_len // SLOT)
        need(zlib.crc32(ciphertext) == u32(entry, 12), "the checksum of a page")
        salt = self.salts[max(place for place in self.salts if place[0] == at[0] and place <= at)]
        key = subkey(derive(self.epoch_key(head, epoch), b"page"), salt)
        random_id = self.epochs[epoch][24:40]
        aad = b"offshoot page v0" + random_id + struct.pack("<QI", number, 1)
        page = gcm_open(key, entry[16:28], aad, ciphertext, entry[28:44])
        need(page is not None, f"the tag of page {number}")
        return page

    def contents(self, head):
        data = bytearray(u64(head["record"], 88))
        for number, entry in head["pages"].items():
            at = number * self.page_len
            # A page that heads share is opened by the first of them: this reader is slow.
            if (number, entry) not in self.opened:
                self.opened[number, entry] = self.page(head, number, entry)
            data[at : at + self.page_len] = self.opened[number, entry]
        return bytes(data)


def subkey(key, salt):
    top = int.from_bytes(aes_encrypt(key, bytes(16)), "big")
    mask = (top << 1) % (1 << 128) ^ (0x87 if top >> 127 else 0)
    half = lambda counter: int.from_bytes(bytes([0, counter, 0x58, 0]) + salt, "big") ^ mask
    return b"".join(aes_encrypt(key, half(counter).to_bytes(16, "big")) for counter in (1, 2))


def main():
    folder = sys.argv[1]
    store = Store(os.path.join(folder, "store"), Kms(os.path.join(folder, "kms")))
    live = [head for head in store.heads.values() if head["record"][5] != 2]
    for head in sorted(live, key=lambda head: (head["record"][4], u32(head["record"], 0))):
        record = head["record"]
        kind = {1: "volume", 2: "snapshot", 3: "pin"}[record[4]]
        name = record[280 : 280 + u16(record, 20)].decode()
        contents = store.contents(head)
        print(kind, name, len(contents), hashlib.sha256(contents).hexdigest())


main()

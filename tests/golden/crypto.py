"""AES-256-GCM, HKDF-SHA256 and BLAKE3 in plain Python, for read.py. Slow, not fit for secrets."""

import hashlib
import hmac
import struct


def hkdf(secret, info):
    """HKDF-SHA256 without salt, 32 bytes."""
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def double(a):
    return (a << 1) ^ (0x11B if a & 0x80 else 0)


def make_sbox():
    power, log, value = [0] * 255, [0] * 256, 1
    for exponent in range(255):
        power[exponent], log[value] = value, exponent
        value ^= double(value)
    sbox = []
    for byte in range(256):
        x = power[-log[byte] % 255] if byte else 0
        rotated = [(x << n | x >> 8 - n) & 255 for n in range(5)]
        sbox.append(rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4] ^ 0x63)
    return sbox


SBOX = make_sbox()


def round_keys(key):
    words, constant = [key[at : at + 4] for at in range(0, 32, 4)], 1
    for index in range(8, 60):
        word = words[-1]
        if index % 8 == 0:
            word = bytes(SBOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = double(constant)
        elif index % 8 == 4:
            word = bytes(SBOX[byte] for byte in word)
        words.append(bytes(a ^ b for a, b in zip(words[-8], word)))
    return [b"".join(words[at : at + 4]) for at in range(0, 60, 4)]


def encrypt_block(keys, block):
    state = [a ^ b for a, b in zip(block, keys[0])]
    for number, key in enumerate(keys[1:], 1):
        state = [SBOX[state[(at + 4 * (at % 4)) % 16]] for at in range(16)]
        if number < 14:
            mixed = []
            for at in range(0, 16, 4):
                column = state[at : at + 4]
                all_four = column[0] ^ column[1] ^ column[2] ^ column[3]
                for row in range(4):
                    mixed.append(column[row] ^ all_four ^ double(column[row] ^ column[(row + 1) % 4]))
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def aes_encrypt(key, block):
    return encrypt_block(round_keys(key), block)


def ghash(h, data):
    y = 0
    for at in range(0, len(data), 16):
        x = y ^ int.from_bytes(data[at : at + 16].ljust(16, b"\0"), "big")
        y, v = 0, h
        for bit in range(127, -1, -1):
            if x >> bit & 1:
                y ^= v
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
    return y


def gcm_open(key, nonce, aad, ciphertext, tag):
    """The plaintext, or None if the tag is wrong."""
    keys = round_keys(key)
    stream = lambda counter: encrypt_block(keys, nonce + struct.pack(">I", counter))
    pad = lambda data: data + bytes(-len(data) % 16)
    lengths = struct.pack(">QQ", 8 * len(aad), 8 * len(ciphertext))
    h = int.from_bytes(encrypt_block(keys, bytes(16)), "big")
    y = ghash(h, pad(aad) + pad(ciphertext) + lengths)
    if (y ^ int.from_bytes(stream(1), "big")).to_bytes(16, "big") != tag:
        return None
    blocks = (ciphertext[at : at + 16] for at in range(0, len(ciphertext), 16))
    return b"".join(
        bytes(a ^ b for a, b in zip(block, stream(counter))) for counter, block in enumerate(blocks, 2)
    )


IV = [
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
    0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
]  # fmt: skip
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
MIXES = [
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
]  # fmt: skip
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
MASK = 0xFFFFFFFF


def compress(value, block, counter, length, flags):
    v = list(value) + IV[:4] + [counter & MASK, counter >> 32, length, flags]
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    for _ in range(7):
        for index, (a, b, c, d) in enumerate(MIXES):
            for word, left, right in ((m[2 * index], 16, 12), (m[2 * index + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & MASK
                v[d] ^= v[a]
                v[d] = v[d] >> left | (v[d] << 32 - left) & MASK
                v[c] = (v[c] + v[d]) & MASK
                v[b] ^= v[c]
                v[b] = v[b] >> right | (v[b] << 32 - right) & MASK
        m = [m[at] for at in PERMUTATION]
    return [v[at] ^ v[at + 8] for at in range(8)]


def blake3(data, key=None):
    """The hash, keyed if there is a key."""
    start, mode = (struct.unpack("<8I", key), KEYED) if key else (IV, 0)

    def node(data, first, is_root):
        root = ROOT if is_root else 0
        if len(data) <= 1024:
            value = start
            blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
            for index, block in enumerate(blocks):
                flags = mode | (CHUNK_START if index == 0 else 0)
                if index == len(blocks) - 1:
                    flags |= CHUNK_END | root
                value = compress(value, block, first, len(block), flags)
            return value
        left = 1024 << ((len(data) - 1) // 1024).bit_length() - 1
        both = node(data[:left], first, False) + node(data[left:], first + left // 1024, False)
        return compress(start, struct.pack("<16I", *both), 0, 64, mode | PARENT | root)

    return struct.pack("<8I", *node(data, 0, True))

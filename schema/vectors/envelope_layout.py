"""Writes envelope_layout.txt: an envelope for each profile, as schema/envelope.md has it, by nothing but this file.

Nothing in them was sealed or signed: ciphertexts and signatures are bytes that stand in for them.
"""

import pathlib

PROFILES = {
    # name: (KEM, length of its ciphertext, signature algorithm, length of a signature, suite)
    "hybrid": (3, 1120, -49, 3309, 1),
    "pure": (1, 1088, -49, 3309, 1),
    "cnsa2": (2, 1568, -50, 4627, 3),
    "fips": (1, 1088, -49, 3309, 2),
}


def head(major, n):
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 24:
            return bytes([major << 5 | n])
        if n < 256**size:
            return bytes([major << 5 | info]) + n.to_bytes(size, "big")


def item(value):
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(item, value))
    return head(5, len(value)) + b"".join(item(k) + item(v) for k, v in sorted(value.items()))


def envelope(kem, kem_ciphertext_len, algorithm, signature_len, suite):
    header = {
        0: 1,
        1: 2,
        2: "acme",
        3: "planner",
        4: bytes([4]) * 32,
        5: "initech",
        6: bytes([6]) * 16,
        7: kem,
        8: bytes([8]) * kem_ciphertext_len,
        9: algorithm,
        10: suite,
        11: 1_800_000_000_000,
        12: 1_800_000_060_000,
        13: 300,
        14: bytes([14]) * 12,
        15: b"call-7",
        16: [b"tenant", b"signer"],
    }
    return item([header, bytes([1]) * 40, bytes([2]) * signature_len])


lines = [f"{name} {envelope(*of).hex()}\n" for name, of in PROFILES.items()]
pathlib.Path(__file__).with_suffix(".txt").write_text("".join(lines))

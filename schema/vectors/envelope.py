"""Writes envelope.txt: the key of an envelope for each profile, by Python's own hmac and hashlib."""

import hashlib
import hmac
import pathlib

PROFILES = {
    # name: (number, suite, hash, length of public key, length of ciphertext)
    "hybrid": (1, 1, hashlib.sha3_512, 1216, 1120),
    "pure": (2, 1, hashlib.sha3_512, 1184, 1088),
    "cnsa2": (3, 3, hashlib.sha384, 1568, 1568),
    "fips": (4, 2, hashlib.sha3_512, 1184, 1088),
}


def lp(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def key(number, suite, hash_, public_key_len, ciphertext_len):
    label = b"session-envelope-v1"
    offer = bytes([1, 1, number])
    transcript = hashlib.sha384(lp(b"strongroom profile negotiation v1", offer, offer, bytes([number]))).digest()
    exchanged = bytes([5]) * ciphertext_len + bytes([4]) * public_key_len
    digest = hmac.new(label, exchanged, hash_).digest()
    prk = hmac.new(b"acme", bytes([7]) * 32, hash_).digest()
    info = lp(label, suite.to_bytes(2, "big"), bytes([3]) * 16, digest, transcript)
    return hmac.new(prk, info + b"\x01", hash_).digest()[:32]


lines = [f"{name} {key(*of).hex()}\n" for name, of in PROFILES.items()]
pathlib.Path(__file__).with_suffix(".txt").write_text("".join(lines))

"""The attacks on what an engine holds, and a table of what they recover. `README.md` says what the columns are.

Everything that decides whether an answer is right (`text`) is used for that alone, and for the pairs that an attacker is
given.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

K = 10
PAIRS = (50, 100, 384)
# Known pairs of who has the texts too, and queries of one's own.
FEW_PAIRS = 20
QUERIES = 50
# Directions whose signs are tried when two clouds of points are laid over each other, points that are looked at for that,
# directions that are turned then, and rounds of pairing and turning after that.
DIRECTIONS = 8
SAMPLED = 1000
GROWING = (8, 8, 8, 10, 10, 12, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 96)
ROUNDS = 30
# What is taken for noise in each dimension at least.
LEAST_NOISE = 0.002
# Neighbours that say how crowded it is around a point.
CROWD = 10


class Held:
    """What the engine holds. Vectors and texts are those of the largest part, sizes are of all."""

    def __init__(self, vectors, text, size=None, part=0):
        self.vectors, self.text, self.size, self.part = vectors, text, size, part

    @classmethod
    def read(cls, name, dimensions):
        numbers = (np.fromfile(f"{name}.{what}.u32", np.uint32).astype(int) for what in ("text", "part", "size"))
        text, part, size = numbers
        vectors = np.fromfile(f"{name}.vectors.f32", np.float32).reshape(-1, dimensions)
        if not len(vectors):
            return cls(vectors, text, size)
        assert len(vectors) == len(text), "a point without a vector"
        largest = np.bincount(part).argmax()
        return cls(vectors[part == largest], text[part == largest], size, largest)


def units(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def nearest(scores, k):
    """The columns with the `k` highest scores of each row."""
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def shared(found, truth):
    return float(np.mean([len(set(f) & set(t)) / len(t) for f, t in zip(found, truth)]))


def recall(held, asked, queries, texts):
    """The share of the true ten nearest to a question that are the ten nearest by what is stored."""
    found = held.text[nearest(asked @ held.vectors.T, K)]
    return shared(found, held.text[nearest(queries @ texts[held.text].T, K)])


def neighbours(held, texts):
    """The share of a text's true ten neighbours that are neighbours of its stored vector."""

    def around(rows):
        scores = units(rows) @ units(rows).T
        np.fill_diagonal(scores, -np.inf)
        return nearest(scores, K)

    return shared(around(held.vectors), around(texts[held.text]))


# Who knows pairs, or queries: a posterior over the rotation, and what it says of every other text.


def noise_of(held):
    """The squared length of the noise: what a vector is longer than 1."""
    return max(float((held.vectors**2).sum(1).mean()) - 1.0, 1e-3)


def likelihoods(held, texts, known, stored, noise):
    """How well each text (column) explains each stored vector (row), for who knows of `known` embeddings what they became,
    `stored`, with noise of `noise`. The rotation is taken for a matrix of normal deviates."""
    of_known = known @ known.T + noise * np.eye(len(known))
    weights = np.linalg.solve(of_known, known @ texts.T).T
    expected = weights @ stored
    left = (texts**2).sum(1) - (weights * (texts @ known.T)).sum(1)
    spread = np.maximum(left, 0) + noise_of(held)
    d = texts.shape[1]
    off = (held.vectors**2).sum(1)[:, None] - 2 * held.vectors @ expected.T + (expected**2).sum(1)
    return -d / 2 * (off / spread + np.log(spread))


def rotation(rows, onto):
    """The rotation that turns `rows` into `onto` with the least squares (Schönemann)."""
    u, _, v = np.linalg.svd(rows.T @ onto)
    return u @ v


def named(scores, held, known=()):
    """The share of stored vectors, other than the known, whose best text is the right one."""
    right = scores.argmax(1) == held.text
    asked = np.ones(len(right), bool)
    asked[list(known)] = False
    return float(right[asked].mean()) if asked.any() else None


def by_pairs(held, texts, pairs, rng):
    if pairs >= len(held.text):
        return None
    known = rng.choice(len(held.text), pairs, replace=False)
    x, y = texts[held.text[known]], held.vectors[known]
    guesses = (
        likelihoods(held, texts, x, y, noise_of(held)),
        units(held.vectors @ rotation(y, x)) @ texts.T,
    )
    return max(named(scores, held, known) for scores in guesses)


def by_queries(held, texts, asked, rng):
    """For who sees what the engine is asked for when they search for texts of their own choice."""
    if len(texts) < QUERIES:
        return None
    mine = rng.choice(len(texts), QUERIES, replace=False)
    return named(likelihoods(held, texts, texts[mine], asked[mine], 1e-4), held)


# Who knows no pair: two clouds of points are laid over each other.


def alike(a, b):
    """Cosines, less where it is crowded: else a few points are the nearest of all others."""
    scores = units(a) @ units(b).T
    crowd = min(CROWD, *scores.shape)
    of_a = -np.partition(-scores, crowd - 1, axis=1)[:, :crowd].mean(1)
    of_b = -np.partition(-scores, crowd - 1, axis=0)[:crowd].mean(0)
    return 2 * scores - of_a[:, None] - of_b


def mutual(scores):
    """The pairs that are each other's best."""
    forth, back = scores.argmax(1), scores.argmax(0)
    rows = np.flatnonzero(back[forth] == np.arange(len(forth)))
    return rows, forth[rows]


def laid_over(rows, onto, noise):
    """A first turn: mean on mean, and principal directions on principal directions. The signs of the first are those under
    which `onto`, with `noise` in each dimension, explains `rows` best; from there more and more directions are turned by
    what each row then most likely is (expectation and maximisation)."""

    def directions(points):
        mean = points.mean(0)
        centred = (points - mean).astype(np.float64)
        of = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
        return mean / np.linalg.norm(mean), of.astype(np.float32), (centred @ of).astype(np.float32)

    def explained(a, b):
        off = (2 * a @ b.T - (b**2).sum(1) - (a**2).sum(1)[:, None]) / (2 * noise)
        most = off.max(1, keepdims=True)
        weights = np.exp(off - most)
        return weights, float((most[:, 0] + np.log(weights.sum(1))).mean())

    (mean_a, of_a, a), (mean_b, of_b, b) = directions(rows), directions(onto)
    signs = [np.float32(signs) for signs in itertools.product((1, -1), repeat=DIRECTIONS)]
    few = a[:SAMPLED, :DIRECTIONS]
    turn = np.diag(max(signs, key=lambda signs: explained(few * signs, b[:, :DIRECTIONS])[1]))
    for more in GROWING:
        weights = explained(a[:, : len(turn)] @ turn, b[:, : len(turn)])[0]
        for _ in range(2):
            weights /= weights.sum(0) + 1e-12
            weights /= weights.sum(1, keepdims=True) + 1e-12
        turn = rotation(a[:, :more], weights @ b[:, :more])
    return np.outer(mean_a, mean_b) + of_a[:, : len(turn)] @ turn @ of_b[:, : len(turn)].T


def aligned(rows, onto, turn, rounds):
    """A better turn: the pairs that are each other's best say how to turn, again and again."""
    best, before = (-1, turn), None
    for _ in range(rounds):
        pairs = mutual(alike(rows @ turn, onto))
        if len(pairs[0]) > best[0]:
            best = (len(pairs[0]), turn)
        if before is not None and np.array_equal(before, pairs):
            break
        before, turn = pairs, rotation(rows[pairs[0]], onto[pairs[1]])
    return best[1]


def in_each_dimension(noise, d):
    return max(noise / d, LEAST_NOISE)


def blindly(held, texts, rounds, having=None):
    """For who has the very texts, and does not know which is which; or who has others, `having`, to lay over each other, and
    sees of these what the vectors are."""
    # Nothing needs turning where the vectors are there as they are.
    as_it_is = named(units(held.vectors) @ texts.T, held)
    if as_it_is > 0.99:
        return as_it_is
    having = texts if having is None else having
    turn = laid_over(held.vectors, having, in_each_dimension(noise_of(held), texts.shape[1]))
    turned = (turn, aligned(held.vectors, having, turn, rounds))
    return max(as_it_is, *(named(alike(held.vectors @ turn, texts), held) for turn in turned))


def by_other_texts(held, texts, rounds, rng):
    """The same for who has the other half of the texts, of the vectors of one half."""
    half = np.isin(held.text, rng.choice(len(texts), len(texts) // 2, replace=False))
    return blindly(Held(held.vectors[half], held.text[half]), texts, rounds, np.delete(texts, held.text[half], axis=0))


def with_texts_and_pairs(held, texts, rng, rounds):
    """For who has the texts and knows a few pairs besides."""
    known = rng.choice(len(held.text), FEW_PAIRS, replace=False)
    x, y = texts[held.text[known]], held.vectors[known]
    first = likelihoods(held, texts, x, y, noise_of(held))
    sure = first.max(1) - np.partition(first, -2, axis=1)[:, -2]
    # To begin with, the pairs and as many texts as are told best apart by them.
    told = np.union1d(np.argsort(-sure)[: max(100, len(sure) // 4)], known)
    guessed = first[told].argmax(1)
    turn = aligned(held.vectors, texts, rotation(held.vectors[told], texts[guessed]), rounds)
    return max(named(first, held, known), named(alike(held.vectors @ turn, texts), held, known))


# Two stores, and which vector of the one is which of the other.


def fingerprints(held):
    """What no rotation changes: a vector's length, and its products with all others."""
    products = np.sort(held.vectors @ held.vectors.T, axis=1)
    at = np.linspace(0, products.shape[1] - 1, 64).astype(int)
    marks = np.column_stack([np.linalg.norm(held.vectors, axis=1), products[:, at]])
    return (marks - marks.mean(0)) / np.maximum(marks.std(0), 1e-9)


def linked(one, other, rounds):
    """The share of texts that are found again."""

    def right(scores):
        return float((other.text[scores.argmax(1)] == one.text).mean())

    a, b = fingerprints(one), fingerprints(other)
    by_marks = right(2 * a @ b.T - (b**2).sum(1))
    as_it_is = right(units(one.vectors) @ units(other.vectors).T)
    if max(by_marks, as_it_is) > 0.99:
        return max(by_marks, as_it_is)
    noise = in_each_dimension(noise_of(one) + noise_of(other), one.vectors.shape[1])
    turn = aligned(one.vectors, other.vectors, laid_over(one.vectors, other.vectors, noise), rounds)
    return max(by_marks, as_it_is, right(alike(one.vectors @ turn, other.vectors)))


def linked_by_size(one, other):
    """The same by the length of the sealed payload alone: the share that is right when one of those of equal length is
    picked."""
    sizes = np.bincount(other.size, minlength=one.size.max(initial=0) + 1)
    there = sizes[one.size]
    return float((1 / np.maximum(there, 1) * (there > 0)).mean())


COLUMNS = {
    "mode": "mode",
    "vectors": "vectors held",
    "recall_stored": "recall@10 as stored",
    "recall": "recall@10 of searches",
    "neighbours": "neighbours seen",
    "blind": "the texts: named",
    "others": "other texts: named",
    **{f"pairs_{n}": f"{n} pairs: named" for n in PAIRS},
    "both": f"the texts and {FEW_PAIRS} pairs: named",
    "queries": f"{QUERIES} queries: named",
    "tenants": "tenants: linked",
    "epochs": "epochs: linked",
    "sizes": "by size: linked",
}


def attacked(held, texts, queries, asked, rounds):
    """What one store gives away: `asked` is what the engine is asked for when somebody searches by a question or a text."""
    if not len(held.vectors):
        # Nothing to work on.
        none = ("neighbours", "blind", "others", *(f"pairs_{n}" for n in PAIRS), "both", "queries")
        return {"recall_stored": None} | dict.fromkeys(none, 0.0)
    rng = np.random.default_rng(0)
    row = {
        "recall_stored": recall(held, asked[: len(queries)], queries, texts),
        "neighbours": neighbours(held, texts),
        "blind": blindly(held, texts, rounds),
        "others": by_other_texts(held, texts, rounds, rng),
    }
    row |= {f"pairs_{n}": by_pairs(held, texts, n, rng) for n in PAIRS}
    row["both"] = row["blind"]
    if row["blind"] <= 0.99 and len(held.text) > FEW_PAIRS:
        row["both"] = max(row["both"], with_texts_and_pairs(held, texts, rng, rounds))
    row["queries"] = by_queries(held, texts, asked[len(queries) :], rng)
    return row


def of_way(way, at, texts, queries, rounds):
    name, d = way["name"], texts.shape[1]
    first, tenant, epoch = (Held.read(at / f"{name}.{when}", d) for when in ("first", "tenant", "epoch"))
    asked = np.fromfile(at / f"{name}.asked.f32", np.float32).reshape(-1, len(queries) + len(texts), d)
    row = {"mode": name, "vectors": len(first.vectors), "parts": way["parts"], "recall": way["recall"]}
    row |= attacked(first, texts, queries, asked[first.part] if len(asked) else None, rounds)
    if len(first.vectors):
        row["noise"] = round(noise_of(first) ** 0.5, 3) if name == "veiled" else 0.0
    for what, other in (("tenants", tenant), ("epochs", epoch)):
        row[what] = linked(first, other, rounds) if len(first.vectors) and len(other.vectors) else 0.0
    return row | {"sizes": linked_by_size(first, tenant)}


def of_control(name, noise, texts, queries, rounds):
    """What is no mode: that the attacks work, where there is less to hold them up."""
    rng = np.random.default_rng(1)
    d = texts.shape[1]
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    added = noise * units(rng.standard_normal(texts.shape)).astype(np.float32)
    order = rng.permutation(len(texts))
    held = Held(((texts + added) @ turn)[order], order)
    asked = np.vstack([queries, texts]) @ turn
    return {"mode": name, "vectors": len(texts), "noise": noise} | attacked(held, texts, queries, asked, rounds)


def shown(value):
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def table(rows):
    cells = [[*COLUMNS.values()], *([shown(row.get(key)) for key in COLUMNS] for row in rows)]
    # One column a line: there are more of them than rows.
    lines = list(zip(*cells))
    widths = [max(map(len, cell)) for cell in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dump", type=Path, help="what the example `leakage` wrote with --dump")
    parser.add_argument("--json", action="store_true", help="print JSON, one object for each mode")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often two clouds are turned [default: {ROUNDS}]")
    args = parser.parse_args()
    said = json.loads((args.dump / "dump.json").read_text())
    d = said["dimensions"]
    read = (np.fromfile(args.dump / f"{name}.f32", np.float32).reshape(-1, d) for name in ("texts", "queries"))
    texts, queries = map(units, read)

    rows = [of_way(way, args.dump, texts, queries, args.rounds) for way in said["ways"]]
    noise = max(row.get("noise", 0.0) for row in rows)
    rows += [
        of_control("no mode: rotated, 0.8 of the noise", 0.8 * noise, texts, queries, args.rounds),
        of_control("no mode: rotated alone", 0.0, texts, queries, args.rounds),
    ]
    if args.json:
        for row in rows:
            print(json.dumps(row | {"texts": len(texts), "questions": len(queries)}))
        return
    parts = max(row.get("parts", 0) for row in rows)
    print(f"{len(texts)} texts of tools/sample/jargon by all-MiniLM-L6-v2, {d} dimensions; {len(queries)} questions")
    print(f"veiled: noise of length {noise:.3f} on vectors of length 1, {parts} part{'s' if parts != 1 else ''}\n")
    print(table(rows))


main()

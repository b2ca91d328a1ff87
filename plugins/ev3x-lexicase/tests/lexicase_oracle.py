"""Lexicase in plain Python, float64 and whole numbers, sharing no code with the package."""

import itertools
from fractions import Fraction

import numpy as np

MASK = 2**32 - 1


def threefry(key, counter):
    """Threefry-2x32, 20 rounds: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011)."""
    schedule = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    a, b = ((c + k) & MASK for c, k in zip(counter, key, strict=True))
    for i in range(20):
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]
        a = (a + b) & MASK
        b = ((b << turn | b >> (32 - turn)) & MASK) ^ a
        if i % 4 == 3:
            group = i // 4 + 1
            a, b = (a + schedule[group % 3]) & MASK, (b + schedule[(group + 1) % 3] + group) & MASK
    return a, b


def margins(scores, eligible, epsilon):
    """The epsilon of each case."""
    if epsilon is not None:
        return np.full(scores.shape[1], epsilon, np.float64)
    out = np.zeros(scores.shape[1])
    for c, column in enumerate(scores.T):
        finite = column[eligible & np.isfinite(column)]
        if len(finite):
            out[c] = np.median(np.abs(finite - np.median(finite)))
    return out


def survivors(pool, column, margin):
    """Those of the pool that a case leaves in."""
    best = max(column[k] for k in pool)
    return [k for k in pool if column[k] >= (best if np.isinf(best) else best - margin)]


def votes(scores, words, eligible, counts, tournaments, epsilon):
    """What the operation returns before it is divided: whole numbers, 65536 a tournament."""
    scores = np.where(np.isnan(scores), -np.inf, scores).astype(np.float64)
    margin = margins(scores, eligible, epsilon)
    key, cases = tuple(map(int, words)), [int(c) for c in np.flatnonzero(counts)]
    drawn = {c: threefry(key, (0, 65536 + c))[1] for c in cases}
    shuffled = sorted(cases, key=lambda c: (drawn[c], c))
    total = np.zeros(len(scores), np.int64)
    for i in range(tournaments):
        stream, order, pool = threefry(key, (0, i)), list(shuffled), [int(k) for k in np.flatnonzero(eligible)]
        for t in range(len(order)):
            if len(pool) <= 2:
                break
            j = t + (threefry(stream, (0, t))[1] if t else i) % (len(order) - t)
            order[t], order[j] = order[j], order[t]
            pool = survivors(pool, scores[:, order[t]], margin[order[t]])
        if len(pool) == 2:
            alone = [survivors(pool, scores[:, c], margin[c]) for c in cases]
            wins, losses = alone.count(pool[:1]), alone.count(pool[1:])
            ahead = int(65536 * wins / (wins + losses) + 0.5) if wins + losses else 32768
            total[pool] += (ahead, 65536 - ahead)
        else:
            total[pool] += 65536 // max(len(pool), 1)
    return total


def chances(scores, epsilon):
    """The exact chances: the mean over all orders of the cases, as fractions."""
    margin = margins(scores, np.ones(len(scores), bool), epsilon)
    total, orders = [Fraction(0)] * len(scores), list(itertools.permutations(range(scores.shape[1])))
    for order in orders:
        pool = list(range(len(scores)))
        for c in order:
            pool = survivors(pool, scores[:, c], margin[c])
        for k in pool:
            total[k] += Fraction(1, len(pool) * len(orders))
    return total

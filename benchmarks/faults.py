"""Attacks on runs, each with seeded tries: its table, and which tries broke the promise.

    python benchmarks/faults.py [--only NAME ...] [--scale 0.05] [--seed N]

Every attack is in a file of its own, which says what it does. `--scale` makes so many of its tries, at least one. Ends
with 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence

import attack_bits
import attack_files
import attack_hostile
import attack_kills
import attack_lives
import attack_places
import attack_signals
import measure
from attack import Found
from measure import write

# The tries of each attack in full, and what makes them, given their number and a seed.
ATTACKS: dict[str, tuple[int, Callable[[int, int], Found]]] = {
    "flips": (attack_files.FLIPS, attack_files.flips),
    "damages": (attack_files.DAMAGES, attack_files.damages),
    "hostile": (attack_hostile.TRIES, attack_hostile.attack),
    "kills": (attack_kills.TRIES, attack_kills.attack),
    "places": (attack_places.TRIES, attack_places.attack),
    "signals": (attack_signals.TRIES, attack_signals.attack),
    "lives": (attack_lives.TRIES, attack_lives.attack),
    "bits": (attack_bits.TRIES, attack_bits.attack),
}


def main(only: Sequence[str], scale: float, seed: int) -> None:
    """The table of these attacks, of all without names; in the JSON, what others found before stays."""
    path = measure.RESULTS / "faults.json"
    results = json.loads(path.read_text(encoding="utf-8")).get("attacks", {}) if path.exists() else {}
    wrong = 0
    print(f"{'attack':36}{'tries':>7}{'wrong':>7}{'seconds':>9}  outcomes", flush=True)
    for name in only or ATTACKS:
        tries, attack = ATTACKS[name]
        began = time.monotonic()
        found = attack(max(1, round(tries * scale)), seed)
        found = dataclasses.replace(found, counts=dict(found.counts))  # a Counter has no copy of its own kind
        seconds = round(time.monotonic() - began)
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in sorted(found.counts.items()))
        print(f"{found.attack:36}{found.tries:7}{len(found.wrong):7}{seconds:9}  {outcomes}", flush=True)
        for text in found.wrong:
            print(f"  wrong: {text}", flush=True)
        wrong += len(found.wrong)
        results[name] = dataclasses.asdict(found) | {"seed": seed, "scale": scale, "seconds": seconds}
        write("faults", {"attacks": results})
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", default=(), choices=ATTACKS, metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--scale", type=float, default=1.0, help="Make so many of the tries.")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))

"""The published strategies of differential evolution for one individual in the unit cube; all functions are pure.

Mutation after Storn and Price (1997) and Das and Suganthan (2011), by the names that DEHB gives them.
"""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp

Array = jax.Array
Mutation = Literal["rand1", "rand2", "rand2dir", "best1", "best2", "currenttobest1", "randtobest1"]
Crossover = Literal["bin", "exp"]
Boundary = Literal["random", "clip"]
MUTATIONS: tuple[str, ...] = get_args(Mutation)
CROSSOVERS: tuple[str, ...] = get_args(Crossover)
BOUNDARIES: tuple[str, ...] = get_args(Boundary)
# How many different individuals each takes from the mutation pool, besides the target and the best.
NEEDS = {"rand1": 3, "rand2": 5, "rand2dir": 3, "best1": 2, "best2": 4, "currenttobest1": 2, "randtobest1": 3}


def mutant(mutation: str, target: Array, best: Array, r: Array, factor: float) -> Array:
    """The mutant f32[D] of the drawn individuals r f32[NEEDS, D]; it may leave the cube."""
    if mutation == "rand1":
        return r[0] + factor * (r[1] - r[2])
    if mutation == "rand2":
        return r[0] + factor * (r[1] - r[2]) + factor * (r[3] - r[4])
    if mutation == "rand2dir":
        return r[0] + factor / 2 * (r[0] - r[1] - r[2])
    if mutation == "best1":
        return best + factor * (r[0] - r[1])
    if mutation == "best2":
        return best + factor * (r[0] - r[1]) + factor * (r[2] - r[3])
    if mutation == "currenttobest1":
        return target + factor * (best - target) + factor * (r[0] - r[1])
    return r[0] + factor * (best - r[0]) + factor * (r[1] - r[2])  # randtobest1


def crossed(crossover: str, u: Array, target: Array, mutated: Array, probability: float) -> Array:
    """The trial f32[D] from 1 + D uniform numbers: genes of the mutant, at least one, in place of the target's.

    `bin` takes each gene by itself; `exp` takes a run of genes from a random place, which goes on with `probability`.
    """
    d = target.shape[0]
    place = jnp.minimum(jnp.floor(u[0] * d).astype(jnp.int32), d - 1)
    hits = u[1:] < probability
    if crossover == "bin":
        taken = hits | (jnp.arange(d) == place)
    else:
        run = jnp.concatenate([jnp.ones(1, bool), jnp.cumprod(hits[:-1].astype(jnp.int32)).astype(bool)])
        taken = jnp.roll(run, place)
    return jnp.where(taken, mutated, target)


def inside(boundary: str, u: Array, x: Array) -> Array:
    """x f32[D] where genes that left [0, 1] are drawn anew (`random`: the uniform u f32[D]) or moved to its end."""
    if boundary == "clip":
        return jnp.clip(x, 0.0, 1.0)
    return jnp.where((x < 0) | (x > 1), u, x)

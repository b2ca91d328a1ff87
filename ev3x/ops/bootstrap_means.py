"""Means of candidates' scores over resampled examples, the same resamples for all candidates."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from . import arguments, lowering
from .bits import mix, upper_product
from .self_tests import Operands, StoredTest, declare

Scheme = Literal["poisson", "multinomial"]

_TARGETS: dict[Scheme, str] = {"poisson": "ev3x_bootstrap_poisson", "multinomial": "ev3x_bootstrap_multinomial"}
_POISSON_FROM = 1024  # examples
# csrc/bootstrap_means/bootstrap_means.h has the same constants and formulas: the weights are the same to the bit.
_GROUP = 32
_OF_HALVES, _OF_COUNTS, _OF_DRAWS = 0x9E3779B9, 0x7F4A7C15, 0xF39CC060
_SHORT, _SHORT_BITS, _LONG, _LONG_BITS = 8, 16, 12, 32
_WEIGHTS_AT_ONCE = 1 << 21  # that the definition holds
_LARGE, _SMALLER = 2.0**60, 2.0**-64  # scores above are scaled by this, before sums of them can overflow
_LARGEST = float(np.finfo(np.float32).max)


def bootstrap_means(
    scores: ArrayLike,
    seeds: ArrayLike,
    resamples: int,
    *,
    scheme: Scheme | None = None,
    mask: ArrayLike | None = None,
) -> Array:
    """Returns f32[..., resamples, K], the means of K candidates' scores over resampled examples.

    `scores` is float32 [..., K, n], `seeds` uint32 [..., 2], for instance jax.random.bits(key, (2,)), `mask` bool
    [..., n], the examples that count, all by default. `resamples` and `scheme` are static. All candidates see the
    same resamples: subtract columns for paired differences.

    `scheme="multinomial"` draws as many examples as count, with replacement (Efron 1979), up to the 2^-32 of a
    draw's random number. `"poisson"` weighs each example by an independent Poisson(1) number (to 2^-16) and divides
    by the sum of the weights (Hanley & MacGibbon 2006; Chamandy et al. 2012), which is faster and needs no example
    to know of another. `None` is Poisson for n >= 1024, else multinomial. Weights are hashes of (seeds, resample,
    example): the same in native code and in `definition`, whatever the number of threads or devices; resample b's
    do not depend on how many follow.

    The means of finite scores are finite, however large: those of a candidate with a score above 2^60 are scaled down
    for the sums.

    NaN: a resample whose weights are all zero (Poisson, few examples), everything without examples that count, and
    the candidate, no other, that has a NaN or infinite score among those that count.

    The native CPU code holds no weights but a block's (multinomial: those of a few resamples); `definition` those of
    a few resamples. Works under jit, vmap, scan and while_loop. Operands that are sharded stay where they are over
    leading axes, candidates and, for Poisson weights, examples: only means travel. The derivative in `scores` is
    that of the weighted mean, by the definition. Raises ValueError or TypeError at trace time, naming the argument.
    """
    x, s, m = _checked(scores, seeds, mask)
    if isinstance(resamples, bool) or not isinstance(resamples, int | np.integer) or resamples < 0:
        raise ValueError(f"bootstrap_means: `resamples` must be an integer and not negative, got {resamples!r}")
    if scheme is None:
        scheme = "poisson" if x.shape[-1] >= _POISSON_FROM else "multinomial"
    if scheme not in _TARGETS:
        raise ValueError(f"bootstrap_means: `scheme` must be None, {' or '.join(map(repr, _TARGETS))}, got {scheme!r}")
    return _means(x, s, m, int(resamples), scheme)


def definition(scores: Array, seeds: Array, mask: Array | None, resamples: int, scheme: Scheme) -> Array:
    """Returns what `bootstrap_means` does, in plain jnp, arguments unchecked: the oracle and the fallback."""
    return _scaled(lambda x: _define(x, seeds, mask, resamples, scheme), scores, mask)


def _define(scores: Array, seeds: Array, mask: Array | None, resamples: int, scheme: Scheme) -> Array:
    counts = None if mask is None else mask[..., None, :]
    number = jnp.float32(scores.shape[-1]) if counts is None else counts.sum(-1, dtype=jnp.int32).astype(jnp.float32)
    mean = (scores if counts is None else jnp.where(counts, scores, 0)).sum(-1) / number
    # Means are resampled about the mean of all: deviations are small, and so are the errors of their sums. An infinite
    # score makes its whole row NaN, also in resamples that miss it.
    centre = jnp.where(jnp.isfinite(mean), mean, jnp.nan)
    return centre[..., None, :] + _resampled(scores - centre[..., None], seeds, mask, resamples, scheme)


def _scaled(means: Callable[[Array], Array], scores: Array, mask: Array | None, axes: Any = None) -> Array:
    """The means of these scores; of those that are so large that sums of them overflow, by a power of two smaller.

    `axes` are the mesh axes that examples are split over, if they are.
    """
    size = jnp.abs(scores) if mask is None else jnp.where(mask[..., None, :], jnp.abs(scores), 0)
    top = size.max(-1, initial=0)
    large = (top if axes is None else lax.pmax(top, axes)) > _LARGE
    found = means(scores * jnp.where(large, jnp.float32(_SMALLER), 1)[..., None])
    # A mean of the largest floats is one of them, but for rounding.
    back = jnp.clip(found / _SMALLER, -_LARGEST, _LARGEST)
    return jnp.where(large[..., None, :], back, found)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _means(scores: Array, seeds: Array, mask: Array | None, resamples: int, scheme: Scheme) -> Array:
    operands = (scores, seeds) if mask is None else (scores, seeds, mask)
    call, portable, across = (
        functools.partial(f, resamples=resamples, scheme=scheme) for f in (_call, _portable, _call_across)
    )
    arrays = ("kn", "s", "n")[: len(operands)]
    if scheme == "poisson":
        spread = lowering.Spread(arrays, ("bk",), joined="n", across=across)
    else:
        spread = lowering.Spread(arrays, ("bk",), whole="n")
    return lowering.choose(_TARGETS[scheme], call, portable, *operands, spread=spread)


@_means.defjvp
def _means_jvp(resamples: int, scheme: Scheme, primals: Any, tangents: Any) -> tuple[Array, Array]:
    _, seeds, mask = primals
    return _means(*primals, resamples, scheme), _resampled(tangents[0], seeds, mask, resamples, scheme)


def _portable(scores: Array, seeds: Array, mask: Array | None = None, *, resamples: int, scheme: Scheme) -> Array:
    return definition(scores, seeds, mask, resamples, scheme)


def resample_weights(seeds: Array, resamples: Array, n: int, mask: Array | None = None) -> Array:
    """Returns f32[..., resamples, n], how often each example is in these of `bootstrap_means`' resamples.

    For statistics that are no means. `resamples` are their numbers, uint32 [resamples]; the scheme is the one that
    `bootstrap_means` chooses. Arguments are unchecked.
    """
    return (_poisson if n >= _POISSON_FROM else _multinomial)(seeds, resamples, n, mask)


def _resampled(scores: Array, seeds: Array, mask: Array | None, resamples: int, scheme: Scheme) -> Array:
    """f32[..., resamples, K], the plain weighted means, linear in the scores; a few resamples after others."""
    *batch, candidates, n = scores.shape
    counted = scores if mask is None else jnp.where(mask[..., None, :], scores, 0)
    if n == 0 or resamples == 0:
        return jnp.full((*batch, resamples, candidates), jnp.nan, jnp.float32)
    once = max(1, min(resamples, _WEIGHTS_AT_ONCE // n))
    weigh = _poisson if scheme == "poisson" else _multinomial

    # Else a derivative would keep all weights.
    @jax.checkpoint
    def some(first: Array) -> Array:
        weights = weigh(seeds, first + lax.iota(jnp.uint32, once), n, mask)
        means = jnp.einsum("...bn,...kn->...bk", weights, counted, precision=lax.Precision.HIGHEST)
        return means / weights.sum(-1)[..., None]

    # The last turn draws too many, which are cut off: shapes in a loop are all the same.
    starts = np.arange(0, resamples, once, dtype=np.uint32)
    means = jnp.moveaxis(lax.map(some, jnp.asarray(starts)), 0, -3)
    return means.reshape(*batch, len(starts) * once, candidates)[..., :resamples, :]


def _poisson(seeds: Array, resamples: Array, n: int, mask: Array | None) -> Array:
    """f32[..., resamples, n]: a word's lower half is for an example of a group's first 16, the upper for the second."""
    groups = -(-n // _GROUP)
    words = _words(seeds, resamples, lax.iota(jnp.uint32, groups * _GROUP // 2), _OF_HALVES)
    # The shifts carry the sign: thresholds are those of signed 16-bit numbers, which SSE and AVX2 can compare.
    signed = lax.bitcast_convert_type(words, jnp.int32).reshape(*words.shape[:-1], groups, 1, _GROUP // 2)
    halves = jnp.concatenate([(signed << 16) >> 16, signed >> 16], -2)
    counts = _above(halves, _thresholds(1.0, _SHORT, _SHORT_BITS))
    weights = counts.reshape(*words.shape[:-1], groups * _GROUP)[..., :n].astype(jnp.float32)
    return weights if mask is None else jnp.where(mask[..., None, :], weights, 0)


def _multinomial(seeds: Array, resamples: Array, n: int, mask: Array | None) -> Array:
    """f32[..., resamples, n]: Poisson counts of a rate below 1, whose total falls short, then draws of the rest.

    Given their total, Poisson counts are multinomial. Those of a larger total are all drawn anew.
    """
    rate = _rate(n)
    words = _words(seeds, resamples, lax.iota(jnp.uint32, n), _OF_COUNTS)
    counts = _above(lax.bitcast_convert_type(words, jnp.int32), _thresholds(rate, _LONG, _LONG_BITS))
    full = jnp.full(seeds.shape[:-1], n, jnp.int32) if mask is None else mask.sum(-1, dtype=jnp.int32)
    if mask is not None:
        counts = jnp.where(mask[..., None, :], counts, 0)
    total = counts.sum(-1, dtype=jnp.int32)
    enough = total <= full[..., None]
    counts = jnp.where(enough[..., None], counts, 0).reshape(-1, n)
    missing = full[..., None] - jnp.where(enough, total, 0)
    # Places of those that count, in front.
    places = None if mask is None else jnp.argsort(~mask, -1).astype(jnp.int32)
    # 8 sqrt(n) are missing, give or take sqrt(n): hardly ever does the loop below turn twice.
    once = min(n, math.ceil(16 * math.sqrt(n)))

    def draw(state: tuple[Array, Array]) -> tuple[Array, Array]:
        first, counts = state
        number = first + lax.iota(jnp.int32, once)
        random = _words(seeds, resamples, number.astype(jnp.uint32), _OF_DRAWS)
        at = upper_product(random, full[..., None, None].astype(jnp.uint32)).astype(jnp.int32)
        if places is not None:
            at = jnp.take_along_axis(places[..., None, :], at, -1)
        row = lax.iota(jnp.int32, counts.shape[0])[:, None]
        wanted = number[None, :] < missing.reshape(-1, 1)
        return first + once, counts.at[row, at.reshape(-1, once)].add(wanted.astype(jnp.int32))

    _, counts = lax.while_loop(lambda state: (state[0] < missing).any(), draw, (jnp.int32(0), counts))
    return counts.reshape(*seeds.shape[:-1], resamples.shape[0], n).astype(jnp.float32)


def _rate(n: int) -> float:
    """Of the Poisson counts: their total, n - 8 sqrt(n) +- sqrt(n), hardly ever exceeds n."""
    return max(0.0, 1 - 8 / math.sqrt(n)) if n else 0.0


@functools.lru_cache(maxsize=64)
def _thresholds(rate: float, number: int, bits: int) -> tuple[int, ...]:
    """A signed random number of these bits is above as many of them as a Poisson count is, up to rounding."""
    below, term, bars = 0.0, math.exp(-rate), []
    for j in range(number):
        below += term
        term *= rate / (j + 1)
        bars.append(min(round(below * 2**bits), 2**bits) - 2 ** (bits - 1) - 1)
    return tuple(bars)


def _above(x: Array, thresholds: tuple[int, ...]) -> Array:
    return functools.reduce(lambda sum_, bar: sum_ + (x > bar).astype(jnp.int32), thresholds, jnp.zeros_like(x))


def _words(seeds: Array, resamples: Array, columns: Array, purpose: int) -> Array:
    """u32[..., resamples, columns]."""
    a, b = (seeds[..., i, None] for i in (0, 1))
    r, c = (jnp.broadcast_to(v, (*seeds.shape[:-1], *v.shape)) for v in (resamples, columns))
    # A resample has two keys, which must not be the same for equal seeds: hence the constant.
    first = mix(mix(r ^ a) + b)[..., None]
    second = mix(mix(r ^ b ^ np.uint32(0x85EBCA6B)) + a)[..., None]
    x = mix(mix(c ^ b ^ np.uint32(purpose)) + a)[..., None, :] ^ first
    # The second key comes within the mixing. With both in front, two resamples would share all the words for which the
    # columns' keys differ as the resamples' do.
    x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD) + second
    x = (x ^ (x >> 15)) * np.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def _run(
    scores: Array, seeds: Array, mask: Array | None, resamples: int, scheme: Scheme, first: Array | None = None
) -> Sequence[Array]:
    """The candidates' centres, their means and the sums of weights.

    Of examples from number `first` on, sums of weighted scores about the centres in place of means.
    """
    as_means, first = np.bool_(first is None), jnp.uint32(0) if first is None else first
    at = seeds[..., :1] * np.uint32(0) + first  # with the seeds' leading axes, and varying over devices as they do
    operands = [scores, jnp.concatenate([seeds, at], -1), *([] if mask is None else [mask])]
    batch, candidates = scores.shape[:-2], scores.shape[-2]
    shapes = (*batch, candidates), (*batch, resamples, candidates), (*batch, resamples)
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    exact = {"thresholds": np.array(_thresholds(_rate(scores.shape[-1]), _LONG, _LONG_BITS), np.int32)}
    given = exact if scheme == "multinomial" else {}
    return lowering.custom_call(_TARGETS[scheme], results, *operands, as_means=as_means, **given)


def _call(scores: Array, seeds: Array, mask: Array | None = None, *, resamples: int, scheme: Scheme) -> Array:
    return _run(scores, seeds, mask, resamples, scheme)[1]


def _call_across(
    axes: Mapping[str, Any], scores: Array, seeds: Array, mask: Array | None = None, *, resamples: int, scheme: Scheme
) -> Array:
    """Of examples that are split over the mesh axes axes["n"]: sums travel, and the candidates' largest scores."""
    split = functools.partial(_call_split, axes["n"], seeds=seeds, mask=mask, resamples=resamples, scheme=scheme)
    return _scaled(split, scores, mask, axes["n"])


def _call_split(axes: Any, scores: Array, *, seeds: Array, mask: Array | None, resamples: int, scheme: Scheme) -> Array:
    size = scores.shape[-1]
    first = lax.axis_index(axes).astype(jnp.uint32) * np.uint32(size)
    centre, excess, weight = _run(scores, seeds, mask, resamples, scheme, first)
    counted = jnp.full(scores.shape[:-2], size, jnp.int32) if mask is None else mask.sum(-1, dtype=jnp.int32)
    number = counted.astype(jnp.float32)[..., None]
    everyone = functools.partial(lax.psum, axis_name=axes)
    common = everyone(jnp.where(number > 0, centre * number, 0)) / everyone(number)
    # A part's sum is about its own centre, NaN if nothing in it counts; from there to the common one, every example
    # goes the same way.
    shift = jnp.where(number > 0, centre - common, 0)[..., None, :]
    total = everyone(excess + weight[..., None] * shift)
    means: Array = common[..., None, :] + total / everyone(weight)[..., None]
    return means


def _checked(scores: ArrayLike, seeds: ArrayLike, mask: ArrayLike | None) -> tuple[Array, Array, Array | None]:
    op = "bootstrap_means"
    x = arguments.first(op, "scores", scores, "K, n")
    such = "jax.random.bits(key, (2,)) gives such"
    s = arguments.other(op, "seeds", seeds, (*x.shape[:-2], 2), "uint32", advice=such)
    if mask is None:
        return x, s, None
    row = (*x.shape[:-2], x.shape[-1])
    return x, s, arguments.other(op, "mask", mask, row, "bool", shape_is=arguments.SHARED)


def _cases() -> dict[str, Operands]:
    """Operands with more than a block of examples, whose number no vector divides, and NaN that a mask hides."""
    rng = StoredTest.numbers()
    scores, seeds = rng.random_sample((2, 3, 1_100)).astype(np.float32), rng.randint(0, 2**32, (2, 2), dtype=np.uint32)
    mask = rng.random_sample((2, 1_100)) < 0.8
    scores[1, 2, 7], mask[1, 7] = np.nan, False
    scores += 3
    return {"all": (scores, seeds), "masked": (scores, seeds, mask)}


for _scheme, _target in _TARGETS.items():
    _form, _definition = (functools.partial(f, resamples=9, scheme=_scheme) for f in (_call, _portable))
    _view = lambda means: {"means": means}  # noqa: E731
    declare(StoredTest(_target, _form, _definition, _cases, rtol=1e-5, view=_view))

"""bootstrap_means and quantiles of operands on eight devices: what travels, and that the values are the same."""

import json
import os
import subprocess
import sys

import pytest

from ev3x.ops import native

TARGETS = ["ev3x_bootstrap_poisson", "ev3x_bootstrap_multinomial", "ev3x_quantiles"]
SCRIPT = """
import functools, json, re
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from ev3x.ops import bootstrap_means, quantiles

rng, found = np.random.default_rng(0), []
operations = {
    "poisson": lambda x, s, m: bootstrap_means(x, s, 20, scheme="poisson", mask=m),
    "multinomial": lambda x, s, m: bootstrap_means(x, s, 20, scheme="multinomial", mask=m),
    "quantiles": lambda x, s, m: quantiles(x, (0.1, 0.5), mask=m),
}
specs = [P(None, "b"), P("a", "b"), P(None, None, "b"), P("a", None, "b"), P(None, "a", "b"), P(None, None, ("a", "b"))]
mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
for name, operation in operations.items():
    for n in (4096, 1000, 250):
        for masked in (False, True):
            x = (1e4 + 1e-2 * rng.normal(size=(4, 8, n))).astype(np.float32)
            seeds, mask = rng.integers(0, 2**32, (4, 2), dtype=np.uint32), rng.random((4, n)) < 0.7
            f = jax.jit(operation)
            want = np.asarray(f(x, seeds, mask if masked else None))
            for spec in specs[:: 1 if n == 1000 else 2]:
                if any(x.shape[i] % (8 if isinstance(a, tuple) else mesh.shape[a]) for i, a in enumerate(spec) if a):
                    continue
                put = lambda a, *axes: jax.device_put(a, NamedSharding(mesh, P(*axes)))
                lead, n_axis = spec[0], spec[2] if len(spec) > 2 else None
                given = put(x, *spec), put(seeds, lead), put(mask, lead, n_axis) if masked else None
                compiled = f.lower(*given).compile()
                text = compiled.as_text()
                found.append({
                    "case": f"{name} {n} {masked} {spec}", "joined": n_axis is not None, "name": name,
                    "error": float(np.abs(np.asarray(compiled(*given)) - want).max()),
                    "gathers": len(re.findall(r" all-gather(?:-start)?\\(", text)),
                    "reduced": [np.prod([int(d) for d in dims.split(",")]).item()
                                for dims in re.findall(r"f32\\[([\\d,]+)\\][^=]* all-reduce\\(", text)],
                    "native": "custom_call_target=\\"ev3x_" in text,
                })
print(json.dumps(found))
"""


@pytest.mark.skipif(not all(map(native.ensure, TARGETS)), reason="native targets are not in use here")
def test_sharded_operands_stay_where_they_are():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout)
    assert len(found) == 60
    for each in found:
        assert each["native"], each
        assert each["error"] <= 1e-3, each  # the floats next to 1e4
        if not each["joined"] or each["name"] == "poisson":
            assert each["gathers"] == 0, each
        assert all(size <= 4 * 20 * 8 for size in each["reduced"]), each  # means, not scores

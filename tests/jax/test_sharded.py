"""Arrays over eight host devices, in a process of its own: states are sharded like their parameters."""

from __future__ import annotations

from tests.support import python

CODE = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec as P
import adamite.jax as ours

assert len(jax.devices()) == 8
mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.{mode},) * 2)
jax.set_mesh(mesh)
params = {{
    "w": jax.device_put(jnp.sin(jnp.arange(64.0)).reshape(8, 8), NamedSharding(mesh, P("a", "b"))),
    "v": jax.device_put(jnp.ones(8), NamedSharding(mesh, P("a"))),
    "s": jnp.float32(0.5),
}}
def run(tx):
    p, s = params, jax.jit(tx.init)(params) if "{mode}" == "Auto" else tx.init(params)
    update = jax.jit(tx.update)
    for k in range(5):
        updates, s = update(jax.tree.map(lambda x: jnp.cos(x + k), p), s, p)
        p = optax.apply_updates(p, updates)
    return p, s
mine, state = run(ours.adamw(0.1))
theirs, _ = run(optax.adamw(0.1))
for name in params:
    assert np.allclose(mine[name], theirs[name], rtol=1e-4, atol=1e-5), (mine[name] - theirs[name], name)
    for kept in (mine, state[0].mu, state[0].nu):
        assert kept[name].sharding.is_equivalent_to(params[name].sharding, params[name].ndim), (name, kept[name])
tx = ours.adamw(0.1)
w, g, spec = params["w"], jax.device_put(jnp.ones((8, 8)), params["w"].sharding), P("a", "b")
each = jax.shard_map(lambda p, g: tx.step(p, tx.init(p), g)[0], in_specs=(spec, spec), out_specs=spec)
whole = np.asarray(w)
one = jax.jit(tx.step)(whole, tx.init(whole), np.ones((8, 8), np.float32))[0]
assert np.allclose(jax.jit(each)(w, g), one, rtol=1e-6)
print("as one")
"""


def check(mode: str) -> None:
    done = python(CODE.format(mode=mode), XLA_FLAGS="--xla_force_host_platform_device_count=8")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "as one"


def test_shardings_that_the_compiler_chooses() -> None:
    check("Auto")


def test_shardings_in_types() -> None:
    check("Explicit")


def test_a_program_that_is_kept_on_disk_runs_in_another_process(tmp_path) -> None:
    code = f"""
import jax, jax.numpy as jnp
jax.config.update("jax_compilation_cache_dir", {str(tmp_path)!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import adamite.jax as ours
tx = ours.adam(0.1)
x = jnp.linspace(-1, 1, 7)
p, s = jax.jit(tx.step)(x, tx.init(x), x)
print(p.tolist())
"""
    first, second = python(code), python(code)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout == second.stdout and any("step" in path.name for path in tmp_path.iterdir())


def test_a_program_for_export_has_no_machine_code() -> None:
    code = """
import jax, jax.numpy as jnp
import adamite.jax as ours
tx = ours.adam(0.1)
x = jnp.ones(3)
def step(g, x):
    return tx.step(x, tx.init(x), g)[0]
exported = jax.export.export(jax.jit(step))(x, x)
again = jax.export.deserialize(exported.serialize())
print((again.call(x, x) - jax.jit(step)(x, x)).tolist(), "adamite_" in exported.mlir_module())
"""
    done = python(code)
    assert done.stdout.strip() == "[0.0, 0.0, 0.0] False", done.stderr[-2000:]

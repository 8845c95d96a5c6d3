"""What goes wrong with compiled code in other people's environments."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from threadpoolctl import threadpool_info
from tools import kernels

import sklearn_greedy
from sklearn_greedy import (
    GreedyPretrainedMLPClassifier,
    GreedyPretrainedMLPRegressor,
    StackedAutoencoderTransformer,
    StackedRBMTransformer,
)
from sklearn_greedy._network import ACTIVATIONS
from sklearn_greedy._threads import one_blas_thread

PACKAGE = Path(sklearn_greedy.__file__).parent
ROOT = Path(__file__).parents[1]

# A small fit that needs the contrastive-divergence kernel only.
FIT_RBM = """
import json
import numpy as np
from sklearn_greedy import StackedRBMTransformer
X = np.random.default_rng(0).random((40, 5))
stack = StackedRBMTransformer((3,), max_iter=2, random_state=0).fit(X)
print(json.dumps([part.tolist() for part in (*stack.coefs_, *stack.intercepts_)]))
"""


def environment(**changes):
    """This process's environment without numba's settings, and with changes."""
    ours = ("NUMBA_", "SKLEARN_GREEDY_", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**kept, **changes}


def start(code, python=sys.executable, **options):
    return subprocess.Popen(
        [python, "-W", "ignore", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def run(code, python=sys.executable, **options):
    return finish(start(code, python, **options))


def make_data(dtype=np.float64):
    return np.random.default_rng(0).random((60, 6)).astype(dtype)


def make_estimators():
    """One of each, small."""
    rbm = StackedRBMTransformer((4, 3), max_iter=2, random_state=0)
    autoencoder = StackedAutoencoderTransformer((4, 3), max_iter=2, random_state=0)
    options = {"max_iter": 2, "random_state": 0}
    return [
        rbm,
        autoencoder,
        GreedyPretrainedMLPClassifier(pretrainer=rbm, **options),
        GreedyPretrainedMLPRegressor(pretrainer=autoencoder, **options),
    ]


# --- importing -----------------------------------------------------------------


def test_import_is_quick_and_compiles_nothing():
    """Numba is not even imported; and importing the kernels compiles none."""
    code = """
import sys, time
import sklearn.base, sklearn.frozen, sklearn.metrics, sklearn.model_selection
import sklearn.utils.multiclass, sklearn.utils.sparsefuncs
start = time.perf_counter()
import sklearn_greedy
print(time.perf_counter() - start)
assert not {"numba", "llvmlite", "sklearn_greedy._kernels"} & set(sys.modules)
if sys.argv[-1] == "kernels":
    from numba.core.dispatcher import Dispatcher
    from sklearn_greedy import _kernels
    compiled = [k for k in vars(_kernels).values() if isinstance(k, Dispatcher)]
    assert len(compiled) > 20
    assert not any(kernel.signatures for kernel in compiled)
"""
    seconds = [
        float(run(f"import sys; sys.argv.append({last!r}){code}"))
        for last in ("kernels", "", "")
    ]
    assert min(seconds) < 0.5


# --- the cache on disk ---------------------------------------------------------


def copy_without_cache(to):
    """The package's source in a folder where no cache folder can be made."""
    shutil.copytree(PACKAGE, to, ignore=shutil.ignore_patterns("__pycache__"))
    (to / "__pycache__").write_text("a file where the cache folder would be")


def test_works_without_any_place_for_a_cache(tmp_path):
    """A read-only install and no home, where ``njit(cache=True)`` itself raises."""
    copy_without_cache(tmp_path / "sklearn_greedy")
    probe = "import numba\n@numba.njit(cache=True)\ndef f(x):\n    return x + 1\n"
    (tmp_path / "sklearn_greedy" / "probe.py").write_text(probe)
    code = f"""
try:
    import sklearn_greedy.probe
except RuntimeError as exc:
    assert "no locator available" in str(exc), exc
else:
    raise AssertionError("there is a place for a cache after all")
import sklearn_greedy
assert sklearn_greedy.__file__.startswith({str(tmp_path)!r})
{FIT_RBM}"""
    nowhere = str(tmp_path / "sklearn_greedy" / "probe.py" / "folder")  # below a file
    env = environment(
        PYTHONPATH=str(tmp_path),
        PYTHONDONTWRITEBYTECODE="1",
        HOME=nowhere,
        XDG_CACHE_HOME=nowhere,
        LOCALAPPDATA=nowhere,
        NUMBA_OPT="0",
    )
    result = json.loads(run(code, env=env, cwd=tmp_path))
    expected = StackedRBMTransformer((3,), max_iter=2, random_state=0)
    expected.fit(np.random.default_rng(0).random((40, 5)))
    assert_allclose(result[0], expected.coefs_[0], rtol=1e-3, atol=1e-5)


def test_two_cold_processes_at_once(tmp_path):
    env = environment(NUMBA_CACHE_DIR=str(tmp_path))
    processes = [start(FIT_RBM, env=env) for _ in range(2)]
    one, other = (finish(process) for process in processes)
    assert one == other
    indices = list(tmp_path.rglob("*.nbi"))
    assert any("cd_slice" in path.name for path in indices)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")}
    assert run(FIT_RBM, env=env) == one
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")}
    assert after == before


@pytest.mark.parametrize(("setting", "cached"), [("0", False), ("1", True)])
def test_cache_can_be_switched_off(setting, cached, tmp_path):
    code = """
import numpy as np
from sklearn_greedy import _kernels
_kernels.stream_keys(np.zeros(2, np.uint32), 0, 0)
"""
    env = environment(NUMBA_CACHE_DIR=str(tmp_path), SKLEARN_GREEDY_NUMBA_CACHE=setting)
    run(code, env=env)
    assert any(tmp_path.rglob("*.nbi")) == cached


# --- a real upgrade ------------------------------------------------------------


def make_environment(folder):
    """A virtual environment that borrows the installed packages; its Python."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True
    )
    python = next(
        path
        for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe")
        if path.exists()
    )
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(code, python=str(python), env=environment()).strip())
    borrowed = [path for path in sys.path if "site-packages" in path]
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    return str(python), site


def install(source, python):
    options = (
        "--no-deps --no-build-isolation --no-index --quiet "
        "--disable-pip-version-check --root-user-action=ignore"
    )
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run(
        [*pip, "install", *options.split(), str(source)], check=True, env=environment()
    )


def copy_source(to):
    to.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to / name)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, to / "sklearn_greedy", ignore=ignore)


def edit(path, pattern, replacement):
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.M)
    assert count == 1, f"{pattern} is no longer in {path.name}"
    path.write_text(text)


def test_upgrade_never_runs_stale_code(tmp_path):
    """Install, fit, upgrade to an edited callee of the kernel, fit again."""
    python, site = make_environment(tmp_path / "venv")
    source = tmp_path / "source"
    copy_source(source)
    options = {"python": python, "cwd": tmp_path}
    cold = environment()

    install(source, python)
    installed = site / "sklearn_greedy"
    where = str(installed / "__init__.py")
    code = (
        f"import sklearn_greedy\nassert sklearn_greedy.__file__ == {where!r}{FIT_RBM}"
    )
    old = json.loads(run(code, env=cold, **options))
    assert list(installed.rglob("*cd_slice*.nbi"))

    edit(source / "pyproject.toml", r'^version = ".*"$', 'version = "99.0"')
    edit(
        source / "sklearn_greedy" / "_kernels.py",
        r"z\[i\] = _ONE / \(_ONE \+ exp\(-z\[i\]\)\)",
        "z[i] = _ONE / (_TWO + exp(-z[i]))",
    )
    install(source, python)
    new = json.loads(run(code, env=cold, **options))
    fresh = json.loads(run(code, env=environment(NUMBA_DISABLE_JIT="1"), **options))
    assert np.abs(np.subtract(new[0], old[0])).max() > 1e-3
    assert_allclose(new[0], fresh[0], rtol=1e-3, atol=1e-5)
    assert_allclose(new[1], fresh[1], rtol=1e-3, atol=1e-5)


# --- one specialisation --------------------------------------------------------


def test_every_form_of_input_runs_on_one_specialisation():
    code = """
import numpy as np
from scipy import sparse
from sklearn_greedy import *
from sklearn_greedy import _kernels

def forms():
    for dtype in (np.float64, np.float32):
        X = np.random.default_rng(0).random((60, 6)).astype(dtype)
        yield X
        yield np.asfortranarray(X)
        frozen = X.copy()
        frozen.flags.writeable = False
        yield frozen
        yield np.repeat(X, 2, axis=1)[:, ::2]
        yield sparse.csr_array(X * (X > 0.5))
        yield 50 * X - 10

y = np.arange(60) % 3
for X in forms():
    for persistent in (False, True):
        StackedRBMTransformer((4,), max_iter=1, persistent=persistent).fit(X)
    for tied in (True, False):
        stack = StackedAutoencoderTransformer((4,), max_iter=1, tied_weights=tied)
        stack.fit(X).partial_fit(X)
    for solver in ("adam", "sgd"):
        options = dict(pretrainer=stack, solver=solver, max_iter=1)
        GreedyPretrainedMLPClassifier(**options).fit(X, y).partial_fit(X, y)
        GreedyPretrainedMLPRegressor(**options).fit(X, y)
    GreedyPretrainedMLPClassifier((4, 3, 2), pretrainer=None, max_iter=1).fit(X, y)
print(len(_kernels.cd_slice.signatures), len(_kernels.backprop_slice.signatures))
"""
    assert run(code, env=environment()).split() == ["1", "1"]


# --- threads, interrupts, failures ----------------------------------------------


def blas_threads():
    return [
        (library["filepath"], library["num_threads"])
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]


def parameters(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def test_fits_in_four_threads_equal_serial_fits():
    X = make_data()
    y = np.arange(60) % 3
    before = blas_threads()
    serial = [parameters(e.fit(X, y)) for e in make_estimators()]
    threaded = make_estimators()
    gate = threading.Barrier(4)

    def fit(estimator):
        gate.wait()
        estimator.fit(X, y)

    threads = [threading.Thread(target=fit, args=(e,)) for e in threaded]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, estimator in zip(serial, threaded, strict=True):
        for a, b in zip(expected, parameters(estimator), strict=True):
            assert_array_equal(a, b)
    assert blas_threads() == before


def test_failed_fit_restores_the_blas_threads():
    before = blas_threads()
    stack = StackedRBMTransformer((3,), visible="gaussian", learning_rate=1e38)
    with pytest.raises(ValueError, match="diverged"):
        stack.fit(make_data())
    assert blas_threads() == before


class Library:
    """A BLAS whose number of threads can be set once only before Ctrl-C."""

    num_threads, n_calls, internal_api = 4, 0, "blis"

    def __init__(self, breaks_at):
        self.breaks_at = breaks_at

    def set_num_threads(self, n_threads):
        self.num_threads, self.n_calls = n_threads, self.n_calls + 1
        if self.n_calls == self.breaks_at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("breaks_at", [1, 2])
def test_interrupt_while_threads_are_set_leaves_no_limit(breaks_at):
    """BLAS then had one thread until the end of the process."""
    limit = type(one_blas_thread)()
    limit._libraries = [Library(breaks_at), Library(0)]
    with pytest.raises(KeyboardInterrupt), limit:
        pass
    limit.return_to(0)
    assert [library.num_threads for library in limit._libraries] == [4, 4]
    with limit:
        assert [library.num_threads for library in limit._libraries] == [1, 1]
    assert [library.num_threads for library in limit._libraries] == [4, 4]


def test_a_fit_that_fails_gives_up_the_limit(monkeypatch):
    depths = []
    monkeypatch.setattr(
        type(one_blas_thread), "return_to", lambda self, depth: depths.append(depth)
    )
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        StackedRBMTransformer((0,)).fit(make_data())
    monkeypatch.undo()
    one_blas_thread.return_to(0)
    assert depths == [0, 0]  # at its end, and again where it may have failed before


LONG_FITS = {
    "wide layer": (
        "StackedRBMTransformer((200,), batch_size=100, max_iter=1000)",
        "(20_000, 100)",
    ),
    "a row per step": (
        "StackedRBMTransformer((2,), batch_size=1, n_gibbs_steps=20)",
        "(1_000_000, 2)",
    ),
    "autoencoder": (
        "StackedAutoencoderTransformer(200, max_iter=1000)",
        "(20_000, 100)",
    ),
    "all rows at once": (
        "GreedyPretrainedMLPRegressor((400, 400), pretrainer=None, solver='lbfgs')",
        "(40_000, 400)",
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="no signal for one process there")
@pytest.mark.parametrize("fit", LONG_FITS)
def test_interrupt_ends_a_long_fit_within_a_second(fit):
    estimator, shape = LONG_FITS[fit]
    code = f"""
import signal, time
import numpy as np
from sklearn_greedy import *
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
model = {estimator}.set_params(random_state=0)
X = np.random.default_rng(0).random({shape})
model.fit(X[:300], X[:300, 0])
print("ready", flush=True)
try:
    model.fit(X, X[:, 0])
except KeyboardInterrupt:
    print(time.time(), flush=True)
"""
    process = start(code, env=environment())
    assert process.stdout.readline().strip() == "ready"
    time.sleep(1.0)
    sent = time.time()
    process.send_signal(signal.SIGINT)
    assert float(finish(process)) - sent < 1.0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bad_parameters_end_in_the_error(activation, bad):
    """They must pass through every activation, never vanish in one."""
    X = make_data()
    y = X[:, 0] > 0.5
    models = [
        GreedyPretrainedMLPClassifier(
            (4,), pretrainer=None, activation=activation, max_iter=1
        ),
        GreedyPretrainedMLPRegressor(
            (4,), pretrainer=None, activation=activation, max_iter=1
        ),
        StackedAutoencoderTransformer((4,), activation=activation, max_iter=1),
    ]
    if activation == "logistic":
        models.append(StackedRBMTransformer((4,), max_iter=1))
    for model in models:
        model.set_params(warm_start=True, random_state=0).fit(X, y)
        model.coefs_[0][2, 1] = bad
        with pytest.raises(ValueError, match=r"diverged .* epoch 1: .*Lower learning"):
            model.fit(X, y)


@pytest.mark.parametrize("activation", range(len(ACTIVATIONS)))
def test_nan_passes_through_the_activation_kernels(activation):
    z = np.array([np.nan, -np.inf, np.inf, 0.5], dtype=np.float32)
    kernels.activate(z, activation)
    assert np.isnan(z[0])
    assert not np.isnan(z[1:]).any()


def test_everything_runs_without_the_compiler():
    """With NUMBA_DISABLE_JIT the same code runs as plain Python."""
    X = make_data()[:24]
    y = (X[:, 0] > 0.5).astype(int)
    code = """
import pickle, sys
estimators, X, y = pickle.loads(sys.stdin.buffer.read())
out = [[*e.fit(X, y).coefs_, *e.intercepts_] for e in estimators]
sys.stdout.buffer.write(pickle.dumps(out))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=pickle.dumps((make_estimators(), X, y)),
        stdout=subprocess.PIPE,
        env=environment(NUMBA_DISABLE_JIT="1"),
        check=True,
    )
    compiled = [parameters(e.fit(X, y)) for e in make_estimators()]
    for plain, expected in zip(pickle.loads(done.stdout), compiled, strict=True):
        for a, b in zip(plain, expected, strict=True):
            assert_allclose(a, b, rtol=1e-3, atol=1e-5)

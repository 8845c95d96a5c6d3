"""The matrix of versions: ``nox`` runs all of it, ``nox -s lowest`` one column.

What follows ``--`` goes to pytest. Python's versions are the classifiers of
``pyproject.toml``, the lowest pins the ones that it states.
"""

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
SCIKIT_LEARN = ["1.6", "1.7", "1.8", "1.9"]
# Of what there are no wheels: Python and scikit-learn.
NOT_THERE = [("3.14", "1.6")]
# What an old scikit-learn wants older: its data sets warn since NumPy 2.5, and the way
# in which it asks a frame of polars for the names of its columns is deprecated.
OLDER = {version: ["numpy<2.5", "polars<1.40"] for version in SCIKIT_LEARN[:-1]}
# Tests of the compiler, new interpreters or long fits, which add no lines.
NOT_COUNTED = ["common", "native_suite", "notebooks", "numba_safety", "random", "scale"]


def run_tests(session, *options, array_api=None, **env):
    """Run pytest with a cache of kernels that belongs to this environment alone: its
    index does not tell code that checks bounds from code that does not. The array API
    is on where SciPy's variable is 1, and off where there is none.
    """
    env["NUMBA_CACHE_DIR"] = f"{session.virtualenv.location}/numba"
    env["SCIPY_ARRAY_API"] = array_api
    session.run("python", "-m", "pytest", *options, *session.posargs, env=env)


@nox.session(python=PYTHONS)
@nox.parametrize("scikit_learn", SCIKIT_LEARN)
def tests(session, scikit_learn):
    """The suite on one Python and one scikit-learn, all else as new as it can be."""
    if (session.python, scikit_learn) in NOT_THERE:
        session.skip("no wheels")
    pins = [f"scikit-learn=={scikit_learn}.*", *OLDER.get(scikit_learn, [])]
    session.install("-e", ".[test]", *pins)
    run_tests(session)


@nox.session(python=PYTHONS[0])
def lowest(session):
    """The suite on the lowest versions that pyproject.toml allows."""
    project = PYPROJECT["project"]
    stated = project["dependencies"] + project["optional-dependencies"]["test"]
    pins = [requirement.replace(">=", "==") for requirement in stated]
    # matplotlib 3.8 calls it by names that warn since 3.3.
    session.install("-e", ".", *pins, "pyparsing<3.3")
    run_tests(session)


@nox.session(python=PYTHONS[-1])
def array_api(session):
    """The suite where SciPy and scikit-learn dispatch on the array API."""
    session.install("-e", ".[test]")
    run_tests(session, array_api="1")


@nox.session(python=PYTHONS[-1])
def boundscheck(session):
    """The suite with every index in a kernel checked."""
    session.install("-e", ".[test]")
    run_tests(session, NUMBA_BOUNDSCHECK="1")


@nox.session(python=PYTHONS[-1])
def coverage(session):
    """Share of the lines that the tests run, those of the kernels as plain Python.

    Some tests fail there, since arithmetic of mixed widths rounds otherwise in Python
    than when compiled; what they compare is tested by the other sessions.
    """
    session.install("-e", ".[test]", "coverage>=7.10")
    env = {"NUMBA_DISABLE_JIT": "1", "COVERAGE_CORE": "sysmon"}
    run = "coverage", "run", "--source=sklearn_greedy", "-m", "pytest", "tests"
    # Numbers of 32 bits are meant to overflow, which only NumPy warns of.
    overflow = "-W", "ignore:overflow encountered in scalar:RuntimeWarning"
    ignored = [f"--ignore=tests/test_{name}.py" for name in NOT_COUNTED]
    command = "python", "-m", *run, *overflow, *ignored, *session.posargs
    session.run(*command, env=env, success_codes=[0, 1])
    session.run("python", "-m", "coverage", "report", "--fail-under=95")


@nox.session(python=PYTHONS[-1])
def docs(session):
    """The documentation, warnings being errors."""
    session.install("-e", ".[docs]")
    session.run(
        "python", "-m", "sphinx", "-W", "-b", "html", "docs", "docs/_build/html"
    )

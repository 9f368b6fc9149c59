"""One door to everything: ``nox -s demo tests lint types``, ``nox -s consumers``, ``nox -s bench -- NAME``."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = True

PROJECT = nox.project.load_toml("pyproject.toml")

# What Debian and Ubuntu call what is needed. pillow-simd is compiled, and a codec whose
# header is missing is left out without a word.
COMPILER = ["gcc", "python3-dev", "libjpeg-dev", "zlib1g-dev", "libwebp-dev", "liblcms2-dev"]
SERVERS = ["iproute2", "nginx-light", "strace", "tinyproxy-bin", "unbound"]

# Tests of what the image library does, or whatever stands in its place: those that run on both.
PIXELS = [
    *("blur", "cli", "codec", "colour", "doctor", "guard", "memory", "ordered", "outputs", "outputs_tfrecord", "pool"),
    *("recipes", "records", "run", "stream", "transform", "trust", "verify"),
]

# What ``compat`` compares with: the last release.
IMG2DATASET = "img2dataset==1.47.0"


# Microsoft's own stand-in for Azure's storage.
AZURITE = "azurite@3"


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job on real photographs."""
    system_packages(session, [*COMPILER, "nginx-light"])
    session.install(".")
    install_image_library(session, "simd")
    session.run("python", "benchmarks/demo.py", *session.posargs)


@nox.session
@nox.parametrize("library", ["simd", "pillow"])
def tests(session: nox.Session, library: str) -> None:
    """Run every test on pillow-simd, and on stock Pillow those to which the image library matters."""
    system_packages(session, [*(COMPILER if library == "simd" else []), *SERVERS])
    session.install(".[tfrecord]", *nox.project.dependency_groups(PROJECT, "test"))
    install_image_library(session, library)
    wanted = [] if library == "simd" else [f"tests/test_{name}.py" for name in PIXELS]
    # More at a time than two cores: most of a test is waiting for servers, time-outs and interpreters that start.
    session.run("pytest", "-n", "3", *wanted, *session.posargs)


@nox.session
def consumers(session: nox.Session) -> None:
    """Read what real runs make with PyTorch, wids, webshart, Hugging Face, TensorFlow and more; installs gigabytes."""
    system_packages(session, ["nginx-light"])
    session.install(".[pillow,tfrecord]", *nox.project.dependency_groups(PROJECT, "consumers"))
    session.run("pytest", "tests/consumers", *session.posargs)


@nox.session
def compat(session: nox.Session) -> None:
    """Compare with img2dataset: the same lists and words, both programs, some hundred runs in ten minutes."""
    system_packages(session, [*COMPILER, *SERVERS])
    session.install(".[tfrecord]", *nox.project.dependency_groups(PROJECT, "test"))
    install_image_library(session, "simd")
    program = install_img2dataset(session)
    session.run("pytest", "tests/compat", *session.posargs, env={"IMG2DATASET": str(program)})


@nox.session
def engines(session: nox.Session) -> None:
    """Run on Spark and Ray; installs Java and hundreds of megabytes."""
    system_packages(session, ["nginx-light", *([] if shutil.which("java") else ["openjdk-17-jre-headless"])])
    session.install(".[pillow,spark,ray]", *nox.project.dependency_groups(PROJECT, "test"))
    session.run("pytest", "tests/engines", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Run the examples that need Spark, Ray or Jupyter; installs Java and hundreds of megabytes."""
    system_packages(session, ["nginx-light", *([] if shutil.which("java") else ["openjdk-17-jre-headless"])])
    session.install(".[pillow,spark,ray]", *nox.project.dependency_groups(PROJECT, "examples"))
    session.run("pytest", "tests/examples", *session.posargs)


@nox.session
def stores(session: nox.Session) -> None:
    """Write and read datasets at S3, Azure, Google Cloud Storage and SSH, as servers on this machine; installs them."""
    system_packages(session, ["nginx-light", "openssh-server", *([] if shutil.which("npm") else ["npm"])])
    session.install(".[pillow,tfrecord]", *nox.project.dependency_groups(PROJECT, "stores"))
    azurite = Path(session.virtualenv.location) / "azurite"
    session.run("npm", "install", "--silent", "--no-fund", "--prefix", str(azurite), AZURITE, external=True)
    session.run("pytest", "tests/stores", *session.posargs, env={"AZURITE": str(azurite / "node_modules" / ".bin")})


@nox.session
def pages(session: nox.Session) -> None:
    """Look at the page of a dataset in a browser, light and dark, large and small; two minutes, installs Chromium."""
    system_packages(session, ["chromium", "fonts-dejavu-core"])
    session.install(".[pillow,tfrecord]", *nox.project.dependency_groups(PROJECT, "pages"))
    if session.posargs == ["--photograph"]:
        modules = os.pathsep.join(str(Path(folder).absolute()) for folder in ("benchmarks", "tests/pages"))
        session.run("python", "tests/pages/photograph.py", env={"PYTHONPATH": modules})
        return
    session.run("pytest", "tests/pages", *session.posargs)


@nox.session
def fleet(session: nox.Session) -> None:
    """Fetch 20,000 URLs on Spark, Ray and three ranks, with one machine killed each time, and measure; 20 minutes."""
    system_packages(session, ["nginx-light", *([] if shutil.which("java") else ["openjdk-17-jre-headless"])])
    session.install(".[pillow,spark,ray]", *nox.project.dependency_groups(PROJECT, "test", "bench"))
    folders = ("benchmarks", "tests", "tests/fleet")
    modules = os.pathsep.join(str(Path(folder).absolute()) for folder in folders)
    session.run("python", "tests/fleet/fleet.py", *session.posargs, env={"PYTHONPATH": modules})


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill runs, fail their calls, cut the power, simulate: no row is lost. An hour; less with --seeds 4 --points 4."""
    system_packages(session, ["nginx-light", "strace"])
    session.install(".[pillow,tfrecord]", *nox.project.dependency_groups(PROJECT, "test", "bench"))
    modules = os.pathsep.join(str(Path(folder).absolute()) for folder in ("benchmarks", "tests"))
    session.run("python", "tests/chaos/chaos.py", *session.posargs, env={"PYTHONPATH": modules})
    if not session.posargs:
        session.run("python", "tests/simulation/simulate.py", "--seeds", "1000", env={"PYTHONPATH": modules})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Decode photographs changed at random; five minutes, or nox -s fuzz -- --minutes 60 --seed 7."""
    session.install(".", *nox.project.dependency_groups(PROJECT, "bench"))
    system_packages(session, COMPILER)
    install_image_library(session, os.environ.get("IMAGE_LIBRARY", "simd"))
    modules = os.pathsep.join(str(Path(folder).absolute()) for folder in ("benchmarks", "tests", "tests/trust"))
    session.run("python", "tests/trust/fuzz.py", *session.posargs, env={"PYTHONPATH": modules})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, and the files that other machines read."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    github = Path(".github")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *_yaml_in(github / "workflows"))
    forms = [name for name in _yaml_in(github / "ISSUE_TEMPLATE") if not name.endswith("config.yml")]
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", *forms)
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/, and refuse links that lead nowhere; nox -s docs -- serve shows it."""
    session.install(".[pillow]", *nox.project.dependency_groups(PROJECT, "docs"))
    # Material says at each start that MkDocs 2 will be another program; which one is used stands in pyproject.toml.
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]), env=quiet)
    if not session.posargs:
        session.run("python", "website/links.py")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build sdist and wheel into dist/, and do the tutorial with the wheel in a clean environment."""
    session.install(*nox.project.dependency_groups(PROJECT, "release"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", silent=True)
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    [built] = Path("dist").glob("*.whl")
    names = zipfile.ZipFile(built).namelist()
    if "async_img2ds/py.typed" not in names:
        session.error(f"{built} has no py.typed, so that nobody would see its types")
    if strangers := [name for name in names if not name.startswith(("async_img2ds/", "async_img2ds-"))]:
        session.error(f"{built} has what is not the package: {', '.join(strangers[:5])}")
    clean = Path(session.virtualenv.location) / "clean"
    python = str(clean / "bin" / "python")
    session.run("python", "-m", "venv", "--clear", str(clean), silent=True)
    session.run(python, "-m", "pip", "install", "--quiet", f"{built}[pillow]", "webdataset", external=True)
    session.run(str(clean / "bin" / "aimg2ds"), "--version", external=True)
    session.run(python, "tests/tutorial.py", external=True, env={"PYTHONPATH": None})


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    session.install(".[pillow,tfrecord]", *nox.project.dependency_groups(PROJECT, "types"))
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Run a benchmark by name, as benchmarks/README.md lists them: nox -s bench -- clean."""
    system_packages(session, [*COMPILER, *SERVERS])
    # OpenCV in the versions that img2dataset takes; both only where pixels are compared, as pyarrow imports numpy.
    further = {"pixels": ["opencv-python-headless>=4.5.5.62,<5", "numpy"], "quality": ["numpy"]}
    further["footprint"] = further["requests"] = ["moto[server]>=5.1", "s3fs>=2024.12"]  # the server that it asks
    extras = [package for name in session.posargs for package in further.get(name, [])]
    session.install(".", *nox.project.dependency_groups(PROJECT, "bench"), *extras)
    install_image_library(session, "simd")
    session.run("python", "benchmarks/bench.py", *session.posargs)


def install_image_library(session: nox.Session, library: str) -> None:
    """Install the image library, and see that it has all its codecs.

    A wheel that pip built earlier, when a header was missing, lies in its cache and would
    be installed again; then it is built anew.
    """
    [requirement] = PROJECT["project"]["optional-dependencies"][library]
    session.install(requirement)
    whole = "import sys; from PIL import features; sys.exit(not all(map(features.check, ('jpg', 'zlib', 'webp'))))"
    python = str(Path(session.bin) / "python")
    if subprocess.run([python, "-c", whole], check=False).returncode:
        session.install("--no-cache-dir", "--force-reinstall", "--no-deps", requirement)
        session.run("python", "-c", whole)


def install_img2dataset(session: nox.Session) -> Path:
    """Install img2dataset beside the session's own environment, as its requirements and ours are at odds; return it."""
    # It imports imghdr, which Python 3.13 has no more.
    python = next((name for name in ("python3.11", "python3.12", "python3.10") if _output([name, "--version"])), None)
    if python is None:
        session.error("img2dataset needs Python 3.10, 3.11 or 3.12; none of them is installed")
    folder = Path(session.virtualenv.location).with_name("compat-img2dataset")
    program, pip = folder / "bin" / "img2dataset", str(folder / "bin" / "pip")
    if not program.exists():
        session.run(python, "-m", "venv", "--clear", str(folder), external=True)
        session.run(pip, "install", "--quiet", IMG2DATASET, external=True)
    # Its TFRecords need them. They are large and not built for every machine; without them a few tests are skipped.
    tensorflow = ["tensorflow", "tensorflow-io"]
    session.run(pip, "install", "--quiet", *tensorflow, external=True, success_codes=[0, 1])
    return program


def system_packages(session: nox.Session, names: list[str]) -> None:
    """Install those of the Debian packages *names* that are missing, or say what to type."""
    if shutil.which("dpkg-query") is None:
        session.warn(f"not a Debian or Ubuntu machine: see that it has what these packages have: {' '.join(names)}")
        return
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}\n"]
    missing = [name for name in names if "installed" not in _output([*query, name]).split()]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and subprocess.run([*sudo, "true"], check=False, capture_output=True).returncode:
        session.error(f"type this, then run nox again:  sudo apt-get install -y {' '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run(*sudo, "apt-get", "update", "-q", external=True, silent=True)
    # Servers that packages start by themselves would take ports; the tests start their own.
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]
    session.run(*sudo, *install, *missing, external=True, silent=True, env=quiet)


def _yaml_in(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.yml"))]


def _output(command: list[str]) -> str:
    """Return what *command* says, nothing if there is no such command."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout

"""The direction of imports, and what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import async_img2ds

PACKAGE = Path(async_img2ds.__file__).parent

# The floors from the ground up. A room may import from lower floors only; neighbours on a floor are strangers.
FLOORS = [
    {"errors", "startup", "blocking", "histograms"},
    {"records", "flags", "nets", "sources", "headers", "hints", "ranks", "recipes", "recorder"},
    {"settings"},
    {"options"},
    {"policy", "storage"},
    {"journal"},
    {"inputs", "fetch", "images", "outputs", "existing"},
    {"worker", "distributors", "progress", "hub", "preflight"},
    {"wandb", "prometheus"},
    {"plan", "dataset", "lists", "streaming", "checkup"},
    {"run", "page"},
    {"prospect"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Distributors know shards, reports and a callable; storage serves the list and the outputs, so it knows of neither.
SEALED = {
    "distributors": {"errors", "startup", "blocking", "records", "recorder", "options", "distributors"},
    "storage": {"errors", "ranks", "records", "storage"},
    "progress": {"errors", "hints", "histograms", "records"},
    "records": {"errors", "histograms"},
}
IMPURE = {"asyncio", "aiohttp", "fsspec", "PIL", "random", "socket", "time", "os", "threading"}


def modules() -> list[str]:
    return sorted(
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" or path.parent != PACKAGE
    )


def imports_of(module: str) -> set[str]:
    """Return the full names that *module* imports anywhere in it, type-checking blocks included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_of(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("async_img2ds.")}


def room_of(module: str) -> str:
    return module.split("/", maxsplit=1)[0].removesuffix(".py")


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    """Every import of this package leads to a lower floor or stays in its room."""
    room = room_of(module)
    wrong = {other for other in rooms_of(imports_of(module)) if other != room and FLOOR_OF[other] >= FLOOR_OF[room]}

    assert not wrong, f"{module} must not import {wrong}"


@pytest.mark.parametrize("module", [module for module in modules() if room_of(module) in SEALED])
def test_sealed_rooms_know_only_what_they_are_named_for(module: str) -> None:
    """Some rooms may know even less than the floors allow."""
    assert rooms_of(imports_of(module)) <= SEALED[room_of(module)] | {room_of(module)}


@pytest.mark.parametrize("module", [module for module in modules() if module.startswith("policy/")])
def test_policy_is_pure(module: str) -> None:
    """Decisions touch no socket, file, loop, clock or chance."""
    assert not {
        name for name in imports_of(module) if name.split(".")[0] in IMPURE or name.startswith("urllib.request")
    }


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("aiohttp", "fetch/client.py"),
        ("PIL", "images/codec.py"),
        ("aiodns", "fetch/resolver.py"),
        ("sshfs", "storage/ssh.py"),
        ("huggingface_hub", "hub.py"),
        ("jinja2", "page/rendering.py"),
    ],
)
def test_libraries_stay_at_their_border(library: str, home: str) -> None:
    """Each is imported by one module, which translates its errors."""
    users = [module for module in modules() if any(name.split(".")[0] == library for name in imports_of(module))]

    assert users == [home]


def test_every_room_has_a_floor() -> None:
    """A new module is placed on purpose."""
    assert {room_of(module) for module in modules()} == set(FLOOR_OF)


def test_no_drawer_for_leftovers() -> None:
    """A module is named for its subject."""
    assert not {Path(module).stem for module in modules()} & {
        "utils",
        "util",
        "common",
        "helpers",
        "helper",
        "core",
        "manager",
        "misc",
    }


def test_public_names_exist_and_are_all() -> None:
    """What __all__ promises is there, and what is there lazily is promised."""
    for name in async_img2ds.__all__:
        assert getattr(async_img2ds, name) is not None
    assert set(async_img2ds._HOMES) == set(async_img2ds.__all__) - {"__version__"}
    with pytest.raises(AttributeError):
        _ = async_img2ds.nothing_of_that_name


@pytest.mark.parametrize("code", ["import async_img2ds", "import async_img2ds.cli", "import async_img2ds.options"])
def test_importing_stays_light(code: str) -> None:
    """Neither the package nor its command line drags in what only a run needs."""
    heavy = ("pyarrow", "aiohttp", "PIL", "fsspec", "uvloop", "aiodns", "exifread")
    script = f"{code}\nimport sys\nprint(*(name for name in {heavy!r} if name in sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    assert out.split() == []


def test_help_stays_light() -> None:
    """The help of the main command is shown without loading what only a run needs."""
    out = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "async_img2ds", "fetch", "--help"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert "--image_size" in out.stdout
    assert not [name for name in ("pyarrow", "aiohttp", "PIL", "fsspec") if f" {name}\n" in out.stderr]

"""The architecture, as a test: a module imports only from the layers below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "qsdk"
PLUGINS = ROOT / "plugins" / "qsdk_plugins"

# Lowest first. A new module joins the layer that its imports allow.
LAYERS = [
    {"errors", "native", "cpu", "streams", "sums"},
    {"scheme"},
    {"accumulators", "affine", "ranges", "fixed_point", "sign_codes"},
    {"encodings", "metrics"},
    {"interfaces", "hookspecs"},
    {"plugins", "registry", "quarantine", "dispatch", "operations", "overflow", "recurrent"},
    {
        "recipe",
        "report",
        "storage",
        "calibration",
        "recipes",
        "layer_errors",
        "output_check",
        "saturation",
        "plan",
        "job",
        "pipeline",
        "session",
    },
    {"testing", "bench", "cli", "html_report", "html_page", "demo", "__main__"},
]
LEVEL = {module: i for i, layer in enumerate(LAYERS) for module in layer}

# What a plugin may import of qsdk beside its top level: what a stranger's package may.
FOR_PLUGINS = {"interfaces", "encodings", "metrics", "native", "errors"}


def imports_of(path: Path, package: Path) -> set[str]:
    """Dotted names of all modules that the file imports, at any depth, resolved if relative."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = parts[: -node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def qsdk_imports(path: Path) -> set[str]:
    """First-level modules of qsdk that the file imports."""
    names = imports_of(path, PACKAGE)
    firsts = {name.split(".")[1] for name in names if name.startswith("qsdk.")}
    return {first for first in firsts if is_module(first)}


def is_module(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def core_files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def plugin_files() -> list[Path]:
    return sorted(PLUGINS.rglob("*.py"))


def test_every_module_has_a_layer():
    modules = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in core_files()}
    assert modules <= set(LEVEL), f"say where these belong: {sorted(modules - set(LEVEL))}"


def test_modules_import_only_from_lower_layers():
    wrong = []
    for path in core_files():
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for imported in sorted(qsdk_imports(path) - {module}):
            if LEVEL[imported] > LEVEL[module]:
                wrong.append(f"{module} imports {imported}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_the_core_never_imports_a_plugin():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in [PACKAGE / "__init__.py", *core_files()]
        for name in imports_of(path, PACKAGE)
        if name.split(".")[0] == "qsdk_plugins"
    ]
    assert not wrong, "\n".join(wrong)


def test_plugins_import_of_qsdk_only_what_a_stranger_may():
    wrong = []
    for path in plugin_files():
        for name in sorted(imports_of(path, PLUGINS)):
            parts = name.split(".")
            private = any(part.startswith("_") and part != "__version__" for part in parts)
            if parts[0] != "qsdk" or len(parts) == 1:
                continue
            if private or (is_module(parts[1]) and parts[1] not in FOR_PLUGINS):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_plugins_import_no_other_familys_inside():
    wrong = []
    for path in plugin_files():
        family = path.relative_to(PLUGINS).parts[0]
        for name in sorted(imports_of(path, PLUGINS)):
            parts = name.split(".")
            if parts[0] == "qsdk_plugins" and len(parts) > 1 and parts[1] != family:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_plugins_use_only_what_qsdk_exports():
    import qsdk

    wrong = []
    for path in plugin_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_use = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if is_use and node.value.id == "qsdk" and node.attr not in dir(qsdk):
                wrong.append(f"{path.relative_to(ROOT)} uses qsdk.{node.attr}")
    assert not wrong, "\n".join(wrong)


def loaded_after(code: str) -> set[str]:
    """First parts of the names of all modules that a fresh Python has after ``code``."""
    script = f"{code}\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_import_qsdk_imports_no_numpy_and_no_plugin():
    loaded = loaded_after("import qsdk")
    assert "qsdk" in loaded
    for module in ("numpy", "attrs", "pluggy", "ml_dtypes", "click", "rich", "qsdk_plugins"):
        assert module not in loaded


def test_a_plugin_loads_at_the_first_look_up_and_no_other_with_it():
    loaded = loaded_after("import qsdk; qsdk.registry.get('rtn')")
    ours = {name for name in loaded if name.startswith("qsdk_plugins.")}
    assert ours == {"qsdk_plugins.rtn"}


def test_every_public_name_resolves():
    import qsdk

    for name in qsdk.__all__:
        assert getattr(qsdk, name) is not None, name
    assert qsdk.__version__


def test_an_unknown_name_of_qsdk_is_an_attribute_error():
    import qsdk

    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = qsdk.quantise

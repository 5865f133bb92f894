"""``qsdk describe``: what one registered thing is, and which options it takes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from qsdk.cli.output import Output
from qsdk.cli.verb import verb

if TYPE_CHECKING:
    from qsdk.cli.options import Option
    from qsdk.plugins import Entry


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of entry points, found in metadata: no plugin is imported to complete a word."""
    from importlib.metadata import entry_points

    names = sorted(entry_points(group="qsdk").names)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@verb("describe")
@click.argument("name", shell_complete=_names)
def command(output: Output, name: str) -> None:
    """Show the options of NAME with types, defaults and limits, its paper and an example.

    NAME may be written in full: [distribution:][kind:]name, such as quantizer:squant.
    """
    from qsdk.cli.options import options_of
    from qsdk.registry import find

    if _is_recipe(name):
        _say_recipe(output, name.removeprefix("recipe:"))
        return
    entry = find(name)
    options = [] if entry.kind in ("encoding", "adapter", "kernel") else options_of(entry.target)
    text = (inspect.getdoc(entry.target) or "").partition("\n>>>")[0].rstrip()
    facts = _facts(entry)
    output.document(
        {
            "kind": entry.kind,
            "name": entry.name,
            "full_name": entry.full_name,
            "distribution": entry.distribution,
            "version": entry.version,
            "text": text,
            "options": [option.to_dict() for option in options],
            "example": _example(entry),
            **facts,
        }
    )
    output.say(f"{entry.name}: {entry.kind} of {entry.origin}")
    output.say()
    output.say(text)
    output.say()
    _say_options(output, options)
    for word, value in facts.items():
        output.say(f"{word}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    output.say(f"example: {_example(entry)}")


def _is_recipe(name: str) -> bool:
    from qsdk import recipes

    return name.startswith("recipe:") or name in recipes.names()


def _say_recipe(output: Output, name: str) -> None:
    """The recipe as it stands in its file, to start another one from."""
    from qsdk import recipes

    recipe, text = recipes.find(name), recipes.text(name)
    example = f"qsdk quantize net.onnx -o out.onnx --recipe {name} --calibration images.npz"
    output.document(
        {
            "kind": "recipe",
            "name": name,
            "text": recipes.summary(name),
            "recipe": recipe.to_dict(),
            "example": example,
        }
    )
    output.say(f"{name}: recipe of qsdk\n\n{text}\nexample: {example}")


def _say_options(output: Output, options: list[Option]) -> None:
    if options:
        output.table(
            ["option", "type", "default", "limits", "meaning"],
            [(o.name, o.type, str(o.default), o.limits or "-", o.meaning) for o in options],
        )
        output.say()


def _facts(entry: Entry) -> dict[str, Any]:
    """What the class declares of itself."""
    target: Any = entry.target
    facts: dict[str, Any] = {}
    if entry.kind == "quantizer":
        from qsdk.registry import default_scheme

        capabilities = target.capabilities
        facts["default scheme"] = str(default_scheme(target))
        facts["bits"] = sorted(capabilities.bits)
        facts["granularity"] = sorted(map(str, capabilities.granularity))
        facts["needs"] = sorted(capabilities.needs) or ["nothing but the weight"]
    if entry.kind == "observer":
        facts["mergeable"] = bool(target.mergeable)
    if entry.kind == "adapter":
        facts["files"] = list(target.suffixes)
    if entry.kind == "pass":
        facts["needs"] = sorted(target.needs)
        facts["keeps the outputs"] = bool(target.preserves)
    if entry.kind == "kernel":
        facts |= _facts_of_kernel(target)
    if getattr(target, "paper", ""):
        facts["paper"] = target.paper
    return facts


def _facts_of_kernel(target: Any) -> dict[str, Any]:
    """What dispatch reads, and why the kernel cannot run here."""
    facts: dict[str, Any] = {"operation": target.operation, "encoding": target.encoding}
    for word in ("bits", "granularity", "activations", "outputs", "features"):
        facts[word] = sorted(getattr(target, word)) or ["none"]
    facts |= {"group multiple": target.group_multiple, "priority": target.priority}
    facts["reference"] = target.reference or "none"
    return {**facts, "on this machine": target().unavailable() or "runs"}


def _example(entry: Entry) -> str:
    if entry.kind == "quantizer":
        from qsdk.registry import default_scheme

        bits = default_scheme(entry.target).bits
        return f"qsdk quantize net.onnx -o net-int{bits}.onnx --method {entry.name} --bits {bits}"
    if entry.kind == "adapter":
        return f"qsdk inspect model{entry.target.suffixes[0] if entry.target.suffixes else ''}"
    if entry.kind == "kernel":
        return f'qsdk.{entry.target.operation}(weight, kernel="{entry.name}")'
    if entry.kind == "pass":
        return f'qsdk.registry.get("{entry.name}").apply(model)'
    return f'qsdk.registry.get("{entry.kind}:{entry.name}")'

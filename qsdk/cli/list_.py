"""``qsdk list``: everything registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import qsdk
from qsdk.cli.output import Output
from qsdk.cli.verb import verb

if TYPE_CHECKING:
    from qsdk.plugins import Plugin


@verb("list")
@click.argument("kind", required=False)
def command(output: Output, kind: str | None) -> None:
    """Show everything registered; with KIND (quantizer, observer, recipe, ...) only these."""
    from qsdk import recipes
    from qsdk.registry import registry

    named = recipes.names() if kind in (None, "recipe") else ()
    entries = [] if kind == "recipe" else registry.entries(kind)
    unhealthy = [p for p in registry.plugins if p.health in ("broken", "disabled")]
    conflicts = {
        key: {entry.full_name: entry.version for entry in claims}
        for key, claims in registry.conflicts().items()
        if kind in (None, key[0])
    }
    output.document(
        {
            "entries": [
                {
                    "kind": e.kind,
                    "name": e.name,
                    "full_name": e.full_name,
                    "distribution": e.distribution,
                    "version": e.version,
                    "plugin": e.plugin,
                    "health": "ok",
                }
                for e in entries
            ],
            "recipes": {name: recipes.summary(name) for name in named},
            "unhealthy": [_as_dict(plugin) for plugin in unhealthy],
            "conflicts": [
                {"kind": key[0], "name": key[1], "claims": list(versions), "versions": versions}
                for key, versions in conflicts.items()
            ],
        }
    )
    version = qsdk.__version__
    rows = [(e.kind, e.name, e.distribution, e.version, "ok") for e in entries]
    rows += [("plugin", p.name, p.distribution, p.version, p.health) for p in unhealthy]
    rows += [("recipe", name, "qsdk", version, "ok") for name in named]
    output.table(["kind", "name", "distribution", "version", "health"], rows)
    for plugin in unhealthy:
        output.say(f"{plugin.health}: {plugin.full_name}: {plugin.reason}")
    for (of_kind, name), versions in conflicts.items():
        claims = " and ".join(f"{claim} {version}" for claim, version in versions.items())
        output.say(f"conflict: {of_kind} {name!r} is claimed by {claims}")


def _as_dict(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "full_name": plugin.full_name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "health": plugin.health,
        "reason": plugin.reason,
    }

"""``qsdk doctor``: is everything that qsdk needs here, and does it work."""

from __future__ import annotations

import os
from typing import Any

import click

from qsdk.cli.output import Output
from qsdk.cli.verb import verb

OK, WARNING, FAILED, BROKEN, QUARANTINED = "ok", "warning", "failed", "broken", "quarantined"
TIMEOUT = 10.0  # seconds for the imports in a process of their own


@verb("doctor")
@click.option("--isolate", is_flag=True, help="Import plugins in processes of their own.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="What --isolate gives each process.  [default: 10]",
)
def command(output: Output, isolate: bool, timeout: float | None) -> int:
    """Check the installation, the C extension, the extras, every plugin and every kernel.

    Kernels are compared with their reference in a process of their own. One that crashes, hangs
    or differs is quarantined: it does not run on this machine until a later doctor finds it
    sound. With --isolate it also survives a plugin whose import ends the process, crashes or hangs,
    and says which. Exit status 0 when all is well, 5 when a plugin is broken or a
    kernel quarantined. A missing C
    extension is a warning, unless QSDK_REQUIRE_NATIVE=1.
    """
    from qsdk.cli.environment import environment

    if timeout is not None and not isolate:
        raise click.UsageError("--timeout limits the processes of --isolate: add that")
    limit = (timeout or TIMEOUT) if isolate else None
    with environment("QSDK_STRICT", "0"):  # all broken plugins are to be seen, not the first
        return _examine(output, limit)


def _examine(output: Output, limit: float | None) -> int:
    from qsdk.cli.checkup import extras, platform_facts
    from qsdk.cli.kernel_health import trials
    from qsdk.cli.selftest import self_test

    plugins, conflicts = _plugins(limit)
    facts = platform_facts()
    native, self_tested, optional = _native(), self_test(), extras()
    broken = [plugin for plugin in plugins if plugin["health"] == BROKEN]
    kernels, trouble = trials(plugins)
    wrong = [kernel["name"] for kernel in kernels if kernel["health"] == QUARANTINED]
    failed = FAILED in (native["health"], self_tested["health"])
    status = 1 if failed else 5 if broken or wrong else 0
    output.document(
        {
            "healthy": status == 0,
            "platform": facts,
            "native": native,
            "self_test": self_tested,
            "extras": optional,
            "isolated": limit is not None,
            "plugins": plugins,
            "conflicts": conflicts,
            "kernels": kernels,
        }
    )
    for name, value in facts.items():
        output.say(f"{name}: {value}")
    output.say(f"C extension: {native['health']}, {native['reason']}")
    output.say(f"self-test: {self_tested['health']}, {self_tested['reason']}")
    output.say()
    output.table(
        ["package", "version", "extra", "health"],
        [(x["package"], x["version"] or "-", x["extra"], x["health"]) for x in optional],
    )
    output.say()
    output.table(
        ["plugin", "distribution", "version", "health", ">seconds", "reason"],
        [
            (
                p["name"],
                p["distribution"],
                p["version"],
                p["health"],
                f"{p['seconds']:.3f}",
                p["reason"] or "-",
            )
            for p in plugins
        ],
    )
    output.say()
    output.table(
        ["kernel", "health", "reason"],
        [(kernel["name"], kernel["health"], kernel["reason"]) for kernel in kernels],
    )
    if trouble:
        output.note(trouble)
    names = [f"{plugin['distribution']}:{plugin['name']}" for plugin in broken]
    for name, plugin in zip(names, broken, strict=True):
        output.say(f"\n{name}, from {plugin['module']}:\n{plugin['traceback']}")
    for conflict in conflicts:
        output.say(f"conflict: {conflict}")
    output.say()
    output.say(_verdict(native, self_tested, names, wrong))
    return status


def _plugins(limit: float | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Facts of every plugin, and conflicts in words; with a ``limit`` none is imported here."""
    from qsdk.registry import registry

    if limit is not None:
        from qsdk.cli.isolation import conflicts_of, isolated_facts

        found = isolated_facts(registry.plugins, limit)
        return found, conflicts_of(found)
    from qsdk.cli.checkup import plugin_facts

    plugins = plugin_facts(registry)
    conflicts = [
        f"{kind} {name!r}: {' and '.join(f'{claim.full_name} {claim.version}' for claim in claims)}"
        for (kind, name), claims in registry.conflicts().items()
    ]
    return plugins, conflicts


def _native() -> dict[str, str]:
    from qsdk import native

    if native.available():
        return {"health": OK, "reason": "in use"}
    required = os.environ.get("QSDK_REQUIRE_NATIVE") == "1"
    reason = f"not in use, numpy does its work, slower: {native.reason()}"
    if os.environ.get("QSDK_DISABLE_NATIVE") != "1":
        reason += "; install a wheel of qsdk, or a C compiler and then qsdk again"
    return {"health": FAILED if required else WARNING, "reason": reason}


def _verdict(
    native: dict[str, str], tested: dict[str, str], broken: list[str], wrong: list[str]
) -> str:
    troubles = []
    if native["health"] != OK:
        troubles.append("the C extension is not in use")
    if tested["health"] == FAILED:
        troubles.append("the self-test failed")
    if broken:
        troubles.append(f"broken: {', '.join(broken)} (QSDK_DISABLE_PLUGINS turns one off)")
    if wrong:
        troubles.append(f"in quarantine, and not used here: {', '.join(wrong)}")
    return "; ".join(troubles) or "all is well"

"""``qsdk doctor``: is everything that qsdk needs here, and does it work."""

from __future__ import annotations

import os

from qsdk.cli.output import Output
from qsdk.cli.verb import verb

OK, WARNING, FAILED, BROKEN = "ok", "warning", "failed", "broken"


@verb("doctor")
def command(output: Output) -> int:
    """Check the installation, the C extension, the extras and every plugin.

    Exit status 0 when all is well, 5 when a plugin is broken. A missing C extension is a
    warning, unless QSDK_REQUIRE_NATIVE=1.
    """
    from qsdk.cli.environment import environment

    with environment("QSDK_STRICT", "0"):  # all broken plugins are to be seen, not the first
        return _examine(output)


def _examine(output: Output) -> int:
    from qsdk.cli.checkup import extras, platform_facts, plugin_facts, traceback_of
    from qsdk.cli.selftest import self_test
    from qsdk.registry import registry

    facts = platform_facts()
    native, self_tested = _native(), self_test()
    optional, plugins = extras(), plugin_facts(registry)
    broken = [plugin for plugin in registry.plugins if plugin.health == BROKEN]
    conflicts = [
        f"{kind} {name!r}: {' and '.join(entry.full_name for entry in claims)}"
        for (kind, name), claims in registry.conflicts().items()
    ]
    status = 1 if FAILED in (native["health"], self_tested["health"]) else 5 if broken else 0
    output.document(
        {
            "healthy": status == 0,
            "platform": facts,
            "native": native,
            "self_test": self_tested,
            "extras": optional,
            "plugins": [
                {**facts, "traceback": traceback_of(plugin)}
                for facts, plugin in zip(plugins, registry.plugins, strict=True)
            ],
            "conflicts": conflicts,
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
    for plugin in broken:
        output.say(f"\n{plugin.full_name}, from {plugin.value}:\n{traceback_of(plugin)}")
    for conflict in conflicts:
        output.say(f"conflict: {conflict}")
    output.say()
    output.say(_verdict(native, self_tested, [plugin.full_name for plugin in broken]))
    return status


def _native() -> dict[str, str]:
    from qsdk import native

    if native.available():
        return {"health": OK, "reason": "in use"}
    required = os.environ.get("QSDK_REQUIRE_NATIVE") == "1"
    reason = f"not in use, numpy does its work, slower: {native.reason()}"
    if os.environ.get("QSDK_DISABLE_NATIVE") != "1":
        reason += "; install a wheel of qsdk, or a C compiler and then qsdk again"
    return {"health": FAILED if required else WARNING, "reason": reason}


def _verdict(native: dict[str, str], tested: dict[str, str], broken: list[str]) -> str:
    troubles = []
    if native["health"] != OK:
        troubles.append("the C extension is not in use")
    if tested["health"] == FAILED:
        troubles.append("the self-test failed")
    if broken:
        troubles.append(f"broken: {', '.join(broken)} (QSDK_DISABLE_PLUGINS turns one off)")
    return "; ".join(troubles) or "all is well"

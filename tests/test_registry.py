"""Finding plugins: lazily, each on its own, and what happens when one is bad."""

from __future__ import annotations

import sys
import types
from importlib import metadata

import attrs
import numpy as np
import pytest

import qsdk
from qsdk.encodings import Affine
from qsdk.errors import (
    ConflictError,
    OptionError,
    PluginError,
    SchemeError,
    UnknownNameError,
)
from qsdk.plugins import Plugin, find_plugins
from qsdk.registry import Registry


def quantizer(name, **more):
    """A quantizer class of that name."""

    class Fake(qsdk.Quantizer):
        capabilities = qsdk.Capabilities(bits={4, 8})

        def quantize(self, weight, *, layer=None):
            codes = np.zeros(weight.shape, np.int8)
            scale = np.ones(qsdk.Slices(self.scheme, weight.shape).params_shape, np.float32)
            return Affine.from_codes(codes, scale, scale * 0, self.scheme)

    Fake.name = name
    for word, value in more.items():
        setattr(Fake, word, value)
    return Fake


def giving(kind, things):
    """A hook implementation that gives these things."""

    def hook():
        return things() if callable(things) else things

    hook.__name__ = f"qsdk_{kind}s"
    return qsdk.hookimpl(hook)


class World:
    """A set of installed plugins that exist in memory only, and a registry that finds them."""

    def __init__(self, monkeypatch):
        self.patch = monkeypatch
        self.plugins = []
        self.imported = []
        self.registry = Registry(lambda: sorted(self.plugins, key=lambda p: p.full_name))

    def add(self, name, *things, dist="acme", version="1.0", module=None, **hooks):
        """Install an entry point; its module gives quantizers, or has the ``hooks`` given."""
        module = module or f"fake_{dist}_{name}".replace("-", "_")
        content = types.ModuleType(module)
        if things:
            hooks["qsdk_quantizers"] = giving("quantizer", list(things))
        for word, value in hooks.items():
            setattr(content, word, value)
        self.patch.setitem(sys.modules, module, content)
        self.plugins.append(Plugin(name, dist, version, module))
        return content

    def add_code(self, name, code, dist="acme", version="1.0"):
        """Install an entry point whose module runs ``code`` when it is imported."""
        module = f"coded_{dist}_{name}"
        world = self

        class Finder:
            def find_spec(self, fullname, path=None, target=None):
                if fullname != module:
                    return None
                from importlib.machinery import ModuleSpec

                return ModuleSpec(fullname, self)

            def create_module(self, spec):
                return None

            def exec_module(self, loaded):
                world.imported.append(name)
                exec(code, vars(loaded))

        self.patch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
        self.patch.delitem(sys.modules, module, raising=False)
        self.plugins.append(Plugin(name, dist, version, module))

    def plugin(self, name, dist="acme"):
        return next(p for p in self.plugins if (p.name, p.distribution) == (name, dist))


GOOD = """
import qsdk, numpy as np
from qsdk_plugins.rtn import RoundToNearest
class Good(RoundToNearest):
    name = {name!r}
@qsdk.hookimpl
def qsdk_quantizers():
    return [Good]
"""


@pytest.fixture
def world(monkeypatch):
    monkeypatch.delenv("QSDK_STRICT", raising=False)
    monkeypatch.delenv("QSDK_DISABLE_PLUGINS", raising=False)
    made = World(monkeypatch)
    yield made
    for module in [m for m in sys.modules if m.startswith("coded_")]:
        del sys.modules[module]


# The installed ones


def test_all_built_ins_are_found_and_healthy():
    entries = qsdk.registry.entries()
    ours = {(e.kind, e.name) for e in entries if e.distribution == "qsdk"}
    assert ours >= {
        ("quantizer", "rtn"),
        ("quantizer", "squant"),
        ("observer", "minmax"),
        ("observer", "histogram"),
        ("observer", "percentile"),
        ("adapter", "numpy"),
        ("adapter", "safetensors"),
        ("encoding", "affine"),
    }
    assert not [p for p in qsdk.registry.plugins() if p.health == "broken"]


def test_every_built_in_has_the_entry_point_of_its_own_name():
    for entry in qsdk.registry.entries():
        if entry.distribution == "qsdk":
            # Kernels come by backend; dispatch asks for them by what they can, not by name.
            family = entry.target.backend if entry.kind == "kernel" else entry.name
            if entry.full_name == "qsdk:encoding:ternary":
                family = "ternary_coded"  # the name alone is that of the quantizer
            assert entry.plugin == family


def test_scheme_words_are_gathered_and_options_passed_on():
    squant = qsdk.registry.get("squant", bits=3, group_size=32, symmetric=True, stages="EC")
    assert squant.scheme == qsdk.Scheme(
        bits=3, granularity="per_group", group_size=32, symmetric=True
    )
    assert squant.stages == "EC"


def test_scheme_words_start_from_the_default_of_the_class():
    assert qsdk.registry.get("squant", symmetric=True).scheme.bits == 4
    assert qsdk.registry.get("rtn", symmetric=True).scheme.bits == 8


def test_a_scheme_may_be_given_whole_and_words_go_on_top():
    scheme = qsdk.Scheme(bits=5, symmetric=True)
    assert qsdk.registry.get("rtn", scheme=scheme).scheme == scheme
    assert qsdk.registry.get("rtn", scheme=scheme, bits=6).scheme == scheme.replace(bits=6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bts": 4}, OptionError, "rtn has no option 'bts'; did you mean 'bits'"),
        ({"range_rul": "mse"}, OptionError, "did you mean 'range_rule'"),
        ({"zzz": 1}, OptionError, "rtn has no option 'zzz'; known: .*bits"),
        ({"bits": 17}, SchemeError, "bits is 17"),
        ({"granularity": "per_grp"}, SchemeError, "did you mean 'per_group'"),
    ],
)
def test_options_that_do_not_exist_are_refused_with_the_nearest(options, error, message):
    with pytest.raises(error, match=message):
        qsdk.registry.get("rtn", **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sqant", "no plugin named 'sqant'; did you mean 'squant'"),
        ("quantizer:sqant", "no quantizer named 'sqant'; did you mean 'squant'"),
        ("observer:squant", "no observer named 'squant'"),
        ("zzzz", "no plugin named 'zzzz'; known: .*affine.*rtn"),
        ("a:b:c:d", r"too many parts; write \[distribution:\]\[kind:\]name"),
        ("qsdk:quantiser:rtn", "no kind 'quantiser' .*; did you mean 'quantizer'"),
        ("nobody:rtn", "no plugin named 'rtn'"),
        ("", "no plugin named ''"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, message):
    with pytest.raises(UnknownNameError, match=message):
        qsdk.registry.get(name)


def test_an_unknown_kind_to_list_is_refused():
    with pytest.raises(UnknownNameError, match="no kind 'quantizers'; did you mean 'quantizer'"):
        qsdk.registry.entries("quantizers")


@pytest.mark.parametrize("name", ["rtn", "quantizer:rtn", "qsdk:rtn", "qsdk:quantizer:rtn"])
def test_every_form_of_a_name_finds_it(name):
    assert qsdk.registry.find(name).full_name == "qsdk:quantizer:rtn"


def test_an_encoding_is_given_as_its_class():
    assert qsdk.registry.get("encoding:affine") is Affine


# Discovery


def test_entry_points_are_found_by_metadata_alone_and_sorted():
    points = [
        metadata.EntryPoint("zeta", "no_such_module", "qsdk"),
        metadata.EntryPoint("alpha", "nor_this_one", "qsdk"),
        metadata.EntryPoint("alpha", "nor_this_one", "qsdk"),  # a path listed twice
    ]
    found = find_plugins(points)
    assert [(p.name, p.health, p.distribution) for p in found] == [
        ("alpha", "not loaded", "unknown"),
        ("zeta", "not loaded", "unknown"),
    ]


def test_a_name_loads_only_the_plugin_whose_entry_point_has_it(world):
    for name in ("one", "two", "three"):
        world.add_code(name, GOOD.format(name=name))
    assert world.imported == []
    world.registry.get("two", bits=4)
    assert world.imported == ["two"]
    world.registry.get("two", bits=8)
    assert world.imported == ["two"]
    world.registry.entries()
    assert sorted(world.imported) == ["one", "three", "two"]


def test_a_name_without_an_entry_point_is_found_in_the_others(world):
    world.add("family", quantizer("alpha"), quantizer("beta"))
    assert world.registry.find("beta").plugin == "family"
    assert world.registry.get("quantizer:alpha").name == "alpha"


def test_each_entry_knows_its_distribution_and_version(world):
    world.add("mine", quantizer("mine"), dist="acme-tools", version="2.5")
    entry = world.registry.find("mine")
    assert entry.origin == "acme-tools 2.5"
    assert entry.full_name == "acme-tools:quantizer:mine"


def test_a_name_of_several_kinds_is_settled_by_the_kind(world):
    class Watch(qsdk.Observer):
        name, mergeable = "both", False
        _observe = merge = range = state = load_state = lambda self, *a: None

    world.add(
        "both",
        qsdk_quantizers=giving("quantizer", [quantizer("both")]),
        qsdk_observers=giving("observer", [Watch]),
    )
    with pytest.raises(ConflictError, match=r"several kinds; ask for one of .*observer:both"):
        world.registry.get("both")
    assert isinstance(world.registry.get("observer:both"), Watch)


# Bad plugins


BAD = {
    "raises": ("raise OSError('libfoo is missing')", "OSError: libfoo is missing"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "syntax": ("raise SyntaxError('no')", "SyntaxError: no"),
    "needs": ("import a_package_that_is_not_here", "No module named 'a_package_that_is_not_here'"),
    "recurses": ("def f(): f()\nf()", "RecursionError"),
    "silent": ("raise RuntimeError", "is broken: RuntimeError;"),
    "nothing": ("x = 1", "gives nothing; mark a function such as qsdk_quantizers"),
    "empty": (
        "import qsdk\n@qsdk.hookimpl\ndef qsdk_quantizers(): return []",
        "gives nothing",
    ),
    "misspelt": (
        "import qsdk\n@qsdk.hookimpl\ndef qsdk_quantisers(): return []",
        "unknown hook 'qsdk_quantisers'",
    ),
    "argument": (
        "import qsdk\n@qsdk.hookimpl\ndef qsdk_quantizers(manager): return []",
        "manager",
    ),
    "hook_raises": (
        "import qsdk\n@qsdk.hookimpl\ndef qsdk_quantizers(): raise KeyError('gone')",
        "KeyError: 'gone'",
    ),
    "one_class": (
        "import qsdk\n@qsdk.hookimpl\ndef qsdk_quantizers(): return dict",
        "gave <class 'dict'>; give a list of classes",
    ),
    "text": (
        "import qsdk\n@qsdk.hookimpl\ndef qsdk_quantizers(): return 'rtn'",
        "gave 'rtn'; give a list of classes",
    ),
    "wrong_type": (
        "import qsdk\n@qsdk.hookimpl\ndef qsdk_quantizers(): return [dict]",
        "gave <class 'dict'>; give subclasses of Quantizer",
    ),
    "instance": (
        "import qsdk\n@qsdk.hookimpl\ndef qsdk_quantizers(): return [7]",
        "gave 7; give subclasses of Quantizer",
    ),
    "wrong_kind": (
        "import qsdk\nfrom qsdk_plugins.rtn import RoundToNearest as R\n"
        "@qsdk.hookimpl\ndef qsdk_observers(): return [R]",
        "give subclasses of Observer",
    ),
    "abstract": (
        "import qsdk\nclass Q(qsdk.Quantizer):\n name = 'abstract'\n"
        "@qsdk.hookimpl\ndef qsdk_quantizers(): return [Q]",
        "Q does not define quantize",
    ),
    "undeclared": (
        "import qsdk\nclass Q(qsdk.Quantizer):\n name = 'undeclared'\n"
        " def quantize(self, weight, *, layer=None): pass\n"
        "@qsdk.hookimpl\ndef qsdk_quantizers(): return [Q]",
        "Q does not declare its capabilities",
    ),
    "nameless": (
        "import qsdk\nclass Q(qsdk.Quantizer):\n"
        " def quantize(self, weight, *, layer=None): pass\n"
        "@qsdk.hookimpl\ndef qsdk_quantizers(): return [Q]",
        "Q.name is None; give a short text without ':'",
    ),
    "colon": (
        "import qsdk\nclass Q(qsdk.Quantizer):\n name = 'a:b'\n"
        " def quantize(self, weight, *, layer=None): pass\n"
        "@qsdk.hookimpl\ndef qsdk_quantizers(): return [Q]",
        "Q.name is 'a:b'",
    ),
    "old_module": ("qsdk_contract = 0", "written for contract version 0, and this qsdk has 1"),
    "new_class": (
        "import qsdk\nfrom qsdk_plugins.rtn import RoundToNearest as R\n"
        "class Q(R):\n name, contract = 'new_class', 2\n"
        "@qsdk.hookimpl\ndef qsdk_quantizers(): return [Q]",
        "'new_class' was written for contract version 2",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_plugin_is_kept_apart_with_its_reason_and_the_others_work(world, bad):
    code, reason = BAD[bad]
    world.add_code(bad, code, version="0.3")
    world.add_code("good", GOOD.format(name="good"), dist="other")
    assert [e.name for e in world.registry.entries()] == ["good"]
    assert world.registry.get("good", bits=4).scheme.bits == 4
    assert world.plugin(bad).health == "broken"
    with pytest.raises(PluginError) as caught:
        world.registry.get(bad)
    message = str(caught.value)
    assert f"plugin '{bad}' of acme 0.3 is broken: " in message and reason in message
    assert world.registry.get("good", bits=8).scheme.bits == 8


@pytest.mark.parametrize("bad", BAD)
def test_strict_turns_a_broken_plugin_into_an_error_each_time(world, monkeypatch, bad):
    monkeypatch.setenv("QSDK_STRICT", "1")
    world.add_code(bad, BAD[bad][0])
    for _ in range(2):
        with pytest.raises(PluginError, match=f"plugin '{bad}' of acme 1.0 is broken"):
            world.registry.entries()


def test_the_error_of_a_broken_plugin_has_its_cause(world):
    world.add_code("raises", BAD["raises"][0])
    with pytest.raises(PluginError) as caught:
        world.registry.get("raises")
    assert isinstance(caught.value.__cause__, OSError)
    assert isinstance(caught.value, RuntimeError) and caught.value.exit_status == 5


def test_an_interrupt_at_import_is_not_swallowed(world):
    world.add_code("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        world.registry.entries()


def test_what_a_plugin_prints_at_import_stays_off_standard_output(world, capsys):
    world.add_code("loud", "print('hello from the plugin')\n" + GOOD.format(name="loud"))
    world.registry.get("loud", bits=4)
    printed = capsys.readouterr()
    assert printed.out == "" and "hello from the plugin" in printed.err


def test_a_plugin_that_gives_one_bad_thing_gives_none(world):
    world.add("half", quantizer("fine"), dict)
    world.add("good", quantizer("good"))
    assert [e.name for e in world.registry.entries()] == ["good"]


def test_loading_is_timed(world):
    world.add_code("slow", "import time; time.sleep(0.05)\n" + GOOD.format(name="slow"))
    world.registry.get("slow", bits=4)
    assert 0.05 <= world.plugin("slow").seconds < 5


def test_two_entry_points_may_name_one_module(world):
    world.add("alpha", quantizer("alpha"), quantizer("beta"), module="fake_shared")
    world.plugins.append(Plugin("beta", "acme", "1.0", "fake_shared"))
    assert [e.name for e in world.registry.entries()] == ["alpha", "beta"]
    for name in ("beta", "alpha"):
        assert world.registry.get(name).name == name


# Disabling


@pytest.mark.parametrize("word", ["raises", "acme:raises", " raises ,zzz", "zzz,acme:raises"])
def test_a_disabled_plugin_is_never_imported(world, monkeypatch, word):
    point = metadata.EntryPoint("raises", "coded_acme_raises", "qsdk")
    monkeypatch.setenv("QSDK_DISABLE_PLUGINS", word.replace("acme", "unknown"))
    registry = Registry(lambda: find_plugins([point]))
    assert registry.entries() == []
    assert [p.health for p in registry.plugins] == ["disabled"]
    with pytest.raises(PluginError, match="is disabled: named in QSDK_DISABLE_PLUGINS"):
        registry.get("raises")


# Claims of one name


@pytest.mark.parametrize("order", [["acme", "zeta"], ["zeta", "acme"]], ids="-".join)
def test_a_name_of_two_distributions_is_an_error_whichever_came_first(world, order):
    for dist in order:
        world.add(
            "same", quantizer("same"), dist=dist, version={"acme": "1.0", "zeta": "2.0"}[dist]
        )
    with pytest.raises(ConflictError) as caught:
        world.registry.get("same")
    message = str(caught.value)
    assert "'same' is claimed by acme 1.0 and zeta 2.0" in message
    assert "ask for acme:same or zeta:same" in message
    for dist in order:
        assert world.registry.find(f"{dist}:same").distribution == dist
        assert world.registry.find(f"{dist}:quantizer:same").distribution == dist
    assert list(world.registry.conflicts()) == [("quantizer", "same")]


def test_two_claims_without_an_entry_point_are_an_error_too(world):
    world.add("one", quantizer("same"), dist="acme")
    world.add("two", quantizer("same"), dist="zeta")
    with pytest.raises(ConflictError, match=r"claimed by acme 1.0 and zeta 1.0"):
        world.registry.get("same")


def test_nobody_shadows_a_name_from_under_another_entry_point(world):
    owner, thief = quantizer("rtn"), quantizer("rtn")
    world.add("helper", thief, dist="aaa")
    world.add("rtn", owner, dist="qsdk")
    assert type(world.registry.get("rtn")) is owner
    world.registry.entries()
    assert type(world.registry.get("rtn")) is owner
    assert type(world.registry.get("quantizer:rtn")) is owner
    assert type(world.registry.get("aaa:rtn")) is thief
    assert ("quantizer", "rtn") in world.registry.conflicts()


def test_a_broken_plugin_does_not_hide_a_thing_of_its_name_elsewhere(world):
    world.add_code("thing", BAD["raises"][0])
    world.add("family", quantizer("thing"), dist="other")
    with pytest.raises(PluginError, match="libfoo is missing"):
        world.registry.get("thing")
    assert world.registry.get("other:thing").name == "thing"


def test_a_third_party_quantizer_gets_the_input_policy_for_free(world):
    world.add("mine", quantizer("mine"))
    mine = world.registry.get("mine", bits=4)
    assert mine.quantize([[1.0, 2.0]]).shape == (1, 2)
    with pytest.raises(qsdk.errors.DataError, match=r"nan at \[0, 1\]"):
        mine.quantize([[1.0, np.nan]])
    with pytest.raises(SchemeError, match="mine takes 4, 8 bits, not 5"):
        world.registry.get("mine", bits=5)


def test_options_of_a_third_party_are_its_fields(world):
    @attrs.frozen(kw_only=True)
    class Mine(qsdk.Quantizer):
        name = "mine"
        capabilities = qsdk.Capabilities(bits={4, 8})
        strength: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))

        def quantize(self, weight, *, layer=None):
            raise NotImplementedError

    world.add("mine", Mine)
    assert world.registry.get("mine", strength=2.0, bits=4).strength == 2.0
    with pytest.raises(OptionError, match="mine: 'strength' must be > 0: -1"):
        world.registry.get("mine", strength=-1)
    with pytest.raises(OptionError, match="did you mean 'strength'"):
        world.registry.get("mine", strenght=1)

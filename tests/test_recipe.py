"""Recipes: which quantizer goes to which layer, from TOML and from Python."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

import qsdk
from qsdk import Layer, Recipe, Rule
from qsdk.errors import RecipeError


def layer(name, weight_name=None, operation="Conv"):
    return Layer(
        name=name,
        operation=operation,
        weight_name=weight_name or f"{name}.weight",
        shape=(1, 1),
        stored="float32",
        nbytes=4,
        read=lambda: None,
    )


TOML = """
method = "squant"
include = ["conv*", "fc*"]
exclude = ["*.bias"]

[options]
bits = 4
stages = "EC"

[[rules]]
match = "fc*"
options = { bits = 8 }

[[rules]]
operation = "Gemm"
method = "rtn"

[[rules]]
match = "conv1"
keep = true
"""


def test_a_toml_file_says_all_that_a_recipe_can(tmp_path):
    (tmp_path / "mixed.toml").write_text(TOML)
    recipe = Recipe.from_file(tmp_path / "mixed.toml")
    assert recipe == Recipe(
        method="squant",
        options={"bits": 4, "stages": "EC"},
        include=("conv*", "fc*"),
        exclude=("*.bias",),
        rules=(
            Rule(match="fc*", options={"bits": 8}),
            Rule(operation="Gemm", method="rtn"),
            Rule(match="conv1", keep=True),
        ),
    )


def test_to_dict_is_plain_and_from_dict_takes_it_back():
    recipe = Recipe.from_dict(tomllib.loads(TOML))
    table = recipe.to_dict()
    assert Recipe.from_dict(table) == recipe
    assert Recipe.from_dict(Recipe().to_dict()) == Recipe()

    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(k, str) and plain(v) for k, v in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool)

    assert plain(table)


def test_passes_are_names_or_tables_with_options():
    recipe = Recipe.from_text("passes = ['equalize', { name = 'bias_correction', samples = 64 }]")
    assert recipe.pass_choices() == [("equalize", {}), ("bias_correction", {"samples": 64})]
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.pass_choices() == recipe.pass_choices()


@pytest.mark.parametrize(
    ("passes", "message"),
    [("equalize", "give a list"), ([{"samples": 3}], "names no pass"), ([3], "3 in passes")],
)
def test_passes_without_names_are_refused(passes, message):
    with pytest.raises(RecipeError, match=message):
        Recipe(passes=passes)


def test_of_several_rules_that_match_the_last_counts():
    recipe = Recipe(
        options={"bits": 4},
        rules=[Rule(match="*", options={"bits": 2}), Rule(match="a*", options={"bits": 8})],
    )
    assert recipe.choice(layer("ab")) == ("squant", {"bits": 8})
    assert recipe.choice(layer("b")) == ("squant", {"bits": 2})
    turned = Recipe(options={"bits": 4}, rules=recipe.rules[::-1])
    assert turned.choice(layer("ab")) == ("squant", {"bits": 2})


def test_options_of_a_rule_are_on_top_of_the_recipes():
    recipe = Recipe(options={"bits": 4, "stages": "EC"}, rules=[Rule(options={"bits": 8})])
    assert recipe.choice(layer("x")) == ("squant", {"bits": 8, "stages": "EC"})


def test_a_rule_with_another_method_takes_only_the_number_format_of_the_first():
    recipe = Recipe(options={"bits": 4, "stages": "EC"}, rules=[Rule(method="rtn")])
    assert recipe.choice(layer("x")) == ("rtn", {"bits": 4})
    same = Recipe(options={"bits": 4}, rules=[Rule(method="squant")])
    assert same.choice(layer("x")) == ("squant", {"bits": 4})


def test_a_rule_may_keep_layers_and_a_later_one_take_them_back():
    recipe = Recipe(rules=[Rule(match="a*", keep=True), Rule(match="ab")])
    assert recipe.choice(layer("ac")) is None
    assert recipe.choice(layer("ab")) == ("squant", {})


def test_a_rule_applies_to_operations():
    recipe = Recipe(rules=[Rule(operation="Gemm", keep=True)])
    assert recipe.choice(layer("fc", operation="Gemm")) is None
    assert recipe.choice(layer("fc", operation="Conv")) is not None


def test_a_rule_applies_to_the_first_or_the_last_layer(tmp_path):
    rules = [Rule(position="first", options={"bits": 8}), Rule(position="last", keep=True)]
    recipe = Recipe(options={"bits": 4}, rules=rules)
    assert recipe.choice(layer("x"), ("first",)) == ("squant", {"bits": 8})
    assert recipe.choice(layer("x")) == ("squant", {"bits": 4})
    assert recipe.choice(layer("x"), ("first", "last")) is None
    arrays = {name: np.ones((4, 4), np.float32) for name in "abc"}
    report = qsdk.quantize_model(arrays, recipe).report
    assert [row.stored_after[:4] for row in report.layers] == ["int8", "int4"]
    assert list(report.kept) == ["c"]


def test_a_position_of_its_own_is_refused():
    with pytest.raises(RecipeError, match="'position' must be in"):
        Recipe.from_dict({"rules": [{"position": "middle"}]})


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        (["*"], [], "a.1 a.2 b.1"),
        (["a.*"], [], "a.1 a.2"),
        (["a.*", "b.*"], ["*.1"], "a.2"),
        (["[ab].1"], [], "a.1 b.1"),
        (["a.?"], ["a.2"], "a.1"),
        (["A.*"], [], ""),
        (["w2"], [], "a.2"),
        (["*"], ["w?"], ""),
    ],
)
def test_globs_match_names_of_layers_and_of_weights_and_exclude_wins(include, exclude, chosen):
    layers = [layer("a.1", "w1"), layer("a.2", "w2"), layer("b.1", "w3")]
    recipe = Recipe(include=include, exclude=exclude)
    assert [x.name for x in layers if recipe.choice(x)] == chosen.split()


def test_a_name_with_brackets_matches_itself():
    assert Recipe(include=["w[0]"]).choice(layer("w[0]")) is not None


def test_patterns_that_match_no_layer_are_told():
    recipe = Recipe(
        include=["conv*", "nothing*"], exclude=["gone"], rules=[Rule(match="cnv1"), Rule()]
    )
    assert recipe.unused_patterns([layer("conv1")]) == ["nothing*", "gone", "cnv1"]
    assert recipe.unused_patterns(iter([layer("conv1")])) == ["nothing*", "gone", "cnv1"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"metod": "rtn"}, "a recipe has no setting 'metod'; did you mean 'method'"),
        ({"bits": 4}, "a recipe has no setting 'bits'; known: activation_options"),
        ({"rules": [{"mach": "a"}]}, "a rule has no setting 'mach'; did you mean 'match'"),
        ({"rules": {"match": "a"}}, r"rules is not a list of tables; write \[\[rules\]\]"),
        ({"rules": ["a"]}, "'a' is not a table of settings"),
        ({"include": "conv*"}, r"'conv\*' is one text; give a list, such as \['conv\*'\]"),
        ({"include": [1]}, "include.*str"),
        ({"include": 5}, "not iterable"),
        ({"method": 5}, "'method' must be <class 'str'>"),
        ({"options": []}, "'options' must be <class 'dict'>"),
        ({"rules": [{"keep": "yes"}]}, "'keep' must be <class 'bool'>"),
        ({"rules": [{"options": 4}]}, "'options' must be <class 'dict'>"),
    ],
)
def test_tables_that_are_no_recipe_are_refused_with_what_was_given(table, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"method = ", "broken.toml is no TOML"),
        (b"a = 1\na = 2", "broken.toml is no TOML"),
        (b"\xff\xfe", "broken.toml is no TOML"),
        (b"a = " + b"[" * 50_000, "broken.toml is no TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "broken.toml").write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        Recipe.from_file(tmp_path / "broken.toml")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(RecipeError, match=r"none.toml cannot be read: No such file"):
        Recipe.from_file(tmp_path / "none.toml")


def test_a_recipe_cannot_be_changed():
    with pytest.raises(AttributeError):
        Recipe().method = "rtn"

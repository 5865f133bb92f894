#!/usr/bin/env bash
# The tests with the lowest versions that pyproject.toml allows, each installed exactly.
LANE="lowest versions"
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# What the old packages cannot do, by the beginning of its name; everything else must pass.
WITHOUT=(
    "tests/plugins/test_onnx.py::test_every_width_runs_at_every_opset[25-"  # onnx 1.17 has no opset 25,
    "tests/plugins/test_onnx.py::test_2_bit_rows_of_any_length_are_right_in_onnxruntime"  # the same
    # onnx 1.17's evaluator, the oracle here, runs recurrent layers in one direction.
    "tests/test_recurrent.py::test_floats_give_what_the_reference_evaluator_gives"
    "tests/cli/test_group.py::test_unknown_option_names_the_nearest"  # other words before click 8.4
    "tests/cli/test_group.py::test_help_answers_within_a_fifth_of_a_second"  # both cores are busy
    "tests/test_bench_timing.py::test_onnxruntime_does_the_work_itself"  # 1.20: no ConvInteger of int8
    # Minutes of arithmetic, and nothing that a version could change:
    "tests/plugins/test_onnx.py::test_squant_reaches_its_accuracy_and_rounding_does_not"
)
# Tests of the documentation, of lanes, those that install packages, arithmetic on trained networks,
# and three long ones that runs of the contract kit on a quantizer and on a kernel stand for: of the kit, of C, and
# of the doctor.
OTHERS=(--ignore tests/docs --ignore tests/lanes --ignore tests/thirdparty --ignore tests/testing
    --ignore tests/kernels --ignore tests/native
    --ignore tests/cli/test_doctor.py --ignore tests/cli/test_kernel_trial.py
    --ignore tests/plugins/test_language_model.py --ignore tests/plugins/test_gru_model.py)

copy_sources "$WORK/sources"
cd "$WORK/sources"
mapfile -t floors < <("$PYTHON" "$LANES/floors.py" pyproject.toml onnx report test)
echo "${floors[*]}"
"$PYTHON" -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --only-binary :all: "${floors[@]}"
QSDK_REQUIRE_NATIVE=1 "$WORK/venv/bin/pip" install --no-deps --no-build-isolation -e .
"$WORK/venv/bin/pip" check
for test in "${WITHOUT[@]}"; do skip "$LANE: $test: the reason stands in tests/lanes/lowest.sh"; done
if [ -d "$ROOT/../shared" ]; then ln -s "$(cd "$ROOT/../shared" && pwd)" "$WORK/shared"; fi
PYTHONSAFEPATH="" QSDK_REQUIRE_NATIVE=1 "$WORK/venv/bin/python" -m pytest -q -n "$(nproc)" --durations=5 \
    -p no:cacheprovider "${WITHOUT[@]/#/--deselect=}" "${OTHERS[@]}" tests
for name in squant linear-int8-reference linear-groups-portable; do
    QSDK_REQUIRE_NATIVE=1 "$WORK/venv/bin/python" -m qsdk check "$name"
done

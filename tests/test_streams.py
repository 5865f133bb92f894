"""Output that is led to standard error, from Python and from C, and back."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from qsdk.streams import output_to_stderr

START = "import ctypes, os, sys\nfrom qsdk.streams import output_to_stderr\n"
PUTS = "ctypes.CDLL(None).puts"


def outputs(code, **words):
    """(stdout, stderr) of a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **words}
    done = subprocess.run([sys.executable, "-c", START + code], check=True, text=True, **pipes)
    return done.stdout, done.stderr


def test_all_ways_to_print_are_led_away_and_back_again():
    out, err = outputs(
        f"sys.stdout.write('1 '); {PUTS}(b'2')\n"
        "with output_to_stderr():\n"
        f"    print('a'); os.write(1, b'b'); {PUTS}(b'c'); sys.__stdout__.write('d')\n"
        f"print('3'); {PUTS}(b'4')\n"
    )
    assert sorted(out.split()) == list("1234")
    assert sorted(err.replace("\n", "")) == list("abcd")


def test_blocks_nest():
    out, err = outputs(
        "with output_to_stderr():\n"
        "    with output_to_stderr(): os.write(1, b'a')\n"
        "    os.write(1, b'b'); print('c')\n"
        "os.write(1, b'1')\n"
    )
    assert (out, err) == ("1", "abc\n")


def test_output_is_back_after_an_error():
    out, _ = outputs(
        "try:\n    with output_to_stderr(): raise SystemExit\n"
        "except SystemExit: os.write(1, b'1'); print(2)\n"
    )
    assert out == "12\n"


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_closed_descriptors_stay_closed_and_are_no_error(closed):
    close = "".join(f"os.close({descriptor});" for descriptor in closed)
    out, err = outputs(
        f"kept = os.dup(1); {close}\n"
        "with output_to_stderr(): pass\n"
        f"for descriptor in {closed}:\n"
        "    try: os.fstat(descriptor); os.write(kept, b'open')\n"
        "    except OSError: os.write(kept, b'closed ')\n"
        "os._exit(0)\n"
    )
    assert (out, err) == ("closed " * len(closed), "")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_process_without_streams_is_no_error(name):
    out, _ = outputs(f"sys.{name} = None\nwith output_to_stderr(): print()\nos.write(1, b'1')\n")
    assert out == "1"


def test_descriptors_that_code_closed_meanwhile_are_no_error():
    outputs("with output_to_stderr(): os.closerange(3, 100)\n")


def test_no_descriptor_is_left_open():
    code = "with output_to_stderr(): pass\n"
    count = "os.write(1, str(len(os.listdir('/proc/self/fd'))).encode());"
    if not sys.platform.startswith("linux"):
        pytest.skip("descriptors are counted in /proc")
    out, _ = outputs(f"{count} os.write(1, b' ')\n{code * 5}{count}")
    before, after = out.split()
    assert before == after


def test_threads_that_overlap_leave_output_as_it_was():
    out = sys.stdout
    first_in, second_in = threading.Event(), threading.Event()

    def first():
        with output_to_stderr():
            first_in.set()
            second_in.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    first_in.wait(10)
    with output_to_stderr():  # enters later and leaves later than the other
        second_in.set()
        thread.join(10)
        assert sys.stdout is sys.stderr
    assert sys.stdout is out

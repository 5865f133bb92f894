"""Names the functions of a shared object that need more than the platform's baseline.

    python scan.py [--objdump COMMAND] FILE.so

A function may use an instruction set only if its name ends in that set (``_avx2``, ``_amx_int8``):
then dispatch knows what it calls. Anything else would crash older CPUs. The exit status is 1 if a
function is named, 2 if nothing could be scanned.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
# What gcc appends to the name of a part or a copy of a function.
CLONE = re.compile(r"(\.(part|constprop|isra|cold|lto_priv|_omp_fn|\d+))+(\.\d+)*$")

# Baseline: SSE2 on x86-64, Advanced SIMD of ARMv8.0 on aarch64. VEX and EVEX opcodes are the ones
# that objdump writes with a v, and those of BMI.
X86 = re.compile(
    r"(v(?!err|erw|mcall|mlaunch|mresume|mxoff|mread|mwrite)|andn\b|bextr|bls|bzhi|mulx|pdep|pext\b"
    r"|rorx|sarx|shlx|shrx|tile|tdp|ldtilecfg|sttilecfg|k(mov|and|or|xor|test|unpck|shift|add)"
    r"|lzcnt|popcnt|movbe|crc32|pabs|pshufb|phadd|phsub|pmadd?ubsw|pmulhrsw|psign|palignr|round[ps]"
    r"|pmulld|pmuldq|p(min|max)(s[bd]|u[dw])|p?blend|pmov[sz]x|ptest|p(extr|insr)[bdq]|insertps"
    r"|extractps|packusdw|pcmp[ei]str|pcmp(eq|gt)q|dpp[sd]|mpsadbw|h(add|sub)p|addsubp|lddqu"
    r"|movs[lh]dup|movddup|aes|pclmul|sha(1|256))"
)
X86_REGISTER = re.compile(r"%[yzt]mm\d|%k[1-7]\b")
ARM = re.compile(
    r"([su]dot|usdot|sudot|[su]mmla|usmmla|bf(dot|mmla|mlal|cvt)|fml[as]l|cas|swp|ld(add|set|clr))"
)
ARM_REGISTER = re.compile(r"\b(z\d+\.[bhsd]|p\d+/[mz]|v\d+\.[48]h, v\d+\.[48]h.*fml|za\d)")
SUFFIX = re.compile(
    r"_(ssse3|sse4\w*|avx|avx2|avx512\w*|avxvnni|vnni|512|amx\w*|dotprod|sdot|i8mm|smmla|sve2?)$"
)


def functions(listing: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """(name, instructions as text) of each function of a disassembly."""
    name, instructions = "", []
    for line in listing:
        if found := FUNCTION.match(line):
            if name:
                yield name, instructions
            name, instructions = found[1], []
        elif name and line.count("\t") >= 1:
            instructions.append(line.split("\t", 1)[1].strip())
    if name:
        yield name, instructions


def culprits(listing: Iterable[str], arm: bool) -> tuple[int, dict[str, str]]:
    """How many functions there are, and those that need more than they say, with an instruction."""
    count, named = 0, {}
    mnemonic, register = (ARM, ARM_REGISTER) if arm else (X86, X86_REGISTER)
    for name, instructions in functions(listing):
        count += 1
        if SUFFIX.search(CLONE.sub("", name)):
            continue
        for text in instructions:
            if mnemonic.match(text) or register.search(text):
                named[name] = " ".join(text.split())
                break
    return count, named


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    command = [options.objdump, "-d", "--no-show-raw-insn", options.file]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    arm = "aarch64" in "".join(lines[:3])
    count, named = culprits(lines, arm)
    ours = sum(name.startswith("qsdk_") and "@" not in name for name, _ in functions(lines))
    if done.returncode or ours == 0:
        print(f"{options.file.name}: no functions of ours to scan {done.stderr.strip()}")
        return 2
    for name, instruction in named.items():
        print(f"  {name}: {instruction}")
    print(f"{options.file.name}: {count} functions, {ours} entry points, {len(named)} named")
    return 1 if named else 0


if __name__ == "__main__":
    sys.exit(main())

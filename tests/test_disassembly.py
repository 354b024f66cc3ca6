"""The kernels as they were compiled: packed instructions in every loop of a formula, and no calls.

Rust gives no promise that a loop is vectorised, nor that a function is inlined; so the extension module is disassembled
and read. Symbols carry the types that a kernel was compiled for, as `.cargo/config.toml` asks of the compiler.
"""

import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from lossrs import _lossrs

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64", reason="reads x86-64 as objdump writes it"
)

SOURCES = Path(__file__).parents[1] / "src" / "losses"
INSTRUCTION_SETS = ("avx2", "avx512")

#: Value, slope and curvature, as a kernel is compiled for them.
PARTS = ("true, false, false", "false, true, false", "true, true, false", "false, true, true")
#: The kernels that each shape of loss is compiled to, and for what.
DRIVERS = {
    "Pointwise": {"pointwise::Evaluate": PARTS, "pointwise::Add": ("false, 2", "false, 3", "true, 2", "true, 3")},
    "Rowwise": {"rows::Derive": ("false", "true")},
    "LabelSets": {"label_sets::Sweep": PARTS[1:]},
    "Embeddings": {"embeddings::Sweep": ("",), "embeddings::Evaluate": ("",), "embeddings::Derive": ("",)},
}

#: Those of rows that are evaluated several at once: not those of a label's score alone, nor of a linear layer.
GROUPED = {"band::Evaluate": PARTS, "tile::Evaluate": PARTS}

#: Those that are compiled for one type, whatever the buffers hold.
UNTYPED = {"Sequencewise": ("sequences::Advance", "sequences::Retreat"), "Region": ()}

#: The kernels of the driver of regions, which all its formulas share, and how many flags each is compiled for.
REGIONS = {
    "Sums": 3,
    "Derive": 3,
    "DeriveSoftmax": 2,
    **dict.fromkeys(["Complement", "Raise", "Exponentials", "Invert", "Normalise", "Average", "Centre"], 0),
    **dict.fromkeys(["LeaveOut", "Stray"], 0),
}

#: The kernels of the bootstrap, of which one is compiled for each number of columns.
BOOTSTRAP = ("Hash", "Split", *(f"Draw<{columns}>" for columns in (2, 3, 4, 6, 8)))

#: What a kernel may call, and why.
MAY_CALL = {
    r"(memcpy|memmove|memset|bcmp)@": "copies and fills of whole blocks, and comparisons of names",
    r"core::panicking::|core::slice::index::|core::option::expect_failed": "checks of lengths, which end the call",
    r"_lossrs::sum::ExactSum>?::(add_each|propagate)": "the slow paths of the exact sum, which are scalar on purpose",
}

#: Scalar floating-point arithmetic, AVX or SSE, whose packed forms end in ps and pd.
SCALAR = re.compile(r"v?(add|sub|mul|div|sqrt|min|max|u?comi|cmp\w*|f?n?m(add|sub)\d*|round|rndscale)s[sd]$")


@dataclass(frozen=True)
class Instruction:
    """An instruction: where it is, what it does, and to what."""

    address: int
    operation: str
    operands: str

    @property
    def target(self) -> tuple[int, str] | None:
        """Where a jump or call goes, as an address and a name; of an indirect one, what objdump says of it."""
        if match := re.match(r"([0-9a-f]+) <(.*)>", self.operands):
            return int(match[1], 16), match[2]
        comment = re.search(r"# [0-9a-f]+ <(.*)>", self.operands)
        return (0, comment[1]) if comment else None


@dataclass(frozen=True)
class Kernel:
    """A kernel, compiled for an instruction set."""

    instruction_set: str
    name: str
    instructions: tuple[Instruction, ...]

    @property
    def is_formula(self) -> bool:
        """Whether it evaluates a loss, rather than read, write, sum or weigh a block."""
        return bool(
            re.search("_lossrs::losses::|linear::Cap|linear::Uncap|drive::regions::|accumulate::bootstrap::", self.name)
        )

    def loops(self) -> Iterator[tuple[Instruction, ...]]:
        """Yield what lies between a jump backwards and where it goes, if it leads to the jump and no loop is within."""
        places = {instruction.address: place for place, instruction in enumerate(self.instructions)}
        jumps = {
            place: places[jump.target[0]]
            for place, jump in enumerate(self.instructions)
            if jump.operation.startswith("j") and jump.target and jump.target[0] in places
        }
        loops = [(start, end) for end, start in jumps.items() if start <= end and self.leads(start, end, jumps)]
        for start, end in loops:
            if not any(start <= first and last <= end and (first, last) != (start, end) for first, last in loops):
                yield self.instructions[start : end + 1]

    def leads(self, start: int, end: int, jumps: dict[int, int]) -> bool:
        """Return whether the flow of control may get from one instruction to another."""
        seen, ways = set(), [start]
        while ways:
            place = ways.pop()
            while place not in seen and place < len(self.instructions):
                if place == end:
                    return True
                seen.add(place)
                if place in jumps:
                    ways.append(jumps[place])
                if self.instructions[place].operation in ("jmp", "ret", "ud2"):
                    break
                place += 1
        return False

    def forbidden_calls(self) -> Iterator[str]:
        """Yield what is called, or jumped to for good, and may not be."""
        own = {instruction.address for instruction in self.instructions}
        for instruction in self.instructions:
            leaves = instruction.operation.startswith(("call", "j"))
            if not leaves or (instruction.target and instruction.target[0] in own):
                continue
            called = instruction.target[1] if instruction.target else instruction.operands
            is_table = instruction.operation.startswith("jmp") and not instruction.target
            if not is_table and not any(re.search(may, called) for may in MAY_CALL):
                yield called

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with it."""
        for called in self.forbidden_calls():
            yield f"{self.instruction_set} {self.name} calls {called}"
        for loop in self.loops() if self.is_formula else ():
            scalar = [instruction.operation for instruction in loop if SCALAR.match(instruction.operation)]
            packed = [instruction for instruction in loop if re.search("p[sd]$", instruction.operation)]
            # A loop over groups of lanes may compare or count once for all of them.
            if len(scalar) * 8 > len(packed):
                where = f"the loop at {loop[0].address:x}"
                yield f"{self.instruction_set} {self.name}: {where} computes with scalars: {', '.join(scalar[:5])}"


def kernels(disassembly: str) -> Iterator[Kernel]:
    """Yield the kernels that objdump has written of."""
    for function in re.split(r"\n\n(?=[0-9a-f]+ <)", disassembly):
        header = re.match(r"\n*[0-9a-f]+ <_lossrs::isa::x86::(\w+)(?:::)?<(.*)>>:\n", function)
        if header:
            lines = re.findall(r"^ *([0-9a-f]+):\t(?:\{?\w+\}? )*?(\w+)(?: +(.*))?$", function, flags=re.MULTILINE)
            body = tuple(Instruction(int(address, 16), *rest) for address, *rest in lines)
            yield Kernel(header[1], header[2], body)


def expected_kernels() -> Iterator[str]:
    """Yield a pattern for each kernel that the formulas in the sources must have been compiled to."""
    for (kernel, flags), number in product(REGIONS.items(), ("f32", "f64")):
        for chosen in product(("false", "true"), repeat=flags):
            yield rf"drive::regions::{kernel}<{', '.join([number, *chosen])}>"
    for kernel in BOOTSTRAP:
        yield rf"accumulate::bootstrap::{kernel}"
    shapes = "|".join([*DRIVERS, *UNTYPED])
    for source in sorted(SOURCES.glob("*.rs")):
        formulas = re.findall(rf"\b({shapes})(<.*?>)? for (\w+)(.*?)\n\}}", source.read_text(), flags=re.DOTALL)
        assert formulas, f"no formula found in {source}"
        for shape, _, formula, _ in formulas:
            for kernel in UNTYPED.get(shape, ()):
                yield rf"::{kernel}<_lossrs::losses::\w+::{formula}>"
        for (shape, sums, formula, body), number in product(formulas, ("f32", "f64")):
            is_grouped = shape == "Rowwise" and sums != "<0>" and "const GROUPED: bool = false" not in body
            for kernel, parts in (DRIVERS.get(shape, {}) | (GROUPED if is_grouped else {})).items():
                for part in parts:
                    ending = f", {part}>" if part else ">"
                    yield rf"::{kernel}<_lossrs::losses::\w+::{formula}\b.*, {number}(, \d+)*{ending}"


@pytest.fixture(scope="module")
def compiled() -> list[Kernel]:
    """Return the kernels of the extension module."""
    command = ["objdump", "--disassemble", "--no-show-raw-insn", "--demangle", _lossrs.__file__]
    return list(kernels(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_every_formula_has_its_kernels(compiled: list[Kernel]) -> None:
    """Nothing below is true for want of kernels."""
    expected = list(expected_kernels())
    assert expected
    missing = [
        f"{instruction_set} {pattern}"
        for instruction_set, pattern in product(INSTRUCTION_SETS, expected)
        if not any(kernel.instruction_set == instruction_set and re.search(pattern, kernel.name) for kernel in compiled)
    ]
    assert not missing, "built without the symbols that .cargo/config.toml asks for? RUSTFLAGS overrides it"


def test_kernels_call_nothing_and_loop_on_vectors(compiled: list[Kernel]) -> None:
    """No libm, no function that was not inlined, no scalar arithmetic in a loop."""
    faults = [fault for kernel in compiled for fault in kernel.faults()]
    assert not faults, "\n".join(faults)


def test_formulas_use_the_width_that_they_have(compiled: list[Kernel]) -> None:
    """A loop of packed arithmetic on 128 bits is none that the instruction set is there for."""
    narrow = []
    for kernel in compiled:
        # What the bootstrap adds is unrolled, and so within no innermost loop.
        loops = [kernel.instructions] if "bootstrap::Draw" in kernel.name else kernel.loops()
        operands = [step.operands for loop in loops for step in loop if re.search("p[sd]$", step.operation)]
        if kernel.is_formula and operands and not any(re.search("%[yz]mm", operand) for operand in operands):
            narrow.append(f"{kernel.instruction_set} {kernel.name}")
    assert not narrow


def test_elements_are_read_whatever_becomes_of_them(compiled: list[Kernel]) -> None:
    """No masked loads: where a vector crosses a line, they take four times as long."""
    masked = re.compile(r"\([^)]*\),%[xyz]mm\d+\{%k\d\}")
    faults = [
        f"{kernel.instruction_set} {kernel.name}"
        for kernel in compiled
        if re.search(r"pointwise::(Add|Evaluate)<|regions::Sums<", kernel.name)
        for step in kernel.instructions
        if step.operation.startswith("vmaskmov") or (step.operation.startswith("vmov") and masked.search(step.operands))
    ]
    assert not faults, "\n".join(dict.fromkeys(faults))


def test_products_stay_in_registers(compiled: list[Kernel]) -> None:
    """A product's loop multiplies, adds and reads, and writes nothing."""
    found = [kernel for kernel in compiled if "product::Multiply<" in kernel.name]
    numbers = "f32", "f64"
    assert all(
        any(kernel.instruction_set == instruction_set and f"<{number}," in kernel.name for kernel in found)
        for instruction_set, number in product(INSTRUCTION_SETS, numbers)
    )
    for kernel in found:
        # Those of other instruction sets are compiled too, and never run.
        widest = {"avx2": ", 2>", "avx512": ", 1>"}[kernel.instruction_set]
        if widest not in kernel.name:
            continue
        loops = [loop for loop in kernel.loops() if sum(step.operation.startswith("vfmadd") for step in loop) >= 8]
        loop = min(loops, key=len)
        written = [step for step in loop if step.operation.startswith("vmov") and step.operands.endswith(")")]
        assert not written, f"{kernel.instruction_set} {kernel.name}"
        wide = "%zmm" if kernel.instruction_set == "avx512" else "%ymm"
        assert all(wide in step.operands for step in loop if step.operation.startswith("vfmadd"))


def disassembly(name: str, *lines: str) -> str:
    """Return a function as objdump writes it, from its instructions, at addresses from 0x1000 in steps of 4."""
    body = (f"    {0x1000 + 4 * i:x}:\t{line.replace(' ', ' ' * 4, 1)}" for i, line in enumerate(lines))
    return "\n".join([f"0000000000001000 <{name}>:", *body])


FORMULA = "_lossrs::drive::pointwise::Evaluate<_lossrs::losses::huber::Huber, f32, 2, 1, true, false, false>"
PACKED_LOOP = ("vmovups (%rdi,%rax,4),%ymm0", "vmulps %ymm0,%ymm0,%ymm0", "add $0x8,%rax", "jne 1000 <x+0x0>", "ret")


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (PACKED_LOOP, None),
        (("vmulss %xmm0,%xmm0,%xmm0", "cmp %rax,%rcx", "jne 1008 <x+0x8>", "ret"), None),
        (("add $0x8,%rax", "vmulss %xmm0,%xmm0,%xmm0", "jne 1000 <x+0x0>", "ret"), "scalars: vmulss"),
        (("vfmadd213sd %xmm1,%xmm0,%xmm0", "jb 1000 <x+0x0>", "ret"), "scalars: vfmadd213sd"),
        (("vfnmadd231ss (%rax),%xmm0,%xmm0", *PACKED_LOOP[1:3], "jb 1000 <x+0x0>"), "scalars: vfnmadd231ss"),
        ((*PACKED_LOOP, "call 9000 <expf@plt>"), "calls expf@plt"),
        ((*PACKED_LOOP, "call *0x1234(%rip) # 146140 <fmaf@GLIBC_2.2.5>"), "calls fmaf@GLIBC"),
        ((*PACKED_LOOP, "jmp 9000 <pow>"), "calls pow"),
        ((*PACKED_LOOP, "call *%rax"), r"calls \*%rax"),
        ((*PACKED_LOOP, "call 9000 <_lossrs::real::exponential::exp::<f32>>"), "calls _lossrs::real"),
        ((*PACKED_LOOP, "call *0x1234(%rip) # 146140 <memcpy@GLIBC_2.14>", "jmp *%rax"), None),
        ((*PACKED_LOOP, "call 9000 <core::panicking::panic_bounds_check>"), None),
    ],
)
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_the_reader_sees_faults(instruction_set: str, lines: tuple[str, ...], fault: str | None) -> None:
    """What must fail does, and what is right passes."""
    text = (
        disassembly(f"_lossrs::isa::x86::{instruction_set}::<{FORMULA}>", *lines)
        + "\n\n"
        + disassembly("elsewhere", "call 1 <expf@plt>")
    )
    (kernel,) = kernels(text)
    assert kernel.instruction_set == instruction_set
    assert kernel.is_formula
    assert len(kernel.instructions) == len(lines)
    faults = list(kernel.faults())
    assert bool(faults) == bool(fault), faults
    assert all(re.search(fault or "", fault_found) for fault_found in faults)

"""What do the kernels take of a card? Compiled for cards that aren't here, one row for each form that ships.

    python benchmarks/aot.py                    # sm_80, sm_90, sm_100: a few minutes
    python benchmarks/aot.py --amd              # gfx942 too, with the tiles of sm_80
    python benchmarks/aot.py --cards sm_90      # one card, whose rows take the place of its old ones
    python benchmarks/aot.py --amd --missing    # what an interrupted run has left out
    python benchmarks/aot.py --only block_sparse --cards sm_90

Nothing runs: registers and spills are what the assembler says, shared memory and instructions what the compiler wrote.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from harness import RESULTS, facts, markdown_table, write

from videogen.kernels._ahead_of_time import AMD, CARDS, Card, report, spills_anyway, variants
from videogen.kernels._variants import Variant

#: the status of what no tile helps
KNOWN = "spills on any tile"


def row(variant: Variant, card: Card) -> dict[str, Any]:
    """One line of the table; a kernel that doesn't compile says why."""
    told: dict[str, Any] = {"card": card.name, "kernel": variant.title, "warps": variant.num_warps}
    told["stages"] = variant.num_stages
    try:
        found = report(variant, card)
    except Exception as error:  # what a compiler raises is its own matter; it is told, and fails the run in the end
        return told | {"status": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    told |= {"registers": found.registers, "spilled B": found.spilled, "shared B": found.shared}
    told["products"] = "none" if found.product is None else f"{found.product[1]} {found.product[0]}"
    told["16-byte loads"] = "yes" if found.wide else "no"
    faults = [f"spills {found.spilled} bytes"] * (found.spilled > 0 and not spills_anyway(variant))
    faults += [f"more than {card.shared} bytes of shared memory"] * (found.shared > card.shared)
    known = KNOWN if found.spilled and spills_anyway(variant) else "ok"
    return told | {"status": ", ".join(faults) or known}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", nargs="+", default=[card.name for card in CARDS], choices=[c.name for c in CARDS])
    parser.add_argument("--amd", action="store_true", help="compile for gfx942 too")
    parser.add_argument("--missing", action="store_true", help="compile only what the last report has no row of")
    parser.add_argument("--only", default="", help="kernels whose title holds this; nothing is written then")
    options = parser.parse_args()
    known = {(found["card"], found["kernel"]) for found in results()} if options.missing else set()
    rows: list[dict[str, Any]] = []
    for card in [card for card in CARDS if card.name in options.cards] + [AMD] * options.amd:
        for variant in forms(card):
            if options.only in variant.title and (card.name, variant.title) not in known:
                rows.append(row(variant, card))
                print(" | ".join(str(value) for value in rows[-1].values()), flush=True)
                if not options.only:
                    save(rows)
    shipping = [found for found in rows if found["card"] != AMD.name]
    wrong = [found for found in shipping if found["status"] not in ("ok", KNOWN)]
    raise SystemExit(f"{len(wrong)} of {len(shipping)} are not fit to ship" if wrong else 0)


def forms(card: Card) -> list[Variant]:
    """What is compiled for a card: of gfx942, whose own types and tiles haven't been chosen, bfloat16 alone."""
    return [variant for variant in variants(card) if card is not AMD or " bf16 " in variant.title]


def results() -> list[dict[str, Any]]:
    """The rows of the last report."""
    path = RESULTS / "aot.json"
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def save(rows: list[dict[str, Any]]) -> None:
    """Write the report: these rows, and of the last report those of other forms that are still compiled."""
    found = {(row["card"], row["kernel"]): row for row in (*results(), *rows)}
    order = [(card.name, variant.title) for card in (*CARDS, AMD) for variant in forms(card)]
    rows = [found[form] for form in order if form in found]
    machine = {
        key: value for key, value in facts("cpu").items() if key in ("date", "commit", "python", "torch", "triton")
    }
    machine["forms still to be compiled"] = len(order) - len(rows) or None
    report = {"question": "What do the kernels take of a card?", "facts": machine, "rows": rows}
    write("aot", report, markdown(rows, machine))


def markdown(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The report for reading."""
    columns = ["card", "kernel", "warps", "stages", "registers", "spilled B", "shared B", "products", "16-byte loads"]
    parts = [f"# What do the kernels take of a card?\n\n{summary(rows)}"]
    parts.append(markdown_table(rows, [*columns, "status"]))
    limits = ", ".join(f"{card.name} {card.shared}" for card in (*CARDS, AMD))
    notes = [
        "compiled without a card by `python benchmarks/aot.py`, in the forms in which the launchers ask for them",
        "registers of a thread and spilled bytes (stores and loads) as ptxas reports them, for gfx942 as LLVM does",
        f"shared memory of one program in bytes; the most there is: {limits}",
        "products: matrix instructions that stand in the code, the newest kind first",
        "gfx942 is compiled with the tiles of sm_80 and ships none of its own: its rows say what would have to change",
        "float32 is computed at full precision, which no matrix unit does: above a head_dim of 64 a thread's share of "
        "the operands is more than its registers on any tile",
    ]
    parts.append("\n".join(f"- {note}" for note in notes))
    parts.append("Versions: " + ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None))
    return "\n\n".join(parts)


def summary(rows: list[dict[str, Any]]) -> str:
    """One line a card."""
    lines = []
    for card in dict.fromkeys(row["card"] for row in rows):
        own = [row for row in rows if row["card"] == card]
        good = [row for row in own if row["status"] == "ok"]
        most = max((row["registers"] for row in good), default=0)
        known = sum(row["status"] == KNOWN for row in own)
        told = f"; {known} of float32 spill on any tile" if known else ""
        lines.append(
            f"- {card}: {len(good)} of {len(own)} compile, spill nothing and fit; at most {most} registers{told}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

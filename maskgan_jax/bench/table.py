"""The numbers as a table for the terminal."""

from __future__ import annotations

from typing import Any


def format_table(result: dict[str, Any]) -> str:
    """The result as a table for the terminal; in a / b, b is PyTorch's."""
    compared = any("torch" in row for row in result["rows"].values())
    comparison = ["PyTorch", "ratio (range)", f"target {result['target']}"] if compared else []
    on_device = any("flops" in row for row in result["rows"].values())
    of_device = ["device MB", "FLOP utilization"] if on_device else []
    lines = [["row", "images/s", *comparison, "step MB/image", "peak MB", *of_device, "compile s"]]
    if compared:
        lines[0] += ["difference", "PyTorch run as"]
    for name, row in result["rows"].items():
        ours = row["maskgan"]
        contestants = [ours, row["torch"]] if compared else [ours]
        cells = [name, *(f"{contestant['images_per_second']:.2f}" for contestant in contestants)]
        if compared:
            low, high = row["ratio_range"]
            cells += [f"{row['ratio']:.2f} ({low:.2f}-{high:.2f})", "met" if row["met"] else "MISSED"]
        cells.append(f"{ours['step_bytes_per_image'] / 1e6:.1f}" if "step_bytes_per_image" in ours else "-")
        cells.append(" / ".join(_megabytes(contestant["peak_resident_bytes"]) for contestant in contestants))
        if on_device:
            cells.append(" / ".join(_megabytes(contestant.get("peak_device_bytes")) for contestant in contestants))
            fractions = [contestant.get("flop_utilization") for contestant in contestants]
            cells.append(" / ".join(f"{fraction:.1%}" if fraction else "-" for fraction in fractions))
        cells.append(" / ".join(f"{contestant['compile_seconds']:.1f}" for contestant in contestants))
        if compared:
            cells.append(f"{row['output_difference']:.1e}" if "output_difference" in row else "-")
            cells.append(row["torch"]["variant"])
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _megabytes(number: int | None) -> str:
    return f"{number / 1e6:.0f}" if number else "-"

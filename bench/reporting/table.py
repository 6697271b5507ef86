"""Tables as data, in the JSON of measurements; for pages and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Cells are words; ``name`` is what the README and docs/results.md call it by."""

    name: str
    columns: list[str]
    rows: list[list[str]]

    @classmethod
    def of(cls, name: str, rows: list[dict], columns: dict[str, str]) -> Table:
        """A line for each row; ``columns`` says how its cells are made of what the row has, as formats."""
        return cls(name, list(columns), [[cell.format_map(row) for cell in columns.values()] for row in rows])

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def words(self) -> str:
        """For the terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines)]
        justify = [[c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))] for r in lines]
        return "\n".join("  ".join(line).rstrip() for line in justify)


def tables_of(result: dict) -> list[Table]:
    return [Table(**t) for t in result["tables"]]

"""Write docs/networks.md: what pruning each family came to (python -m tests.families)."""

from pathlib import Path

from tests.families.table import table

if __name__ == "__main__":
    (Path(__file__).parent.parent.parent / "docs" / "networks.md").write_text(table())

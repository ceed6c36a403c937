"""How large a page of 200 runs is, and how fast it opens in Chromium."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from chita.records import versions  # noqa: E402
from chita.reports.page import make_report, page_of  # noqa: E402
from chita.reports.runs import read_runs  # noqa: E402
from tests.chromium import browser  # noqa: E402
from tests.reports.test_page import two_hundred  # noqa: E402

RECORDS = 39  # of the runs, with all charts

TIMES = 7


def main() -> None:
    """Measure, and write benchmarks/results/report.json."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        text = page_of(make_report(read_runs(two_hundred(folder, RECORDS))))
        (folder / "page.html").write_text(text)
        making = time.perf_counter() - began
        with browser(folder) as chromium:
            chromium.open(folder / "page.html")  # the first time starts the browser's processes
            opened = [chromium.open(folder / "page.html") for _ in range(TIMES)]
        found = {
            "runs": 200,
            "records among them": RECORDS,
            "megabytes": round((folder / "page.html").stat().st_size / 1e6, 2),
            "seconds to make, the test's records among it": round(making, 2),
            "seconds until loaded, median": round(statistics.median(opened), 3),
            "environment": versions(),
        }
    (ROOT / "benchmarks/results/report.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

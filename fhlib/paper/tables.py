"""The paper's tables as printed."""

from __future__ import annotations

import pandas as pd

from fhlib.files import REFERENCE_TABLES


def printed_table(number: int) -> pd.DataFrame:
    """Table 1 or 2 as the paper prints it: percent and mm."""
    return pd.read_csv(REFERENCE_TABLES / f"table{number}.csv")


def printed(quantity: str) -> float:
    """A number of `further_results.csv` by its name. Raises KeyError for an unknown one."""
    table = pd.read_csv(REFERENCE_TABLES / "further_results.csv").set_index("quantity")["value"]
    return float(table[quantity])

"""The paper's numbers as printed."""

from __future__ import annotations

import pandas as pd

from fhlib.files import REFERENCE_TABLES


def printed_table(number: int) -> pd.DataFrame:
    """Table 1 or 2 as the paper prints it, a row a variant: percent and mm."""
    return pd.read_csv(REFERENCE_TABLES / f"table{number}.csv")


def printed_numbers() -> pd.Series:
    """The numbers of the paper's text, by name."""
    return pd.read_csv(REFERENCE_TABLES / "further_results.csv", index_col="quantity")["value"]

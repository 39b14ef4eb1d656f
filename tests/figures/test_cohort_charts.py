"""Growth, and distributions of two cohorts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fhlib.figures import score_charts as charts


def test_distributions_of_two_tables_put_together() -> None:
    part = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": [3.0, 4.0, 5.0]})
    both = pd.concat([part.assign(set="real"), part.assign(set="simulated")])
    figure = charts.compare_distributions(both, {"a": "length [mm]", "b": "grey level"}, by="set")
    assert len(figure.axes) == 2 and figure.axes[0].get_xlabel() == "length [mm]"

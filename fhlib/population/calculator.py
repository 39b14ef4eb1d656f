"""Look one head up in a chart, in a notebook: age and volume in, centile with its interval out."""

from __future__ import annotations

import html

import ipywidgets as widgets
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from scipy.special import ndtri

from fhlib.figures.charts.growth import reference_chart
from fhlib.population.charts import Chart, ChartError
from fhlib.population.dating import age_by_value


class Calculator:
    """The widget. `show()` displays it, `sentence()` says what it shows.

    Args:
        chart: of true volumes.
        ga_weeks: at the start.
        volume_ml: at the start; without bias, as the chart's.
    """

    def __init__(self, chart: Chart, ga_weeks: float, volume_ml: float) -> None:
        self.chart = chart
        low, high = chart.weeks
        wide = {"layout": widgets.Layout(width="280px"), "style": {"description_width": "150px"}}
        self.age = widgets.BoundedFloatText(
            ga_weeks,
            min=np.ceil(10 * low) / 10,
            max=np.floor(10 * high) / 10,
            step=0.1,
            description="age [weeks]",
            **wide,
        )
        self.volume = widgets.BoundedFloatText(volume_ml, min=0.1, max=3000, step=1, description="volume [mL]", **wide)
        self.error = widgets.BoundedFloatText(
            round(100 * chart.error_sd, 1), min=0, max=50, step=0.5, description="error, SD [%]", **wide
        )
        self.said = widgets.HTML()
        self.box = widgets.VBox([widgets.HBox([self.age, self.volume, self.error]), self.said])
        for control in (self.age, self.volume, self.error):
            control.observe(self._update, names="value")
        self._update()

    def sentence(self) -> str:
        """Centile, z-score and age by volume, in words."""
        weeks, volume, error = self.age.value, self.volume.value, self.error.value / 100
        try:
            middle, low, high = self.chart.centile_of(volume, weeks, error)
        except ChartError as obstacle:
            return str(obstacle)
        z = float(self.chart.z(volume, weeks))
        return (
            f"{volume:g} mL at {weeks:g} weeks: centile {middle:.0f} (95 % interval {low:.0f} to {high:.0f}), z {z:+.2f}. "
            f"By its volume alone it would be {self._age(volume, error)}."
        )

    def _age(self, volume: float, error: float) -> str:
        age, youngest, oldest = (float(value) for value in age_by_value(self.chart, volume, error))
        first, last = (f"{weeks:.1f} weeks" for weeks in self.chart.weeks)
        if np.isnan(age):
            return f"outside the chart's {first} to {last}"
        low = f"before {first}" if np.isnan(youngest) else f"{youngest:.1f}"
        high = f"after {last}" if np.isnan(oldest) else f"{oldest:.1f}"
        return f"{age:.1f} weeks old ({low} to {high})"

    def static(self) -> Figure:
        """The chart with this head on it."""
        weeks = np.linspace(*self.chart.weeks, 80)
        figure = reference_chart(self.chart.table(weeks))
        reach = np.exp(ndtri(0.975) * self.error.value / 100)
        volume = self.volume.value
        figure.axes[0].errorbar(
            [self.age.value], [volume], [[volume - volume / reach], [volume * reach - volume]],
            fmt="o", color="black", capsize=3, label="this head", zorder=5,
        )  # fmt: skip
        figure.axes[0].legend(loc="upper left")
        return figure

    def show(self) -> None:
        """Display the widget."""
        display(self.box)

    def _update(self, _: object = None) -> None:
        self.said.value = f"<p>{html.escape(self.sentence())}</p>"

"""08: what the notebook looks at, and what it found in words. A view is None where no model has attention modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fhlib.files import given_path
from fhlib.images.volume import Volume
from fhlib.interpretability.cases import CaseReader, ExploredCase
from fhlib.interpretability.choices import ALL_PARTS, ALONE, ROLES
from fhlib.interpretability.explorer import AttentionExplorer
from fhlib.interpretability.map_figures import attention_maps, before_and_after
from fhlib.interpretability.summaries import boundary_channel
from fhlib.study.predict import predicted_volumes
from fhlib.study.run import Study

PLAIN, HYBRID = "USegNet-DS", "USegNet-DS-HAS"


def compared_variants(variants: Sequence[str]) -> list[str]:
    """USegNet-DS, USegNet-DS-HAS and its cascade. Where a run lacks one of the first two, its first or last variant."""
    plain = PLAIN if PLAIN in variants else variants[0]
    hybrid = HYBRID if HYBRID in variants else variants[-1]
    return [plain, hybrid, *(name for name in variants if name == f"{hybrid}-Ctx")]


def median_case(scores: pd.DataFrame, variant: str, cases: Sequence[str]) -> str:
    """The case in which a variant reaches its median DSC.

    Args:
        scores: of the run.
        variant: one of them.
        cases: that are considered.
    """
    ranked = scores[(scores["variant"] == variant) & scores["case"].isin(cases)].sort_values("dsc")
    return str(ranked["case"].iloc[len(ranked) // 2])


def results_of(study: Study, variants: Sequence[str], case: str) -> tuple[dict[str, Volume], dict[str, Volume]]:
    """Masks and probabilities that variants found for a case, by variant.

    Args:
        study: the run.
        variants: that have predicted.
        case: of the test split.
    """
    masks, probabilities = {}, {}
    for name in variants:
        masks[name], probabilities[name] = predicted_volumes(study, name, case)
    return masks, probabilities


def maps_of_modules(explored: ExploredCase, summary: str) -> Figure | None:
    """`attention_maps` of the first model that has attention modules."""
    if not explored.attentive:
        return None
    return attention_maps(explored.models[explored.attentive[0]], summary=summary, reference=explored.reference)


def passed_on(explored: ExploredCase) -> Figure | None:
    """`before_and_after` of the last module, in the channel most aligned with the boundary."""
    if not explored.attentive or explored.reference is None:
        return None
    features = explored.models[explored.attentive[0]]
    module = max(features.attention)
    channel = boundary_channel(features.attention[module], explored.reference.array > 0)
    return before_and_after(features, module, channel, explored.reference)


def explorer_of(reader: CaseReader, explored: ExploredCase, volume: Path | str = "") -> AttentionExplorer:
    """The explorer over a case, from which all test cases can be chosen; or over a volume of one's own.

    Args:
        reader: of the run.
        explored: the case.
        volume: a file that is shown in place of the case (`given_path`).
    """
    if volume:
        return AttentionExplorer(reader.read_showing_progress(explored.name, given_path(volume)))
    return AttentionExplorer(explored, reader.test_cases, reader.read, reader.steps)


def two_models(explorer: AttentionExplorer) -> Figure:
    """The probability by the chosen model and another, with the contours of both."""
    others = [name for name in explorer.models if name != explorer.view.model]
    return explorer.static(overlay="probability", beside=others[0] if others else ALONE, outlines=ROLES)


def two_levels(explorer: AttentionExplorer) -> Figure:
    """The attention of the first and the last level that have modules; without any, the probability."""
    attentive = _attentive(explorer)
    if not attentive:
        return explorer.static(overlay="probability")
    beside = attentive[-1] if len(attentive) > 1 else ALONE
    return explorer.static(overlay="A", summary="rest", model=attentive[0], beside=beside, outlines=ROLES)


def all_parts(explorer: AttentionExplorer) -> Figure | None:
    """P, A and T of the chosen module."""
    return explorer.static(beside=ALL_PARTS) if _attentive(explorer) else None


def case_findings(scores: pd.DataFrame, case: str, variants: Sequence[str]) -> str:
    """The DSC of two variants in one case.

    Args:
        scores: of the run.
        case: one of them.
        variants: two of them.
    """
    dsc = 100 * scores[scores["case"] == case].set_index("variant")["dsc"]
    first, second = variants
    return f"On {case}: DSC {dsc[first]:.1f} % ({first}) and {dsc[second]:.1f} % ({second})."


def shares_findings(verdicts: pd.DataFrame, cases: int) -> str:
    """What the shares of attention say over so many test cases; `verdicts` is of `beside_paper`."""
    if verdicts.empty:
        return ""
    said = " ".join(f"{row['model']}: {row['here']}." for row in verdicts.to_dict("records"))
    return f"Over {cases} test cases, share of the passed features against chance: {said}"


def use_findings(used: pd.DataFrame, variant: str) -> str:
    """What a variant loses without its maps' dependence on place; `used` is of `use_of_maps`."""
    rows = used[used["network"] == variant]
    if rows.empty:
        return ""
    percent = rows.assign(difference=100 * rows["difference"], low=100 * rows["low"], high=100 * rows["high"])
    relies = [
        f"{row.difference:+.1f} points ({row.low:.1f} to {row.high:.1f}) with {row.variant}"
        for row in percent.itertuples()
    ]
    return (
        f"Without the maps' dependence on place {variant}'s DSC of {rows['n'].max()} validation cases "
        f"changes by {'; '.join(relies)}."
    )


def _attentive(explorer: AttentionExplorer) -> list[str]:
    return [name for name, features in explorer.models.items() if features.attention]

"""The ledger of claims as a page shows it: what could be tested in a table, the rest folded, the rule beside it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import pandas as pd

from fhlib.files import blank_gaps
from fhlib.paper.claims import NOT_TESTABLE, VERDICTS, is_testable

HEADINGS = ("claim", "where", "printed", "here (95 % CI)", "verdict")


def verdict_counts(claims: pd.DataFrame) -> str:
    """How many claims got which verdict, in words; claims of rank from one training are counted apart.

    Args:
        claims: of `evaluate_claims`.
    """
    caveats = blank_gaps(claims["caveat"]) if "caveat" in claims else pd.Series("", claims.index)
    testable = is_testable(claims)
    firm = claims.loc[testable & (caveats == ""), "verdict"].value_counts()
    parts = [f"{firm[verdict]} {verdict}" for verdict in VERDICTS if verdict in firm]
    if grey := int((testable & (caveats != "")).sum()):
        parts.append(f"{grey} about which network is better, which one training cannot decide")
    if rest := int((~testable).sum()):
        parts.append(f"{rest} {NOT_TESTABLE}")
    return f"{len(claims)} claims: {', '.join(parts)}."


def ledger_html(claims: pd.DataFrame) -> str:
    """The claims as HTML: a table of those that could be tested, those that could not be folded below, and the rules.

    Rows with a caveat are greyed (class `grey`), with the reason beside the verdict.

    Args:
        claims: of `evaluate_claims`.
    """
    testable = is_testable(claims)
    parts = [_table(HEADINGS, [_row(claim) for claim in claims[testable].to_dict("records")])] if testable.any() else []
    if not testable.all():
        rows = [
            ("", (claim["statement"], claim["where"], claim.get("reason") or ""))
            for claim in _records(claims[~testable])
        ]
        folded = _table(("claim", "where", "why it cannot be tested here"), rows)
        parts.append(f"<details><summary>{len(rows)} claims that this run cannot test</summary>{folded}</details>")
    parts.append(_rules(claims))
    return "\n".join(parts)


def _rules(claims: pd.DataFrame) -> str:
    """The rule of each kind of claim, as the ledger has it."""
    kinds = claims.drop_duplicates("kind").set_index("kind")["rule"]
    rules = "".join(f"<li><b>{kind}</b>: {html.escape(rule)}.</li>" for kind, rule in kinds.items())
    grey = (
        "Grey: which of two networks is better, where each was trained once. Another training may order them otherwise."
    )
    return f"<p>By a rule that was fixed before any value was computed:</p><ul>{rules}</ul><p>{grey}</p>"


def _records(claims: pd.DataFrame) -> list[dict[str, object]]:
    return claims.astype(object).where(claims.notna(), "").to_dict("records")


def cells_of(claim: Mapping[str, object]) -> tuple[str, str, str]:
    """Of one claim what is printed, what was obtained with its interval, and the verdict with its caveat, in words.

    Args:
        claim: a row of `evaluate_claims`.
    """
    caveat = claim.get("caveat")
    unit = f" {claim['unit']}" if isinstance(claim["unit"], str) and claim["unit"] else ""
    here = "" if pd.isna(claim["value_here"]) else f"{claim['value_here']:.4g}{unit}"
    if pd.notna(claim["ci_low"]):
        here += f" ({claim['ci_low']:.4g} to {claim['ci_high']:.4g})"
    printed = "" if pd.isna(claim["printed_value"]) else f"{claim['printed_value']:.4g}{unit}"
    verdict = str(claim["verdict"])
    return printed, here, f"{verdict} ({caveat})" if isinstance(caveat, str) and caveat else verdict


def _row(claim: dict[str, object]) -> tuple[str, Sequence[str]]:
    kind = "grey" if isinstance(claim.get("caveat"), str) and claim["caveat"] else ""
    return kind, (str(claim["statement"]), str(claim["where"]), *cells_of(claim))


def _table(headings: Sequence[str], rows: Sequence[tuple[str, Sequence[object]]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in headings)
    body = ""
    for kind, cells in rows:
        name = f' class="{kind}" style="color: gray"' if kind else ""  # the style is for notebooks
        body += f"<tr{name}>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>\n"
    table = f'<table class="claims"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'
    return f'<div class="wide" tabindex="0" role="region" aria-label="Claims">{table}</div>'

"""Rows of the tables."""

from __future__ import annotations

from fhlib.variants import levels_of, trained_levels

VARIANTS = ("USegNet-DS", "USegNet-DS-HAS", "USegNet-DS-HAS-Ctx")


def test_a_cascade_continues_its_base_which_is_trained_once_listed_or_not():
    assert trained_levels(["USegNet-DS-HAS-Ctx"]) == (("USegNet-DS-HAS", 1), ("USegNet-DS-HAS-Ctx", 2))
    assert trained_levels(VARIANTS) == (("USegNet-DS", 1), ("USegNet-DS-HAS", 1), ("USegNet-DS-HAS-Ctx", 2))
    assert levels_of("USegNet") == (("USegNet", 1),)

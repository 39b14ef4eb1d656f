"""Rows of the tables."""

from __future__ import annotations

from fhlib.variants import levels_of, shown_variant, trained_levels

VARIANTS = ("USegNet-DS", "USegNet-DS-HAS", "USegNet-DS-HAS-Ctx")


def test_a_cascade_continues_its_base_which_is_trained_once_listed_or_not():
    assert trained_levels(["USegNet-DS-HAS-Ctx"]) == (("USegNet-DS-HAS", 1), ("USegNet-DS-HAS-Ctx", 2))
    assert trained_levels(VARIANTS) == (("USegNet-DS", 1), ("USegNet-DS-HAS", 1), ("USegNet-DS-HAS-Ctx", 2))
    assert levels_of("USegNet") == (("USegNet", 1),)


def test_a_run_is_shown_by_the_papers_own_method_where_it_has_it():
    assert shown_variant([*VARIANTS, "SAM-1", "Residual-U-Net"]) == "USegNet-DS-HAS-Ctx"
    assert shown_variant(["USegNet", "UAM-12", "USegNet-DS-Zoom", "Swin-UNETR"]) == "UAM-12"
    assert shown_variant(["USegNet-DS-Zoom", "Swin-UNETR"]) == "Swin-UNETR"

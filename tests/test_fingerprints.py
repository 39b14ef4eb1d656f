"""Hashes of code: what counts and what does not."""

from __future__ import annotations

from fhlib import fingerprints as reach


def test_a_part_is_reached_through_the_names_in_it(tmp_path, monkeypatch):
    package = tmp_path / "fhlib"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fhlib.top import one\n"
    )
    (package / "low.py").write_text("SCALE = 2\ndef used(): return SCALE\ndef unused(): return 3\n")
    (package / "top.py").write_text(
        "from fhlib import low\nfrom fhlib.low import unused\n"
        "def one():\n    'Prose.'\n    return low.used()\ndef two(): return unused()\n"
    )
    monkeypatch.setattr(reach, "PACKAGE", package)

    def state(source: str, **edits: tuple[str, str]) -> dict[str, str]:
        for name, (old, new) in edits.items():
            text = (package / f"{name}.py").read_text(encoding="utf-8")
            assert old in text
            (package / f"{name}.py").write_text(text.replace(old, new))
        for cached in (reach._module, reach._reaches, reach._digest):
            cached.cache_clear()
        return reach.reached(source=source)

    source = "from fhlib import one\none()"
    first = state(source)
    assert set(first) == {"fhlib.top", "fhlib.low"}
    assert state(source, low=("return 3", "return 4"), top=("'Prose.'", "'Other prose.'")) == first
    assert state(source, low=("SCALE = 2", "SCALE = 5"))["fhlib.low"] != first["fhlib.low"]
    assert state(source)["fhlib.top"] == first["fhlib.top"]
    whole = state("import fhlib.low\nfhlib.low.unused()")
    assert state("import fhlib.low\nfhlib.low.unused()", low=("return 4", "return 9")) != whole
    for cached in (reach._module, reach._reaches, reach._digest):
        cached.cache_clear()

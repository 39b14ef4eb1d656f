"""Every public name has an example in its docstring, and the examples are true."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

import fhlib


@pytest.mark.parametrize("name", sorted(fhlib.PUBLIC))
def test_a_public_name_has_an_example_that_is_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = import_module(fhlib.PUBLIC[name])
    documented = (
        module if name in ("TABLE1", "TABLE2") else getattr(module, name)
    )  # a tuple has no docstring of its own
    found = doctest.DocTestFinder(recurse=False).find(documented, name, module, vars(module).copy())
    examples = [test for test in found if test.examples]
    assert examples, f"{name} has no example"
    for test in examples:
        assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0


def test_an_unknown_name_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(AttributeError, match=r"no attribute 'evalute'; it has: .*evaluate"):
        fhlib.evalute  # noqa: B018
    assert set(fhlib.PUBLIC) < set(dir(fhlib))

import importlib

import pytest


@pytest.mark.parametrize("package", ["stoker.agents.tools", "stoker.queue", "stoker.spec"])
def test_each_name_of_a_package_has_its_home_and_no_other_has_one(package: str) -> None:
    whole = importlib.import_module(package)
    assert sorted(name for names in whole._HOMES.values() for name in names) == sorted(whole.__all__)
    for home, names in whole._HOMES.items():
        assert all(
            getattr(whole, name) is getattr(importlib.import_module(f"{package}.{home}"), name) for name in names
        )


def test_a_name_that_is_nowhere_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'stoker.queue' has no attribute 'Cue'"):
        importlib.import_module("stoker.queue").Cue  # noqa: B018

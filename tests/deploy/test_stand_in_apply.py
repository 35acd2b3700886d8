"""Server-side apply of the cluster's stand-in: who owns which field, what goes, what conflicts, and how lists merge."""

import copy
import json
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.catalog import schemas
from stoker.testing.kubernetes.apply import (
    ConflictError,
    Manager,
    apply,
    difference,
    managed_fields,
    owners_of,
    updated,
)
from stoker.testing.kubernetes.fields import from_v1, shape_of, to_v1

Tree = dict[str, Any]
A, B = Manager("a", "Apply"), Manager("b", "Apply")
EDITOR = Manager("kubectl-edit", "Update", "apps/v1")
SHAPE = shape_of(schemas.find("apps/v1", "Deployment", folder=schemas.SHIPPED))


def deployment(spec: Tree, **meta: Any) -> Tree:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", **meta}, "spec": spec}


def pod(*containers: Tree, **spec: Any) -> Tree:
    return {"template": {"spec": {"containers": list(containers), **spec}}}


def containers(obj: Tree) -> list[Tree]:
    found: list[Tree] = obj["spec"]["template"]["spec"]["containers"]
    return found


def test_who_applies_owns_the_leaves_and_the_items() -> None:
    config = deployment(
        {
            "replicas": 2,
            **pod({"name": "web", "image": "web:1", "args": ["-v"], "ports": [{"containerPort": 80}]}),
        },
        labels={"app": "web"},
    )

    _, owners = apply({}, {}, config, A, SHAPE)

    port = 'k:{"containerPort":80,"protocol":"TCP"}'
    web = {
        ".": {},
        "f:name": {},
        "f:image": {},
        "f:args": {},
        "f:ports": {port: {".": {}, "f:containerPort": {}}},
    }
    assert to_v1(owners[A]) == {
        "f:metadata": {"f:labels": {"f:app": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': web}}},
        },
    }


def test_an_empty_map_is_owned_and_an_empty_list_with_keys_is_not() -> None:
    config = deployment(pod({"name": "web", "securityContext": {}, "env": []}))

    _, owners = apply({}, {}, config, A, SHAPE)

    web = 'k:{"name":"web"}'
    below = {path[4:] for path in owners[A] if path[:4] == ("f:spec", "f:template", "f:spec", "f:containers")}
    assert below == {(web,), (web, "f:name"), (web, "f:securityContext")}


def test_what_is_applied_no_more_goes_where_nobody_else_owns_it() -> None:
    first = deployment(
        {"replicas": 2, **pod({"name": "web", "env": [{"name": "X", "value": "1"}]})}, labels={"app": "x"}
    )
    live, owners = apply({}, {}, first, A, SHAPE)

    live, owners = apply(live, owners, deployment(pod({"name": "web"})), A, SHAPE)

    assert live == deployment(pod({"name": "web"}))
    assert to_v1(owners[A]) == {
        "f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:name": {}}}}}}
    }


def test_what_another_owns_stays() -> None:
    live, owners = apply({}, {}, deployment({"replicas": 2, "paused": True}), A, SHAPE)
    live, owners = apply(live, owners, deployment({"replicas": 2}), B, SHAPE)

    live, owners = apply(live, owners, deployment({}), A, SHAPE)

    assert live["spec"] == {"replicas": 2}
    assert owners[B] == {("f:spec", "f:replicas")}
    assert ("f:spec", "f:replicas") not in owners.get(A, frozenset())


def test_what_nobody_owns_goes_with_the_item_that_it_stands_in() -> None:
    """A default that the server filled in, inside a container that is applied no more."""
    live, owners = apply({}, {}, deployment(pod({"name": "web"}, {"name": "side"})), A, SHAPE)
    containers(live)[1]["imagePullPolicy"] = "Always"

    live, _ = apply(live, owners, deployment(pod({"name": "web"})), A, SHAPE)

    assert containers(live) == [{"name": "web"}]


def test_an_item_that_another_owns_a_part_of_keeps_its_name_and_that_part() -> None:
    live, owners = apply({}, {}, deployment(pod({"name": "web"}, {"name": "side", "image": "a"})), A, SHAPE)
    edited = copy.deepcopy(live)
    containers(edited)[1]["tty"] = True
    owners = updated(live, edited, owners, EDITOR, SHAPE)

    live, _ = apply(edited, owners, deployment(pod({"name": "web"})), A, SHAPE)

    assert containers(live) == [{"name": "web"}, {"name": "side", "tty": True}]


def test_another_value_for_what_another_owns_is_a_conflict() -> None:
    live, owners = apply({}, {}, deployment({"replicas": 2}), A, SHAPE)
    edited = deployment({"replicas": 5})
    owners = updated(live, edited, owners, EDITOR, SHAPE)

    with pytest.raises(ConflictError) as caught:
        apply(edited, owners, deployment({"replicas": 2}), A, SHAPE)

    assert (
        str(caught.value) == 'Apply failed with 1 conflict: conflict with "kubectl-edit" using apps/v1: .spec.replicas'
    )
    assert caught.value.causes() == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-edit" using apps/v1',
            "field": ".spec.replicas",
        }
    ]


def test_several_conflicts_are_listed_by_manager() -> None:
    live, owners = apply({}, {}, deployment({"replicas": 2, **pod({"name": "web", "image": "a"})}), A, SHAPE)
    config = deployment({"replicas": 3, **pod({"name": "web", "image": "b"})})

    with pytest.raises(ConflictError) as caught:
        apply(live, owners, config, B, SHAPE)

    assert str(caught.value) == (
        'Apply failed with 2 conflicts: conflicts with "a":\n'
        '- .spec.replicas\n- .spec.template.spec.containers[name="web"].image'
    )


def test_the_same_value_is_shared_and_no_conflict() -> None:
    live, owners = apply({}, {}, deployment({"replicas": 2}), A, SHAPE)

    again, owners = apply(live, owners, deployment({"replicas": 2}), B, SHAPE)

    assert again == live
    assert owners[A] == owners[B] == {("f:spec", "f:replicas")}


def test_force_takes_the_field() -> None:
    live, owners = apply({}, {}, deployment({"replicas": 2, "paused": True}), A, SHAPE)

    live, owners = apply(live, owners, deployment({"replicas": 3}), B, SHAPE, force=True)

    assert live["spec"] == {"replicas": 3, "paused": True}
    assert owners == {A: {("f:spec", "f:paused")}, B: {("f:spec", "f:replicas")}}


def test_removing_what_another_changed_leaves_it_to_the_other() -> None:
    live, owners = apply({}, {}, deployment({"replicas": 2, "paused": True}), A, SHAPE)
    edited = deployment({"replicas": 5, "paused": True})
    owners = updated(live, edited, owners, EDITOR, SHAPE)

    live, owners = apply(edited, owners, deployment({"paused": True}), A, SHAPE)

    assert live["spec"] == {"replicas": 5, "paused": True}
    assert owners == {A: {("f:spec", "f:paused")}, EDITOR: {("f:spec", "f:replicas")}}


def test_items_merge_by_their_keys_in_the_order_of_what_is_applied() -> None:
    live, owners = apply({}, {}, deployment(pod({"name": "a", "image": "1"}, {"name": "b", "image": "1"})), A, SHAPE)

    live, _ = apply(live, owners, deployment(pod({"name": "c"}, {"name": "b", "tty": True})), B, SHAPE)

    assert containers(live) == [{"name": "c"}, {"name": "a", "image": "1"}, {"name": "b", "image": "1", "tty": True}]


def test_ports_of_one_number_and_two_protocols_are_two() -> None:
    udp, tcp = {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}
    live, owners = apply({}, {}, deployment(pod({"name": "dns", "ports": [udp]})), A, SHAPE)

    live, _ = apply(live, owners, deployment(pod({"name": "dns", "ports": [tcp]})), B, SHAPE)

    assert containers(live)[0]["ports"] == [tcp, udp]


def test_a_set_is_owned_value_by_value() -> None:
    live, owners = apply({}, {}, deployment({}, finalizers=["a/x"]), A, SHAPE)
    live, owners = apply(live, owners, deployment({}, finalizers=["b/y"]), B, SHAPE)
    assert sorted(live["metadata"]["finalizers"]) == ["a/x", "b/y"]

    live, owners = apply(live, owners, deployment({}), A, SHAPE)

    assert live["metadata"]["finalizers"] == ["b/y"]
    assert owners == {A: {("f:spec",)}, B: {("f:spec",), ("f:metadata", "f:finalizers", 'v:"b/y"')}}


def test_an_atomic_list_is_one_value() -> None:
    live, owners = apply({}, {}, deployment(pod({"name": "web", "args": ["a", "b"]})), A, SHAPE)

    with pytest.raises(ConflictError, match=r'containers\[name="web"\]\.args'):
        apply(live, owners, deployment(pod({"name": "web", "args": ["a"]})), B, SHAPE)


def test_an_atomic_map_is_one_value() -> None:
    live, owners = apply({}, {}, deployment({"selector": {"matchLabels": {"a": "b"}}}), A, SHAPE)
    assert owners[A] == {("f:spec", "f:selector")}

    live, _ = apply(live, owners, deployment({"selector": {"matchLabels": {"c": "d"}}}), A, SHAPE)

    assert live["spec"]["selector"] == {"matchLabels": {"c": "d"}}


def test_an_update_owns_what_it_changed_and_takes_it_from_whoever_had_it() -> None:
    live, owners = apply({}, {}, deployment({"replicas": 2, "paused": True}), A, SHAPE)

    owners = updated(live, deployment({"replicas": 3}), owners, EDITOR, SHAPE)

    assert owners == {EDITOR: {("f:spec", "f:replicas")}}


def test_a_kind_without_a_schema_merges_maps_and_replaces_lists() -> None:
    shape = shape_of(None)
    live, owners = apply({}, {}, {"spec": {"a": {"x": 1}, "list": [1]}}, A, shape)

    live, _ = apply(live, owners, {"spec": {"a": {"y": 2}, "list": [2]}}, B, shape, force=True)

    assert live == {"spec": {"a": {"x": 1, "y": 2}, "list": [2]}}


def test_managed_fields_say_who_applied_what_and_when() -> None:
    _, owners = apply({}, {}, deployment({"replicas": 2}), A, SHAPE)

    first = managed_fields(owners, [], "apps/v1", "2026-01-01T00:00:01Z")
    again = managed_fields(owners, first, "apps/v1", "2026-01-01T00:00:09Z")

    assert first == again
    assert first == [
        {
            "manager": "a",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": "2026-01-01T00:00:01Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
    ]
    assert owners_of({"metadata": {"managedFields": first}}) == owners


# for any object

NAMES = st.sampled_from(["a", "b", "c", "d"])
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES},
        optional={
            "image": st.sampled_from(["1", "2"]),
            "args": st.lists(NAMES, max_size=2),
            "env": st.lists(
                st.fixed_dictionaries({"name": NAMES}, optional={"value": NAMES}),
                min_size=1,
                max_size=3,
                unique_by=lambda e: e["name"],
            ),
            "resources": st.fixed_dictionaries({}, optional={"limits": st.dictionaries(NAMES, NAMES, max_size=2)}),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each["name"],
)
CONFIGS = st.builds(
    lambda spec, labels, boxes: deployment({**spec, **pod(*boxes)}, labels=labels),
    st.fixed_dictionaries({}, optional={"replicas": st.integers(0, 3), "paused": st.booleans()}),
    st.dictionaries(NAMES, NAMES, max_size=3),
    CONTAINERS,
)


def sorted_lists(value: Any) -> Any:
    """In one order, since who comes first says in which order items stand."""
    if isinstance(value, dict):
        return {key: sorted_lists(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted((sorted_lists(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


@settings(max_examples=examples(15))
@given(CONFIGS, CONFIGS, CONFIGS)
def test_applying_the_same_twice_changes_nothing(first: Tree, other: Tree, config: Tree) -> None:
    live, owners = apply({}, {}, first, A, SHAPE)
    live, owners = apply(live, owners, other, B, SHAPE, force=True)
    live, owners = apply(live, owners, config, A, SHAPE, force=True)

    again, owners_again = apply(live, owners, config, A, SHAPE)

    assert again == live
    assert owners_again == owners
    assert not difference(live, again, SHAPE)


@settings(max_examples=examples(15))
@given(CONFIGS, CONFIGS)
def test_whoever_applies_alone_has_exactly_what_was_applied_last(first: Tree, second: Tree) -> None:
    live, owners = apply({}, {}, first, A, SHAPE)

    live, _ = apply(live, owners, second, A, SHAPE)

    fresh, _ = apply({}, {}, second, A, SHAPE)
    assert sorted_lists(_without_empty(live)) == sorted_lists(_without_empty(fresh))


def _without_empty(value: Any) -> Any:
    """Empty lists and maps do not count: whether they stay when what they held goes is nobody's concern."""
    if isinstance(value, dict):
        found = {key: _without_empty(each) for key, each in value.items()}
        return {key: each for key, each in found.items() if each not in ({}, [])}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value


@settings(max_examples=examples(15))
@given(CONFIGS, CONFIGS)
def test_who_applies_what_the_other_does_not_may_come_first_or_second(one: Tree, two: Tree) -> None:
    one["spec"].pop("replicas", None)
    two["spec"].pop("paused", None)
    one["metadata"]["labels"] = {f"one-{key}": each for key, each in one["metadata"]["labels"].items()}
    for each in containers(one):
        each["name"] = f"one-{each['name']}"

    def both(*order: tuple[Manager, Tree]) -> tuple[Tree, Any]:
        live: Tree = {}
        owners: Any = {}
        for manager, config in order:
            live, owners = apply(live, owners, config, manager, SHAPE)
        return sorted_lists(live), owners

    assert both((A, one), (B, two)) == both((B, two), (A, one))


@settings(max_examples=examples(15))
@given(CONFIGS)
def test_fields_are_read_as_they_are_written(config: Tree) -> None:
    _, owners = apply({}, {}, config, A, SHAPE)

    for fields in owners.values():
        assert from_v1(to_v1(fields)) == fields

"""What a pod needs at the most demanding time of its life."""

import pytest

from stoker.policy.pod_resources import Init, added, fits, pod_requests, requested, times


def test_containers_run_beside_one_another() -> None:
    assert pod_requests([{"cpu": 500, "memory": 10}, {"cpu": 250}]) == {"cpu": 750, "memory": 10}


def test_init_containers_run_before_them_one_by_one() -> None:
    inits = [Init({"cpu": 2000}), Init({"cpu": 1500, "memory": 50})]
    assert pod_requests([{"cpu": 500, "memory": 10}], inits) == {"cpu": 2000, "memory": 50}


def test_a_sidecar_stays() -> None:
    sidecar = Init({"cpu": 300}, is_sidecar=True)
    assert pod_requests([{"cpu": 1000}], [sidecar]) == {"cpu": 1300}


def test_an_init_container_runs_beside_the_sidecars_before_it() -> None:
    sidecar, init = Init({"cpu": 300}, is_sidecar=True), Init({"cpu": 2000})
    assert pod_requests([{"cpu": 1000}], [sidecar, init]) == {"cpu": 2300}
    assert pod_requests([{"cpu": 1000}], [init, sidecar]) == {"cpu": 2000}


def test_overhead_comes_on_top() -> None:
    assert pod_requests([{"cpu": 1000}], [Init({"cpu": 2000})], {"cpu": 250, "memory": 120}) == {
        "cpu": 2250,
        "memory": 120,
    }


def test_what_the_pod_requests_itself_counts_instead_of_the_sum() -> None:
    assert pod_requests([{"cpu": 1000, "nvidia.com/gpu": 1}], whole={"cpu": 3000}) == {"cpu": 3000, "nvidia.com/gpu": 1}


def test_a_limit_alone_is_a_request() -> None:
    assert requested({"cpu": 500}, {"cpu": 2000, "nvidia.com/gpu": 1}) == {"cpu": 500, "nvidia.com/gpu": 1}


def test_fits_when_all_of_it_is_there() -> None:
    assert fits({"cpu": 7910, "amd.com/gpu": 0}, {"cpu": 7910})
    assert not fits({"cpu": 7911}, {"cpu": 7910})
    assert not fits({"nvidia.com/gpu": 1}, {"cpu": 7910})


def test_how_many_times() -> None:
    assert times({"cpu": 1000, "memory": 3}, {"cpu": 7910, "memory": 10}) == 3
    assert times({"cpu": 1000, "x": 1}, {"cpu": 7910}) == 0
    assert times({"cpu": 1000, "x": 0}, {"cpu": 7910}) == 7
    assert times({"cpu": 1000}, {"cpu": -50}) == 0
    with pytest.raises(ValueError, match="nothing is requested"):
        times({"cpu": 0}, {"cpu": 7910})


def test_amounts_add_up() -> None:
    assert added({"cpu": 1}, {}, {"cpu": 2, "memory": 3}) == {"cpu": 3, "memory": 3}

"""StoredJobs: a tuple of jobs in all but its size; and what becomes of a damaged text."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.errors import FailedPrecondition
from supervisor.core.manifest import InvalidManifest, JobSpec, Manifest
from supervisor.core.stored_jobs import StoredJobs
from supervisor.core.stored_manifest import compact, manifest_for_worker, manifest_to_table, parse_stored_manifest

ASK = JobSpec(key="ask", display_name="Fragen – 'größer' \"🙂\"", every="90s")
TIDY = JobSpec(key="tidy", display_name="Tidy", command=("sh", "tidy.sh"), timeout_s=0.5, overlap="allow")
BOTH = (ASK, TIDY)
TABLE: dict[str, Any] = {
    "plugin": {
        "key": "acme.weather",
        "version": "1.0",
        "api_version": 1,
        "display_name": "Weather",
        "description": "Tells it",
        "author": "Acme",
        "categories": ["connector"],
    },
    "worker": {"command": ["x"]},
}
DAMAGED = [
    '[{"key":"a","display_name":"A"},{"key"}]',
    '[{"key":"a"}]',
    '[{"key":"a","display_name":"A","command":3}]',
    '[{"key":"a"},3,{}]',
]


def with_jobs(jobs: Any) -> Manifest:
    return parse_stored_manifest(TABLE | {"jobs": jobs})


def test_it_is_a_sequence_like_the_tuple() -> None:
    jobs = StoredJobs.of(BOTH)
    assert (len(jobs), list(jobs), jobs[0], jobs[-1], jobs[1:]) == (2, [*BOTH], ASK, TIDY, (TIDY,))
    assert TIDY in jobs
    assert jobs.index(TIDY) == 1
    assert [*reversed(jobs)] == [TIDY, ASK]
    with pytest.raises(IndexError):
        jobs[2]
    assert jobs
    assert not StoredJobs.of(())
    assert len(StoredJobs("[]")) == 0


def test_equal_by_what_it_holds() -> None:
    jobs = StoredJobs.of(BOTH)
    spaced = StoredJobs(json.dumps(json.loads(jobs.text), indent=1))
    assert jobs == spaced == BOTH == jobs
    assert hash(jobs) == hash(spaced) == hash(BOTH)
    assert jobs != StoredJobs.of([TIDY, ASK])
    assert jobs != (ASK,)
    assert jobs != [*BOTH]  # as with tuples
    assert StoredJobs("[]") == ()


def test_nothing_is_kept_of_a_look() -> None:
    jobs = StoredJobs.of(BOTH)
    assert jobs[0] is not jobs[0]
    assert StoredJobs.__slots__ == ("text",)
    assert not hasattr(jobs, "__dict__")


def test_each_of_its_characters_takes_one_byte() -> None:
    assert StoredJobs.of(BOTH).text.isascii()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.builds(JobSpec, key=st.text(), display_name=st.text(), command=st.lists(st.text()).map(tuple))))
def test_whatever_is_stored_is_read_back(specs: list[JobSpec]) -> None:
    jobs = StoredJobs.of(specs)
    assert jobs == tuple(specs)
    assert jobs.looks_whole()
    assert bool(jobs) == bool(specs)


def test_copied_pickled_and_shown() -> None:
    jobs = StoredJobs.of(BOTH)
    assert pickle.loads(pickle.dumps(jobs)) == copy.deepcopy(jobs) == copy.copy(jobs) == BOTH
    assert repr(jobs) == f"StoredJobs({jobs.text!r})"
    assert StoredJobs.of(jobs) is jobs
    manifest = with_jobs(jobs.text)
    assert asdict(manifest)["jobs"] == BOTH
    assert replace(manifest, version="2").jobs is manifest.jobs
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_the_stored_form_is_one_text() -> None:
    plain = replace(with_jobs("[]"), jobs=BOTH)
    stored = json.loads(json.dumps(manifest_to_table(plain)))
    assert json.loads(stored["jobs"])[1] == {
        "key": "tidy",
        "display_name": "Tidy",
        "command": ["sh", "tidy.sh"],
        "overlap": "allow",
        "timeout_s": 0.5,
    }
    back = parse_stored_manifest(stored)
    assert isinstance(back.jobs, StoredJobs)
    assert back == plain == compact(plain)
    assert manifest_to_table(back) == stored == manifest_to_table(compact(plain))


def test_a_list_of_tables_is_read_as_before() -> None:
    tables = [{"key": "a", "display_name": "A", "mood": "good"}, {"key": "b", "display_name": "B", "command": ["x"]}]
    manifest = with_jobs(tables)
    assert isinstance(manifest.jobs, StoredJobs)
    assert manifest.jobs == (JobSpec(key="a", display_name="A"), JobSpec(key="b", display_name="B", command=("x",)))
    assert parse_stored_manifest(TABLE).jobs == ()


def test_a_worker_is_told_a_list_of_tables() -> None:
    told = manifest_for_worker(with_jobs(StoredJobs.of(BOTH).text))
    assert [job["key"] for job in told["jobs"]] == ["ask", "tidy"]
    assert {**told, "jobs": None} == {**manifest_to_table(with_jobs("[]")), "jobs": None}
    assert manifest_for_worker(with_jobs("[]"))["jobs"] == []


@pytest.mark.parametrize("text", ["", "[", '[{"key":"a","display_na', "{}", "3", "[3]", "null"])
def test_a_text_that_is_cut_or_foreign_is_told_at_once(text: str) -> None:
    with pytest.raises(InvalidManifest, match="jobs: are not what is stored for jobs: the text is cut or foreign"):
        with_jobs(text)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_text_damaged_inside_is_told_by_whoever_reads_it(text: str) -> None:
    jobs = with_jobs(text).jobs
    for look in (len, list, hash, lambda damaged: damaged[0], manifest_for_worker_of):
        with pytest.raises(FailedPrecondition, match=r"the stored jobs of the plugin cannot be read: .+ install it ag"):
            look(jobs)
    assert jobs == StoredJobs(text)
    assert jobs not in ((ASK,), StoredJobs.of(BOTH), StoredJobs("[]"))


def manifest_for_worker_of(jobs: Any) -> dict[str, Any]:
    return manifest_for_worker(replace(with_jobs("[]"), jobs=jobs))

"""The Dockerfile without an engine: what it copies exists, what it installs is what requirements say, and it is not root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def instructions() -> list[dict[str, str]]:
    with (ROOT / "Dockerfile").open("rb") as file:
        return DockerfileParser(fileobj=file).structure


def values(instructions: list[dict[str, str]], name: str) -> list[str]:
    return [i["value"] for i in instructions if i["instruction"] == name]


def test_every_copied_source_exists_and_is_in_the_context(instructions):
    ignored = (ROOT / ".dockerignore").read_text().split()
    for copy in values(instructions, "COPY"):
        for source in [word for word in copy.split() if not word.startswith("--")][:-1]:
            assert (ROOT / source).exists(), source
            assert source not in ignored


def test_runs_as_a_user_without_rights_and_serves_on_8501(instructions):
    assert values(instructions, "USER")[-1].split(":")[0] not in ("root", "0")
    assert values(instructions, "EXPOSE") == ["8501"]
    command = json.loads(values(instructions, "CMD")[-1])
    assert command == ["rampart", "ui", "--address", "0.0.0.0"]
    assert json.loads(values(instructions, "ENTRYPOINT")[-1]) == ["tini", "--"]
    assert " tini " in next(run for run in values(instructions, "RUN") if "apt-get install" in run)
    assert "RUN pip install --no-deps --editable ." in (ROOT / "Dockerfile").read_text()


def test_runs_and_data_outlive_the_container(instructions):
    environment = dict(word.split("=", 1) for word in " ".join(values(instructions, "ENV")).split())
    kept = {environment["RAMPART_RUNS"], environment["RAMPART_DATA"]}
    assert kept == set(json.loads(values(instructions, "VOLUME")[-1]))
    # A volume takes over the owner of the folder that it covers, if that is there before.
    made = " ".join(values(instructions, "RUN"))
    user = values(instructions, "WORKDIR")[-1].rsplit("/", 1)[0]
    assert f"mkdir {environment['RAMPART_DATA']}" in made and f"chown -R rampart:rampart {user}" in made
    assert all(folder.startswith(user + "/") for folder in kept)
    # The commands at the top of the file mount what is kept.
    head = (ROOT / "Dockerfile").read_text().split("FROM", 1)[0]
    assert all(f":{folder}" in head for folder in kept)


def test_cpu_and_cuda_are_a_build_argument_with_one_pin(instructions):
    assert values(instructions, "ARG") == ["COMPUTE=cpu"]
    install = next(run for run in values(instructions, "RUN") if "pip install" in run)
    # The version is read from requirements.txt, never written a second time.
    assert "torch==2" not in install
    assert "--no-deps -r requirements-no-deps.txt" in install

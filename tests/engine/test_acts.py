"""Roles are checked, and audit lines written, in one place for every act. Users are kept with hashed passwords."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import accounts, acts, queueing, requests
from engine.acts import Actor, RoleError, act, audit, audit_file, named, returned, unrecorded, why_not
from engine.cli.verbs import main
from engine.errors import RunError
from engine.exchange.entry import take
from engine.rerun import rerun
from engine.run import marks, trash
from engine.study import actions, archive, deletion
from tests.sample_runs import write_run_json

PASSWORD = "correct horse battery"


# (function, arguments after the runs folder, name of the act, smallest role) of every act of the engine.
ACTS = [
    (requests.submit, ("search", {}), "launch", "runner"), (requests.submit_all, ([],), "launch", "runner"),
    (requests.request_stop, ("r",), "stop", "runner"), (requests.force_stop, ("r",), "kill", "runner"),
    (requests.resume, ("r",), "resume", "runner"), (rerun, ("r",), "run again", "runner"),
    (take, (Path("x.json"),), "import", "runner"),
    (queueing.pause, (), "pause the queue", "admin"), (queueing.go_on, (), "continue the queue", "admin"),
    (queueing.choose_launcher, ("local", {}), "choose the launcher", "admin"),
    (queueing.set_slots, (), "set slots", "admin"), (queueing.move, ("r", "first"), "move in the queue", "runner"),
    (marks.change_tags, ("r",), "tag", "runner"), (marks.set_note, ("r", ""), "note", "runner"),
    (marks.set_archived, ("r", True), "archive", "runner"),
    (trash.put, (["r"],), "trash", "runner"), (trash.restore, (["r"],), "restore", "runner"),
    (trash.delete, (["r"],), "delete", "admin"),
    (actions.launch, (None,), "launch study", "runner"), (actions.stop, ("s",), "stop study", "runner"),
    (actions.resume, ("s",), "resume study", "runner"), (actions.extend, ("s", 1), "extend study", "runner"),
    (actions.trash, (["r"],), "trash", "runner"), (deletion.delete, ("s",), "delete study", "admin"),
    (archive.read_archive, (Path("x"),), "unpack studies", "runner"), (archive.remove_example, (), "remove example", "runner"),
    (accounts.add, ("n", "viewer", ""), "add user", "admin"), (accounts.set_password, ("n", ""), "change password", "admin"),
    (accounts.set_role, ("n", "admin"), "change role", "admin"), (accounts.remove, ("n",), "remove user", "admin"),
]
SMALLER = {"runner": "viewer", "admin": "runner"}


def acting(role: str) -> None:
    acts.identify(lambda: Actor("ada", role, "dashboard"))


@pytest.fixture(autouse=True)
def afterwards() -> Iterator[None]:
    """The user of the operating system acts again after each test."""
    yield
    acts.identify(acts.local_user)


@pytest.mark.parametrize(("function", "arguments", "name", "role"), ACTS, ids=lambda value: getattr(value, "__qualname__", ""))
def test_an_act_refuses_a_smaller_role_before_it_does_anything(tmp_path: Path, function: Any, arguments: tuple[Any, ...],
                                                               name: str, role: str) -> None:
    acting(SMALLER[role])
    more = {"with_runs": True} if function is deletion.delete else {}
    with pytest.raises(RoleError, match=f"needs the role {role}, and ada is {SMALLER[role]}"):
        function(tmp_path, *arguments, **more)
    (line,) = audit(tmp_path)
    assert (line["by"], line["act"], line["refused"]) == ("ada", name, True)
    assert [path.name for path in tmp_path.iterdir()] == ["control"]


def test_the_table_above_holds_every_act() -> None:
    root = Path(acts.__file__).parent
    written = sum(path.read_text(encoding="utf-8").count("\n@act(") for path in root.rglob("*.py"))
    assert written == len(ACTS)


def test_an_act_leaves_one_line_although_it_calls_others(tmp_path: Path) -> None:
    write_run_json(tmp_path, "20261126-0458-arnas-digits-0e9d", "search")
    acting("runner")
    marks.change_tags(tmp_path, "20261126-0458-arnas-digits-0e9d", ["baseline"])
    (tagged,) = audit(tmp_path)
    assert tagged | {"at": 0} == {"at": 0, "by": "ada", "role": "runner", "via": "dashboard", "act": "tag",
                                  "about": ["20261126-0458-arnas-digits-0e9d"]}
    requests.request_stop(tmp_path, "20261126-0458-arnas-digits-0e9d")  # a queued run leaves the queue, and is over
    assert [one.refusal for one in actions.trash(tmp_path, ["20261126-0458-arnas-digits-0e9d", "nothing"])][0] == ""
    assert [(line["act"], line["about"]) for line in audit(tmp_path)[1:]] == [
        ("stop", ["20261126-0458-arnas-digits-0e9d"]), ("trash", ["20261126-0458-arnas-digits-0e9d"])]


def test_an_act_that_fails_leaves_no_line(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        requests.request_stop(tmp_path, "nothing")
    assert trash.put(tmp_path, ["nothing"])[0].refusal
    assert audit(tmp_path) == []


def test_what_the_supervisor_does_by_itself_is_neither_checked_nor_recorded(tmp_path: Path) -> None:
    @act("nest", named("name"))
    def inner(runs: Path, name: str) -> str:
        return name

    acting("viewer")
    assert unrecorded(inner)(tmp_path, "x") == "x" and audit(tmp_path) == []


def test_a_line_names_at_most_a_hundred_runs(tmp_path: Path) -> None:
    @act("many", returned)
    def many(runs: Path) -> list[list[str]]:
        return [[f"r{number}", "shared"] for number in range(150)]

    many(tmp_path)
    (line,) = audit(tmp_path)
    assert len(line["about"]) == 100 and line["more"] == 51


def test_only_the_owner_reads_the_audit_and_damaged_lines_are_left_out(tmp_path: Path) -> None:
    acts.record(tmp_path, "stop", ["r"])
    assert stat.S_IMODE(audit_file(tmp_path).stat().st_mode) == 0o600
    with audit_file(tmp_path).open("ab") as file:
        file.write(b'{"at": 1\n[1]\n\xff\n')
    acts.record(tmp_path, "resume", ["r"])
    assert [line["act"] for line in audit(tmp_path)] == ["stop", "resume"]


def test_an_act_counts_if_its_line_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "control").mkdir()
    audit_file(tmp_path).symlink_to(tmp_path / "elsewhere")
    write_run_json(tmp_path, "20261126-0458-arnas-digits-0e9d", "search")
    assert marks.set_archived(tmp_path, "20261126-0458-arnas-digits-0e9d", True).archived
    assert "symbolic link" in caplog.text and not (tmp_path / "elsewhere").exists()


def test_a_process_of_the_dashboard_acts_for_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    assert acts.actor().via == "command line" and not why_not("admin")
    monkeypatch.setenv(acts.VARIABLE, "ada")
    assert acts.actor() == Actor("ada", "admin", "dashboard")


def rampart(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str, typed: str = "") -> tuple[int, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed + "\n"))
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_users_are_added_changed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ("--runs", str(tmp_path / "runs"))
    assert rampart(capsys, monkeypatch, "user", "add", "ada", *runs, typed=PASSWORD)[0] == 0
    path = accounts.path_of(tmp_path / "runs")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o700
    assert "$argon2id$" in path.read_text() and PASSWORD not in path.read_text()
    first = accounts.find(tmp_path / "runs", "ada")
    assert first.role == "viewer" and accounts.fits(first, PASSWORD)
    assert not accounts.fits(first, PASSWORD[:-1]) and not accounts.fits(None, PASSWORD)
    assert rampart(capsys, monkeypatch, "user", "role", "ada", "admin", *runs)[0] == 0
    assert rampart(capsys, monkeypatch, "user", "password", "ada", *runs, typed="another long on\u00e9")[0] == 0
    second = accounts.find(tmp_path / "runs", "ada")
    assert accounts.fits(second, "another long one\N{COMBINING ACUTE ACCENT}") and accounts.fits(second, "another long on\u00e9")
    assert second.role == "admin" and not accounts.fits(second, PASSWORD) and second.changed > first.changed
    assert json.loads(rampart(capsys, monkeypatch, "user", "list", "--json", *runs)[1])[0]["role"] == "admin"
    assert rampart(capsys, monkeypatch, "user", "remove", "ada", *runs) == (0, "No users.\n")
    code, text = rampart(capsys, monkeypatch, "audit", "--about", "ada", "--json", *runs)
    assert code == 0
    assert [line["act"] for line in json.loads(text)] == ["add user", "change role", "change password", "remove user"]


def test_the_audit_prints_typed_names_without_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    acts.record(tmp_path, "log in", (), refused=True, who=Actor("\x1b[2Jada\n", "", "10.0.0.1"))
    code, text = rampart(capsys, monkeypatch, "audit", "--runs", str(tmp_path))
    assert code == 0 and "?[2Jada?" in text and text.rstrip().endswith("refused: log in") and text.count("\n") == 1


@pytest.mark.parametrize(("words", "typed", "said"), [
    (("add", "ada"), "short", "10 to 200 characters"), (("add", "a b"), PASSWORD, "1 to 64 letters"),
    (("add", "bob"), PASSWORD, "already"), (("role", "ada", "admin"), "", "ada"), (("remove", "ada"), "", "ada"),
    (("role", "bob", "root"), "", "root"), (("list", "bob"), "", "takes no name"), (("add",), "", "takes no name"),
])
def test_bad_words_about_users_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                           words: tuple[str, ...], typed: str, said: str) -> None:
    accounts._change(tmp_path, lambda users: users | {"bob": accounts.Account("bob", "viewer", "x", 1.0)})
    code, text = rampart(capsys, monkeypatch, "user", *words, "--runs", str(tmp_path), typed=typed)
    assert code == 2 and said in text and text.count("\n") == 1


def test_a_file_of_users_that_others_can_read_or_that_is_damaged_lets_nobody_in(tmp_path: Path) -> None:
    path = accounts.path_of(tmp_path)
    path.parent.mkdir()
    path.write_text("{}")
    path.chmod(0o644)
    with pytest.raises(RunError, match="only its owner"):
        accounts.accounts(tmp_path)
    path.chmod(0o600)
    for content in ('{"users": {"a": {}}}', '{"users": [1]}', '{"users": {"a": {"role": "root", "password": "", "changed": 1}}}'):
        path.write_text(content)
        with pytest.raises(RunError, match="must hold users"):
            accounts.accounts(tmp_path)

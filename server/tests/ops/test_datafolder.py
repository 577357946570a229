"""The data folder: one holder at a time, secrets made once and for their owner alone, and no stranger harmed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest

from pmis.ops.datafolder import AlreadyRunningError, DataFolder, DataFolderError, write_private
from pmis.ops.process import current_user, identity, named_user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
HOLD = """
import sys, time
from pathlib import Path
from pmis.ops.datafolder import DataFolder
with DataFolder(Path(sys.argv[1])).held() as lock:
    DataFolder.describe_holder(lock, url="http://127.0.0.1:8123")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    made = DataFolder(tmp_path / "data")
    with made.held():
        yield made


class TestHolding:
    def test_a_second_holder_is_told_who_is_first_and_where(self, tmp_path):
        folder = DataFolder(tmp_path / "data")
        with subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            assert folder.is_held()
            with pytest.raises(AlreadyRunningError) as refused, folder.held():
                pass
            other.kill()
        assert refused.value.detail == (
            f"PMIS already runs from this folder (pid {other.pid}) at http://127.0.0.1:8123."
        )
        # The system took the lock back: nothing has to be cleared by hand.
        assert not folder.is_held()
        with folder.held():
            pass

    def test_it_is_made_for_its_owner(self, folder):
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataFolderError, match=r"cannot be made: Not a directory\. Name another with --data-dir"):
            DataFolder(tmp_path / "file" / "data").held().__enter__()


class TestSecrets:
    def test_made_once_and_for_the_owner_alone(self, folder):
        first = folder.secrets()
        assert folder.secrets() == first
        path = folder.path / "secrets.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        values = [first.secret_key, first.jwt_secret_key, first.valkey_password, *first.postgres.values()]
        assert len(set(values)) == len(values)
        assert min(map(len, values)) >= 32

    def test_a_secret_that_came_later_is_added_to_the_others(self, folder):
        first = folder.secrets()
        path = folder.path / "secrets.json"
        known = json.loads(path.read_text())
        del known["VALKEY_PASSWORD"]
        write_private(path, known)
        assert folder.secrets().secret_key == first.secret_key
        assert folder.secrets().valkey_password != first.valkey_password

    def test_new_passwords_are_not_made_for_an_old_database(self, folder):
        (folder.servers / "postgres").mkdir(parents=True)
        with pytest.raises(DataFolderError, match=r"secrets\.json.* is gone\. Restore that file"):
            folder.secrets()

    @pytest.mark.parametrize("content", ["", "{", "nonsense"])
    def test_damaged_secrets_are_not_replaced(self, folder, content):
        path = folder.path / "secrets.json"
        path.write_text(content)
        with pytest.raises(DataFolderError, match="cannot be read: it is damaged"):
            folder.secrets()
        assert path.read_text() == content


class TestLeftovers:
    def test_what_a_killed_run_left_is_ended(self, folder):
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
            who = identity(child.pid)
            assert who is not None
            folder.record_processes({"api": who})
            assert folder.end_leftovers() == ["api"]
            assert child.wait(5) < 0
        assert folder.end_leftovers() == []

    def test_a_number_that_another_process_has_now_is_let_be(self, folder):
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
            folder.record_processes({"api": f"{child.pid}:1", "postgres": f"{os.getpid()}:1"})
            assert folder.end_leftovers() == []
            assert child.poll() is None
            child.kill()


class TestServers:
    def test_our_own_files_stay_in_the_folder(self, folder):
        if os.geteuid() == 0:
            pytest.skip("root never runs the servers itself")
        assert folder.run_as("nobody") == current_user()
        assert folder.prepare_servers(current_user(), "id") is None
        assert folder.servers.is_dir()

    @as_root
    def test_root_runs_them_as_somebody_who_can_reach_them(self, tmp_path):
        tmp_path.chmod(0o755)
        for parent in tmp_path.parents:
            if not stat.S_IMODE(parent.stat().st_mode) & stat.S_IXOTH:
                parent.chmod(0o755)
        folder = DataFolder(tmp_path / "data")
        with folder.held():
            nobody = folder.run_as("nobody")
            assert nobody == named_user("nobody")
            assert folder.prepare_servers(nobody, "id") is None
            assert folder.servers.stat().st_uid == nobody.uid
            assert stat.S_IMODE(folder.path.stat().st_mode) == 0o711

    @as_root
    def test_out_of_reach_they_go_elsewhere_and_the_folder_says_so(self, tmp_path, monkeypatch):
        import tempfile
        from pathlib import Path

        from pmis.ops import datafolder

        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        with tempfile.TemporaryDirectory(dir="/tmp") as elsewhere:
            Path(elsewhere).chmod(0o711)
            monkeypatch.setattr(datafolder, "_SERVER_HOME", Path(elsewhere) / "pmis")
            folder = DataFolder(closed / "data")
            with folder.held():
                note = folder.prepare_servers(named_user("nobody"), "id")
                assert note == (
                    f"the servers' files are in {elsewhere}/pmis/id: 'nobody' cannot reach {closed / 'data'}"
                )
                assert folder.servers.resolve() == Path(elsewhere) / "pmis" / "id"
                assert folder.prepare_servers(named_user("nobody"), "id") == note
            (Path(elsewhere) / "pmis" / "id").rmdir()
            with folder.held(), pytest.raises(DataFolderError, match=r"leads to .*, which is gone"):
                folder.prepare_servers(named_user("nobody"), "id")

    @as_root
    def test_root_is_refused_as_the_user_to_run_as(self, folder):
        with pytest.raises(DataFolderError, match="PMIS_RUN_AS is root"):
            folder.run_as("root")

    @as_root
    def test_root_keeps_to_the_owner_of_an_existing_database(self, folder):
        files = folder.servers / "postgres"
        files.mkdir(parents=True)
        os.chown(files, 12345, 12345)
        assert folder.run_as("nobody").uid == 12345

    @as_root
    def test_a_folder_of_somebody_else(self, folder, monkeypatch):
        # As if an ordinary user came here: only the number counts, and the folder is root's.
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(DataFolderError, match=r"belongs to 'root'.*name another folder with --data-dir"):
            folder._make()

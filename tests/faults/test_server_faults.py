"""What an SFTP server and the way to it can do to a run: cut, stall, die, fill up, refuse. A real sshd stands at the other end."""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import FULL, SEED, scenes
from tests.faults.odd_servers import FlipsABit, FullDisk, LosesWhatItCouldNotClose, SaysItRenamed, served
from tests.faults.oracle import PLANTED, judge, leaks, unclear, visible, watched
from tests.faults.proxy import proxied
from tests.faults.scenes import sftp_environment
from tests.faults.sweep import copied, housekept
from tests.servers.sshd import new_key, serve_sshd

PATIENCE = {"cmd_timeout": 2, "conn_timeout": 2, "banner_timeout": 2}


@pytest.fixture(scope="module")
def server():
    with serve_sshd() as started:
        yield started


@pytest.fixture(scope="module")
def scene(server, tmp_path_factory):
    return scenes.over_sftp(tmp_path_factory.mktemp("scene") / "sftp", server)


def recovers(launcher, scene, env):
    done = launcher.run(scene.root, *scene.argv, env=env)
    assert done.status == 0, done.said
    assert judge(scene.out, dict(scene.versions)) + housekept(launcher, scene, env) == []


def test_a_connection_cut_at_any_byte_loses_and_repeats_nothing(launcher, scene, server, tmp_path):
    """Also between a rename and its answer: the server's bytes are cut as well as ours."""
    copy, _ = copied(scene, tmp_path / "reference")
    with proxied(server.port) as proxy:
        assert launcher.run(copy.root, *copy.argv, env=sftp_environment(server, port=proxy.port)).status == 0
        lengths = dict(proxy.passed)
    chance = random.Random(SEED)
    points = [(way, chance.randrange(lengths[way])) for way in ("up", "down") for _ in range(100 if FULL else 2)]
    # Most of the traffic is the login; the rest deserves as many tries.
    points += [(way, chance.randrange(lengths[way] * 6 // 10, lengths[way])) for way in ("up", "down") for _ in range(100 if FULL else 2)]

    points = sorted(set(points))

    def attempt(point):
        way, after = point
        copy, env = copied(scene, tmp_path / f"{way}-{after}")
        with proxied(server.port, **{way: after}) as proxy, watched(copy.out) as seen:
            cut = launcher.run(copy.root, *copy.argv, env=sftp_environment(server, port=proxy.port, extra=PATIENCE))
        wrong = unclear(cut.err, "tenant acme", "acme_sftp", "127.0.0.1") if cut.status else []
        again = launcher.run(copy.root, *copy.argv, env=env)
        wrong += [again.said] if again.status else []
        wrong += seen + judge(copy.out, dict(copy.versions)) + housekept(launcher, copy, env)
        return [f"cut after {after} bytes {way}: {problem}" for problem in wrong]

    with ThreadPoolExecutor(2) as pool:
        wrong = [item for found in pool.map(attempt, points) for item in found]
    print(f"connection cut: {len(points)} points tried, {len(wrong)} violations")
    assert wrong == []


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_stalled_connection_ends_in_bounded_time(launcher, scene, server, tmp_path, way):
    copy, env = copied(scene, tmp_path / "copy")
    with proxied(server.port, **{way: 9_000}) as proxy:
        proxy.stall = True
        done = launcher.run(copy.root, *copy.argv, env=sftp_environment(server, port=proxy.port, extra=PATIENCE))  # fails when it hangs
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "destination", "acme_sftp", "127.0.0.1") == []
    recovers(launcher, copy, env)


def test_a_server_killed_in_the_middle_of_an_upload_is_made_good_by_the_next_run(launcher, tmp_path):
    with serve_sshd() as mortal:
        copy, env = copied(scenes.moved_to_sftp(scenes.large(tmp_path / "large"), mortal), tmp_path / "copy")
        with proxied(mortal.port, up=300_000) as proxy, watched(copy.out) as seen:
            proxy.stall = True
            run = launcher.start(copy.root, *copy.argv, env=sftp_environment(mortal, port=proxy.port))
            while proxy.passed["up"] < 300_000:
                time.sleep(0.01)
            for process in descendants(mortal.pid):
                os.kill(process, signal.SIGKILL)
            proxy.close()
            done = run.wait()
        assert done.status == 1
        assert unclear(done.err, "tenant acme", "entity user", "destination", "acme_sftp", "127.0.0.1") == []
        assert visible(copy.out) == []
        recovers(launcher, copy, env)
        assert seen == []


def descendants(pid):
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(descendant for child in children for descendant in descendants(child))]


@pytest.mark.parametrize(
    ("view", "says"),
    [(FullDisk, "disk full"), (FlipsABit, "damaged"), (LosesWhatItCouldNotClose, "could not write"), (SaysItRenamed, "answered OK")],
    ids=["disk full", "damaged bytes", "failing close", "a rename that is not done"],
)
def test_a_server_that_cannot_keep_a_file_shows_none_of_it(launcher, tmp_path, view, says):
    scene = scenes.first(tmp_path / "first")
    with served(scene, tmp_path / "server", view) as there:
        copy, env = copied(there, tmp_path / "copy")
        with watched(copy.out) as seen:
            done = launcher.run(copy.root, *copy.argv, env=env)
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "entity user", "destination", "acme_sftp", "127.0.0.1", says) == []
    assert visible(copy.out) == []
    with served(scene, tmp_path / "server") as there:
        recovers(launcher, copy, there.settle(copy.root))
    assert seen == []


def test_a_login_that_is_refused_names_the_account_and_never_the_secret(launcher, scene, server, tmp_path):
    copy, env = copied(scene, tmp_path / "copy")
    other = tmp_path / "other_key"
    new_key(other)
    wrong = sftp_environment(server, password=PLANTED, extra={"private_key": other.read_text(), "note": PLANTED})
    done = launcher.run(copy.root, *copy.argv, env=wrong)
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "destination", "acme_sftp", "127.0.0.1", server.login) == []
    recovers(launcher, copy, env)
    assert leaks([copy.root, copy.out], done.said) == []


def test_a_wrong_host_key_is_refused_before_anything_is_sent(launcher, scene, server, tmp_path):
    copy, env = copied(scene, tmp_path / "copy")
    foreign = new_key(tmp_path / "foreign")
    done = launcher.run(copy.root, *copy.argv, env=sftp_environment(server, extra={"host_key": foreign}))
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "destination", "acme_sftp", "127.0.0.1", "this is not the", "host_key") == []
    assert visible(copy.out) == []
    recovers(launcher, copy, env)


def test_a_read_only_server_is_named_with_what_to_do(launcher, tmp_path):
    with serve_sshd(sftp_options="-R") as server:
        scene = scenes.over_sftp(tmp_path / "sftp", server)
        copy, env = copied(scene, tmp_path / "copy")
        done = launcher.run(copy.root, *copy.argv, env=env)
    assert done.status == 1
    assert unclear(done.err, "tenant acme", "destination", "acme_sftp", "127.0.0.1", "ask the server's owner") == []

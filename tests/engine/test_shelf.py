"""Cache entries on disk: what goes there, what comes back, and what is never trusted."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hokku.engine import EngineConfig, LocalEngine
from hokku.engine import shelf as shelf_module
from hokku.engine.shelf import Shelf, ShelfConfig
from hokku.engine.shelf_file import (
    HEADER_BYTES,
    BadShelfFile,
    Bytes,
    Header,
    pages_mac,
    read_header,
    read_pages,
    write_file,
)
from hokku.protocol.engine import Finished, FinishReason, GenerationRequest
from tests.engine.fake_program import VOCABULARY, FakeProgram
from tests.engine.house import House, Recorder, assert_as_alone, open_house
from tests.engine.test_prompt_cache import LONG, SHORT, Clock, marked, prompt_of, reads

SECRET = b"s" * 32


@pytest.fixture
def config(tmp_path: Path) -> ShelfConfig:
    return ShelfConfig(tmp_path / "prompts", 1 << 20, SECRET, b"f" * 32)


def files(config: ShelfConfig) -> list[Path]:
    return sorted(config.directory.iterdir())


def flood(house: House) -> None:
    """A prompt that needs every page there is."""
    house.generate(GenerationRequest([3, *prompt_of(158)], 1))
    assert house.engine.stats().num_cache_entries == 0


def test_under_pressure_entries_go_to_disk_and_come_back(config: ShelfConfig) -> None:
    with open_house(num_pages=10, shelf_config=config) as house:
        request = marked(prompt_of(100), (40, SHORT), (70, SHORT))
        house.generate(request)
        flood(house)
        rows = house.program.num_rows
        assert reads(house, request) == 70
        assert house.program.num_rows - rows == 100 - 64 + 1  # the rest of the prompt and one decode
        assert reads(house, marked(prompt_of(60), (40, None))) == 40


def test_only_an_hours_entries_are_stored_before_they_have_to(config: ShelfConfig) -> None:
    with open_house(shelf_config=config) as house:
        house.generate(marked(prompt_of(100), (70, SHORT)))
        house.generate(marked([1, *prompt_of(100)], (70, LONG)))
    assert len(files(config)) == 1


def test_an_hours_entry_survives_a_restart(config: ShelfConfig) -> None:
    clock = Clock()
    request = marked(prompt_of(100), (70, LONG))
    with open_house(shelf_config=config, clock=clock) as house:
        house.generate(request)
    clock.now += LONG - 10
    with open_house(shelf_config=config, clock=clock) as house:
        assert reads(house, request) == 70  # and lives for another hour
    clock.now += LONG - 10
    with open_house(shelf_config=config, clock=clock) as house:
        assert reads(house, request) == 70
    clock.now += LONG
    with open_house(shelf_config=config, clock=clock) as house:
        assert files(config) == []
        assert reads(house, request) == 0


def test_a_short_entry_that_is_read_for_an_hour_is_stored(config: ShelfConfig) -> None:
    with open_house(shelf_config=config) as house:
        house.generate(marked(prompt_of(100), (70, SHORT)))
        house.generate(marked(prompt_of(100), (70, LONG)))
    with open_house(shelf_config=config) as house:
        assert reads(house, marked(prompt_of(100), (70, None))) == 70


@pytest.mark.parametrize("is_other_model", [False, True])
def test_what_another_installation_or_model_wrote_is_not_read(
    config: ShelfConfig, is_other_model: bool
) -> None:
    request = marked(prompt_of(100), (70, LONG))
    with open_house(shelf_config=config) as house:
        house.generate(request)
    other = replace(config, fingerprint=b"x" * 32) if is_other_model else replace(config, secret=b"x" * 32)
    with open_house(shelf_config=other) as house:
        assert len(files(config)) == int(is_other_model)  # which may still be wanted
        assert reads(house, request) == 0


def test_scopes_do_not_share_on_disk_either(config: ShelfConfig) -> None:
    with open_house(shelf_config=config) as house:
        house.generate(marked(prompt_of(100), (70, LONG), scope="a"))
    with open_house(shelf_config=config) as house:
        assert reads(house, marked(prompt_of(100), (70, LONG), scope="b")) == 0
        assert reads(house, marked(prompt_of(100), (70, LONG), scope="a")) == 70


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def change_header(path: Path) -> None:
    flip(path, 40)


def change_pages(path: Path) -> None:
    flip(path, HEADER_BYTES + 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def take_away(path: Path) -> None:
    path.unlink()


def make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


SPOILERS = [truncate, change_header, change_pages, empty, take_away, make_a_pipe]


@pytest.mark.parametrize("spoil", SPOILERS)
@pytest.mark.parametrize("while_running", [False, True])
def test_spoilt_files_are_removed_and_their_prompts_computed_again(
    config: ShelfConfig, spoil: Callable[[Path], None], while_running: bool
) -> None:
    request = marked(prompt_of(100), (40, LONG), (70, LONG))
    with open_house(shelf_config=config, num_pages=10) as house:
        house.generate(request)
    if while_running:
        with open_house(shelf_config=config, num_pages=10) as house:
            for path in files(config):
                spoil(path)
            assert reads(house, request) == 0
            assert reads(house, request) == 70
    else:
        for path in files(config):
            spoil(path)
        with open_house(shelf_config=config, num_pages=10) as house:
            assert reads(house, request) == 0
            assert reads(house, request) == 70
    with open_house(shelf_config=config, num_pages=10) as house:
        assert reads(house, request) == 70


def test_a_file_under_another_name_is_removed(config: ShelfConfig) -> None:
    with open_house(shelf_config=config) as house:
        house.generate(marked(prompt_of(100), (70, LONG)))
    [path] = files(config)
    path.rename(path.with_name("0" * 32 + ".kv"))
    with open_house(shelf_config=config) as house:
        assert files(config) == []
        assert reads(house, marked(prompt_of(100), (70, None))) == 0


def test_files_are_private(config: ShelfConfig) -> None:
    with open_house(shelf_config=config) as house:
        house.generate(marked(prompt_of(100), (70, LONG)))
    [path] = files(config)
    assert path.stat().st_mode & 0o777 == 0o600
    assert config.directory.stat().st_mode & 0o777 == 0o700


def test_the_least_recently_used_file_goes_when_the_disk_space_is_used_up(config: ShelfConfig) -> None:
    one_file = HEADER_BYTES + 4 * FakeProgram.page_bytes
    config = replace(config, max_bytes=2 * one_file)
    requests = [marked([start, *prompt_of(80)], (70, LONG)) for start in (1, 2, 3)]
    with open_house(shelf_config=config) as house:
        house.generate(requests[0])
        house.generate(requests[1])
        house.generate(requests[0])
        house.generate(requests[2])
    assert len(files(config)) == 2
    with open_house(shelf_config=config) as house:
        looks = [marked(list(request.prompt), (70, None)) for request in requests]
        assert [reads(house, look) for look in looks] == [70, 0, 70]


def test_an_entry_beyond_all_disk_space_is_not_stored(config: ShelfConfig) -> None:
    with open_house(shelf_config=replace(config, max_bytes=100), num_pages=10) as house:
        request = marked(prompt_of(100), (70, LONG))
        house.generate(request)
        flood(house)
        assert reads(house, request) == 0
    assert files(config) == []


def test_a_full_disk_costs_the_entry_only(config: ShelfConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf_module, "write_file", full)
    with open_house(shelf_config=config) as house:
        request = marked(prompt_of(100), (70, LONG))
        house.generate(request)
        assert reads(house, request) == 70
    with open_house(shelf_config=config) as house:
        assert reads(house, request) == 0


def test_others_go_on_while_an_entry_is_read(config: ShelfConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    request = marked(prompt_of(100), (70, LONG))
    with open_house(shelf_config=config) as house:
        house.generate(request)
    may_read = threading.Event()

    def slowly(path: Path, secret: bytes) -> tuple[Header, Bytes]:
        assert may_read.wait(60)
        return read_pages(path, secret)

    monkeypatch.setattr(shelf_module, "read_pages", slowly)
    with open_house(shelf_config=config) as house:
        waiting = [house.submit(request), house.submit(request)]
        cancelled = Recorder()
        handle = house.engine.submit(request, cancelled)
        house.generate(marked([1, *prompt_of(50)], (40, SHORT)))
        assert house.engine.stats().num_waiting == 3
        assert not any(recorder.events for recorder in waiting)
        handle.cancel()
        assert cancelled.wait().last == Finished(FinishReason.CANCELLED)
        may_read.set()
        assert [recorder.wait().cache_read_tokens for recorder in waiting] == [70, 70]


def test_closing_does_not_wait_for_an_entry_to_be_read(
    config: ShelfConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = marked(prompt_of(100), (70, LONG))
    with open_house(shelf_config=config) as house:
        house.generate(request)
    may_read = threading.Event()
    monkeypatch.setattr(shelf_module, "read_pages", lambda *_: may_read.wait(60) and None)
    with open_house(shelf_config=config) as house:
        recorder = house.submit(request)
        house.generate(GenerationRequest([1], 1))
        threading.Timer(0.05, may_read.set).start()
    assert recorder.wait().last == Finished(FinishReason.CANCELLED)


def test_an_entry_for_which_there_is_no_room_is_not_read(config: ShelfConfig) -> None:
    request = marked(prompt_of(100), (70, LONG))
    with open_house(shelf_config=config) as house:
        house.generate(request)
    with open_house(shelf_config=config, num_pages=10) as house:

        def submit() -> tuple[Recorder, Recorder]:
            return house.submit(GenerationRequest([1] * 100, 50)), house.submit(request)

        big, small = house.during_step(submit)
        assert isinstance(small.wait().last, Finished)
        assert isinstance(big.wait().last, Finished)
        assert reads(house, request) == 70


def test_a_crowd_over_a_small_memory_is_served_right(config: ShelfConfig) -> None:
    """Twelve prompts that share beginnings, each several times, on memory for two of them."""
    config = replace(config, max_bytes=12 * 1024)  # about four files
    requests = [
        marked(
            [*prompt_of(60, start % 3), *prompt_of(30, start)], (50, SHORT), (80, (SHORT, LONG)[start % 2])
        )
        for start in range(12)
    ]
    with open_house(num_pages=14, shelf_config=config) as house:
        recorders = [(request, house.submit(request)) for _ in range(6) for request in requests]
        for request, recorder in recorders:
            assert_as_alone(recorder.wait(), request, house.engine.context_window_tokens)
            assert recorder.cache_read_tokens in (0, 50, 80)


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pages = np.arange(3 * 64, dtype=np.uint8).reshape(3, 64)
    header = Header(b"f" * 32, b"k" * 32, 3, 64, pages_mac(pages, SECRET), 3600, 1e9)
    path = tmp_path_factory.mktemp("files") / "good.kv"
    write_file(path, header, pages, SECRET)
    assert read_header(path, SECRET) == header
    found, read = read_pages(path, SECRET)
    assert found == header
    assert (read == pages).all()
    return path


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_file_is_ever_read(good_file: Path, data: st.DataObject) -> None:
    good = good_file.read_bytes()
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(start + 8, len(changed))))
        changed[start:end] = data.draw(st.binary(max_size=8))
    path = good_file.with_name("changed.kv")
    path.write_bytes(changed)
    if changed == good:
        read_pages(path, SECRET)
    else:
        with pytest.raises(BadShelfFile):
            read_pages(path, SECRET)


def test_a_header_cannot_ask_for_memory_that_the_file_does_not_have(tmp_path: Path) -> None:
    header = Header(b"f" * 32, b"k" * 32, 2**32 - 1, 2**40, b"m" * 32, 3600, 1e9)
    path = tmp_path / "huge.kv"
    path.write_bytes(header.pack(SECRET))
    with pytest.raises(BadShelfFile):
        read_pages(path, SECRET)


def test_old_drafts_are_swept(config: ShelfConfig) -> None:
    config.directory.mkdir()
    old, new = config.directory / "a.1.draft", config.directory / "b.2.draft"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    (config.directory / "folder.kv").mkdir()
    Shelf(config, FakeProgram(1, 1, 1))
    assert new.exists()
    assert not old.exists()


def test_a_closed_engine_lets_go_of_the_memory(config: ShelfConfig) -> None:
    limits = EngineConfig(context_window_tokens=64, vocabulary=VOCABULARY, num_pages=4, max_running=2)
    program = FakeProgram(4, limits.max_step_tokens, limits.max_logit_rows)
    memory = weakref.ref(program)
    engine = LocalEngine(program, limits, shelf=Shelf(config, program))
    del program
    assert memory() is not None
    engine.close()
    engine.close()
    assert memory() is None
    assert engine.stats().num_pages == 4

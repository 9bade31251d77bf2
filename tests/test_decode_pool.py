"""A decoder that crashes, hangs or eats memory costs one photo; all of it on real processes."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, TOY_IMAGES, decoders_of, is_running
from photos import encoded, toy_photo
from PIL import Image

from crossmodal.deadlines import Deadline, until
from crossmodal.errors import DeadlinePassed, ImageError
from crossmodal.images import decode_reduced, thumbnail_of
from crossmodal.images.budget import MemoryBudget
from crossmodal.images.cropping import Square
from crossmodal.images.pool import DecodePool, ModelPhoto, PhotoRequest
from crossmodal.models import ImagePreprocessing

MEGABYTE = 1 << 20
CAT = (TOY_IMAGES / "cat.jpg").read_bytes()
WANTED = PhotoRequest(Square(224, "crop"), short_side=672, thumbnail=True)


@pytest.fixture(scope="module")
def budget() -> Iterator[MemoryBudget]:
    made = MemoryBudget(512 * MEGABYTE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def pool(budget: MemoryBudget) -> Iterator[DecodePool]:
    with DecodePool(budget, most=2) as made:
        yield made


@pytest.fixture(scope="module")
def slow() -> bytes:
    """A photo that takes a good part of a second, for an interruption to meet it."""
    rows = zlib.compress(bytes(7001 * 7000), 1)
    return png(png_size(7000, 7000, colour=0), (b"IDAT", rows), (b"IEND", b""))


def wide_gif(side: int) -> bytes:
    """A GIF that unpacks to ``side`` x ``side`` pixels and has the data of one."""
    size = struct.pack("<HH", side, side)
    screen = b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return screen + b"," + b"\0" * 4 + size + b"\0" + b"\x02\x02\x44\x01\0" + b";"


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def png_size(width: int, height: int, colour: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)


def in_process(blob: bytes) -> tuple[np.ndarray, bytes]:
    photo = decode_reduced(blob, short_side=WANTED.short_side)
    preprocessing = ImagePreprocessing(224, "crop", (0.5,) * 3, (0.5,) * 3)
    return preprocessing.crop(photo.pixels, photo.frame), thumbnail_of(photo)


def with_orientation(image: Image.Image, value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(image, "JPEG", exif=exif, quality=90)


def deep() -> Image.Image:
    return Image.fromarray((np.arange(700 * 800).reshape(700, 800) % 65536).astype(np.uint16))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: CAT, id="jpeg"),
        pytest.param(lambda: with_orientation(toy_photo().resize((2101, 1501)), 6), id="turned"),
        pytest.param(
            lambda: encoded(toy_photo().resize((1700, 1600)), "JPEG", progressive=True), id="progressive"
        ),
        pytest.param(lambda: encoded(toy_photo().convert("CMYK"), "JPEG"), id="cmyk"),
        pytest.param(lambda: encoded(toy_photo().convert("RGBA"), "PNG"), id="alpha"),
        pytest.param(lambda: encoded(deep(), "PNG"), id="deep"),
        pytest.param(lambda: encoded(toy_photo(), "WEBP"), id="webp"),
        pytest.param(lambda: encoded(toy_photo(), "WEBP", lossless=True), id="webp-lossless"),
        pytest.param(lambda: encoded(toy_photo().quantize(64), "GIF"), id="gif"),
        pytest.param(lambda: encoded(toy_photo(), "BMP"), id="bmp"),
        pytest.param(lambda: encoded(toy_photo(), "TIFF", compression="tiff_lzw"), id="tiff"),
    ],
)
def test_a_photo_is_what_it_is_in_this_process(pool: DecodePool, make: Callable[[], bytes]) -> None:
    blob = make()
    pixels, thumbnail = in_process(blob)
    found = pool.decode(blob, WANTED)
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.thumbnail == thumbnail


def test_what_is_no_photo_gets_the_same_sentence(pool: DecodePool) -> None:
    for blob in (b"", b"just text", CAT[:3000], b"%PDF-1.7 ..."):
        with pytest.raises(ImageError) as here:
            in_process(blob)
        with pytest.raises(ImageError) as there:
            pool.decode(blob, WANTED)
        assert str(there.value) == str(here.value)


@pytest.mark.parametrize(
    ("blob", "sentence"),
    [
        (png(png_size(1, 170_000_000)), r"1 x 170,000,000 pixels; a side may have 65,535"),
        (png(png_size(60_000, 3)), r"60,000 x 3 pixels; its long side may be 2,000 times as long"),
        (png(png_size(30_000, 20_000)), r"30000 x 20000 = 600,000,000 pixels; the limit is 178,956,970"),
        (
            png(png_size(9, 9), (b"acTL", struct.pack(">II", 20_000, 0))),
            r"20,00\d frames; .* 10,000",
        ),
        (
            wide_gif(13_000),
            r"takes 1,\d+ MB of memory; .* may take 512 MB.*--decode-memory",
        ),
    ],
    ids=["thin", "aspect", "pixels", "frames", "memory"],
)
def test_a_bomb_is_refused_from_its_header_at_once(pool: DecodePool, blob: bytes, sentence: str) -> None:
    if not blob.startswith(b"GIF"):
        blob += png((b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))[8:]
    pool.decode(CAT, WANTED)
    (worker, *_) = pool.pids()[-1:]
    before = peak_bytes(worker)
    with pytest.raises(ImageError, match=sentence):
        pool.decode(blob, WANTED)
    with pytest.raises(ImageError, match=sentence):
        in_process(blob) if not blob.startswith(b"GIF") else pool.decode(blob, WANTED)
    assert peak_bytes(worker) < before + 8 * MEGABYTE
    assert worker in pool.pids()


def test_eight_wide_images_at_once_stay_within_the_budget(budget: MemoryBudget) -> None:
    bomb = encoded(Image.new("P", (5000, 5000)), "GIF")
    most, used = 0, 0
    with DecodePool(budget, most=8) as eight, ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(eight.decode, bomb, WANTED) for _ in range(8)]
        bare = 0
        while not all(future.done() for future in waiting):
            workers = decoders_of(os.getpid())
            bare = max(bare, len(workers))
            most = max(most, sum(map(anonymous_bytes, workers)))
            used = max(used, budget.status().used)
            time.sleep(0.005)
        assert {future.result().pixels.shape for future in waiting} == {(224, 224, 3)}
    assert 200 * MEGABYTE < used <= budget.limit
    # Python and Pillow in each of them are not the photo's.
    assert most < budget.limit + bare * 12 * MEGABYTE


def test_a_file_that_takes_more_than_its_header_says_costs_itself(pool: DecodePool) -> None:
    # Each of the texts has a megabyte and is kept.
    text = b"\0\0" + zlib.compress(b"a" * 1_000_000)
    texts = [(b"zTXt", f"text {number}".encode() + text) for number in range(60)]
    hungry = png(png_size(8, 8), *texts, (b"IDAT", b""), (b"IEND", b""))
    assert len(hungry) < 100_000
    pool.decode(CAT, WANTED)
    worker = pool.pids()[-1]
    with pytest.raises(ImageError, match="memory"):
        pool.decode(hungry, WANTED)
    assert peak_bytes(worker) < 100 * MEGABYTE
    assert pool.decode(CAT, WANTED).pixels.shape == (224, 224, 3)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_costs_one_photo(pool: DecodePool, slow: bytes, number: signal.Signals) -> None:
    with ThreadPoolExecutor(2) as threads:
        hit, worker = interrupted(threads, pool, slow, number)
        neighbours = [threads.submit(pool.decode, CAT, WANTED) for _ in range(4)]
        with pytest.raises(ImageError, match=f"ended its process .killed by {number.name}."):
            hit.result(60)
        assert all(future.result(60).thumbnail for future in neighbours)
    assert worker not in pool.pids()
    assert pool.decode(slow, WANTED).pixels.shape == (224, 224, 3)
    assert pool.budget.status().used == 0


def test_a_hang_costs_one_photo(budget: MemoryBudget, slow: bytes) -> None:
    with DecodePool(budget, most=2, seconds=lambda pixels: 5.0) as pool, ThreadPoolExecutor(2) as threads:
        hit, worker = interrupted(threads, pool, slow, signal.SIGSTOP)
        assert pool.decode(CAT, WANTED).pixels.shape == (224, 224, 3)
        with pytest.raises(ImageError, match="was given up after 5 seconds"):
            hit.result(60)
        assert not is_running(worker)
        assert pool.decode(CAT, WANTED).pixels.shape == (224, 224, 3)
        assert budget.status().used == 0
    # Nothing is left behind, not even a zombie.
    assert not Path(f"/proc/{worker}").exists()


def test_the_file_itself_is_in_the_budget(budget: MemoryBudget) -> None:
    # Its pixels fit into what is free, and so do three copies of it; the two that are there before do not.
    long = CAT + bytes(40 * MEGABYTE)
    with DecodePool(budget, most=1) as pool, ThreadPoolExecutor(1) as threads:
        with budget.reserve(budget.limit - 100 * MEGABYTE):
            waits = threads.submit(pool.decode, long, WANTED)
            while budget.status().waiting == 0 and not waits.done():
                time.sleep(0.001)
            assert not pool.pids()
        assert waits.result(60).pixels.shape == (224, 224, 3)
        assert budget.status().used == 0
        # One that only fits without what is counted beside it is decoded alone.
        larger = CAT + bytes(150 * MEGABYTE)
        assert pool.decode(larger, WANTED).pixels.shape == (224, 224, 3)


def test_nobody_waits_for_a_process_or_for_memory_after_the_deadline(
    budget: MemoryBudget, slow: bytes
) -> None:
    def within(seconds: float, pool: DecodePool, blob: bytes) -> ModelPhoto:
        with until(Deadline(seconds)):
            return pool.decode(blob, WANTED)

    with DecodePool(budget, most=1) as pool:
        with ThreadPoolExecutor(1) as threads, budget.reserve(budget.limit):
            # It has the only process, and waits for memory until it is over.
            first = threads.submit(within, 1.0, pool, CAT)
            while budget.status().waiting == 0:
                time.sleep(0.001)
            with pytest.raises(DeadlinePassed):
                within(0.05, pool, CAT)
            with pytest.raises(DeadlinePassed):
                first.result(60)
        (worker,) = pool.pids()
        # One that has been asked for more than it was granted at first stays usable as well.
        with budget.reserve(budget.limit - 40 * MEGABYTE), pytest.raises(DeadlinePassed):
            within(1.0, pool, slow)
        assert pool.decode(CAT, WANTED).pixels.shape == (224, 224, 3)
        assert pool.pids() == [worker]
        assert budget.status().used == budget.status().waiting == 0


def test_one_that_ends_while_it_waits_is_replaced(pool: DecodePool) -> None:
    pool.decode(CAT, WANTED)
    for worker in pool.pids():
        os.kill(worker, signal.SIGKILL)
        while Path(f"/proc/{worker}/stat").read_text().split(") ")[1][0] != "Z":
            time.sleep(0.01)
    assert pool.decode(CAT, WANTED).pixels.shape == (224, 224, 3)


def test_a_key_of_the_environment_stays_here(budget: MemoryBudget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSMODAL_KEY", "secret")
    with DecodePool(budget, most=1) as pool:
        pool.prepare()
        (worker,) = pool.pids()
        assert pool.decode(CAT, WANTED).pixels.shape == (224, 224, 3)
        assert b"secret" not in Path(f"/proc/{worker}/environ").read_bytes()
        # The terminal's Ctrl-C goes to the processes of a session.
        assert os.getsid(worker) == worker


def test_a_forked_process_has_a_pool_of_its_own(pool: DecodePool) -> None:
    here = pool.decode(CAT, WANTED)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            found = pool.decode(CAT, WANTED)
            code = 0 if np.array_equal(found.pixels, here.pixels) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert np.array_equal(pool.decode(CAT, WANTED).pixels, here.pixels)


# As a script of a user's: no `if __name__ == "__main__"`.
SCRIPT = """
import sys, threading
from pathlib import Path
from crossmodal.images.budget import process_budget
from crossmodal.images.cropping import Square
from crossmodal.images.pool import DecodePool, PhotoRequest
pool = DecodePool(process_budget(), most=2)
wanted = PhotoRequest(Square(224, "crop"), 672)
pool.decode(Path(sys.argv[1]).read_bytes(), wanted)
threading.Thread(target=pool.decode, args=(Path(sys.argv[2]).read_bytes(), wanted), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_all_end_with_their_parent_however_that_ends(tmp_path: Path, slow: bytes, stopped: bool) -> None:
    script, photo = tmp_path / "script.py", tmp_path / "slow.png"
    script.write_text(SCRIPT)
    photo.write_bytes(slow)
    command = [sys.executable, str(script), str(TOY_IMAGES / "cat.jpg"), str(photo)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        workers = decoders_of(process.pid)
        assert workers
        if stopped:
            for worker in workers:
                os.kill(worker, signal.SIGSTOP)
        process.kill()
    deadline = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [worker for worker in workers if is_running(worker)] == []


def interrupted(
    threads: ThreadPoolExecutor, pool: DecodePool, blob: bytes, number: signal.Signals
) -> tuple[Future[ModelPhoto], int]:
    """A photo under way whose process has got a signal, and that process."""
    pool.decode(CAT, WANTED)
    # The last one that worked is the next one that works.
    worker = pool.pids()[-1]
    future = threads.submit(pool.decode, blob, WANTED)
    started = threading.Event()
    while not started.wait(0.002):
        if worker not in pool.pids() and pool.budget.status().used:
            started.set()
    os.kill(worker, number)
    return future, worker


def anonymous_bytes(pid: int) -> int:
    """The memory of a process that is not a mapped file; 0 once it has gone."""
    return status_bytes(pid, "RssAnon")


def peak_bytes(pid: int) -> int:
    """The most that a process has ever had in memory."""
    return status_bytes(pid, "VmHWM")


def status_bytes(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)

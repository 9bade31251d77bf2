"""A server in use for long: ``python -m tests.soak [SECONDS] [RATE]``, by default an hour at 5 a second.

Searches by sentence and by photo, uploads, deletions and pictures in random order, as many uploads as
deletions. It prints what the processes held at each tenth of the time, the answers by status, and whether the
index holds what was acknowledged.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from pathlib import Path

import httpx2
from PIL import Image

SECONDS, RATE = 3600.0, 5.0

# What is asked, and how often among a hundred requests.
SHARES = {"sentence": 60, "photo": 10, "upload": 10, "delete": 10, "picture": 10}

# So many uploads are there before the first deletion, so that the index has its size when measuring begins.
HELD = 50

TENTHS = 10

WORDS = ("a", "dog", "cat", "beach", "red", "people", "sun", "field", "stairs", "two")


@dataclass
class Soak:
    """What became of the requests: ``memory`` in bytes after each tenth, ``seen`` by what and status."""

    memory: list[int] = field(default_factory=list)
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    expected: int = 0
    found: int = 0

    @property
    def growth(self) -> float:
        """From the end of the first tenth to the end of the last."""
        return self.memory[-1] / self.memory[0] - 1

    @property
    def failed(self) -> int:
        """Answers of 500 and more."""
        return sum(number for (_, status), number in self.seen.items() if status >= 500)

    def lines(self) -> Iterator[str]:
        yield f"answers: {dict(sorted(self.seen.items()))}"
        yield f"memory at each tenth, MiB: {[held >> 20 for held in self.memory]} ({self.growth:+.1%})"
        yield f"documents: {self.found}, expected {self.expected}; answers of 500 and more: {self.failed}"


class _User:
    """Asks one server, with a random number generator of its own."""

    def __init__(self, http: httpx2.Client, photos: list[bytes], soak: Soak) -> None:
        self._http = http
        self._photos = photos
        self._soak = soak
        self._chance = random.Random(1)
        self._uploaded: list[str] = []

    def one(self) -> None:
        """One request, chosen at random."""
        (what,) = self._chance.choices(list(SHARES), list(SHARES.values()))
        if what == "delete" and len(self._uploaded) <= HELD:
            what = "upload"
        elif what == "upload" and len(self._uploaded) >= 2 * HELD:
            what = "delete"
        status = getattr(self, f"_{what}")()
        self._soak.seen[what, status] += 1

    def _sentence(self) -> int:
        words = " ".join(
            self._chance.choices(
                ["a", "dog", "cat", "beach", "red", "people", "sun", "field", "stairs", "two"], k=6
            )
        )
        return self._http.post("/v1/search", json={"text": words, "top_k": 20}).status_code

    def _photo(self) -> int:
        return self._http.post("/v1/search", files={"image": ("a.jpg", self._new_photo())}).status_code

    def _upload(self) -> int:
        answer = self._http.post("/v1/documents", files={"file": ("a.jpg", self._new_photo())})
        if answer.status_code == 200:
            self._uploaded += [each["id"] for each in answer.json()["results"] if each["outcome"] == "added"]
        return answer.status_code

    def _delete(self) -> int:
        id = self._uploaded.pop(self._chance.randrange(len(self._uploaded)))
        return self._http.delete(f"/v1/documents/{id}").status_code

    def _picture(self) -> int:
        if not self._uploaded:
            return self._http.get("/v1/status").status_code
        return self._http.get(f"/v1/documents/{self._chance.choice(self._uploaded)}/content").status_code

    def _new_photo(self) -> bytes:
        """One of the photos at a size and turned by an angle that make it a new one."""
        with Image.open(BytesIO(self._chance.choice(self._photos))) as image:
            side = self._chance.randrange(200, 1200)
            turned = image.convert("RGB").resize((side, side)).rotate(self._chance.uniform(-20, 20))
        out = BytesIO()
        turned.save(out, "JPEG")
        return out.getvalue()

    @property
    def held(self) -> int:
        return len(self._uploaded)


def soak(seconds: float, rate: float) -> Soak:
    """Uses a server over the toy photos for ``seconds``, at ``rate`` requests a second at most."""
    from conftest import TOY_IMAGES, children_of, decoders_of, run_app, start_server

    from tests.load import memory_of

    result = Soak()
    with tempfile.TemporaryDirectory(prefix="crossmodal-soak-") as folder:
        workspace = Path(folder) / "workspace"
        run_app("index", "toy-data", "--workspace", workspace, timeout=300)
        server = start_server("query_restful", "--workspace", workspace)
        try:
            with httpx2.Client(base_url=server.url, timeout=60) as http:
                photos = [path.read_bytes() for path in sorted(TOY_IMAGES.glob("*.jpg"))]
                user = _User(http, photos, result)
                before = http.get("/v1/status").json()["modalities"]["image"]["documents"]
                started = time.monotonic()
                for number in count():
                    if (ahead := started + number / rate - time.monotonic()) > 0:
                        time.sleep(ahead)
                    user.one()
                    if (time.monotonic() - started) * TENTHS >= seconds * (len(result.memory) + 1):
                        pid = server.process.pid
                        result.memory.append(memory_of([pid, *children_of(pid), *decoders_of(pid)]))
                        print(f"{len(result.memory)}0%: {result.memory[-1] >> 20} MiB", flush=True)
                    if len(result.memory) == TENTHS:
                        break
                result.expected = before + user.held
                result.found = http.get("/v1/status").json()["modalities"]["image"]["documents"]
        finally:
            server.stop()
    return result


def main(arguments: list[str]) -> int:
    """Prints the figures; 1 where a request failed or a document is missing or too many."""
    sys.path.insert(0, str(Path(__file__).parent))
    seconds = float(arguments[0]) if arguments else SECONDS
    result = soak(seconds, float(arguments[1]) if len(arguments) > 1 else RATE)
    print("\n".join(result.lines()))
    return 1 if result.failed or result.found != result.expected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Videos on the page: a mark with the time on the tile, a player that starts there, and all its moments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Server, run_app, start_server
from playwright.sync_api import Page, expect
from videos import write_video

from browser.page_driver import SearchPage

pytest.importorskip("av", reason="the extra video")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("videos")
    (folder / "photos").mkdir()
    write_video(folder / "photos" / "trip.webm", ["cat", "rocket", "coffee"], codec="vp8")
    done = run_app("index", "-d", folder / "photos", "--workspace", folder / "index")
    assert done.returncode == 0, done.stderr
    served = start_server("query_restful", "--workspace", folder / "index")
    yield served
    served.stop()


def test_a_moment_is_played_from_its_time(page: Page, server: Server) -> None:
    SearchPage(page, server).open().search("a rocket")
    tile = page.get_by_test_id("result").first
    expect(tile.get_by_test_id("moment")).to_contain_text("0:03")
    tile.get_by_test_id("open-result").click()
    video = page.get_by_test_id("lightbox-video")
    expect(video).to_have_js_property("readyState", 4)
    assert video.evaluate("video => [Math.round(video.currentTime), Math.round(video.duration)]") == [3, 9]
    moments = page.get_by_test_id("lightbox-moments").get_by_role("link")
    expect(moments).to_have_count(3)
    expect(moments.nth(1)).to_have_attribute("aria-current", "true")
    moments.nth(2).click()
    expect(page.locator("dialog#lightbox h2")).to_have_text("Video at 0:06")
    expect(video).to_have_js_property("readyState", 4)
    assert round(video.evaluate("video => video.currentTime")) == 6

"""``models recommend`` and ``-m best``: the best published model that is quick enough on this machine."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crossmodal import PhotoIndex
from crossmodal.cli import main
from crossmodal.errors import ModelError
from crossmodal.models import recommendation
from crossmodal.models.recommendation import Measured, better_model, recommend, resolve_best
from crossmodal.models.zoo import ModelRecord, zoo

FREE = ("MIT", "Apache-2.0")


def each_takes(seconds: float, but: dict[str, float] | None = None) -> Callable[[ModelRecord], float]:
    return lambda record: (but or {}).get(record.name, seconds)


def fails(record: ModelRecord) -> float:
    pytest.fail(f"{record.name} was measured")


def test_the_best_rated_model_that_is_quick_enough_is_recommended(tmp_path: Path) -> None:
    begun: list[str] = []
    found = recommend(tmp_path, measure=each_takes(900, {"siglip2-b-16": 250}), begin=begun.append)
    assert [each.name for each in found] == begun
    assert found[-1] == Measured("siglip2-b-16", 250)
    rates = [record.result("coco") for record in (each.record for each in found)]
    means = [rate.text_to_image + rate.image_to_text for rate in rates if rate is not None]
    assert means == sorted(means, reverse=True)
    assert all(each.record.licence in FREE for each in found)
    # Of those that may be used for anything, none that was left out is better.
    better = {
        record.name
        for record in zoo()
        if record.licence in FREE
        and (rate := record.result("coco")) is not None
        and rate.text_to_image + rate.image_to_text > means[-1]
    }
    assert better == set(begun[:-1])


def test_models_that_do_not_fit_into_memory_are_not_considered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommendation, "available_memory", lambda: 2 << 30)
    found = recommend(tmp_path, measure=each_takes(1))
    assert [each.name for each in found] == ["siglip-b-16"]


def test_what_was_measured_is_remembered_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = recommend(tmp_path, measure=each_takes(20))
    assert recommend(tmp_path, measure=fails) == found
    assert recommend(tmp_path, again=True, measure=each_takes(30))[-1].seconds == 30
    assert "siglip2-so400m-16-384 finds more" in better_model("clip-mini", tmp_path)
    monkeypatch.setattr(recommendation, "available_cores", lambda: 500)
    assert recommend(tmp_path, measure=each_takes(40))[-1].seconds == 40
    assert "siglip2-b-16 finds more" in better_model("clip-mini", tmp_path / "other")


def test_best_stands_for_the_recommended_model(tmp_path: Path) -> None:
    recommend(tmp_path, measure=each_takes(400, {"siglip-b-16": 7}))
    assert resolve_best("best", tmp_path) == "siglip-b-16"
    assert resolve_best("best?dim=256&views=2", tmp_path) == "siglip-b-16?dim=256&views=2"
    assert resolve_best("vse?dim=128", tmp_path) == "vse?dim=128"


def test_a_machine_that_is_too_slow_for_all_gets_a_sentence(tmp_path: Path) -> None:
    found = recommend(tmp_path, measure=each_takes(4000))
    assert len(found) > 5
    with pytest.raises(ModelError, match=r"openclip-vit-b-32|clip-vit-b-32"):
        resolve_best("best", tmp_path)


def test_a_machine_without_memory_for_any_gets_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommendation, "available_memory", lambda: 1 << 30)
    with pytest.raises(ModelError, match=r"memory of 1,024 MiB\. Leave out -m"):
        resolve_best("best", tmp_path)


def test_options_of_best_replace_those_of_the_model_of_an_index(tmp_path: Path) -> None:
    assert resolve_best("best?dim=64", tmp_path, "vse?dim=128&views=2") == "vse?dim=64&views=2"


def test_best_of_an_index_is_its_own_model(toy_workspace: Path, tmp_path: Path) -> None:
    with PhotoIndex(toy_workspace, model="best", model_cache=tmp_path) as index:
        assert index.model == "clip-mini"
        assert index.search("a cat")
    assert not list(tmp_path.glob("*recommendation*"))


def test_untrained_networks_are_computed_as_the_real_ones() -> None:
    from crossmodal.models.clip.encoders import untrained_image_runner
    from crossmodal.models.clip.source import find_source

    # One that is computed by this project's graph, and one by open_clip itself.
    for name, runtimes in (
        ("openclip-vit-b-32", ("openvino", "torch bf16")),
        ("mobileclip2-s0", ("torch",)),
    ):
        source = find_source(name, None)
        assert source is not None
        runner = untrained_image_runner(source)
        size = source.preprocessing.size
        vectors = np.asarray(runner.run(np.zeros((2, size, size, 3), np.uint8)))
        assert vectors.shape == (2, source.dimension)
        assert np.isfinite(vectors).all()
        assert runner.runtime.startswith(runtimes)


def test_the_command_lists_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recommendation, "_seconds_of_a_thousand", each_takes(350, {"siglip2-b-16": 81.2}))
    cache = ["--model-cache", str(tmp_path)]
    assert main(["models", "recommend", "--json", *cache]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["recommended"] == "siglip2-b-16"
    last = found["measured"][-1]
    assert (last["seconds"], last["licence"], last["available"]) == (81.2, "Apache-2.0", "download")
    assert "measuring siglip2-b-16" in err
    assert main(["models", "recommend", *cache]) == 0
    table = capsys.readouterr().out
    assert max(len(line) for line in table.splitlines() if "GiB" in line or "MiB" in line) <= 80
    assert "siglip2-b-16 is the best that takes at most 300 s for a thousand photos here" in table
    assert "README_siglip2.md" in table


@pytest.mark.parametrize("words", [["models", "revoke"], ["keys", "move"], ["roots", "empty"]])
def test_actions_of_other_commands_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert f"{words[1]} is no action of {words[0]}; it has" in capsys.readouterr().err

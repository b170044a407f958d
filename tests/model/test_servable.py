from __future__ import annotations

import threading

import numpy as np
import pytest

import tiny_models
from servable.convert.save import save
from servable.errors import FailedPrecondition, InvalidArgument, NotFound
from servable.model.load import load

X = np.array([[1, 2], [3, 5]], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "m"
    save(tiny_models.centred(), folder, examples=X)
    save(tiny_models.double(), folder, examples=X)
    return folder


def test_a_models_folder_means_its_newest_version(folder):
    with load(folder) as servable:
        assert servable.path == folder / "2"
        assert servable.predict(X).tolist() == (2 * X).tolist()


def test_a_versions_folder_means_that_version(folder):
    with load(str(folder / "1")) as servable:
        assert servable.predict(X).tolist() == [[-1.0, -1.5], [1.0, 1.5]]


def test_it_shows_what_it_takes_and_gives(folder):
    servable = load(folder)
    assert repr(servable) == "Servable m/2\n  serving_default(x: FP32 [-1, 2]) -> y: FP32 [-1, 2]"
    servable.close()
    assert repr(servable).startswith("Servable m/2 (closed)")


def test_lists_and_dicts_are_taken_and_answers_can_be_written_to(folder):
    with load(folder) as servable:
        assert servable.predict([[1, 2]]).tolist() == [[2, 4]]
        answer = servable.predict({"x": [[1, 2]]}, outputs=["y"], signature="serving_default", timeout=10)
        answer += 1


@pytest.mark.parametrize("x", [{"z": X}, {}, ["a"], [[1], [1, 2]], np.zeros((1, 3), np.float32)], ids=range(5))
def test_wrong_inputs_are_refused(folder, x):
    with load(folder) as servable, pytest.raises(InvalidArgument):
        servable.predict(x)


def test_a_missing_signature_is_not_found(folder):
    with load(folder) as servable, pytest.raises(NotFound, match="'top'"):
        servable.predict(X, signature="top")


def test_after_closing_it_answers_no_more(folder):
    servable = load(folder)
    servable.close()
    servable.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        servable.predict(X)


def test_several_threads_may_ask_at_once(folder):
    wrong = []

    def ask(servable, number):
        x = np.full((1, 2), number, np.float32)
        wrong.extend(1 for _ in range(200) if servable.predict(x).tolist() != (2 * x).tolist())

    with load(folder) as servable:
        threads = [threading.Thread(target=ask, args=(servable, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_nothing_there_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        load(tmp_path / "none")

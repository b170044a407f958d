from __future__ import annotations

import threading

import numpy as np
import pandas as pd
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
    assert repr(servable) == ("Servable m/2\n  serving_default\n    takes  x  FP32 [n, 2]\n    gives  y  FP32 [n, 2]")
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


def test_tables_are_taken(folder):
    table = pd.DataFrame({"p": [1, 3], "q": [2.5, 5]})
    with load(folder) as servable:
        assert servable.predict(table).tolist() == [[2, 5], [6, 10]]
        with pytest.raises(InvalidArgument):
            servable.predict(table.assign(q=["a", "b"]))


def test_the_columns_of_a_table_are_the_inputs(tmp_path):
    ones = np.ones(2, np.float32)
    save(tiny_models.add(), tmp_path / "m", examples={"a": ones, "b": ones})
    with load(tmp_path / "m") as servable:
        assert servable.predict(pd.DataFrame({"b": [1, 2], "a": [3, None]})).tolist() == pytest.approx(
            [4, np.nan], nan_ok=True
        )
        nullable = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": pd.array([2, 3], "Int64")})
        assert servable.predict(nullable).tolist() == pytest.approx([3, np.nan], nan_ok=True)
        for column, message in (([1, "x"], "more than numbers"), ([[1], [1, 2]], "Input 'a'")):
            with pytest.raises(InvalidArgument, match=message):
                servable.predict(pd.DataFrame({"a": column, "b": [1, 2]}))
        with pytest.raises(InvalidArgument, match="given a, b, label"):
            servable.predict(pd.DataFrame({"a": ones, "b": ones, "label": ones}))


def test_many_batches_are_answered_in_order_and_a_few_ahead(folder):
    taken = 0

    def batches():
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield np.full((1 + number % 3, 2), number, np.float32)

    with load(folder) as servable:
        answers = servable.predict_batches(batches(), threads=3)
        for number in range(100):
            assert next(answers)[0].tolist() == [2.0 * number] * 2
        assert taken <= 100 + 3 + 3
        answers.close()
        assert [len(answer) for answer in servable.predict_batches([X, X[:1]])] == [2, 1]


def test_a_batch_that_fails_fails_in_its_place(folder):
    with load(folder) as servable:
        answers = servable.predict_batches([X, ["a"], X], threads=2)
        assert next(answers).tolist() == (2 * X).tolist()
        with pytest.raises(InvalidArgument):
            next(answers)
        with pytest.raises(InvalidArgument, match="threads"):
            servable.predict_batches([X], threads=0)


def test_an_error_of_the_batches_themselves_goes_through(folder):
    def broken():
        yield X
        raise OSError("the disk")

    with load(folder) as servable, pytest.raises(OSError, match="the disk"):
        list(servable.predict_batches(broken()))

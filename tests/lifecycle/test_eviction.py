from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from servable.lifecycle.eviction import Candidate, choose_victims


def test_what_was_used_least_recently_goes_first():
    old, middle, new = (Candidate(name, 10, last_used) for name, last_used in [("o", 1.0), ("m", 2.0), ("n", 3.0)])
    assert choose_victims([new, old, middle], 15) == ("o", "m")


def test_a_model_with_requests_in_flight_goes_last():
    busy, idle = Candidate("busy", 10, 1.0, busy=True), Candidate("idle", 10, 9.0)
    assert choose_victims([busy, idle], 10) == ("idle",)
    assert choose_victims([busy, idle], 11) == ("idle", "busy")


def test_small_models_are_spared_where_a_large_one_goes_anyway():
    small, large = Candidate("small", 10, 1.0), Candidate("large", 90, 2.0)
    assert choose_victims([small, large], 80) == ("large",)


def test_nothing_is_evicted_in_vain():
    assert choose_victims([Candidate("a", 10, 1.0)], 11) == ()


CANDIDATES = st.lists(
    st.builds(Candidate, st.text("abc", min_size=1), st.integers(0, 50), st.floats(0, 9), st.booleans()),
    unique_by=lambda candidate: candidate.model,
)


@given(CANDIDATES, st.integers(1, 100))
def test_victims_hold_enough_and_none_is_superfluous(candidates: list[Candidate], short: int) -> None:
    memory = {candidate.model: candidate.memory for candidate in candidates}
    victims = choose_victims(candidates, short)
    gained = sum(memory[name] for name in victims)
    assert bool(victims) == (sum(memory.values()) >= short)
    assert all(gained - memory[name] < short <= gained for name in victims)

"""Try values for any objective that is handed in. Pure: knows no network, task or file."""

from fallow.search.race import Objective, Race, Round, evaluations, race, star
from fallow.search.rates import RateRange, rate_range, rising_rates

__all__ = [
    "Objective",
    "Race",
    "RateRange",
    "Round",
    "evaluations",
    "race",
    "rate_range",
    "rising_rates",
    "star",
]

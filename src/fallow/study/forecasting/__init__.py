"""What would more labels bring? Learning curves from parts of the labels, and laws that look ahead."""

from fallow.study.forecasting.forecast import Forecasted, forecast_curves, laws_of, tell, too_little
from fallow.study.forecasting.measure import Curve, measure
from fallow.study.forecasting.power import Law, LawPrior, fit_law
from fallow.study.forecasting.priors import learn, prior_of

__all__ = [
    "Curve",
    "Forecasted",
    "Law",
    "LawPrior",
    "fit_law",
    "forecast_curves",
    "laws_of",
    "learn",
    "measure",
    "prior_of",
    "tell",
    "too_little",
]

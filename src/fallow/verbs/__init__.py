"""What did they ask for? One verb is one function, told in calls to the rooms below."""

from fallow.verbs.demo import demo
from fallow.verbs.distill import Distilled, distill
from fallow.verbs.doctor import doctor
from fallow.verbs.embed import Embedded, embed
from fallow.verbs.evaluate import Evaluation, evaluate
from fallow.verbs.export import export
from fallow.verbs.find import Lookup, find
from fallow.verbs.forecast import Foreseen, forecast
from fallow.verbs.init import init
from fallow.verbs.label import Labels, label, load_labels
from fallow.verbs.methods import methods_table
from fallow.verbs.predict import Prediction, predict
from fallow.verbs.pretrain import Pretrained, load_pretrained, pretrain
from fallow.verbs.probe import Probed, probe
from fallow.verbs.result import Result, load
from fallow.verbs.suggest import Suggested, suggest
from fallow.verbs.train import train

__all__ = [
    "Distilled",
    "Embedded",
    "Evaluation",
    "Foreseen",
    "Labels",
    "Lookup",
    "Prediction",
    "Pretrained",
    "Probed",
    "Result",
    "Suggested",
    "demo",
    "distill",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "find",
    "forecast",
    "init",
    "label",
    "load",
    "load_labels",
    "load_pretrained",
    "methods_table",
    "predict",
    "pretrain",
    "probe",
    "suggest",
    "train",
]

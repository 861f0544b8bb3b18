"""Tell it: the self-contained page, the cluster map, the terminal."""

from fallow.report.data import ClassRow, MapPoint, ReportData, Thumb
from fallow.report.layout import choose_map_points, layout_method, map_layout, picture, thumbnail
from fallow.report.page import write_report
from fallow.report.pretrain_page import pretrain_screen, write_pretrain_report
from fallow.report.terminal import LiveLadder, last_screen

__all__ = [
    "ClassRow",
    "LiveLadder",
    "MapPoint",
    "ReportData",
    "Thumb",
    "choose_map_points",
    "last_screen",
    "layout_method",
    "map_layout",
    "picture",
    "pretrain_screen",
    "thumbnail",
    "write_pretrain_report",
    "write_report",
]

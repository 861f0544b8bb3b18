"""The README's picture: a run's own report, arranged as a poster and photographed by Chromium.

    python benchmarks/readme_picture.py RUN OUT.webp [--dark] [--width 1000] [--pictures 8]

Nothing is drawn here: the sentence, the waterfall, the two cluster maps and the pseudo-labels are those of
``RUN/report.html``; this leaves parts out and sets the rest closer together. The run in the README:

    python few_labels.py UCMERCED/images ucmerced --labels-per-class 2 --seed 0
    fallow train ucmerced --out runs/ucmerced --budget 6m
    python benchmarks/readme_picture.py runs/ucmerced docs/images/ucmerced.webp
    python benchmarks/readme_picture.py runs/ucmerced docs/images/ucmerced-dark.webp --dark
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

SCALE = 2  # device pixels: sharp on a dense screen
MOST_BYTES = 300_000
QUALITIES = (90, 84, 78, 72, 64, 56)
POSTER = """
html{background:transparent!important;overflow:hidden}
body{font-size:15px;border:1px solid var(--line);border-radius:16px;overflow:hidden;padding:26px 30px 24px}
.top,main{max-width:none;padding:0}
.brand,.counts-line,.tiles,.notes,nav,.glossary,.lede,.legend,#tip,footer,h2,section .soft.small:not(td *):not(li *){display:none!important}
section:not(:has(#waterfall,#map,#pseudo)){display:none}
section{border:0;padding:0;margin:0 0 18px;background:none}
h1{font-size:25px;line-height:1.28;margin:0 0 6px;max-width:none;text-wrap:balance}
.rest{font-size:16px;margin:0 0 16px;color:var(--soft)}
.ladder :is(th,td):nth-child(5),.ladder :is(th,td):last-child,.ladder .behind{display:none}
.ladder :is(th,td){padding-top:6px;padding-bottom:6px}
.meaning{max-width:none;text-wrap:balance}
.ladder tbody th{min-width:265px}
.ladder .wide{width:38%}
.maps{gap:14px}
.map{background:var(--sheet)}
figcaption{font-size:14px}
.map .ring{display:none}
.maps:after{content:"Each dot is a photo, similar photos lie close together. Color and shape: what it is taken for; faint: unsure. The large dots are the labels.";grid-column:1/-1;font-size:13px;color:var(--soft);margin-top:-8px}
#pseudo~h3{display:none}
#pseudo~.grid~.grid{display:none}
.grid{grid-template-columns:repeat(PICTURES,1fr);gap:10px}
.grid li:nth-child(n+MORE),.grid .file{display:none}
.grid b{font-weight:600;font-size:12px;white-space:nowrap;display:block;overflow:hidden;text-overflow:ellipsis}
.grid p{line-height:1.3}
section:has(#pseudo){margin:0}
section:has(#pseudo):before{content:"What some of the unlabeled images are taken for";font-weight:600;font-size:14px;display:block;margin-bottom:8px}
"""


def poster(report: str, dark: bool, pictures: int) -> str:
    """Return the report with everything hidden that a picture has no room for."""
    style = POSTER.replace("PICTURES", str(pictures)).replace("MORE", str(pictures + 1))
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report)
    page = page.replace("screen and (prefers-color-scheme:dark)", "screen" if dark else "not all")
    return page.replace("</head>", f"<style>{style}</style></head>", 1)


def chromium(*arguments: str) -> str:
    """Run a headless Chromium that talks to nobody, and return what it prints."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        sys.exit("chromium is not installed: it takes the picture")
    with tempfile.TemporaryDirectory() as profile:
        fixed = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=4000",
        ]
        quiet = [
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
        ]
        command = [found, *fixed, *quiet, f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def photograph(page: str, width: int, shot: Path) -> None:
    """Take a picture of a page as high as it is."""
    file = shot.with_suffix(".html")
    height = "document.title='height '+Math.ceil(document.body.getBoundingClientRect().height)"
    file.write_text(page.replace("</body>", f"<script>{height}</script></body>"), encoding="utf-8")
    measured = re.search(
        r"<title>height (\d+)", chromium(f"--window-size={width},900", "--dump-dom", file.as_uri())
    )
    assert measured is not None
    chromium(
        f"--window-size={width},{measured[1]}",
        f"--force-device-scale-factor={SCALE}",
        "--default-background-color=00000000",
        f"--screenshot={shot}",
        file.as_uri(),
    )


def save(shot: Path, out: Path) -> int:
    """Write the picture as WebP, as good as the size allows, and return its bytes."""
    with Image.open(shot) as image:
        for quality in QUALITIES:
            image.save(out, "WEBP", quality=quality, method=6)
            if out.stat().st_size < MOST_BYTES:
                break
        else:
            sys.exit(
                f"{out} has {out.stat().st_size:,} bytes, more than {MOST_BYTES:,}: give a smaller --width"
            )
        print(f"{out}: {image.width} x {image.height}, {out.stat().st_size:,} bytes, quality {quality}")
    return out.stat().st_size


def main() -> None:
    """Make the picture of a run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("out", type=Path, help="the picture, .webp")
    parser.add_argument("--dark", action="store_true", help="for a dark page")
    parser.add_argument(
        "--width", type=int, default=1000, help="width in CSS pixels; the file has twice as many"
    )
    parser.add_argument("--pictures", type=int, default=8, help="pseudo-labels in the last row")
    given = parser.parse_args()
    report = (given.run / "report.html").read_text(encoding="utf-8")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        photograph(poster(report, given.dark, given.pictures), given.width, shot)
        save(shot, given.out)


if __name__ == "__main__":
    main()

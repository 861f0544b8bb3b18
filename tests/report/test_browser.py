"""The page as a browser makes it; skipped where there is no Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fallow.report import write_report
from fallow.report.page import render
from tests.report.sample import bare, complete
from tests.report.test_page import hostile

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def dom(page: Path, tmp_path: Path, width: int = 1280) -> str:
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--allow-file-access-from-files",
            "--virtual-time-budget=2000",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},1600",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def framed(pages: list[str], tmp_path: Path, width: int, script: str) -> str:
    """Open pages in frames of ``width`` (a window cannot be so narrow), run ``script`` on each, return what it says."""
    frames = []
    for i, page in enumerate(pages):
        # Scripts of the test are not the page's own: its policy would keep them out.
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        (tmp_path / f"{i}.html").write_text(page, encoding="utf-8")
        frames.append(f'<iframe src="{i}.html" style="border:0;width:{width}px;height:900px"></iframe>')
    outer = (
        "".join(frames)
        + "<pre></pre><script>onload=()=>{for(let i=0;i<length;i++){const w=window[i],d=w.document;"
        + f"document.querySelector('pre').append((()=>{{{script}}})()+'\\n')}}}}</script>"
    )
    (tmp_path / "outer.html").write_text(outer, encoding="utf-8")
    said = re.search(r"<pre>(.*?)</pre>", dom(tmp_path / "outer.html", tmp_path), re.DOTALL)
    assert said is not None
    return said[1]


def test_browser_runs_our_script_and_no_other(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", hostile())
    seen = dom(tmp_path / "r.html", tmp_path)
    assert 'class="on"' in seen, "our own script is allowed by the page's policy"
    title = re.search(r"<title>(.*?)</title>", seen, re.DOTALL)
    assert title is not None
    assert title[1].startswith("&lt;/script&gt;"), "the title is the name and not what a script made of it"


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_sticks_out_sideways(width: int, tmp_path: Path) -> None:
    pages = [
        render(data)
        for data in (
            complete(points=60),
            complete(classes=66, points=80, prefix="a_long_" * 9),
            hostile(),
            bare(),
        )
    ]
    said = framed(pages, tmp_path, width, "return d.documentElement.scrollWidth+' of '+w.innerWidth")
    widths = [line.split(" of ") for line in said.split("\n") if line]
    assert len(widths) == len(pages)
    assert all(int(wide) <= int(room) == width for wide, room in widths), widths


def test_what_is_tapped_is_large_enough_on_a_phone(tmp_path: Path) -> None:
    small = (
        "return [...d.querySelectorAll('a,button,summary')].filter(e=>e.getClientRects().length)"
        ".map(e=>Math.round(e.getBoundingClientRect().height)+' '+e.textContent).filter(t=>parseInt(t)<36).join('; ')"
    )
    assert framed([render(complete())], tmp_path, 390, small).strip().endswith("3 skipped"), (
        "a link within a sentence"
    )


def test_the_map_can_be_walked_with_the_keyboard(tmp_path: Path) -> None:
    walk = (
        "const m=d.querySelector('.map'),t=d.querySelector('#tip'),seen=[];m.focus();"
        "for(const k of ['ArrowRight','ArrowRight','ArrowDown','ArrowLeft','Escape'])"
        "{m.dispatchEvent(new w.KeyboardEvent('keydown',{key:k,bubbles:true}));seen.push(t.hidden?'hidden':t.textContent)}"
        "return (d.activeElement===m)+'|'+seen.join('|')"
    )
    focused, *steps = framed([render(complete(points=80))], tmp_path, 1280, walk).strip().split("|")
    assert focused == "true"
    assert steps[-1] == "hidden"
    assert all(re.search(r"\.jpg", step) for step in steps[:4])
    assert steps[0] != steps[1] != steps[2] != steps[3]


def test_the_map_zooms_and_pans_and_its_dots_keep_their_size(tmp_path: Path) -> None:
    act = (
        "const maps=[...d.querySelectorAll('.map')],m=maps[0],said=[];"
        "const box=()=>maps.map(x=>x.getAttribute('viewBox')).join(';');"
        "const dot=()=>Math.round(10*[...m.querySelectorAll('use')].map(u=>u.getBoundingClientRect())"
        ".filter(r=>r.width)[0].width);"
        "const hit=(x,y)=>{const r=m.getBoundingClientRect();"
        "return {clientX:r.left+x*r.width,clientY:r.top+y*r.height,bubbles:true,pointerType:'mouse',pointerId:1}};"
        "said.push(box(),dot());"
        "m.dispatchEvent(new w.MouseEvent('dblclick',hit(.5,.5)));said.push(box(),dot());"
        "m.dispatchEvent(new w.PointerEvent('pointerdown',hit(.5,.5)));"
        "m.dispatchEvent(new w.PointerEvent('pointermove',hit(.6,.5)));"
        "m.dispatchEvent(new w.PointerEvent('pointerup',hit(.6,.5)));said.push(box());"
        "d.querySelector('.zoom [data-zoom=\"0\"]').click();said.push(box());"
        "m.dispatchEvent(new w.WheelEvent('wheel',{...hit(.5,.5),deltaY:-100}));said.push(box());"
        "m.dispatchEvent(new w.KeyboardEvent('keydown',{key:'+',bubbles:true}));said.push(box());"
        "for(let i=0;i<30;i++)d.querySelector('.zoom [data-zoom=\"+\"]').click();said.push(box());"
        "said.push(d.querySelector('.zoom [data-zoom=\"+\"]').disabled);"
        "return said.join('|')"
    )
    said = framed([render(complete(points=80))], tmp_path, 1280, act).strip().split("|")
    whole, size, twice, size_then, moved, again, scrolled, keyed, most, disabled = said

    def parts(text: str) -> list[float]:
        first, *others = text.split(";")
        assert all(other == first for other in others), "both maps show the same part"
        return [float(v) for v in first.split(" ")]

    x, y, wide, high = parts(whole)
    assert (x, y) == (0, 0)
    assert parts(twice) == pytest.approx([wide / 4, high / 4, wide / 2, high / 2], abs=2)
    assert abs(int(size) - int(size_then)) <= 2
    assert parts(moved)[0] == pytest.approx(wide / 4 - wide / 20, abs=1)
    assert again == whole
    assert scrolled == whole, "the wheel alone scrolls the page"
    assert parts(keyed)[2] < wide
    assert parts(most)[2] == pytest.approx(wide / 20)
    assert disabled == "true"

"use strict";
(function () {
  var root = document.documentElement, source = document.getElementById("map-data");
  if (!source) return;
  root.classList.add("on");
  var data = JSON.parse(source.textContent), maps = Array.from(document.querySelectorAll(".map"));
  var uses = maps.map(function (map) { return Array.from(map.querySelectorAll("use")); });
  var tip = document.getElementById("tip"), all = document.getElementById("show-all");
  var only = document.getElementById("only-changed");
  var buttons = Array.from(document.querySelectorAll(".legend button[data-class]"));
  var chosen = new Set(), changedOnly = false, current = -1;
  var full = maps[0].viewBox.baseVal, WIDE = full.width, HIGH = full.height, MOST = 20;
  var view = { x: 0, y: 0, zoom: 1 }, group = maps[0].closest(".maps"), drag = null;
  var zoomers = Array.from(document.querySelectorAll(".zoom button"));

  function visible(i) {
    if (changedOnly && !data.changed[i]) return false;
    if (!chosen.size) return true;
    return [data.before[i], data.after[i]].some(function (seen) { return seen && chosen.has(seen[0]); });
  }
  function draw() {
    uses.forEach(function (list) {
      list.forEach(function (use, i) { use.classList.toggle("out", !visible(i)); });
    });
    buttons.forEach(function (b) { b.setAttribute("aria-pressed", chosen.has(+b.dataset.class)); });
    if (only) only.setAttribute("aria-pressed", changedOnly);
    all.hidden = !chosen.size && !changedOnly;
    hide();
  }
  buttons.forEach(function (b) {
    b.addEventListener("click", function () {
      var k = +b.dataset.class;
      if (!chosen.delete(k)) chosen.add(k);
      draw();
    });
  });
  if (only) only.addEventListener("click", function () { changedOnly = !changedOnly; draw(); });
  all.addEventListener("click", function () { chosen.clear(); changedOnly = false; draw(); });

  /* Both maps show the same part, and dots stay as large as they are, so that zooming pulls them apart. */
  function look(x, y, zoom) {
    view.zoom = Math.min(MOST, Math.max(1, zoom));
    view.x = Math.min(WIDE - WIDE / view.zoom, Math.max(0, x));
    view.y = Math.min(HIGH - HIGH / view.zoom, Math.max(0, y));
    maps.forEach(function (map) {
      map.setAttribute("viewBox", [view.x, view.y, WIDE / view.zoom, HIGH / view.zoom].join(" "));
      map.querySelector(".ring").setAttribute("r", 9 / view.zoom);
    });
    group.style.setProperty("--zoom", view.zoom);
    group.classList.toggle("zoomed", view.zoom > 1);
    zoomers.forEach(function (b) { b.disabled = b.dataset.zoom === "+" ? view.zoom >= MOST : view.zoom <= 1; });
    hide();
  }
  function zoomAt(x, y, factor) {
    var zoom = Math.min(MOST, Math.max(1, view.zoom * factor)), kept = view.zoom / zoom;
    look(x - (x - view.x) * kept, y - (y - view.y) * kept, zoom);
  }
  function zoomMiddle(way) {
    if (way === "0") look(0, 0, 1);
    else zoomAt(view.x + WIDE / view.zoom / 2, view.y + HIGH / view.zoom / 2, way === "+" ? 1.6 : 1 / 1.6);
  }
  zoomers.forEach(function (b) { b.addEventListener("click", function () { zoomMiddle(b.dataset.zoom); }); });

  function hide() {
    current = -1;
    tip.hidden = true;
    maps.forEach(function (map) { map.querySelector(".ring").setAttribute("cx", -50); });
  }
  function said(seen) {
    return seen ? data.classes[seen[0]] + " (" + Math.round(100 * seen[1]) + "\u00a0%)" : "";
  }
  function words(i) {
    var lines = [[data.id[i], true]];
    if (data.lab[i]) lines.push(["labeled " + data.classes[data.after[i] ? data.after[i][0] : data.before[i][0]]]);
    else if (maps.length < 2) lines.push([said(data.after[i] || data.before[i])]);
    else {
      if (data.before[i]) lines.push([data.names[0] + ": " + said(data.before[i])]);
      if (data.after[i]) lines.push([data.names[1] + ": " + said(data.after[i])]);
    }
    return lines;
  }
  function show(i, left, top) {
    if (i !== current) {
      current = i;
      tip.textContent = "";
      if (data.thumbs[i]) {
        var image = document.createElement("img");
        image.src = "data:image/webp;base64," + data.thumbs[i];
        image.alt = "";
        tip.append(image);
      }
      var text = document.createElement("p");
      words(i).forEach(function (line, n) {
        if (n) text.append(document.createElement("br"));
        var part = document.createElement(line[1] ? "b" : "span");
        part.textContent = line[0];
        text.append(part);
      });
      tip.append(text);
      maps.forEach(function (map) {
        var ring = map.querySelector(".ring");
        ring.setAttribute("cx", data.x[i]);
        ring.setAttribute("cy", data.y[i]);
      });
    }
    tip.hidden = false;
    var box = tip.getBoundingClientRect(), gap = 16;
    var x = left + gap, y = top + gap;
    if (x + box.width > innerWidth - 8) x = left - gap - box.width;
    if (y + box.height > innerHeight - 8) y = top - gap - box.height;
    tip.style.left = Math.max(8, x) + "px";
    tip.style.top = Math.max(8, y) + "px";
  }
  function nearest(x, y, limit, allowed) {
    var best = -1;
    for (var i = 0; i < data.x.length; i++) {
      if (!visible(i) || i === current && allowed) continue;
      var dx = data.x[i] - x, dy = data.y[i] - y, far = dx * dx + dy * dy;
      if (allowed) {
        var along = dx * allowed[0] + dy * allowed[1], aside = Math.abs(dx * allowed[1] - dy * allowed[0]);
        if (along <= 0 || aside > along) continue;
        far = (along + 2 * aside) * (along + 2 * aside);
      }
      if (far <= limit) { limit = far; best = i; }
    }
    return best;
  }
  var ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  maps.forEach(function (map) {
    function go(i) {
      if (i < 0) return;
      if (data.x[i] < view.x || data.y[i] < view.y || data.x[i] > view.x + WIDE / view.zoom || data.y[i] > view.y + HIGH / view.zoom)
        look(data.x[i] - WIDE / view.zoom / 2, data.y[i] - HIGH / view.zoom / 2, view.zoom);
      var box = map.getBoundingClientRect(), scale = box.width * view.zoom / WIDE;
      show(i, box.left + (data.x[i] - view.x) * scale, box.top + (data.y[i] - view.y) * scale);
    }
    map.setAttribute("tabindex", 0);
    map.setAttribute("role", "application");
    map.addEventListener("keydown", function (event) {
      var way = ways[event.key], size = { "+": "+", "=": "+", "-": "-", "0": "0" }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey || !way && !size) return;
      event.preventDefault();
      if (size) zoomMiddle(size);
      else if (current < 0) go(nearest(view.x + WIDE / view.zoom / 2, view.y + HIGH / view.zoom / 2, Infinity));
      else go(nearest(data.x[current], data.y[current], Infinity, way));
    });
    map.addEventListener("blur", hide);
  });
  maps.forEach(function (map) {
    function place(event) {
      var box = map.getBoundingClientRect(), scale = WIDE / view.zoom / box.width;
      return { x: view.x + (event.clientX - box.left) * scale, y: view.y + (event.clientY - box.top) * scale, scale: scale };
    }
    function point(event) {
      if (drag) {
        look(drag.x - (event.clientX - drag.left) * drag.scale, drag.y - (event.clientY - drag.top) * drag.scale, view.zoom);
        return;
      }
      var at = place(event), reach = Math.pow((event.pointerType === "mouse" ? 14 : 26) * at.scale, 2);
      var best = nearest(at.x, at.y, reach);
      if (best < 0) hide(); else show(best, event.clientX, event.clientY);
    }
    map.addEventListener("pointermove", point);
    map.addEventListener("pointerdown", function (event) {
      point(event);
      if (view.zoom === 1 || event.button) return;
      drag = { x: view.x, y: view.y, left: event.clientX, top: event.clientY, scale: place(event).scale };
      try { map.setPointerCapture(event.pointerId); } catch (error) { /* a pointer that has gone */ }
    });
    ["pointerup", "pointercancel"].forEach(function (name) { map.addEventListener(name, function () { drag = null; }); });
    map.addEventListener("dblclick", function (event) {
      event.preventDefault();
      var at = place(event);
      zoomAt(at.x, at.y, event.shiftKey ? 0.5 : 2);
    });
    /* A wheel alone scrolls the page; with Ctrl, which a pinch on a touchpad sends, it zooms. */
    map.addEventListener("wheel", function (event) {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      var at = place(event);
      zoomAt(at.x, at.y, Math.exp(-event.deltaY / 200));
    }, { passive: false });
    map.addEventListener("pointerleave", function (event) { if (event.pointerType === "mouse") hide(); });
  });
  addEventListener("scroll", function () { if (!tip.hidden && current >= 0) hide(); }, { passive: true });
  addEventListener("keydown", function (event) { if (event.key === "Escape") hide(); });
  addEventListener("pointerdown", function (event) { if (!event.target.closest(".map")) hide(); });
  look(0, 0, 1);
  addEventListener("beforeprint", function () {
    look(0, 0, 1);
    document.querySelectorAll("details").forEach(function (part) { part.open = true; });
  });
})();

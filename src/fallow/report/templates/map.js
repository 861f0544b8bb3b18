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
      var box = map.getBoundingClientRect(), scale = box.width / map.viewBox.baseVal.width;
      show(i, box.left + data.x[i] * scale, box.top + data.y[i] * scale);
    }
    map.setAttribute("tabindex", 0);
    map.setAttribute("role", "application");
    map.addEventListener("keydown", function (event) {
      var way = ways[event.key];
      if (!way) return;
      event.preventDefault();
      if (current < 0) go(nearest(map.viewBox.baseVal.width / 2, map.viewBox.baseVal.height / 2, Infinity));
      else go(nearest(data.x[current], data.y[current], Infinity, way));
    });
    map.addEventListener("blur", hide);
  });
  maps.forEach(function (map) {
    function look(event) {
      var box = map.getBoundingClientRect(), scale = map.viewBox.baseVal.width / box.width;
      var reach = Math.pow((event.pointerType === "mouse" ? 14 : 26) * scale, 2);
      var best = nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, reach);
      if (best < 0) hide(); else show(best, event.clientX, event.clientY);
    }
    map.addEventListener("pointermove", look);
    map.addEventListener("pointerdown", look);
    map.addEventListener("pointerleave", function (event) { if (event.pointerType === "mouse") hide(); });
  });
  addEventListener("scroll", function () { if (!tip.hidden && current >= 0) hide(); }, { passive: true });
  addEventListener("keydown", function (event) { if (event.key === "Escape") hide(); });
  addEventListener("pointerdown", function (event) { if (!event.target.closest(".map")) hide(); });
  addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (part) { part.open = true; });
  });
})();

// The only script of `thresher view`. It sends the values of the controls and inserts HTML that the viewer rendered (and
// escaped); texts of the pool never pass through here as HTML. No build step, no library.
(() => {
  "use strict";
  const id = (name) => document.getElementById(name);

  // ---- the token: follows the # of the address, which is never sent; this tab keeps it, so that a reload works
  const KEEP = "thresher-token";
  const given = () => new URLSearchParams(location.hash.slice(1)).get("token") || "";
  const takeToken = () => {
    let found = given();
    try {
      if (found) sessionStorage.setItem(KEEP, found); else found = sessionStorage.getItem(KEEP) || "";
    } catch { /* the tab may keep nothing: a reload then needs the address again */ }
    if (location.hash) history.replaceState(null, "", location.pathname); // removes the token from the address bar
    return found;
  };
  const token = takeToken();
  const authorization = { Authorization: "Bearer " + token };
  addEventListener("hashchange", () => { if (given()) { takeToken(); location.reload(); } }); // the address was pasted into this tab

  const GONE = "The viewer does not answer: it was stopped or restarted. Open the address that thresher view printed.";
  const run = () => {
  // ---- theme: auto (the system's), light, dark
  const themes = ["auto", "light", "dark"];
  let theme = "auto";
  try { if (themes.includes(localStorage.getItem("thresher-theme"))) theme = localStorage.getItem("thresher-theme"); } catch { theme = "auto"; }
  const useTheme = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme;
    id("theme").textContent = "Theme: " + theme;
  };
  useTheme();
  id("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    useTheme();
    try { localStorage.setItem("thresher-theme", theme); } catch { return; }
  });

  // ---- requests to the viewer
  const setStatus = (text) => { id("status").textContent = text; };
  let works = 0;
  const working = (more) => {
    works += more;
    if (works) id("status").dataset.busy = "1"; else delete id("status").dataset.busy;
  };
  const answer = async (response) => {
    if (!response.ok) throw new Error(response.status === 403 ? GONE : (await response.text()).trim() || "HTTP " + response.status);
    return response.json();
  };
  const asked = async (request) => {
    try {
      return await answer(await request());
    } catch (error) {
      const text = error instanceof TypeError ? GONE : error.message;
      return { ok: false, problem: { field: "", text, command: "" } };
    }
  };
  const post = (path, body) => asked(() => fetch(path, {
    method: "POST", body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", ...authorization },
  }));
  const get = (path, values) => asked(() => fetch(path + "?" + new URLSearchParams(values), { headers: authorization }));

  // ---- inserting HTML without losing the focus
  const place = (element, html) => {
    const active = document.activeElement;
    const inside = active && active !== element && element.contains(active);
    const name = inside ? active.id : "";
    const page = new DOMParser().parseFromString(html, "text/html"); // runs nothing
    element.replaceChildren(...page.body.childNodes);
    if (!inside) return;
    const again = name && id(name);
    if (again && !again.disabled) again.focus({ preventScroll: true });
    else { element.tabIndex = -1; element.focus({ preventScroll: true }); }
  };
  const clearProblems = () => {
    for (const p of document.querySelectorAll(".problem[id]")) p.hidden = true;
    for (const f of document.querySelectorAll("[aria-invalid]")) f.removeAttribute("aria-invalid");
  };
  const showProblem = (problem) => {
    const beside = problem.field && id("problem-" + problem.field);
    if (beside) {
      beside.textContent = problem.text;
      beside.hidden = false;
      const field = id(problem.field);
      if (field) field.setAttribute("aria-invalid", "true");
    }
    const box = id("problem");
    box.hidden = Boolean(beside);
    box.querySelector("p").textContent = problem.text;
    box.querySelector(".code").hidden = !problem.command;
    box.querySelector("code").textContent = problem.command;
  };
  const changed = (result) => {
    clearProblems();
    if (!result.ok) { showProblem(result.problem); return false; }
    for (const [name, html] of Object.entries(result.html)) if (id(name)) place(id(name), html);
    setStatus(result.status);
    if (document.activeElement !== id("where") && result.new_name) id("where").value = result.new_name;
    kept = result.kept;
    current = result.ask;
    return true;
  };

  // ---- the budget: steps of the slider are shares, fine below and coarse above
  const steps = [];
  for (let i = 1; i < 10; i++) steps.push(i / 10);
  for (let i = 2; i < 20; i++) steps.push(i / 2);
  for (let i = 10; i < 30; i++) steps.push(i);
  for (let i = 30; i < 50; i += 2) steps.push(i);
  for (let i = 50; i <= 100; i += 5) steps.push(i);
  const n = Number(document.body.dataset.rows);
  const usable = steps.filter((s) => s * n >= 100);
  if (!usable.length) usable.push(100);
  const slider = id("slider");
  let kept = Number(document.body.dataset.kept);
  slider.max = usable.length - 1;
  const shareOf = (text) => {
    const percent = /^\s*(\d+(?:\.\d+)?)\s*%\s*$/.exec(text);
    if (percent) return Number(percent[1]);
    if (/^\s*\d+\s*$/.test(text)) return 100 * Number(text) / n;
    return 100 * kept / n;
  };
  const setSlider = () => {
    const share = shareOf(id("budget").value);
    let best = 0;
    usable.forEach((s, i) => { if (Math.abs(Math.log(s / share)) < Math.abs(Math.log(usable[best] / share))) best = i; });
    slider.value = best;
    describeSlider();
  };
  const describeSlider = () => {
    const share = usable[slider.value];
    slider.setAttribute("aria-valuetext", share + "%, " + Math.max(Math.floor(n * share / 100), 1).toLocaleString("en") + " rows");
  };
  setSlider();

  // ---- selecting again: the latest parameters win, one request at a time
  let current = null; // the parameters of the displayed selection
  const fields = () => [...document.querySelectorAll("[data-setting]")];
  const readParams = () => ({
    method: id("method").value,
    budget: id("budget").value,
    seed: id("seed").value,
    // the fields belong to the method that is shown; a requested method starts with its own defaults
    settings: current && id("method").value !== current.method ? {} : Object.fromEntries(fields().map((e) => [e.dataset.setting, e.value])),
  });
  current = readParams();
  id("back").addEventListener("click", () => {
    for (const name of ["method", "budget", "seed"]) id(name).value = current[name];
    for (const field of fields()) field.value = current.settings[field.dataset.setting];
    setSlider();
    clearProblems();
    id("budget").focus();
  });
  let busy = false;
  let waiting = null;
  const choose = async (ask) => {
    waiting = ask;
    if (busy) return;
    busy = true;
    working(1);
    while (waiting) {
      const now = waiting;
      waiting = null;
      const result = await post("/select", now);
      if (waiting) continue;
      if (changed(result)) follow();
    }
    busy = false;
    working(-1);
  };
  slider.addEventListener("input", () => {
    id("budget").value = usable[slider.value] + "%";
    describeSlider();
    choose(readParams());
  });
  let typing = 0;
  id("ask").addEventListener("input", (event) => {
    if (event.target === slider || event.target === id("method")) return;
    clearTimeout(typing);
    const wait = event.target.tagName === "SELECT" ? 0 : 350;
    typing = setTimeout(() => { if (event.target === id("budget")) setSlider(); choose(readParams()); }, wait);
  });
  id("method").addEventListener("change", () => choose({ ...readParams(), settings: {} }));
  id("ask").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); choose(readParams()); });

  // ---- after a new selection: rows at once, plots shortly afterwards and only when their tab is open
  let stale = true;
  let drawing = 0;
  const follow = () => {
    loadRows();
    stale = true;
    clearTimeout(drawing);
    drawing = setTimeout(draw, 300);
  };
  let drawn = 0;
  const draw = async () => {
    if (!stale || id("panel-plots").hidden) return;
    stale = false;
    const request = ++drawn;
    id("plots").setAttribute("aria-busy", "true");
    const result = await get("/plots", {});
    if (request !== drawn) return;
    id("plots").removeAttribute("aria-busy");
    if (result.ok) place(id("plots"), result.html); else showProblem(result.problem);
  };

  // ---- rows
  const query = { show: "all", source: "", kind: "", words: "", sort: "", skill: "", view: "cards", page: 0 };
  let loaded = 0;
  const SUSPICION = "suspicion"; // the order of rows that are likely wrong
  const suspects = () => query.show.startsWith("suspected");
  const options = (select, first, list, value) => {
    const texts = list.map(([v, t]) => v + "\n" + t).join("\n\n");
    if (select.dataset.list !== texts) {
      select.dataset.list = texts;
      const make = (v, t) => { const o = document.createElement("option"); o.value = v; o.textContent = t; return o; };
      select.replaceChildren(make("", first), ...list.map(([v, t]) => make(v, t)));
    }
    select.value = [...select.options].some((o) => o.value === value) ? value : "";
  };
  const loadRows = async (more) => {
    const request = ++loaded;
    id("rows").setAttribute("aria-busy", "true");
    const result = await get("/rows", { ...query, more: more ? 1 : 0 });
    if (request !== loaded) return;
    id("rows").removeAttribute("aria-busy");
    if (!result.ok) { showProblem(result.problem); return; }
    query.page = result.page;
    place(id("rows"), result.html);
    id("found").textContent = result.count;
    options(id("kind"), "every reason", result.kinds.map((k) => [k, k]), query.kind);
    const both = result.sorts.flatMap(([name, title]) => [["-" + name, title + ", largest first"], [name, title + ", smallest first"]]);
    options(id("sort"), "as in the file", [["rank", "best rank first"], [SUSPICION, "likeliest wrong first"], ...both], query.sort);
    if (result.skills) options(id("skill"), "every skill", result.skills, query.skill);
    id("of-skill").hidden = !(suspects() && result.skills && result.skills.length);
    overview(result.suspects || "");
    if (["kind", "sort", "skill"].some((name) => id(name).value !== query[name])) {
      for (const name of ["kind", "sort", "skill"]) query[name] = id(name).value;
      loadRows();
    }
  };
  let overviewed = "";
  const overview = (html) => { // unchanged HTML is not replaced, so that open details stay open
    id("suspects").hidden = !html;
    if (html !== overviewed) place(id("suspects"), html);
    overviewed = html;
  };
  const readFilters = () => {
    const before = suspects();
    for (const name of ["show", "source", "kind", "sort", "skill"]) query[name] = id(name).value;
    if (suspects() && !before && !query.sort) query.sort = SUSPICION;
    if (before && !suspects() && query.sort === SUSPICION) query.sort = "";
    if (!suspects()) query.skill = "";
    query.words = id("words").value;
    query.view = id("as").value;
    query.page = 0;
    loadRows();
  };
  let searching = 0;
  id("filters").addEventListener("input", (event) => {
    clearTimeout(searching);
    searching = setTimeout(readFilters, event.target === id("words") ? 300 : 0);
  });
  id("filters").addEventListener("reset", () => setTimeout(readFilters));
  id("filters").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(searching); readFilters(); });
  const decide = async (path, body) => {
    working(1);
    const result = await post(path, body);
    if (changed(result)) follow();
    working(-1);
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { row, rows, state, page, more, show, whole } = button.dataset;
    if (whole !== undefined) {
      const result = await get("/row/" + whole, {});
      if (!result.ok) { showProblem(result.problem); return; }
      id("whole-title").textContent = result.title;
      id("whole").querySelector("pre").textContent = result.text;
      id("whole").showModal();
    } else if (button.id === "whole-close") id("whole").close();
    else if (row !== undefined) decide("/pin", { rows: [Number(row)], state });
    else if (rows !== undefined) decide("/pin", { rows: rows.split(",").map(Number), state });
    else if (page !== undefined) {
      query.page = Number(page);
      await loadRows();
      id("rows").scrollIntoView({ block: "start" });
      id("rows").focus({ preventScroll: true });
    } else if (more !== undefined) loadRows(true);
    else if (show !== undefined) { id("show").value = show; readFilters(); id("show").focus(); }
    else if (button.id === "undo") decide("/undo", {});
    else if (button.classList.contains("copy")) copy(button);
  });
  document.addEventListener("error", (event) => { // an image that cannot be read
    const image = event.target;
    if (!(image instanceof HTMLImageElement)) return;
    const text = document.createElement("p");
    text.className = "noimage small";
    text.textContent = image.title + ": cannot be shown";
    image.replaceWith(text);
  }, true);

  // ---- tabs
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const openTab = (tab) => {
    for (const t of tabs) {
      t.setAttribute("aria-selected", String(t === tab));
      t.tabIndex = t === tab ? 0 : -1;
      id(t.getAttribute("aria-controls")).hidden = t !== tab;
    }
    draw();
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => openTab(tab));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = tabs[(to + tabs.length) % tabs.length];
      openTab(next);
      next.focus();
    });
  });

  // ---- export, copying
  id("export").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("button");
    button.disabled = true;
    button.textContent = "Writing …";
    working(1);
    const result = await post("/export", { where: id("where").value });
    working(-1);
    button.disabled = false;
    button.textContent = "Write";
    clearProblems();
    if (!result.ok) { showProblem(result.problem); return; }
    place(id("exported"), result.html.exported);
    setStatus(result.status);
  });
  const copy = async (button) => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };

  if (matchMedia("(max-width: 60rem)").matches) document.querySelector(".more-settings").open = false;
  loadRows();
  };

  // ---- the page itself
  const start = async () => {
    const showText = (text) => { id("loading").textContent = text; id("loading").removeAttribute("aria-busy"); };
    if (!token) return showText("Open the address that thresher view printed: it ends in #token=…");
    let page;
    try {
      const response = await fetch("/page", { headers: authorization });
      if (!response.ok) return showText(response.status === 403 ? GONE : "The viewer cannot show this selection; the terminal shows the reason.");
      page = await response.json();
    } catch { return showText(GONE); }
    document.title = page.title;
    document.body.dataset.rows = page.rows;
    document.body.dataset.kept = page.kept;
    document.body.replaceChildren(...new DOMParser().parseFromString(page.html, "text/html").body.childNodes); // runs nothing
    run();
  };
  start();
})();

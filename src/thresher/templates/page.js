// The only script of a report: theme, filters, paging, copying. It reads the page's own elements and writes text, never HTML.
(() => {
  "use strict";
  const root = document.documentElement;

  // ---- theme: auto (the system's), light, dark; stored if the browser allows it for local files
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const remember = (value) => { try { localStorage.setItem("thresher-theme", value); } catch { return; } };
  const remembered = () => { try { return localStorage.getItem("thresher-theme"); } catch { return null; } };
  const use = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = "Theme: " + theme;
  };
  let theme = themes.includes(remembered()) ? remembered() : "auto";
  use(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    use(theme);
    remember(theme);
  });

  // ---- rows: filters and "Show more"
  const PAGE = 12;
  const form = document.querySelector(".filters");
  const sides = [...document.querySelectorAll(".side")].map((element) => ({
    element,
    id: element.id.replace("side-", ""),
    cards: [...element.querySelectorAll(".card")].map((card) => ({
      card,
      source: card.dataset.source,
      kind: card.dataset.kind,
      text: (card.textContent + " " + [...card.querySelectorAll("img")].map((i) => i.alt).join(" ")).toLowerCase(),
    })),
    more: element.querySelector(".more"),
    none: element.querySelector(".none"),
    shown: PAGE,
  }));
  const field = (id) => document.getElementById(id);
  const apply = () => {
    const words = form ? field("find").value.toLowerCase().split(/\s+/).filter(Boolean) : [];
    const [side, source, kind] = form ? ["side", "source", "kind"].map((id) => field(id).value) : ["", "", ""];
    let found = 0;
    let visible = 0;
    for (const s of sides) {
      s.element.hidden = side !== "" && side !== s.id;
      const hits = s.cards.filter((c) => (source === "" || c.source === source) && (kind === "" || c.kind === kind)
        && words.every((w) => c.text.includes(w)));
      for (const c of s.cards) c.card.hidden = true;
      for (const c of hits.slice(0, s.shown)) c.card.hidden = false;
      const left = hits.length - s.shown;
      s.more.hidden = left <= 0;
      s.more.textContent = "Show " + Math.min(PAGE, Math.max(left, 0)) + " more of " + Math.max(left, 0);
      s.none.hidden = hits.length > 0;
      if (!s.element.hidden) { found += hits.length; visible += 1; }
    }
    const box = document.querySelector(".sides");
    if (box) box.classList.toggle("one", visible === 1);
    if (form) field("found").textContent = found + (found === 1 ? " row of this sample matches." : " rows of this sample match.");
  };
  if (sides.length) {
    for (const s of sides) {
      s.more.addEventListener("click", () => {
        const at = s.shown;
        s.shown += PAGE;
        apply();
        const next = s.cards.filter((c) => !c.card.hidden)[at];
        if (next) { next.card.tabIndex = -1; next.card.focus({ preventScroll: true }); }
      });
    }
    if (form) {
      form.hidden = false;
      const again = () => { for (const s of sides) s.shown = PAGE; apply(); };
      form.addEventListener("input", again);
      form.addEventListener("reset", () => setTimeout(again));
      form.addEventListener("submit", (event) => event.preventDefault());
    }
    apply();
  }

  // ---- commands: copy, or select if copying is not allowed
  for (const copy of document.querySelectorAll(".copy")) {
    copy.hidden = false;
    const code = copy.parentElement.querySelector("code");
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        copy.textContent = "Selected";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    });
  }
})();

"use strict";
// Filters the samples, and, if the page is served, takes over newer figures; without it the page shows all it has.
(() => {
  const AT_ONCE = 60;
  const by = (id) => document.getElementById(id);
  const controls = by("controls"), query = by("query"), shown = by("shown"), more = by("more"), none = by("none");
  let limit = AT_ONCE;

  const words = new WeakMap();
  const wordsOf = (card) => {
    if (!words.has(card)) words.set(card, card.textContent.toLowerCase().replace(/\s+/g, " "));
    return words.get(card);
  };

  function filter() {
    const wanted = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const status = by("status").value, reason = by("reason").value;
    const cards = document.querySelectorAll("#p-sheet > .card");
    let found = 0;
    for (const card of cards) {
      const text = wordsOf(card);
      const fits = (!status || card.dataset.status === status) && (!reason || card.dataset.reason === reason)
        && wanted.every((word) => text.includes(word));
      found += fits;
      card.hidden = !fits || found > limit;
    }
    none.hidden = found > 0 || cards.length === 0;
    more.hidden = found <= limit;
    more.textContent = `Show ${Math.min(AT_ONCE, found - limit)} more of ${found}`;
    shown.textContent = found === cards.length ? `${found} samples` : `${found} of ${cards.length} samples`;
  }
  function anew() {
    limit = AT_ONCE;
    filter();
  }

  controls.hidden = by("p-sheet").children.length === 0;
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("input", (event) => {
    if (event.target.id === "blur") by("p-sheet").classList.toggle("blurred", event.target.checked);
    else anew();
  });
  query.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && query.value) {
      query.value = "";
      anew();
      event.preventDefault();
    }
  });
  more.addEventListener("click", () => {
    const visible = document.querySelectorAll("#p-sheet > .card:not([hidden])").length;
    limit += AT_ONCE;
    filter();
    const next = document.querySelectorAll("#p-sheet > .card:not([hidden])")[visible];
    if (next) next.querySelector("summary").focus();
  });
  filter();

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("main details:not([open])")].filter((each) => !each.closest(".card"));
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of opened) each.open = false; });

  if (!document.body.dataset.live) return;
  const live = by("live"), every = Math.max(1, Math.min(5, Number(document.body.dataset.live))) * 1000;
  let version = null, fails = 0;

  function openState(root) {
    return new Set([...root.querySelectorAll("details[open][id]")].map((each) => each.id));
  }
  function replaceParts(newer) {
    const at = [scrollX, scrollY], focused = document.activeElement && document.activeElement.id;
    const begun = [...document.querySelectorAll("main section")].filter((each) => each.getBoundingClientRect().top < innerHeight / 2);
    const anchor = scrollY > 0 && begun.at(-1);
    const top = anchor && anchor.getBoundingClientRect().top;
    for (const id of ["p-where", ...[...document.querySelectorAll("[data-part]")].map((each) => each.id)]) {
      const old = by(id), fresh = newer.getElementById(id);
      if (!old || !fresh || old.innerHTML === fresh.innerHTML) continue;
      const open = openState(old);
      const imported = document.importNode(fresh, true);
      if (old.classList.contains("blurred")) imported.classList.add("blurred");
      for (const each of open) imported.querySelector(`#${CSS.escape(each)}`)?.setAttribute("open", "");
      old.replaceWith(imported);
    }
    for (const id of ["status", "reason"]) {
      const old = by(id), fresh = newer.getElementById(id), chosen = old.value;
      if (document.activeElement === old || !fresh) continue;
      old.replaceChildren(...[...fresh.children].map((each) => document.importNode(each, true)));
      if (chosen && ![...old.options].some((each) => each.value === chosen)) old.add(new Option(`${chosen} (0)`, chosen));
      old.value = chosen;
    }
    controls.hidden = by("p-sheet").children.length === 0;
    filter();
    if (focused && document.activeElement !== by(focused)) by(focused)?.focus({ preventScroll: true });
    if (anchor) scrollTo({ left: at[0], top: scrollY + anchor.getBoundingClientRect().top - top, behavior: "instant" });
  }
  async function look() {
    try {
      const found = await (await fetch("version", { cache: "no-store" })).text();
      if (version !== null && found !== version) {
        const text = await (await fetch("", { cache: "no-store" })).text();
        replaceParts(new DOMParser().parseFromString(text, "text/html"));
        live.textContent = `renewed at ${new Date().toLocaleTimeString()}`;
      }
      version = found;
      fails = 0;
      live.classList.remove("ended");
    } catch {
      fails += 1;
      if (fails === 2) {
        live.textContent = "no longer served: this is how it was last";
        live.classList.add("ended");
      }
    }
    setTimeout(look, every * (fails > 2 ? 6 : 1));
  }
  look();
})();

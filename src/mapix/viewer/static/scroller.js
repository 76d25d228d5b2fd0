// A list of any length on one canvas.
//
// Browsers limit an element to some 33 million pixels, so the scrolled element is at most
// MOST_HEIGHT tall.  `top` is the true position in pixels; of longer lists the scroll bar shows its
// share, and wheel and keys move it pixel by pixel.

import { h } from "./dom.js";

const MOST_HEIGHT = 8e6;

export class Scroller {
  // draw(context, top, width, height) paints the pixels from `top` on.
  constructor({ label, draw, moved }) {
    this.draw = draw;
    this.moved = moved ?? (() => {});
    this.top = 0;
    this.total = 0;
    this.spacer = h("div.spacer");
    this.bar = h("div.scroller", { tabindex: "0", role: "group", "aria-label": label }, this.spacer);
    this.canvas = h("canvas");
    this.element = h("div.scroller-box", {}, this.canvas, this.bar);
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.bar.addEventListener("scroll", () => this.#dragged(), { passive: true });
    this.bar.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    new ResizeObserver(() => this.#resized()).observe(this.element);
  }

  get height() {
    return this.bar.clientHeight;
  }

  get width() {
    return this.bar.clientWidth;
  }

  get most() {
    return Math.max(0, this.total - this.height);
  }

  // Set the height of the complete list in pixels.
  resize(total) {
    this.total = total;
    this.spacer.style.height = `${Math.min(total, MOST_HEIGHT)}px`;
    this.go(this.top);
  }

  // Go to a position in pixels.
  go(top) {
    const now = Math.round(Math.min(Math.max(0, top), this.most));
    const moved = now !== this.top;
    this.top = now;
    const span = this.bar.scrollHeight - this.height;
    this.expected = this.most > 0 ? (now / this.most) * span : 0;
    if (Math.abs(this.bar.scrollTop - this.expected) >= 1) this.bar.scrollTop = this.expected;
    if (moved) this.moved(now);
    this.dirty();
  }

  // Paint in the next frame.
  dirty() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#paint();
    });
  }

  #paint() {
    const ratio = devicePixelRatio || 1;
    const { width, height } = this;
    if (!width || !height) return;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.imageSmoothingEnabled = false;
    this.draw(this.context, this.top, width, height);
  }

  #dragged() {
    if (Math.abs(this.bar.scrollTop - this.expected) < 2) return;
    const span = this.bar.scrollHeight - this.height;
    const top = span > 0 ? (this.bar.scrollTop / span) * this.most : 0;
    this.expected = this.bar.scrollTop;
    this.top = Math.round(top);
    this.moved(this.top);
    this.dirty();
  }

  #wheel(event) {
    if (event.ctrlKey) return; // zoom
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 40 : event.deltaMode === 2 ? this.height : 1;
    this.go(this.top + event.deltaY * unit);
  }

  #resized() {
    this.onresize?.();
    this.go(this.top);
  }
}

// Colours of the page for canvases, read again when the scheme changes.
let known = null;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  known = null;
});

export function colours() {
  if (!known) {
    const style = getComputedStyle(document.documentElement);
    const names = ["ground", "panel", "line", "text", "faint", "accent", "mark", "tile", "hover", "bar", "bar-on"];
    known = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }
  return known;
}

// The share of a list's keys that all lists have; returns the new position, or null.
export function moveBy(key, ctrl, position, count, perLine, perPage) {
  const steps = {
    ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perLine, ArrowDown: perLine,
    PageUp: -perPage, PageDown: perPage,
  };
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  if (!(key in steps) || ctrl || !count) return null;
  const to = position + steps[key];
  if (to < 0) return perLine > 1 && key !== "ArrowLeft" ? position % perLine : 0;
  return Math.min(to, count - 1);
}

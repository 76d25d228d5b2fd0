// A canvas that shows a plane of pixels: zoom, pan, a cursor, regions; by mouse, touch and keys.
//
// `scale` is the number of screen pixels per pixel of the plane, `left` and `top` the place of the
// plane at the canvas's corner.  Positions that callbacks get are in pixels of the plane.

import { h } from "./dom.js";

const LEAST = 1 / 256;
const MOST = 96;
const MOVED = 4; // screen pixels: less is a click

export class Stage {
  // draw(context, stage) paints; width and height of the canvas are in CSS pixels.
  constructor({ label, draw, drag = "pan", wheel = "zoom", pixels = true, ...handlers }) {
    this.pixels = pixels; // whether the plane is of pixels, which are shown in one size
    this.draw = draw;
    this.drag = drag;
    this.wheel = wheel;
    this.handlers = handlers; // hovered(x, y), clicked(x, y, event), region(rect), viewed(), keys(event)
    this.width = this.height = 0;
    this.columns = this.rows = 1;
    this.scale = 1;
    this.left = this.top = 0;
    this.fitted = true;
    this.cursor = null;
    this.rubber = null;
    this.canvas = h("canvas.stage", { tabindex: "0", role: "application", "aria-label": label });
    this.element = h("div.stage-box", {}, this.canvas);
    this.context = this.canvas.getContext("2d", { alpha: false });
    const on = (name, what, options) => this.canvas.addEventListener(name, what, options);
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", () => this.#cancel());
    on("pointerleave", () => this.handlers.hovered?.(null, null));
    on("wheel", (event) => this.#wheel(event), { passive: false });
    on("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#resized()).observe(this.element);
  }

  // Set the size of the plane; the view is fitted when it changes.
  resize(columns, rows) {
    if (columns === this.columns && rows === this.rows) return;
    this.columns = columns;
    this.rows = rows;
    this.cursor = null;
    this.fit();
  }

  fit() {
    if (!this.width || !this.height) return;
    const margin = 8;
    const wanted = Math.min((this.width - margin) / this.columns, (this.height - margin) / this.rows);
    this.scale = Math.min(MOST, Math.max(LEAST, wanted > 2 && this.pixels ? Math.floor(wanted) : wanted));
    this.left = (this.columns - this.width / this.scale) / 2;
    this.top = (this.rows - this.height / this.scale) / 2;
    this.fitted = true;
    this.#viewed();
  }

  // Zoom by a factor, such that a place of the screen stays.
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(MOST, Math.max(LEAST, this.scale * factor));
    this.left += x / this.scale - x / scale;
    this.top += y / this.scale - y / scale;
    this.scale = scale;
    this.fitted = false;
    this.#bounded();
    this.#viewed();
  }

  pan(x, y) {
    this.left += x / this.scale;
    this.top += y / this.scale;
    this.fitted = false;
    this.#bounded();
    this.#viewed();
  }

  // Show the plane from a place on, in a scale.
  look(left, top, scale) {
    [this.left, this.top, this.fitted] = [left, top, false];
    this.scale = Math.min(MOST, Math.max(LEAST, scale));
    this.#viewed();
  }

  // Show a rectangle of the plane, (left, top, right, bottom).
  show([left, top, right, bottom], share = 0.5) {
    if (!this.width) return;
    const width = Math.max(1, right - left);
    const height = Math.max(1, bottom - top);
    this.scale = Math.min(MOST, Math.max(LEAST, share * Math.min(this.width / width, this.height / height)));
    this.left = (left + right - this.width / this.scale) / 2;
    this.top = (top + bottom - this.height / this.scale) / 2;
    this.fitted = false;
    this.#viewed();
  }

  // Put the cursor on a pixel, and show it.
  point(x, y, { view = true } = {}) {
    this.cursor = {
      x: Math.min(this.columns - 1, Math.max(0, x)),
      y: Math.min(this.rows - 1, Math.max(0, y)),
    };
    if (view && this.width) {
      const right = this.left + this.width / this.scale;
      const bottom = this.top + this.height / this.scale;
      if (this.cursor.x < this.left || this.cursor.x + 1 > right) {
        this.left = this.cursor.x + 0.5 - this.width / this.scale / 2;
      }
      if (this.cursor.y < this.top || this.cursor.y + 1 > bottom) {
        this.top = this.cursor.y + 0.5 - this.height / this.scale / 2;
      }
      this.#viewed();
    }
    this.dirty();
  }

  // The place of the plane under a place of the screen.
  at(x, y) {
    return [this.left + x / this.scale, this.top + y / this.scale];
  }

  // The screen's place of a place of the plane.
  on(x, y) {
    return [(x - this.left) * this.scale, (y - this.top) * this.scale];
  }

  // The part of the plane that is seen, in whole pixels: left, top, right, bottom.
  get seen() {
    const [left, top] = this.at(0, 0);
    const [right, bottom] = this.at(this.width, this.height);
    return [
      Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top)),
      Math.min(this.columns, Math.ceil(right)), Math.min(this.rows, Math.ceil(bottom)),
    ];
  }

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
    const { width, height, canvas, context } = this;
    if (!width || !height) return;
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingEnabled = false;
    this.draw(context, this);
    if (this.rubber) {
      const { x, y, to } = this.rubber;
      context.save();
      context.setLineDash([5, 4]);
      context.lineWidth = 1.5;
      for (const [colour, offset] of [["#000", 0], ["#fff", 4.5]]) {
        context.strokeStyle = colour;
        context.lineDashOffset = offset;
        context.strokeRect(Math.min(x, to.x), Math.min(y, to.y), Math.abs(to.x - x), Math.abs(to.y - y));
      }
      context.restore();
    }
  }

  // Keep a part of the plane in view.
  #bounded() {
    const wide = this.width / this.scale;
    const high = this.height / this.scale;
    this.left = Math.min(Math.max(this.left, -wide * 0.8), this.columns - wide * 0.2);
    this.top = Math.min(Math.max(this.top, -high * 0.8), this.rows - high * 0.2);
  }

  #viewed() {
    this.dirty();
    this.handlers.viewed?.();
  }

  #resized() {
    this.width = this.element.clientWidth;
    this.height = this.element.clientHeight;
    if (this.fitted) this.fit();
    else this.#viewed();
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #down(event) {
    if (event.button > 1) return;
    this.canvas.setPointerCapture(event.pointerId);
    const place = this.#place(event);
    const pans = (this.drag === "pan") !== (event.shiftKey || event.button === 1 || event.ctrlKey);
    this.press = { ...place, last: place, pans, moved: false };
  }

  #move(event) {
    const place = this.#place(event);
    const { press } = this;
    if (!press) {
      const [x, y] = this.at(place.x, place.y);
      this.handlers.hovered?.(x, y);
      return;
    }
    if (!press.moved && Math.hypot(place.x - press.x, place.y - press.y) < MOVED) return;
    press.moved = true;
    if (press.pans) {
      this.pan(press.last.x - place.x, press.last.y - place.y);
      press.last = place;
    } else {
      this.rubber = { x: press.x, y: press.y, to: place };
      this.dirty();
    }
  }

  #up(event) {
    const { press } = this;
    this.press = null;
    if (!press) return;
    const place = this.#place(event);
    const [x, y] = this.at(place.x, place.y);
    if (!press.moved) {
      this.handlers.clicked?.(x, y, event);
    } else if (!press.pans) {
      const [a, b] = this.at(press.x, press.y);
      this.rubber = null;
      this.dirty();
      const bound = (value, most) => Math.min(most, Math.max(0, value));
      const rect = [
        bound(Math.floor(Math.min(a, x)), this.columns), bound(Math.floor(Math.min(b, y)), this.rows),
        bound(Math.ceil(Math.max(a, x)), this.columns), bound(Math.ceil(Math.max(b, y)), this.rows),
      ];
      if (rect[0] < rect[2] && rect[1] < rect[3]) this.handlers.region?.(rect);
    }
  }

  #cancel() {
    this.press = this.rubber = null;
    this.dirty();
  }

  #wheel(event) {
    if (this.wheel === "ctrl" && !event.ctrlKey) return;
    event.preventDefault();
    const place = this.#place(event);
    const unit = event.deltaMode === 1 ? 30 : 1;
    this.zoom(Math.exp((-event.deltaY * unit) / (event.ctrlKey ? 150 : 400)), place.x, place.y);
  }

  #key(event) {
    if (event.altKey || event.metaKey) return;
    if (this.handlers.keys?.(event)) {
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    let handled = true;
    if (event.key in steps && event.ctrlKey) {
      this.pan(...steps[event.key].map((way) => way * 60));
    } else if (event.key in steps) {
      const step = Math.max(1, Math.round((event.shiftKey ? 80 : 8) / this.scale)) * (event.shiftKey && this.scale >= 8 ? 10 : 1);
      const [x, y] = steps[event.key];
      const from = this.cursor ?? { x: Math.floor(this.columns / 2), y: Math.floor(this.rows / 2) };
      this.point(from.x + x * step, from.y + y * step);
      this.handlers.pointed?.(this.cursor.x, this.cursor.y);
    } else if (event.key === "Enter" && this.cursor) {
      this.handlers.clicked?.(this.cursor.x + 0.5, this.cursor.y + 0.5, event);
    } else if (event.key === "+" || event.key === "=" || event.key === "-") {
      const [x, y] = this.cursor ? this.on(this.cursor.x + 0.5, this.cursor.y + 0.5) : [];
      this.zoom(event.key === "-" ? 1 / 1.5 : 1.5, x, y);
    } else if (event.key === "0") {
      this.fit();
    } else {
      handled = false;
    }
    if (handled) {
      event.preventDefault();
      event.stopPropagation();
    }
  }
}

// Buttons for zoom, for those without a wheel.
export function zoomButtons(stage) {
  return h("span.buttons", { role: "group", "aria-label": "Zoom" },
    h("button", { onclick: () => stage.zoom(1 / 1.5), title: "Zoom out (-)", "aria-label": "Zoom out" }, "−"),
    h("button", { onclick: () => stage.fit(), title: "All of it (0)" }, "fit"),
    h("button", { onclick: () => stage.zoom(1.5), title: "Zoom in (+)", "aria-label": "Zoom in" }, "+"));
}

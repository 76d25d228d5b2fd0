// A record as a spectrogram: frequency and time at the axes, the level under the cursor, the sound.

import { h, shown } from "./dom.js";
import { canvasOf, paint, palette } from "./levels.js";

const LEFT = 56;
const BELOW = 26;
const TICKS = 6;

export function create(app) {
  let record = -1;
  let asked = 0;
  let facts = null;
  let levels = null;
  let address = null; // of the sound
  const canvas = h("canvas", { role: "img", "aria-label": "Spectrogram: time to the right, frequency upwards", onmousemove: tell });
  const frame = h("div", {}, canvas);
  const value = h("output.pixel-value", { "aria-live": "polite" });
  const channel = h("select", { "aria-label": "Channel", onchange: () => load(record, Number(channel.value)) });
  const play = h("button", { type: "button", onclick: listen }, "Make the sound");
  const audio = h("audio", { controls: true, hidden: true });
  const note = h("p.about", {}, "The sound is made of the levels alone: phases are guessed (Griffin-Lim).");
  const element = h("section.inspector", { "aria-label": "Sound" }, frame,
    h("div.picture-line", {}, value, channel, play), audio, note);
  new ResizeObserver(draw).observe(frame);

  function forget() {
    if (address) URL.revokeObjectURL(address);
    address = null;
    audio.removeAttribute("src");
    audio.hidden = true;
    play.hidden = false;
  }

  async function load(n, which = 0) {
    record = n;
    const mine = ++asked;
    forget();
    try {
      const found = await app.source.json("spectrogram", { n });
      const buffer = await app.source.bytes("spectrogram.levels", { n, channel: which });
      if (mine !== asked) return;
      facts = found;
      levels = new Float32Array(buffer);
    } catch (problem) {
      if (mine === asked) value.textContent = problem.message;
      return;
    }
    channel.replaceChildren(...facts.channels.map((name, k) => h("option", { value: String(k) }, name)));
    channel.value = String(which);
    channel.hidden = facts.channels.length < 2;
    play.hidden = !facts.frequencies;
    value.textContent = "";
    await draw();
  }

  async function draw() {
    if (!facts || !frame.clientWidth) return;
    const [height, width] = facts.shape;
    const mine = asked;
    const colours = await palette(app, app.state.map);
    if (mine !== asked) return;
    const image = canvasOf(paint(new ImageData(width, height), levels, 1, facts.range, colours));
    const ratio = devicePixelRatio || 1;
    const wide = frame.clientWidth;
    const high = Math.round(Math.min(420, Math.max(200, 0.7 * wide)));
    Object.assign(canvas, { width: wide * ratio, height: high * ratio });
    Object.assign(canvas.style, { width: `${wide}px`, height: `${high}px` });
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = false;
    context.save();
    context.translate(LEFT, high - BELOW); // row 0, the lowest frequency, at the bottom
    context.scale(1, -1);
    context.drawImage(image, 0, 0, wide - LEFT, high - BELOW);
    context.restore();
    context.fillStyle = getComputedStyle(element).color;
    context.font = "11px system-ui, sans-serif";
    for (let k = 0; k <= 4; k += 1) {
      context.textAlign = k === 0 ? "left" : k === 4 ? "right" : "center";
      context.fillText(seconds((k / 4) * width), LEFT + (k / 4) * (wide - LEFT), high - 8);
    }
    context.textAlign = "right";
    for (let k = 0; k <= TICKS; k += 1) {
      const part = k / TICKS;
      const row = Math.min(height - 1, Math.floor(part * height));
      context.fillText(hertz(row), LEFT - 6, Math.max(10, (1 - part) * (high - BELOW) + 4));
    }
  }

  const seconds = (column) => `${shown(column * facts.seconds, 3)} s`;
  const hertz = (row) => (facts.frequencies ? `${shown(facts.frequencies[row], 3)} Hz` : `row ${row}`);

  function tell(event) {
    if (!facts) return;
    const [height, width] = facts.shape;
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left - LEFT) / (box.width - LEFT)) * width);
    const row = height - 1 - Math.floor(((event.clientY - box.top) / (box.height - BELOW)) * height);
    const inside = column >= 0 && column < width && row >= 0 && row < height;
    value.textContent = inside
      ? `${hertz(row)}, ${seconds(column + 0.5)}: ${shown(levels[row * width + column], 3)} dB` : "";
  }

  async function listen() {
    const mine = asked;
    play.disabled = true;
    try {
      const data = await app.source.bytes("spectrogram.wav", { n: record, channel: Number(channel.value) });
      if (mine !== asked) return;
      address = URL.createObjectURL(new Blob([data], { type: "audio/wav" }));
      audio.src = address;
      audio.hidden = false;
      play.hidden = true;
    } catch (problem) {
      value.textContent = problem.message;
    } finally {
      play.disabled = false;
    }
  }

  return {
    element,
    update(state) {
      if (state.open !== null && Number(state.open) !== record) load(Number(state.open));
      else draw();
    },
    close: forget,
  };
}

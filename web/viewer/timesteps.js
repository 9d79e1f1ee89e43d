// When: mass by layer and timestep, from noise to picture. Dragging over it, or its two handles, chooses the timesteps that the map shows.

import { el, put, within } from "./dom.js";
import { counted, cut, percent, short } from "./format.js";

const LEFT = 52; // pixels for the labels of blocks
const STRIP = 44; // the sums over all layers, on top
const BOTTOM = 18;

/** The heat map. `actions.brush([first, last] or null)`. */
export function timestepMap(actions) {
    const canvas = el("canvas", { class: "cad-heat", role: "img" });
    const shade = el("div", { class: "cad-brush", hidden: true });
    const handle = (name) => el("div", { class: "cad-handle", role: "slider", tabindex: 0, "aria-label": name, "aria-orientation": "horizontal" });
    const handles = [handle("first timestep shown on the map"), handle("last timestep shown on the map")];
    const area = el("div", { class: "cad-heat-area" }, canvas, shade, ...handles);
    const text = el("span", { class: "cad-note", "aria-live": "polite" });
    const clear = el("button", { type: "button", on: { click: () => actions.brush(null) } }, "All timesteps");
    const tip = el("div", { class: "cad-tip", role: "tooltip", hidden: true });
    const element = el("div", { class: "cad-panel" }, area, el("div", { class: "cad-line" }, text, clear), tip);
    let context = null;
    let from = null; // where a brush began
    let drawn = null;

    const steps = () => context.model.data.timesteps.length;
    const width = () => Math.max(40, context.width - LEFT - 4);
    const columnAt = (event) => Math.max(0, Math.min(steps() - 1, Math.floor(((within(area, event).x - LEFT) / width()) * steps())));

    function rowHeight(layers) {
        return layers > 300 ? 1 : Math.max(2, Math.min(11, Math.floor(230 / layers)));
    }

    area.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || !context || event.target.classList.contains("cad-handle") || steps() < 2) return;
        event.preventDefault();
        if (within(area, event).x < LEFT) return;
        from = columnAt(event);
        area.setPointerCapture?.(event.pointerId);
        actions.brush([from, from]);
    });
    area.addEventListener("pointermove", (event) => {
        if (!context) return;
        const column = columnAt(event);
        if (from !== null) actions.brush([Math.min(from, column), Math.max(from, column)]);
        showTip(event, column);
    });
    const end = () => (from = null);
    area.addEventListener("pointerup", end);
    area.addEventListener("pointercancel", end);
    area.addEventListener("pointerleave", () => (tip.hidden = true));
    area.addEventListener("dblclick", (event) => {
        const { y } = within(area, event);
        const number = Math.floor((y - STRIP) / rowHeight(context.model.layers.length));
        if (number >= 0 && number < context.model.layers.length) actions.open(number);
    });
    handles.forEach((each, which) => {
        let pulled = false;
        const move = (column) => {
            const [first, last] = context.view.brush ?? [0, steps() - 1];
            const to = Math.max(0, Math.min(steps() - 1, column));
            actions.brush(which ? [Math.min(first, to), to] : [to, Math.max(last, to)]);
        };
        each.addEventListener("pointerdown", (event) => {
            pulled = true;
            each.setPointerCapture?.(event.pointerId);
            event.stopPropagation();
        });
        each.addEventListener("pointermove", (event) => pulled && move(columnAt(event)));
        each.addEventListener("pointerup", () => (pulled = false));
        each.addEventListener("keydown", (event) => {
            const [first, last] = context.view.brush ?? [0, steps() - 1];
            const at = which ? last : first;
            const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, Home: 0, End: steps() - 1 }[event.key];
            if (event.key === "Escape") actions.brush(null);
            if (to === undefined) return;
            event.preventDefault();
            move(to);
        });
    });

    function showTip(event, column) {
        const { x, y } = within(area, event);
        const { model } = context;
        const number = Math.floor((y - STRIP) / rowHeight(model.layers.length));
        if (x < LEFT || number >= model.layers.length) return void (tip.hidden = true);
        const sums = number < 0 ? context.byTime[column] : model.layers[number].timestep_mass.map((values) => values[column]);
        tip.replaceChildren(
            el("b", {}, number < 0 ? "all layers" : cut(model.layers[number].label, 80)),
            el("div", {}, `timestep ${model.data.timesteps[column]}`),
            el("div", {}, `positive ${short(sums[0])}, negative ${short(sums[1])}`),
        );
        tip.hidden = false;
        tip.style.left = `${Math.max(2, Math.min(element.clientWidth - tip.offsetWidth - 4, x + 12))}px`;
        tip.style.top = `${Math.max(0, y + 14)}px`;
    }

    function paint(now) {
        const { model, view, scale } = now;
        const layers = model.layers;
        const row = rowHeight(layers.length);
        const height = STRIP + layers.length * row + BOTTOM;
        const zoom = Math.max(1, Math.min(3, window.devicePixelRatio || 1));
        area.style.height = `${height}px`;
        canvas.style.width = `${now.width}px`;
        canvas.style.height = `${height}px`;
        canvas.width = Math.round(now.width * zoom);
        canvas.height = Math.round(height * zoom);
        const pen = canvas.getContext("2d");
        pen.scale(zoom, zoom);
        const count = steps();
        const [plus, minus] = [view.sign === "negative" ? 0 : 1, view.sign === "positive" ? 0 : 1];
        const amounts = new Float64Array(layers.length * count);
        let most = 0;
        layers.forEach((layer, number) => {
            const weight = view.measure === "density" ? 1 / layer.weights : 1;
            const [positive, negative] = layer.timestep_mass;
            for (let t = 0; t < count; t++) {
                const amount = (plus * positive[t] + minus * negative[t]) * weight;
                amounts[number * count + t] = amount;
                most = Math.max(most, Math.abs(amount));
            }
        });
        // One pixel a cell, drawn large: quicker than as many rectangles.
        const small = document.createElement("canvas");
        small.width = count;
        small.height = layers.length;
        const image = new ImageData(count, layers.length);
        const pixels = new Uint32Array(image.data.buffer);
        for (let cell = 0; cell < amounts.length; cell++) pixels[cell] = scale.signedBytes[255 + Math.round(most ? (255 * amounts[cell]) / most : 0)];
        small.getContext("2d").putImageData(image, 0, 0);
        pen.imageSmoothingEnabled = false;
        pen.drawImage(small, LEFT, STRIP, width(), layers.length * row);
        // What all layers do together.
        const top = Math.max(1e-300, ...now.byTime.map(([positive, negative]) => Math.max(positive, -negative)));
        const wide = width() / count;
        now.byTime.forEach(([positive, negative], t) => {
            const x = LEFT + t * wide;
            if (view.sign !== "negative") {
                pen.fillStyle = scale.signed(0.75);
                pen.fillRect(x + 0.5, 22 - (positive / top) * 18, wide - 1, (positive / top) * 18);
            }
            if (view.sign !== "positive") {
                pen.fillStyle = scale.signed(-0.75);
                pen.fillRect(x + 0.5, 22, wide - 1, (-negative / top) * 18);
            }
        });
        pen.fillStyle = scale.soft;
        pen.font = "10px system-ui, sans-serif";
        pen.textBaseline = "middle";
        pen.textAlign = "right";
        pen.fillText("all", LEFT - 6, 22);
        let last = -20;
        layers.forEach((layer, number) => {
            if (number && layer.group === layers[number - 1].group) return;
            const y = STRIP + number * row;
            pen.fillRect(LEFT - 4, y, 4, 1);
            if (y - last < 11) return;
            pen.fillText(cut(layer.group || "other", 8), LEFT - 6, y + Math.max(row / 2, 5));
            last = y;
        });
        pen.textAlign = "center";
        const every = Math.max(1, Math.ceil(count / Math.max(2, Math.floor(width() / 42))));
        for (let t = 0; t < count; t += every) pen.fillText(String(model.data.timesteps[t]), LEFT + (t + 0.5) * wide, height - BOTTOM / 2);
        put(canvas, "aria-label", `Mass by layer and timestep, ${counted(layers.length, "layer")}, from noise (timestep ${model.data.timesteps[0]}) to picture (${model.data.timesteps.at(-1)}).`);
    }

    return {
        element,
        draw(now) {
            context = now;
            const key = [now.model, now.width, now.scale, now.view.sign, now.view.measure === "density"];
            if (!drawn || key.some((each, number) => each !== drawn[number])) {
                paint(now);
                drawn = key;
            }
            const { brush } = now.view;
            const count = steps();
            const [first, last] = brush ?? [0, count - 1];
            const wide = width() / count;
            shade.hidden = !brush;
            shade.style.left = `${LEFT + first * wide}px`;
            shade.style.width = `${(last - first + 1) * wide}px`;
            handles.forEach((each, which) => {
                each.style.left = `${LEFT + (which ? last + 1 : first) * wide}px`;
                each.hidden = count < 2;
                const at = which ? last : first;
                put(each, "aria-valuemin", 0);
                put(each, "aria-valuemax", count - 1);
                put(each, "aria-valuenow", at);
                put(each, "aria-valuetext", `timestep ${now.model.data.timesteps[at]}, ${at + 1} of ${count}`);
            });
            clear.hidden = !brush;
            const both = now.view.sign === "both" ? "Colours show positive and negative together. " : "";
            const share = brush ? now.byTime.slice(first, last + 1).reduce((total, [positive]) => total + positive, 0) / Math.max(1e-300, now.byTime.reduce((total, [positive]) => total + positive, 0)) : 1;
            put(
                text,
                "text",
                count < 2
                    ? "This attribution has one timestep."
                    : brush
                      ? `The map shows timesteps ${now.model.data.timesteps[first]} to ${now.model.data.timesteps[last]}, with ${percent(share)} of the positive sums.`
                      : `${both}Noise is left, the picture right. Drag over timesteps to see them alone on the map.`,
            );
        },
    };
}

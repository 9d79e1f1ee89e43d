// The UNet drawn as its U: the way down on the left, the middle at the bottom, the way up on the right, block beside block of the same
// resolution. Every layer is a cell: blue its negative mass, orange its positive.

import { el, put, svg, within } from "./dom.js";
import { count, cut, percent, short } from "./format.js";
import { layOut } from "./layout.js";
import { largest } from "./model.js";

/** The map in `parent`. `actions`: choose(numbers, into), open(number). */
export function layerMap(actions) {
    const drawing = svg("svg", { class: "cad-map", role: "listbox", "aria-multiselectable": "true", "aria-label": "Layers of the UNet" });
    const tip = el("div", { class: "cad-tip", role: "tooltip", hidden: true });
    const legend = el("div", { class: "cad-legend" });
    const element = el("div", { class: "cad-map-panel" }, drawing, legend, tip);
    let cells = [];
    let layout = null;
    let drawnFor = null;
    let context = null;
    let legendFor = null;
    let painting = null; // {into, seen} while the pointer is down

    function build(model, width) {
        layout = layOut(model, width);
        put(drawing, "viewBox", `0 0 ${width} ${layout.height}`);
        put(drawing, "width", width);
        put(drawing, "height", layout.height);
        const back = svg("g", { "aria-hidden": "true" });
        for (const band of layout.bands) {
            back.append(svg("rect", { class: "cad-band", x: band.x - 3, y: band.y - 3, width: band.width + 6, height: band.height + 6, rx: 5 }));
            if (band.size) back.append(svg("text", { class: "cad-size", x: width / 2, y: band.y + band.height / 2, "text-anchor": "middle", dy: "0.35em" }, band.size));
        }
        for (const [x1, y1, x2, y2] of layout.skips) {
            const text = 34;
            back.append(svg("path", { class: "cad-skip", d: `M${x1 + 2} ${y1}L${width / 2 - text} ${y1}M${width / 2 + text} ${y2}L${x2 - 2} ${y2}` }));
        }
        for (const slim of layout.slim) {
            back.append(svg("rect", { class: "cad-slim", x: slim.x, y: slim.y, width: slim.width, height: slim.height, rx: 2 }, svg("title", {}, `${slim.label}: none of its layers was scored`)));
        }
        const labels = layout.labels.map((label) =>
            svg(
                "text",
                {
                    class: "cad-block",
                    x: label.x,
                    y: label.y,
                    dy: "0.35em",
                    "text-anchor": label.end ? "end" : "start",
                    "aria-hidden": "true",
                    on: { click: () => actions.choose(label.cells, !label.cells.every((index) => context.chosen[index])) },
                },
                label.text,
            ),
        );
        cells = [];
        const group = svg("g");
        for (const place of layout.cells.sort((a, b) => a.index - b.index)) {
            const { x, y, width: w, height: h } = place;
            const inner = { y: y + 0.5, height: h - 1 };
            const whole = svg("rect", { class: "cad-cell", x: x + 0.5, width: w - 1, ...inner });
            const left = svg("rect", { class: "cad-half", x: x + 1, width: w / 2 - 1, y: y + 1, height: h - 2 });
            const right = svg("rect", { class: "cad-half", x: x + w / 2, width: w / 2 - 1, y: y + 1, height: h - 2 });
            const out = svg("path", { class: "cad-out", d: `M${x + 1} ${y + h - 1}L${x + w - 1} ${y + 1}` });
            const ring = svg("rect", { class: "cad-ring", x: x - 0.5, width: w + 1, y: y - 0.5, height: h + 1, rx: 2 });
            const cell = svg("g", { class: "cad-layer", role: "option", "data-index": place.index, tabindex: -1 }, whole, left, right, out, ring);
            cells[place.index] = { element: cell, whole, left, right, ...place };
            group.append(cell);
        }
        drawing.replaceChildren(back, ...labels, group);
    }

    function describe(index) {
        const { model, values, found, view, chosen, overlap } = context;
        const layer = model.layers[index];
        const [positive, negative] = values[index];
        const unit = { sum: "", share: " of all", density: " per weight" }[view.measure];
        const say = (value) => (view.measure === "share" ? percent(Math.abs(value)) : short(value));
        const lines = [
            `positive (draws it): ${say(positive)}${unit}`,
            `negative (holds it back): ${view.measure === "share" ? percent(Math.abs(negative)) : short(negative)}${unit}`,
            `${count(layer.weights)} weights, ${layer.shape[0]} \u00d7 ${layer.shape[1]}`,
        ];
        if (found.byLayer && chosen[index]) {
            lines.push(`${found.all || context.inputs.rule !== "global" ? "" : "about "}${count(found.byLayer[index])} taken, ${percent(found.byLayer[index] / layer.weights)}`);
        }
        const other = overlap && context.data.overlap.layers[index]?.[overlap - 1];
        if (other) {
            lines.push(`of ${count(other[0])} taken here, \u201c${cut(context.data.overlap.concepts[overlap].concept, 40)}\u201d takes ${count(other[1])} too`);
        }
        lines.push(chosen[index] ? "chosen" : "left out");
        return { title: layer.label, lines };
    }

    function showTip(index) {
        const cell = cells[index];
        if (!cell || !context) return;
        const { title, lines } = describe(index);
        tip.replaceChildren(el("b", {}, cut(title, 80)), ...lines.map((line) => el("div", {}, line)), el("div", { class: "cad-name" }, cut(context.model.layers[index].name.replace(/^diffusion_model\./, ""), 70)));
        tip.hidden = false;
        // Towards the middle of the U, which is empty, so that the neighbours stay in sight.
        const wide = tip.offsetWidth;
        const inward = cell.x + cell.width / 2 > layout.width / 2 ? cell.x - wide - 10 : cell.x + cell.width + 10;
        tip.style.left = `${Math.max(2, Math.min(element.clientWidth - wide - 2, inward))}px`;
        tip.style.top = `${Math.max(0, cell.y - 6)}px`;
    }

    const indexOf = (target) => {
        const cell = target?.closest?.("[data-index]");
        return cell && drawing.contains(cell) ? Number(cell.dataset.index) : null;
    };

    drawing.addEventListener("pointerdown", (event) => {
        const index = indexOf(event.target);
        if (index === null || event.button !== 0) return;
        event.preventDefault();
        cells[index].element.focus({ preventScroll: true });
        if (event.shiftKey) return actions.open(index);
        painting = { into: !context.chosen[index], seen: new Set([index]), pointer: event.pointerId };
        drawing.setPointerCapture?.(event.pointerId);
        actions.paint([index], painting.into);
    });
    drawing.addEventListener("pointermove", (event) => {
        if (!painting) return;
        const { x, y } = within(element, event);
        const cell = cells.find((each) => each && x >= each.x && x < each.x + each.width && y >= each.y && y < each.y + each.height);
        if (!cell || painting.seen.has(cell.index)) return;
        painting.seen.add(cell.index);
        actions.paint([...painting.seen], painting.into);
    });
    const end = (event) => {
        if (!painting) return;
        const { seen, into } = painting;
        painting = null;
        if (event.type === "pointerup") actions.choose([...seen], into);
        else actions.paint([], into);
        if (seen.size === 1) actions.open([...seen][0]);
    };
    drawing.addEventListener("pointerup", end);
    drawing.addEventListener("pointercancel", end);
    drawing.addEventListener("pointerover", (event) => {
        const index = indexOf(event.target);
        if (index !== null) showTip(index);
        else tip.hidden = true;
    });
    drawing.addEventListener("pointerleave", () => (tip.hidden = true));
    drawing.addEventListener("focusin", (event) => {
        const index = indexOf(event.target);
        if (index !== null && event.target.matches(":focus-visible")) {
            actions.open(index);
            showTip(index);
        }
    });
    drawing.addEventListener("focusout", () => (tip.hidden = true));
    drawing.addEventListener("keydown", (event) => {
        const index = indexOf(event.target);
        if (index === null) return;
        if (event.key === "Enter" || event.key === " ") {
            event.preventDefault();
            actions.choose([index], !context.chosen[index]);
            return showTip(index);
        }
        if (event.key === "Escape") return void (tip.hidden = true);
        const next = neighbour(index, event.key);
        if (next === null) return;
        event.preventDefault();
        cells[next].element.focus();
    });

    /** The cell that an arrow key leads to: the nearest in that direction, or the first or last of all. */
    function neighbour(index, key) {
        const from = cells[index];
        if (key === "Home") return layout.cells[0].index;
        if (key === "End") return layout.cells.at(-1).index;
        const direction = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
        if (!direction) return null;
        let best = null;
        let least = Infinity;
        for (const cell of layout.cells) {
            const along = (cell.x + cell.width / 2 - from.x - from.width / 2) * direction[0] + (cell.y + cell.height / 2 - from.y - from.height / 2) * direction[1];
            const across = Math.abs((cell.x + cell.width / 2 - from.x - from.width / 2) * direction[1]) + Math.abs((cell.y + cell.height / 2 - from.y - from.height / 2) * direction[0]);
            if (along > 1 && along + 3 * across < least) [best, least] = [cell.index, along + 3 * across];
        }
        return best;
    }

    function drawLegend() {
        const { scale, view, end: most, model, overlap } = context;
        const key = [model, scale, most, overlap, view.colour, view.sign, view.measure, String(view.brush)];
        if (legendFor && key.every((each, number) => each === legendFor[number])) return;
        legendFor = key;
        const say = (value) => (view.colour !== "mass" ? percent(value) : view.measure === "share" ? percent(Math.abs(value)) : short(value));
        const steps = Array.from({ length: 13 }, (_, number) => number / 12);
        let stops;
        let texts;
        if (view.colour !== "mass") {
            stops = steps.map((part) => scale.amount(part));
            texts = ["0", overlap ? "part of what is taken here that the other takes too" : "part of the layer\u2019s weights that is taken", say(most)];
        } else if (view.sign === "both") {
            stops = steps.map((part) => scale.signed(part * 2 - 1));
            texts = [`${say(-most)} holds it back`, "0", `draws it ${say(most)}`];
        } else {
            const negative = view.sign === "negative";
            stops = steps.map((part) => scale.signed(negative ? -part : part));
            texts = ["0", negative ? "holds it back" : "draws it", say(negative ? -most : most)];
        }
        const unit = { sum: "sum of attribution", share: "share of all layers", density: "attribution per weight" }[view.measure];
        const over = view.brush ? `, timesteps ${model.data.timesteps[view.brush[0]]} to ${model.data.timesteps[view.brush[1]]}` : "";
        const bar = el("div", { class: "cad-gradient" });
        bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
        legend.replaceChildren(bar, el("div", { class: "cad-scale" }, ...texts.map((text) => el("span", {}, text))), el("div", { class: "cad-unit" }, view.colour === "mass" ? unit + over : ""));
    }

    return {
        element,
        draw(now) {
            const fresh = !drawnFor || drawnFor.model !== now.model || drawnFor.width !== now.width;
            context = now;
            if (fresh) {
                build(now.model, now.width);
                drawnFor = { model: now.model, width: now.width };
            }
            const { view, values, scale, chosen, found, overlap, model } = now;
            let part = null;
            if (view.colour === "taken") part = (index) => (found.byLayer && chosen[index] ? found.byLayer[index] / model.layers[index].weights : 0);
            else if (overlap) {
                part = (index) => {
                    const other = now.data.overlap.layers[index]?.[overlap - 1];
                    return other && other[0] ? other[1] / other[0] : 0;
                };
            }
            now.end = part ? Math.max(1e-12, ...model.layers.map((_, index) => part(index))) : largest(values, view.sign) || 1;
            if (overlap) now.end = 1;
            for (const cell of cells) {
                if (!cell) continue;
                const { index } = cell;
                const [positive, negative] = values[index];
                let left;
                let right;
                if (part) left = right = scale.amount(part(index) / now.end);
                else {
                    left = view.sign === "positive" ? scale.signed(positive / now.end) : scale.signed(negative / now.end);
                    right = view.sign === "negative" ? scale.signed(negative / now.end) : scale.signed(positive / now.end);
                }
                put(cell.left, "fill", left);
                put(cell.right, "fill", right);
                const is = chosen[index];
                put(cell.element, "class", `cad-layer${is ? "" : " cad-left-out"}${index === view.current ? " cad-current" : ""}`);
                put(cell.element, "aria-selected", is);
                put(cell.element, "tabindex", index === view.current ? 0 : -1);
                const { title, lines } = describe(index);
                put(cell.element, "aria-label", `${cut(title, 80)}: ${lines.join(", ")}`);
            }
            drawLegend();
        },
    };
}

// The UNet drawn as its U: the way down on the left, the middle at the bottom, the way up on the right, block beside block of the same
// resolution. Every layer is a cell: blue its negative mass, orange its positive.

import { el, put, svg, within } from "./dom.js";
import { count, cut, percent, short } from "./format.js";
import { largest } from "./model.js";

const LABEL = 40; // pixels for "out 11"
const GAP = 5;
const SLIM = 7; // a block without scored layers
const BAND = 9; // between resolutions

/** The column of its block that a layer stands in: the number of its transformer block, or -1 for what is in none. */
function columnOf(part) {
    return Number(/^block (\d+) \u00b7 /u.exec(part)?.[1] ?? -1);
}

/** The blocks in the order of computation, each with its cells in columns and rows. */
function blocksOf(model) {
    const blocks = new Map();
    for (const layer of model.layers) {
        const key = `${layer.side} ${layer.group}`;
        if (!blocks.has(key)) blocks.set(key, { side: layer.side, number: layer.block, label: layer.group, cells: [], columns: [] });
        const block = blocks.get(key);
        const column = columnOf(layer.part);
        if (!block.columns.includes(column)) block.columns.push(column);
        block.cells.push({ index: layer.index, column: block.columns.indexOf(column) });
    }
    for (const block of blocks.values()) {
        const height = new Map();
        for (const cell of block.cells) {
            cell.row = height.get(cell.column) ?? 0;
            height.set(cell.column, cell.row + 1);
        }
        block.height = Math.max(...height.values());
    }
    return [...blocks.values()];
}

/** The blocks on the two ways by level, with empty ones where the model has a block that was not scored. */
function levelsOf(model, blocks) {
    const { unet } = model.data;
    const find = (side, number) => blocks.find((block) => block.side === side && block.number === number);
    if (!unet) {
        const way = (side) => blocks.filter((block) => block.side === side);
        return [{ size: "", down: way("down"), up: way("up").reverse() }];
    }
    const empty = (label) => ({ label, cells: [], columns: [], height: 0 });
    const known = new Set();
    const levels = unet.sizes.map((size, level) => {
        const numbers = Array.from({ length: unet.per_level }, (_, n) => n);
        const down = numbers.map((n) => find("down", level * unet.per_level + n) ?? empty(`in ${level * unet.per_level + n}`));
        const first = (unet.levels - 1 - level) * unet.per_level;
        const up = numbers.map((n) => find("up", first + n) ?? empty(`out ${first + n}`)).reverse();
        [...down, ...up].forEach((block) => known.add(block));
        return { size, down, up };
    });
    // Blocks beyond what the family has, and the last convolution, belong to the outermost level.
    levels[0].down.push(...blocks.filter((block) => block.side === "down" && !known.has(block)));
    levels[0].up.unshift(...blocks.filter((block) => block.side === "up" && !known.has(block)).reverse());
    return levels;
}

/** Places of all cells and labels for a width in pixels. */
function layOut(model, width) {
    const blocks = blocksOf(model);
    const levels = levelsOf(model, blocks);
    const ways = blocks.filter((block) => block.side === "down" || block.side === "up");
    const columns = Math.max(1, ...ways.map((block) => block.columns.length), ...blocks.filter((b) => b.side === "mid").map((b) => b.columns.length / 1.6));
    const tallest = Math.max(1, ...blocks.map((block) => block.height));
    const indent = levels.length > 1 ? Math.min(30, width * 0.035) : 0;
    const middleGap = Math.min(110, Math.max(56, width * 0.14));
    const side = (width - middleGap) / 2 - LABEL - indent * (levels.length - 1);
    const cell = Math.max(4, Math.min(columns > 2 ? 46 : 56, side / columns));
    const edge = Math.max(0, side - columns * cell); // what is left over, so that the U stands in the middle
    const outer = (depth) => edge + LABEL + depth * indent;
    const row = tallest <= 2 ? 15 : tallest <= 4 ? 12 : 8;
    const placed = { cells: [], labels: [], slim: [], bands: [], path: [], skips: [], width, height: 0 };
    const wide = (block) => Math.max(1, block.columns.length) * cell;
    const tall = (block) => (block.cells.length ? block.height * row : SLIM);
    const putBlock = (block, x, y, labelAt) => {
        const box = { x, y, width: wide(block), height: tall(block) };
        if (!block.cells.length) placed.slim.push({ ...box, width: cell, x: labelAt < 0 ? x : x + wide(block) - cell, label: block.label });
        else placed.labels.push({ x: labelAt < 0 ? x - 6 : x + box.width + 6, y: y + box.height / 2, end: labelAt < 0, text: block.label, cells: block.cells.map((each) => each.index) });
        for (const each of block.cells) {
            placed.cells.push({ index: each.index, x: x + each.column * cell, y: y + each.row * row, width: cell, height: row });
        }
        return box;
    };
    let y = 2;
    const lone = (kind, title) => {
        const block = blocks.find((each) => each.side === kind);
        if (!block) return;
        const per = Math.max(1, Math.floor((width - edge - 120) / 18));
        placed.labels.push({ x: edge + 4, y: y + row / 2, end: false, text: title, cells: block.cells.map((each) => each.index) });
        block.cells.forEach((each, number) => {
            placed.cells.push({ index: each.index, x: edge + 84 + (number % per) * 18, y: y + Math.floor(number / per) * row, width: 18, height: row });
        });
        y += Math.ceil(block.cells.length / per) * row + BAND;
    };
    lone("embed", "embeddings");
    const centres = { down: new Map(), up: new Map() };
    levels.forEach((level, depth) => {
        const heights = ["down", "up"].map((way) => level[way].reduce((total, block) => total + tall(block) + GAP, -GAP));
        const height = Math.max(0, ...heights);
        placed.bands.push({ y, height, size: level.size, x: outer(depth), width: width - 2 * outer(depth) });
        for (const way of ["down", "up"]) {
            let at = y + (height - heights[way === "down" ? 0 : 1]) / 2;
            for (const block of level[way]) {
                const x = way === "down" ? outer(depth) : width - outer(depth) - wide(block);
                const box = putBlock(block, x, at, way === "down" ? -1 : 1);
                const inner = way === "down" ? box.x + (block.cells.length ? box.width : cell) : block.cells.length ? box.x : x + wide(block) - cell;
                centres[way].set(block.label, [inner, at + box.height / 2]);
                at += box.height + GAP;
            }
        }
        y += height + BAND;
    });
    const blocksBefore = (model.data.unet?.levels ?? 0) * (model.data.unet?.per_level ?? 0);
    for (let n = 0; n < blocksBefore; n++) {
        const [a, b] = [centres.down.get(`in ${n}`), centres.up.get(`out ${blocksBefore - 1 - n}`)];
        if (a && b) placed.skips.push([...a, ...b]);
    }
    const middle = blocks.filter((block) => block.side === "mid");
    if (middle.length || model.data.unet) {
        const total = middle.reduce((most, block) => Math.max(most, wide(block)), cell);
        const label = middle.length ? 0 : 1;
        let at = y + 2;
        for (const block of middle) {
            putBlock(block, (width - total) / 2, at, -1);
            at += tall(block) + GAP;
        }
        if (label) placed.slim.push({ x: (width - cell) / 2, y: at, width: cell, height: SLIM, label: "mid" });
        y = at + (label ? SLIM : 0) + BAND;
    }
    lone("other", "other layers");
    placed.height = y;
    return placed;
}

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

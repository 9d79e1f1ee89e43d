// Down to the neuron: the rows of one layer (its hidden units), or the neurons and heads whose columns it has, by their mass.

import { el, put } from "./dom.js";
import { count, cut, percent, short } from "./format.js";
import { takenInRow } from "./model.js";

const COLUMNS = [
    ["number", "row"],
    ["positive", "draws it"],
    ["negative", "holds it back"],
    ["mass", "share"],
    ["taken", "taken"],
];

/** The panel. `actions`: open(number), view(changes). */
export function rowsPanel(actions) {
    const layer = el("select", { "aria-label": "Layer", on: { change: () => actions.open(Number(layer.value)) } });
    const step = (by) => () => actions.open((context.view.current + by + context.model.layers.length) % context.model.layers.length);
    const back = el("button", { type: "button", "aria-label": "Layer before", on: { click: step(-1) } }, "\u2039");
    const on = el("button", { type: "button", "aria-label": "Next layer", on: { click: step(1) } }, "\u203a");
    const kind = el("select", { "aria-label": "Rows or units", on: { change: () => actions.view({ units: kind.value === "units" }) } }, el("option", { value: "rows" }, "rows"), el("option", { value: "units" }, "units"));
    const note = el("p", { class: "cad-note" });
    const heads = COLUMNS.map(([key, text]) => el("th", { scope: "col" }, el("button", { type: "button", on: { click: () => actions.view({ sort: key }) } }, text)));
    const body = el("tbody");
    const element = el(
        "div",
        { class: "cad-panel" },
        el("div", { class: "cad-line" }, back, layer, on, kind),
        note,
        el("div", { class: "cad-scroll cad-rows", tabindex: 0, role: "region", "aria-label": "Rows of the layer" }, el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body)),
    );
    let context = null;
    let listed = null;

    function newRow() {
        const bars = el("span", { class: "cad-bars", "aria-hidden": "true" }, el("i", { class: "cad-bar cad-minus" }), el("i", { class: "cad-bar cad-plus" }));
        return el("tr", {}, el("th", { scope: "row" }), el("td"), el("td"), el("td", {}, bars, el("span")), el("td"));
    }

    function rowsOf(now, described) {
        if (now.view.units && described.units) {
            return described.units.listed.map(([number, value]) => ({ number, positive: Math.max(0, value), negative: Math.min(0, value), mass: Math.abs(value), taken: null }));
        }
        return described.rows.map((row) => ({
            number: row[0],
            positive: row[1],
            negative: row[2],
            mass: row[1] - row[2],
            taken: now.chosen[described.index] ? takenInRow(now.model, described, row, now.found, now.inputs.ratio, now.inputs.rule) : 0,
        }));
    }

    return {
        element,
        draw(now) {
            context = now;
            const { model, view } = now;
            if (listed !== model) {
                layer.replaceChildren(...model.layers.map((each) => el("option", { value: each.index }, cut(each.label, 60))));
                listed = model;
            }
            const described = model.layers[view.current];
            layer.value = String(view.current);
            kind.hidden = !described.units;
            kind.value = view.units && described.units ? "units" : "rows";
            const units = kind.value === "units";
            if (described.units) put(kind.options[1], "text", `${described.units.kind}s`);
            put(heads[0].firstChild, "text", units ? described.units.kind : "row");
            const sort = view.sort ?? "mass";
            const key = (row) => (sort === "negative" ? -row.negative : sort === "number" ? -row.number : (row[sort] ?? 0));
            const rows = rowsOf(now, described).sort((a, b) => key(b) - key(a));
            heads.forEach((head, number) => put(head, "aria-sort", COLUMNS[number][0] === sort ? (sort === "number" ? "ascending" : "descending") : "none"));
            const most = Math.max(1e-300, ...rows.map((row) => Math.max(row.positive, -row.negative)));
            const total = units ? null : described.mass[0] - described.mass[1];
            while (body.rows.length > rows.length) body.lastChild.remove();
            while (body.rows.length < rows.length) body.append(newRow());
            rows.forEach((row, number) => {
                const cells = body.rows[number].cells;
                put(cells[0], "text", row.number);
                put(cells[1], "text", row.positive ? short(row.positive) : "0");
                put(cells[2], "text", row.negative ? short(row.negative) : "0");
                const [bars, share] = cells[3].children;
                bars.children[0].style.width = `${((-50 * row.negative) / most).toFixed(1)}%`;
                bars.children[1].style.width = `${((50 * row.positive) / most).toFixed(1)}%`;
                put(share, "text", total ? percent(row.mass / total) : "");
                put(cells[4], "text", row.taken === null ? "\u2013" : count(row.taken));
            });
            const all = units ? described.units.total : described.shape[0];
            const about = now.found.thresholds ? " Counts of a threshold are near, not exact." : "";
            const what = units
                ? `${described.units.kind}s: sums of the attribution of their columns.`
                : `rows, each ${count(described.shape[1])} weights that make one output.${about}`;
            put(note, "text", `${cut(described.label, 80)}: ${rows.length < all ? `the ${rows.length} strongest of ${count(all)}` : `all ${count(all)}`} ${what}`);
        },
    };
}

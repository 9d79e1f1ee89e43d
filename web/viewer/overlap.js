// What else: what an edit for one concept would touch of the others that are connected, as sentences and as a matrix.

import { el, put, switcher } from "./dom.js";
import { count, cut, percent } from "./format.js";

const NAME = 28;

/** The panel. `actions.colour(value)` chooses what the map shows: "mass" or "overlap 1". */
export function overlapPanel(actions) {
    const element = el("div", { class: "cad-panel" });
    let drawn = null;

    function matrix(overlap, title, cell) {
        const names = overlap.concepts.map((each) => cut(each.concept, NAME));
        return el(
            "div",
            { class: "cad-scroll" },
            el(
                "table",
                { class: "cad-matrix" },
                el("caption", {}, title),
                el("thead", {}, el("tr", {}, el("td"), ...names.map((name, j) => el("th", { scope: "col", title: overlap.concepts[j].concept }, name)))),
                el(
                    "tbody",
                    {},
                    ...names.map((name, i) =>
                        el("tr", {}, el("th", { scope: "row", title: overlap.concepts[i].concept }, name), ...names.map((_, j) => (i === j ? el("td", { class: "cad-same" }, "\u2013") : cell(i, j)))),
                    ),
                ),
            ),
        );
    }

    function build(now) {
        const { overlap } = now.data;
        if (!overlap) {
            element.replaceChildren(
                el("p", {}, "What would this edit touch of other concepts?"),
                el("p", { class: "cad-note" }, now.standalone ? "Name other attributions with --compare to see it." : "Connect attributions of other concepts to compare, compare_2 and compare_3, and run the graph."),
            );
            return;
        }
        const at = overlap.ratio === null || (overlap.ratio === 0) ? "all that rounds found" : `ratio ${overlap.ratio}, selection ${overlap.rule}`;
        const others = overlap.concepts.slice(1);
        const sentences = others.map((_, k) => el("li", {}, overlap.pairs[0][k + 1].sentence, " ", el("span", { class: "cad-back" }, overlap.pairs[k + 1][0].sentence)));
        const colours = switcher(
            "What the map shows",
            [["mass", "mass", "Back to the masses"], ...others.map((each, k) => [`overlap ${k + 1}`, cut(each.concept, 20), "By layer: how much of what is taken here the other takes too"])],
            actions.colour,
        );
        const scale = now.scale;
        const shaded = (part, text, title) => {
            const cell = el("td", { title }, text);
            if (part !== null) {
                cell.style.background = scale.amount(Math.min(1, part) * 0.9);
                cell.style.color = part > 0.45 === scale.dark ? "#000" : part > 0.45 ? "#fff" : "";
            }
            return cell;
        };
        const touched = matrix(overlap, "Part of the column\u2019s concept that an edit for the row\u2019s touches", (i, j) => {
            const pair = overlap.pairs[i][j];
            const both = pair.touched;
            const part = both ? (both[0] + both[1]) / 2 : pair.taken_by_other ? pair.shared / pair.taken_by_other : null;
            const text = part === null ? "\u2013" : both && both[1] - both[0] >= 0.005 ? `${percent(both[0])}\u2013${percent(both[1])}` : percent(part);
            return shaded(part, text, overlap.pairs[i][j].sentence);
        });
        const shared = matrix(overlap, "Weights that both edits take, of those that the row\u2019s takes", (i, j) => {
            const pair = overlap.pairs[i][j];
            const part = pair.taken ? pair.shared / pair.taken : null;
            return shaded(part, part === null ? "\u2013" : percent(part), `${count(pair.shared)} of ${count(pair.taken)} weights`);
        });
        const correlated = matrix(overlap, "Correlation of the layers\u2019 masses (of all single scores)", (i, j) => {
            const pair = overlap.pairs[i][j];
            const say = (value) => (value === null ? "\u2013" : value.toFixed(2).replace("-", "\u2212"));
            return el("td", {}, pair.score_correlation === null ? say(pair.mass_correlation) : `${say(pair.mass_correlation)} (${say(pair.score_correlation)})`);
        });
        const remarks = [];
        if (overlap.pairs.flat().some((pair) => pair?.touched && pair.touched[1] - pair.touched[0] >= 0.005)) {
            remarks.push("Two numbers are bounds: files of large models keep the strongest scores only.");
        }
        if (overlap.concepts.some((each) => each.score !== "attribution")) {
            remarks.push("Attributions made in rounds or with prompts to keep do not hold the attribution of single weights: there the share counts the weights that the other\u2019s edit takes.");
        }
        if (overlap.concepts.some((each) => !each.same_model)) {
            remarks.push("They were not made from the same weights, so overlaps are rough.");
        }
        const moved = el("p", { class: "cad-note cad-problem", hidden: true }, "Ratio, selection or layers were changed since: run the graph again to count anew.");
        element.replaceChildren(
            el("ul", { class: "cad-sentences" }, ...sentences),
            el("div", { class: "cad-line" }, el("span", {}, "On the map:"), colours.element),
            moved,
            el("p", { class: "cad-note" }, `Counted at ${at}. ${remarks.join(" ")}`),
            el("div", { class: "cad-matrices" }, touched, shared, correlated),
        );
        drawn.colours = colours;
        drawn.moved = moved;
    }

    return {
        element,
        draw(now) {
            if (!drawn || drawn.data !== now.data || drawn.scale !== now.scale) {
                drawn = { data: now.data, scale: now.scale };
                build(now);
            }
            drawn.colours?.show(now.view.colour);
            if (drawn.moved) {
                const { asked } = now.data;
                const same = asked && asked.ratio === now.inputs.ratio && asked.rule === now.inputs.rule && now.model.layers.every((layer, index) => layer.chosen === now.chosen[index]);
                drawn.moved.hidden = Boolean(same);
                put(drawn.moved, "role", "status");
            }
        },
    };
}

// What the map shows: which measure, which sign.

import { el, switcher } from "./dom.js";

const MEASURES = [
    ["sum", "Sum", "Sum of the attribution of a layer\u2019s weights"],
    ["share", "Share", "Its part of all layers\u2019 mass of the same sign"],
    ["density", "Density", "Attribution per weight: large layers no longer win by their size"],
];
const SIGNS = [
    ["positive", "Positive", "What draws the concept"],
    ["both", "Both", "Left half of a cell: what holds it back; right half: what draws it"],
    ["negative", "Negative", "What holds the concept back"],
];
const COLOURS = [
    ["mass", "Mass", "Attribution"],
    ["taken", "Taken", "How much of each layer the ratio takes"],
];

/** The bar above the map. `actions.view(changes)`. */
export function toolbar(actions) {
    const measure = switcher("Measure", MEASURES, (value) => actions.view({ measure: value, colour: "mass" }));
    const sign = switcher("Sign", SIGNS, (value) => actions.view({ sign: value, colour: "mass" }));
    const colour = switcher("Colour", COLOURS, (value) => actions.view({ colour: value }));
    return {
        element: el("div", { class: "cad-toolbar" }, colour.element, measure.element, sign.element),
        draw(now) {
            measure.show(now.view.measure);
            sign.show(now.view.sign);
            colour.show(now.view.colour);
        },
    };
}

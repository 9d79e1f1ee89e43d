// Choose: presets, how many layers are in, and the patterns that say so.

import { el, put } from "./dom.js";
import { counted } from "./format.js";

const PRESETS = [
    ["All", "Every layer", () => true],
    ["Encoder", "The way down alone", (layer) => layer.side === "down"],
    ["Middle", "The middle alone", (layer) => layer.side === "mid"],
    ["Decoder", "The way up alone", (layer) => layer.side === "up"],
];

/** The bar below the map. `actions.set(chosen)` takes a list of truths, one a layer. */
export function choiceBar(actions) {
    let context = null;
    const preset = (wanted) => () => actions.set(context.model.layers.map(wanted));
    const buttons = PRESETS.map(([text, title, wanted]) => el("button", { type: "button", title, on: { click: preset(wanted) } }, text));
    const invert = el("button", { type: "button", title: "What is out comes in, what is in goes out", on: { click: () => actions.set(context.chosen.map((is) => !is)) } }, "Invert");
    const text = el("span", { class: "cad-chosen", role: "status" });
    const patterns = el("code", { class: "cad-patterns" });
    const hint = el("div", { class: "cad-note" }, "Click or drag over layers to take them in or out; Shift+click opens one. Keys: arrows, Space.");
    return {
        element: el("div", { class: "cad-choice" }, el("div", { class: "cad-line", role: "group", "aria-label": "Which layers" }, text, ...buttons, invert), patterns, hint),
        draw(now) {
            context = now;
            const { model, chosen, inputs, unmatched, refused } = now;
            const into = chosen.filter(Boolean).length;
            PRESETS.forEach(([, , wanted], number) => {
                buttons[number].disabled = !model.layers.some(wanted);
                put(buttons[number], "aria-pressed", model.layers.every((layer, index) => wanted(layer) === chosen[index]));
            });
            invert.disabled = into === chosen.length;
            put(text, "class", `cad-chosen${unmatched.length || refused ? " cad-problem" : ""}`);
            put(
                text,
                "text",
                refused ? "One layer at least must stay in." : unmatched.length ? `No layer is called \u201c${unmatched[0].slice(0, 60)}\u201d` : `${into} of ${counted(chosen.length, "layer")} chosen`,
            );
            patterns.hidden = !inputs.layers.trim();
            put(patterns, "text", inputs.layers.trim().slice(0, 400));
            put(patterns, "title", "What stands in the input layers");
        },
    };
}
